//! Debian's `smtp-source`: mails as fast as a relay takes them, and nothing kept about any.

use std::process::Command;
use std::time::Instant;

use crate::sink::{Relay, Sink};

/// Debian's package postfix brings it.
const PROGRAM: &str = "/usr/sbin/smtp-source";

/// Sends mails, each to somebody else, over connections that stay open; returns mails a second. Their text has `length`
/// bytes, to which a header comes.
pub fn run(relay: &mut impl Relay, sessions: usize, mails: usize, length: usize) -> f64 {
    let began = Instant::now();
    let done = Command::new(PROGRAM)
        .args(["-d", "-N"])
        .args(["-s", &sessions.to_string()])
        .args(["-m", &mails.to_string()])
        .args(["-l", &length.to_string()])
        .args(["-f", "confirm@acme.example", "-t", "anna@example.org"])
        .arg(format!("inet:{}", relay.addr()))
        .status()
        .unwrap_or_else(|e| panic!("{PROGRAM}: {e}: apt-get install postfix"));
    let seconds = began.elapsed().as_secs_f64();
    assert!(done.success(), "{PROGRAM}: {done}");
    assert_eq!(relay.counts(), (mails, mails), "mails and recipients");
    mails as f64 / seconds
}

/// Returns how long the header is that it writes.
pub fn header() -> usize {
    const TEXT: usize = 1000;
    let mut sink = Sink::start();
    run(&mut sink, 1, 1, TEXT);
    sink.length() - TEXT
}
