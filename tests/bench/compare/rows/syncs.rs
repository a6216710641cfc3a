//! Row 11: how many times the disk is asked to sync for one signup.

use super::signups::{CONNECTIONS, sign_up_at};
use crate::Bench;
use crate::daemon::{Db, Home};
use crate::pairs::{Measure, alone};
use crate::strace::Strace;

/// Row 11.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        11,
        "fdatasyncs per signup, 64 connections",
        "Postfix: 1.0 a message",
        "calls",
    );
    bench.pairs([measure.at_most(0.2, 0.05)], |_| {
        let home = Home::new(Db::Sqlite, None);
        let daemon = home.serve();
        let strace = Strace::attach(daemon.pid(), "fdatasync,fsync");
        let load = sign_up_at(bench, &home, &[&daemon], CONNECTIONS);
        let calls = strace.calls();
        drop(daemon);
        bench.block_on(home.assert_signups(load.answers.len()));
        [alone(calls as f64 / load.answers.len() as f64)]
    })
}
