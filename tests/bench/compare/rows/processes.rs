//! Row 16: one, two and four processes on one PostgreSQL.

use super::signups::{CONNECTIONS, sign_up_at};
use crate::Bench;
use crate::daemon::{Daemon, Db, Home};
use crate::pairs::{Measure, Pair};

/// Row 16.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let measure = |what| Measure::new(16, what, "1 process", "signups/s");
    bench.pairs(
        [
            measure("signups, 2 processes on one PostgreSQL"),
            measure("signups, 4 processes on one PostgreSQL"),
        ],
        |_| {
            let rate = |processes: usize| {
                let home = Home::new(Db::Postgres, None);
                let daemons: Vec<Daemon> = (0..processes).map(|_| home.serve()).collect();
                let load = sign_up_at(
                    bench,
                    &home,
                    &daemons.iter().collect::<Vec<_>>(),
                    CONNECTIONS,
                );
                drop(daemons);
                bench.block_on(home.assert_signups(load.answers.len()));
                load.rate()
            };
            let b = rate(1);
            [2, 4].map(|processes| Pair {
                a: rate(processes),
                b,
            })
        },
    )
}
