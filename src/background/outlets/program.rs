//! A program of the operator's, which is given a checkpoint on standard input. It is killed when nobody waits any more, with
//! all that it began.
//!
//! What it says on standard error goes nowhere: it could be anything.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Failure;

/// The longest answer, in bytes.
const LONGEST: u64 = 64 * 1024;
/// The settings of confirmd, passwords among them, are none of its business.
const OURS: &str = "CONFIRMD_";

/// Runs a program that takes a note.
pub(super) async fn tell(words: &[String], note: &str) -> Result<(), Failure> {
    run(words, note, false).await.map(drop)
}

/// Runs a program that takes a note and prints an answer.
pub(super) async fn ask(words: &[String], note: &str) -> Result<Vec<u8>, Failure> {
    run(words, note, true).await
}

async fn run(words: &[String], note: &str, answers: bool) -> Result<Vec<u8>, Failure> {
    let [program, arguments @ ..] = words else {
        return Ok(Vec::new());
    };
    let mut command = Command::new(program);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(OURS.as_bytes())) {
        command.env_remove(name);
    }
    let stdout = if answers {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut running = Running(child.map_err(|error| Failure::Start(error.kind()))?);
    let child = &mut running.0;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (_, answer) = tokio::join!(write(stdin, note), read(stdout));
    let answer = answer?;
    let status = child.wait().await;
    let status = status.map_err(|error| Failure::Read(error.kind()))?;
    match status.code() {
        Some(0) => Ok(answer),
        Some(code) => Err(Failure::Exit(code)),
        None => Err(Failure::Signal),
    }
}

/// A program in a process group of its own.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A program that has ended and was waited for has no id: that may be another's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // It fails only where nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Writes the note. A program that does not want to read it says by its exit code whether that was right.
async fn write(stdin: Option<ChildStdin>, note: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(note.as_bytes()).await;
    }
}

async fn read(stdout: Option<ChildStdout>) -> Result<Vec<u8>, Failure> {
    let mut answer = Vec::new();
    let Some(stdout) = stdout else {
        return Ok(answer);
    };
    let read = stdout.take(LONGEST + 1).read_to_end(&mut answer).await;
    read.map_err(|error| Failure::Read(error.kind()))?;
    // More than that it shall not go on to print.
    match answer.len() as u64 > LONGEST {
        true => Err(Failure::NoStamp),
        false => Ok(answer),
    }
}

/// Tells whether the bytes are one DER sequence (X.690, section 8.1), as a time stamp is (RFC 3161, section 2.4.2).
pub(super) fn is_der(bytes: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = bytes else {
        return false;
    };
    let short = usize::from(*length);
    match short.checked_sub(0x80) {
        None => rest.len() == short,
        Some(digits @ 1..=3) if rest.len() > digits => {
            let (digits, rest) = rest.split_at(digits);
            let digit = |length, digit: &u8| length << 8 | usize::from(*digit);
            rest.len() == digits.iter().fold(0, digit)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_der;

    #[test]
    fn a_der_sequence_is_told_from_what_was_cut_off_or_is_something_else() {
        let long = |length: usize| [&[0x30, 0x82, 1, 4][..], &vec![7; length]].concat();
        for good in [&b"\x30\x03abc"[..], &long(260), b"\x30\x81\x02ab"] {
            assert!(is_der(good), "{good:x?}");
        }
        for bad in [
            &b""[..],
            b"0",
            b"\x30\x03ab",
            b"\x30\x03abc\n",
            b"\x31\x03abc",
            b"\x30\x80ab\0\0",
            b"\x30\x82\x01",
            b"<html>",
            b"\x30\xffab",
            &long(259),
            &long(261),
        ] {
            assert!(!is_der(bad), "{bad:x?}");
        }
    }
}
