//! Row 13: signups, confirms and mails where many subscriptions are, beside the same where few are.

use super::delivery::{LEAST, drain};
use super::presses::{CONFIRM, SHARE, presses};
use super::signups::sign_up_paced;
use crate::Bench;
use crate::daemon::{Db, Home, SESSIONS};
use crate::filled;
use crate::load::{Load, Pace};
use crate::pairs::{Measure, Pair};
use crate::sink::Sink;

/// Subscriptions on the smaller side.
const FEW: u64 = 10_000;

/// Row 13.
pub fn run(bench: &Bench) -> Vec<Measure> {
    if bench.filled <= FEW {
        println!("    row 13 is left out: it needs --filled N, of more than {FEW}");
        return Vec::new();
    }
    let measure = |what: &str, unit| {
        let what = format!("{what}, {} subscriptions", bench.filled);
        Measure::new(13, &what, "the same at 10000", unit)
    };
    let latency = |what: &str| {
        let what = format!("p99 of {what}, a third of capacity");
        measure(&what, "ms").at_most(2.0, 2.0)
    };
    let measures = [
        measure("signups, 64 connections", "signups/s").at_least(0.35, 0.5),
        measure("confirms, 16 connections", "requests/s").at_least(0.35, 0.5),
        measure("mails claimed and sent, 8 sessions", "mails/s").at_least(0.7, 0.85),
        latency("a signup, 64 connections"),
        latency("a confirm, 16 connections"),
    ];
    // The few would become many.
    let few = filled::home(bench, Db::Sqlite, FEW);
    bench.pairs(measures, |measures| {
        let a = round(bench, &bench.home(None));
        measures[3].latencies(&a.paced_signups);
        measures[4].latencies(&a.paced_confirms);
        let b = (!bench.only_a).then(|| round(bench, &few.copy()));
        let pair = |figure: fn(&Round) -> f64| Pair {
            a: figure(&a),
            b: b.as_ref().map_or(1.0, figure),
        };
        [
            pair(|round| round.signups.rate()),
            pair(|round| round.confirms.rate()),
            pair(|round| round.mails),
            pair(|round| p99(&round.paced_signups)),
            pair(|round| p99(&round.paced_confirms)),
        ]
    })
}

/// What one side did in one pair.
struct Round {
    signups: Load,
    paced_signups: Load,
    mails: f64,
    confirms: Load,
    paced_confirms: Load,
}

/// Signs people up, then mails them, then confirms them.
fn round(bench: &Bench, home: &Home) -> Round {
    let daemon = home.serve();
    home.assert_durable();
    let signups = sign_up_paced(bench, home, &daemon, Pace::Closed);
    let pace = Pace::Open(signups.rate() * SHARE);
    let paced_signups = sign_up_paced(bench, home, &daemon, pace);
    let mut waiting = signups.answers.len() + paced_signups.answers.len();
    while waiting < LEAST {
        waiting += sign_up_paced(bench, home, &daemon, Pace::Closed)
            .answers
            .len();
    }
    drop(daemon);
    bench.block_on(home.assert_signups(waiting));
    let mut sink = Sink::start();
    let (daemon, mails) = drain(bench, home, &mut sink, SESSIONS, waiting);
    let [confirms, _, paced_confirms] = presses(bench, home, &daemon, CONFIRM);
    Round {
        signups,
        paced_signups,
        mails,
        confirms,
        paced_confirms,
    }
}

fn p99(load: &Load) -> f64 {
    load.latency(0.99).as_secs_f64() * 1000.0
}
