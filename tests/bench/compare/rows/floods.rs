//! Row 8: signups while others flood with forged tokens, beside the same signups undisturbed.

use std::time::Duration;

use crate::Bench;
use crate::daemon::{Db, Home};
use crate::links;
use crate::load::{self, Pace, Plan};
use crate::pairs::{Measure, Pair};

const SIGNERS: usize = 16;
const FLOODERS: usize = 16;

/// Row 8.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let rate = Measure::new(
        8,
        "signups kept under a flood of forged tokens",
        "undisturbed, 16 connections",
        "signups/s",
    );
    let p99 = Measure::new(
        8,
        "their p99, open loop at half of the undisturbed rate",
        "undisturbed p99",
        "ms",
    );
    bench.pairs(
        [rate.at_least(0.45, 0.60), p99.at_most(None, 2.0)],
        |measures| {
            let home = Home::new(Db::Sqlite, None);
            let daemon = home.serve();
            home.assert_durable();
            let (key, keys) = (home.key(), bench.block_on(links::keys(&home)));
            let closed = bench.closed(vec![daemon.http], SIGNERS, 202);
            let mut next = 0;
            let mut sign_up = |pace, flooded: bool| {
                let plan = Plan {
                    pace,
                    numbers: next..u64::MAX,
                    ..closed.clone()
                };
                // The flood begins before and ends after.
                let time = bench.time + Duration::from_millis(500);
                let flood = Plan {
                    time,
                    ..bench.closed(vec![daemon.http], FLOODERS, 404)
                };
                let load = bench.block_on(async {
                    let flood =
                        flooded.then(|| tokio::spawn(load::run(flood, links::forged(&keys))));
                    let load = load::run(plan, home.people.signup(&key)).await;
                    if let Some(flood) = flood {
                        flood.await.expect("no panic").all_expected("forged tokens");
                    }
                    load.all_expected("signups")
                });
                next = load.next;
                load
            };
            let alone = sign_up(Pace::Closed, false);
            let flooded = sign_up(Pace::Closed, true);
            let half = Pace::Open(alone.rate() / 2.0);
            let (calm, stormy) = (sign_up(half, false), sign_up(half, true));
            measures[1].latencies(&stormy);
            drop(daemon);
            let all = [&alone, &flooded, &calm, &stormy]
                .iter()
                .map(|load| load.answers.len())
                .sum();
            bench.block_on(home.assert_signups(all));
            let p99 = |load: &load::Load| load.latency(0.99).as_secs_f64() * 1000.0;
            [
                Pair {
                    a: flooded.rate(),
                    b: alone.rate(),
                },
                Pair {
                    a: p99(&stormy),
                    b: p99(&calm),
                },
            ]
        },
    )
}
