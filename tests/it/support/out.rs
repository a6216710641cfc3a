//! The folder that `tests/run` searches for leaks: what was said, and what must not be found in it.
//!
//! `CONFIRMD_TEST_OUT` names it. Without that variable nothing is kept, so that `cargo test` leaves nothing behind.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Records an address or a token that no process may print.
pub fn secret(secret: &str) {
    if let Some(out) = folder() {
        record(&out, secret);
    }
}

/// Opens a file for the standard output and error of one process; `None` when nothing is kept.
pub fn log(process: &str) -> Option<File> {
    Some(open(&folder()?.join("logs"), process))
}

/// Keeps what a process shows of its numbers.
pub fn metrics(text: &str) {
    if let Some(mut log) = log("metrics") {
        writeln!(log, "{text}").expect("a log");
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("CONFIRMD_TEST_OUT").map(PathBuf::from)
}

fn record(out: &Path, secret: &str) {
    assert!(!secret.contains('\n'), "one line is one secret");
    // One write to a file opened for appending: lines of parallel tests do not mix.
    open(&out.join("secrets"), "test")
        .write_all(format!("{secret}\n").as_bytes())
        .expect("write a secret down");
}

fn open(folder: &Path, name: &str) -> File {
    create_dir_all(folder).expect("create the folder of what tests put out");
    let path = folder.join(format!("{name}-{}.txt", std::process::id()));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn secrets_and_logs_are_appended_where_the_leak_search_reads() {
    let out = tempfile::tempdir().expect("a folder");
    record(out.path(), "first@example.org");
    record(out.path(), "second@example.org");
    let name = format!("test-{}.txt", std::process::id());
    let kept = std::fs::read_to_string(out.path().join("secrets").join(name))
        .expect("the file of secrets");
    assert_eq!(kept, "first@example.org\nsecond@example.org\n");
    // In a whole run this gives the leak search a first address to look for.
    secret("kept.by.the.harness@example.org");
}
