//! A disk that can be filled: a tmpfs of a few megabytes, mounted for one test.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Mounts, and unmounts when the test process ends in whatever way: the kernel then closes the pipe that is its standard
/// input.
const MOUNT: &str = r#"
mount -t tmpfs -o size="$2" confirmd-test "$1" || exit
echo mounted
while read -r _; do :; done
umount --lazy "$1"
"#;

/// A mounted tmpfs; gone when dropped.
pub struct SmallDisk {
    pub folder: PathBuf,
    mounted: Child,
}

impl SmallDisk {
    /// Mounts one of a size on a new folder; needs root.
    pub fn mount(folder: &Path, size: &str) -> SmallDisk {
        std::fs::create_dir(folder).expect("a new folder");
        let mut mounted = Command::new("sh")
            .args(["-c", MOUNT, "mount"])
            .arg(folder)
            .arg(size)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        let mut line = String::new();
        let said = mounted.stdout.as_mut().expect("piped");
        BufReader::new(said).read_line(&mut line).expect("UTF-8");
        if line != "mounted\n" {
            let mut why = String::new();
            let said = mounted.stderr.as_mut().expect("piped");
            said.read_to_string(&mut why).expect("UTF-8");
            panic!("this test needs root and a kernel that lets it mount a tmpfs: {why}");
        }
        let folder = folder.to_owned();
        SmallDisk { folder, mounted }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let file = File::options()
            .create(true)
            .append(true)
            .open(self.filler());
        let mut file = file.expect("a file");
        for block in [vec![1; 1 << 16], vec![1; 1]] {
            let full = loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.mounted.stdin.take());
        // Only a failing umount could be told here, and the folder could then not be removed.
        let _ = self.mounted.wait();
    }
}
