//! Programs that tests start beside themselves and that must not outlive them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Holds the write end of its supervisor's standard input. The kernel closes that pipe however this process ends, by return,
/// panic or SIGKILL; the supervisor reads the end of file, signals the program, waits, and removes the folder.
/// (PR_SET_PDEATHSIG would not do: it fires when the starting *thread* ends, which is when one test ends.)
const SUPERVISOR: &str = r#"
signal=$1 folder=$2; shift 2
"$@" & program=$!
exec >/dev/null 2>&1
while read -r _; do :; done
kill -"$signal" "$program"; wait "$program"
trap '' TERM; kill -TERM 0
rm -rf "$folder"
"#;

/// A program with its folder; both are gone when the value is dropped or the test process ends.
#[derive(Debug)]
pub struct Supervised {
    pub supervisor: Child,
}

impl Supervised {
    /// Starts `program` with piped standard output and error. `signal` asks it to stop; `folder` is removed after it.
    /// `wrapper` is put before everything (say, to change the user).
    pub fn start(
        wrapper: &[&str],
        signal: &str,
        folder: &Path,
        program: &[&str],
        env: &[(&str, &str)],
    ) -> Supervised {
        let words: Vec<&str> = wrapper
            .iter()
            .copied()
            .chain(["sh", "-c", SUPERVISOR, "supervisor", signal])
            .collect();
        let supervisor = Command::new(words[0])
            .args(&words[1..])
            .arg(folder)
            .args(program)
            .envs(env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // Ctrl-C in the terminal reaches the tests, not what they stand on
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", words[0]));
        Supervised { supervisor }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // Only a failing wait could be reported here, and it would mean that the supervisor is gone already.
        let _ = self.supervisor.wait();
    }
}

#[test]
fn a_supervised_program_and_its_folder_go_with_their_handle() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().expect("a folder").keep();
    let forever = ["sh", "-c", "echo $$; exec tail -f /dev/null"];
    let mut supervised = Supervised::start(&[], "TERM", &folder, &forever, &[]);
    let mut pid = String::new();
    BufReader::new(supervised.supervisor.stdout.take().expect("piped"))
        .read_line(&mut pid)
        .expect("its first line");
    drop(supervised);
    assert!(
        !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "process {} is still there",
        pid.trim()
    );
    assert!(!folder.exists());
}
