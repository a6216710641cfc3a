//! A soak, asked for with `--soak MINUTES`: even load of every kind, and whether memory grows under it.

use std::time::{Duration, Instant};

use confirmd::token::Purpose;

use super::mailed::wait_for_mails;
use crate::Bench;
use crate::daemon::{Db, Home};
use crate::links;
use crate::load::{self, Pace, Plan};
use crate::pairs::{Measure, Pair, spread};
use crate::sink::{Relay as _, Sink};

const CONNECTIONS: usize = 16;
/// Signups a second, of which each is mailed.
const RATE: f64 = 100.0;
/// After each stretch of signups, the newest that were mailed are confirmed, and as many forged links refused. Whoever
/// confirms before the mail has left gets none.
const STRETCH: Duration = Duration::from_secs(9);
const NEWEST: &str = "select id from signup where state = 'sent' order by id desc limit 300";

/// The memory of the last quarter of the time beside that of the second.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let time = Duration::from_secs(60 * bench.soak);
    if time.is_zero() {
        return Vec::new();
    }
    let what = format!(
        "resident memory at the end of {} minutes of load",
        bench.soak
    );
    let mut measure = Measure::new(14, &what, "after a quarter of them", "MB").at_most(1.05, 1.0);
    let mut sink = Sink::start();
    let home = Home::new(Db::Sqlite, Some(sink.addr()));
    let daemon = home.serve();
    let (keys, write) = (
        bench.block_on(links::keys(&home)),
        home.people.signup(&home.key()),
    );
    let write = std::sync::Arc::new(write);
    let (mut next, mut accepted, mut samples) = (0, 0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < time {
        let plan = Plan {
            pace: Pace::Open(RATE),
            numbers: next..u64::MAX,
            time: STRETCH,
            ..bench.closed(vec![daemon.http], CONNECTIONS, 202)
        };
        let write = write.clone();
        let load = bench.block_on(load::run(plan, move |n, into: &mut Vec<u8>| write(n, into)));
        next = load.next;
        accepted += load.all_expected("signups").answers.len();
        let paths = bench.block_on(links::paths(&home, &keys, Purpose::Confirm, NEWEST));
        let many = 0..paths.len() as u64;
        let plan = |expect| Plan {
            numbers: many.clone(),
            ..bench.closed(vec![daemon.http], CONNECTIONS, expect)
        };
        let confirms = bench.block_on(load::run(plan(200), links::press(paths, "")));
        confirms.all_expected("confirms");
        let refusals = bench.block_on(load::run(plan(404), links::forged(&keys)));
        refusals.all_expected("refusals");
        samples.push(daemon.memory("VmRSS"));
    }
    wait_for_mails(bench, &home, &mut sink, accepted);
    let quarter = |n: usize| {
        let part = &samples[samples.len() * n / 4..samples.len() * (n + 1) / 4];
        spread(part.iter().copied())[0]
    };
    let [a, b] = [quarter(3), quarter(1)];
    measure.pairs.push(Pair { a, b });
    measure.notes.push(format!(
        "{accepted} signups at {RATE}/s, each mailed; {} samples, {:.1} to {:.1} MB",
        samples.len(),
        spread(samples.iter().copied())[1],
        spread(samples.iter().copied())[2],
    ));
    vec![measure]
}
