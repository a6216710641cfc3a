//! A disk of its own: an ext4 filesystem in a file, which can lose its power.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::world::PATIENCE;

/// `EXT4_IOC_SHUTDOWN` and `EXT4_GOING_FLAGS_NOLOGFLUSH` (Linux, fs/ext4/ext4.h): from that moment on nothing is written any
/// more, neither data nor journal, as when the power goes.
const SHUTDOWN: libc::Ioctl = 0x8004_587D;
const NO_LOG_FLUSH: u32 = 2;

/// The filesystem, mounted. The harness has a mount namespace of its own, so that it goes with the harness at the latest.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Makes a filesystem of so many megabytes and mounts it.
    pub fn new(megabytes: u64) -> Disk {
        let folder = tempfile::tempdir().expect("a folder");
        let image = File::create_new(folder.path().join("image")).expect("a new file");
        image.set_len(megabytes << 20).expect("a sparse file");
        let disk = Disk { folder };
        std::fs::create_dir(disk.path()).expect("a folder");
        run("mkfs.ext4", &["-q", "-F"], &[&disk.image()]);
        disk.mount();
        disk
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) {
        run("mount", &["-o", "loop"], &[&self.image(), &self.path()]);
    }

    /// Takes the power away.
    pub fn cut(&self) {
        let mount = File::open(self.path()).expect("the mount");
        let flags = NO_LOG_FLUSH;
        #[expect(unsafe_code, reason = "the standard library has no ioctl")]
        // SAFETY: the file is open, and this request reads one u32, which lives until the call returns.
        let done = unsafe { libc::ioctl(mount.as_raw_fd(), SHUTDOWN, &raw const flags) };
        let error = std::io::Error::last_os_error();
        assert_eq!(done, 0, "EXT4_IOC_SHUTDOWN: {error}");
    }

    /// Gives it back: the journal is replayed. Nothing has a file open there.
    pub fn restore(&self) {
        // The last process that worked there may still be about to end.
        let end = Instant::now() + PATIENCE;
        let unmounted = || Command::new("umount").arg(self.path()).status();
        while !unmounted().expect("umount").success() {
            assert!(Instant::now() < end, "somebody has a file open there");
        }
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What fails here goes with the namespace.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn run(program: &str, words: &[&str], paths: &[&Path]) {
    let done = Command::new(program).args(words).args(paths).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {said}");
}
