//! Row 12: the longest time under load in which nothing is committed, beside the p99 of an `fdatasync`.

use super::signups::{CONNECTIONS, sign_up};
use crate::Bench;
use crate::daemon::{Db, Home};
use crate::floor;
use crate::pairs::{Measure, Pair};

/// Row 12.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(12, "worst commit stall under load", "fdatasync p99", "ms");
    bench.pairs([measure.at_most(200.0, 50.0)], |_| {
        let home = Home::new(Db::Sqlite, None);
        // Before the daemon runs: what a command makes it do is not what a signup waits for.
        drop(home.serve());
        home.key();
        let stall = sign_up(bench, &home, CONNECTIONS).longest_gap();
        let (_, sync) = floor::disk::fdatasync();
        [Pair {
            a: stall.as_secs_f64(),
            b: sync.as_secs_f64(),
        }
        .times(1000.0)]
    })
}
