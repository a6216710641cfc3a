//! What commands say: answers on standard output, the rest on standard error.
//!
//! `println!` panics where nobody reads. A command does its work to the end, whoever reads.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use anyhow::bail;

/// Why standard output takes no more.
static CLOSED: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on standard output; what fails is told when the command has ended ([`finish`]).
macro_rules! outln {
    ($($line:tt)*) => { $crate::cli::out::print(format_args!($($line)*)) };
}

/// Prints a line on standard error, if anybody reads it.
macro_rules! errln {
    ($($line:tt)*) => { $crate::cli::out::complain(format_args!($($line)*)) };
}

pub fn print(line: Arguments<'_>) {
    if let Err(error) = try_print(line) {
        // The first says why.
        let _ = CLOSED.set(error);
    }
}

/// Prints a line that must not be lost.
pub fn try_print(line: Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

pub fn complain(line: Arguments<'_>) {
    // There is nowhere left to say so.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells whether nobody reads any more.
pub fn is_closed() -> bool {
    CLOSED.get().is_some()
}

/// Fails if something could not be printed, unless whoever read has had enough (`| head`).
pub fn finish() -> anyhow::Result<()> {
    match CLOSED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            bail!("standard output: {error}; what was done is done, what was to be said is lost")
        }
        _ => Ok(()),
    }
}
