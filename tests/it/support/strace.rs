//! Faults in system calls, by strace (Debian's package of that name).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A running strace; it ends with the process that it is attached to, and lets go of it when dropped.
pub struct Strace {
    child: Child,
    calls: PathBuf,
    _said: BufReader<ChildStderr>,
}

impl Strace {
    /// Attaches to all threads of a process, in each of which these calls end with a fault; writes them into a file.
    pub fn inject(pid: u32, calls: &str, fault: &str, to: &Path) -> Strace {
        let mut child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o"])
            .arg(to)
            .args(faults(calls, fault))
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace: apt-get install strace");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it speaks");
        assert!(line.contains("attached"), "strace cannot attach: {line}");
        Strace {
            child,
            calls: to.to_owned(),
            _said: said,
        }
    }

    /// Waits for the end of the process, and returns how many of these calls it made.
    pub fn calls(mut self) -> usize {
        let ended = self.child.wait();
        ended.expect("it ends with the process");
        let text = std::fs::read_to_string(&self.calls).expect("what it wrote");
        // One that was interrupted by another thread's is written twice; lines about ends have no bracket.
        let begun = |line: &&str| line.contains('(') && !line.contains(" resumed>");
        text.lines().filter(begun).count()
    }

    /// Returns the words before a command in which these calls end with a fault; strace goes where the command goes.
    pub fn command(calls: &str, fault: &str) -> Vec<String> {
        let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"].map(str::to_owned);
        words.into_iter().chain(faults(calls, fault)).collect()
    }
}

fn faults(calls: &str, fault: &str) -> [String; 4] {
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:{fault}");
    ["-e".to_owned(), trace, "-e".to_owned(), inject]
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
