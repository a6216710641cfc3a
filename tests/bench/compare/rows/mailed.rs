//! Row 3: from the signup to the mail that is recorded as sent, sustained to the last mail, beside row 1.

use std::time::{Duration, Instant};

use super::signups::{CONNECTIONS, sign_up, sign_up_at};
use crate::Bench;
use crate::daemon::{Db, Home, SESSIONS};
use crate::pairs::{Measure, Pair};
use crate::sink::{Relay, Sink};

/// How long the last mail may take.
const PATIENCE: Duration = Duration::from_secs(300);
const SIGNERS: usize = 16;

/// Row 3.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        3,
        "signups mailed and recorded, 16 connections",
        "signups/s of row 1",
        "signups/s",
    );
    bench.pairs([measure.at_least(0.45, 0.80)], |_| {
        let mut sink = Sink::start();
        let home = Home::new(Db::Sqlite, Some(sink.addr()));
        let daemon = home.serve();
        let began = Instant::now();
        let load = sign_up_at(bench, &home, &[&daemon], SIGNERS);
        // What passed before the first request is no part of it.
        let before = began.elapsed() - load.elapsed;
        let ended = wait_for_mails(bench, &home, &mut sink, load.answers.len());
        let took = ended - began - before;
        let a = load.answers.len() as f64 / took.as_secs_f64();
        println!(
            "    {} signups accepted at {:.0}/s; the last was recorded as sent {:.2} s later",
            load.answers.len(),
            load.rate(),
            (took - load.elapsed).as_secs_f64()
        );
        drop(daemon);
        bench.block_on(home.assert_signups(load.answers.len()));
        let b = bench.beside(|| sign_up(bench, &Home::new(Db::Sqlite, None), CONNECTIONS).rate());
        [Pair { a, b }]
    })
}

/// Sends the mails that an earlier run has left.
pub fn send_leftovers(bench: &Bench, home: &Home) {
    if !is_any_open(bench, home) {
        return;
    }
    let sink = Sink::start();
    home.deliver_to(Some(sink.addr()), SESSIONS);
    let _daemon = home.serve();
    while is_any_open(bench, home) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_any_open(bench: &Bench, home: &Home) -> bool {
    const OPEN: &str = "select count(*) from (select 1 from message where state = 'queued'
        union all select 1 from message where state = 'claimed' limit 1) as open";
    bench.block_on(home.count(OPEN)) > 0
}

/// Waits until the relay has each mail and the database says so, and returns when that was; checks that nobody got two.
pub fn wait_for_mails(
    bench: &Bench,
    home: &Home,
    relay: &mut impl Relay,
    accepted: usize,
) -> Instant {
    let began = Instant::now();
    while relay.taken() < accepted || is_any_open(bench, home) {
        assert!(
            began.elapsed() < PATIENCE,
            "mails are missing: {} of {accepted} came",
            relay.taken()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = Instant::now();
    let sent = "select count(*) from message where id > $1 and state = 'sent'";
    let sent = bench.block_on(home.count(sent));
    let (mails, recipients) = relay.counts();
    assert_eq!(
        (mails, recipients, sent),
        (accepted, accepted, accepted),
        "mails, recipients and `sent` beside 202s"
    );
    ended
}
