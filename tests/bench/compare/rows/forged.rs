//! Row 7: forged tokens refused, beside the same HTTP stack that looks at nothing.

use std::time::Duration;

use crate::Bench;
use crate::daemon::{Db, Home};
use crate::floor::http::Part;
use crate::links;
use crate::load::{self, Plan};
use crate::pairs::{Measure, Pair};
use crate::strace::Strace;

const CONNECTIONS: usize = 16;

/// Row 7.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        7,
        "forged tokens refused, 16 connections",
        "the same HTTP stack, an empty 404",
        "requests/s",
    );
    bench.pairs([measure.at_least(0.75, 0.90)], |measures| {
        let home = Home::new(Db::Sqlite, None);
        let daemon = home.serve();
        let keys = bench.block_on(links::keys(&home));
        let flood = |to| {
            let plan = bench.closed(vec![to], CONNECTIONS, 404);
            bench
                .block_on(load::run(plan, links::forged(&keys)))
                .all_expected("forged tokens")
        };
        let a = flood(daemon.http).rate();
        let b = bench.beside(|| flood(Part::start("http").addr).rate());
        if measures[0].notes.is_empty() && !bench.only_a {
            // SQLite locks the file by fcntl before it reads, whatever is in its cache.
            let strace = Strace::attach(daemon.pid(), "fcntl,pread64");
            let numbers = 0..20_000;
            let time = Duration::from_secs(60);
            let plan = Plan {
                numbers,
                time,
                ..bench.closed(vec![daemon.http], CONNECTIONS, 404)
            };
            let refused = bench
                .block_on(load::run(plan, links::forged(&keys)))
                .answers
                .len();
            let reads = strace.calls();
            assert!(
                reads * 100 < refused,
                "{refused} forged tokens made {reads} system calls that read the database"
            );
            measures[0].notes.push(format!(
                "{reads} locks and reads of the database during {refused} refusals, by strace"
            ));
        }
        [Pair { a, b }]
    })
}
