//! Counts the system calls of a process.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

/// A running `strace -f -c`; Debian's package strace brings it.
pub struct Strace {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Strace {
    /// Attaches to all threads of a process.
    pub fn attach(pid: u32, calls: &str) -> Self {
        let mut child = Command::new("strace")
            .args([
                "-f",
                "-c",
                "-U",
                "calls,name",
                "-e",
                &format!("trace={calls}"),
                "-p",
                &pid.to_string(),
            ])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace: apt-get install strace");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("it speaks");
        assert!(line.contains("attached"), "strace: {line}");
        Self { child, stderr }
    }

    /// Detaches, and returns how many calls there were.
    pub fn calls(mut self) -> usize {
        let done = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(done.is_ok_and(|done| done.success()), "kill");
        let lines = self.stderr.by_ref().lines().map_while(Result::ok);
        // `calls name`, and a line of totals.
        let totals: Vec<String> = lines
            .filter(|line| line.trim().ends_with(" total"))
            .collect();
        let _ = self.child.wait();
        totals
            .first()
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("strace counts something, and says how many in all")
    }
}
