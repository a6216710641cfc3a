//! Rows 4, 5 and 6: mails a second out of a filled queue, beside `smtp-source` with as many sessions into the same.

use std::time::Instant;

use super::mailed::wait_for_mails;
use super::signups::sign_up_paced;
use crate::Bench;
use crate::daemon::{Daemon, Db, Home, SESSIONS};
use crate::floor::{self, source};
use crate::load::{self, Pace, Plan};
use crate::pairs::{Measure, Pair};
use crate::people::People;
use crate::postfix::Postfix;
use crate::sink::{Relay, Sink};

/// Mails in a filled queue, at least.
pub const LEAST: usize = 4000;

/// Row 4.
pub fn with_eight(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        4,
        "mails sent and recorded, 8 sessions into a sink",
        "smtp-source -d, 8 sessions",
        "mails/s",
    );
    let wall = Measure::new(
        4,
        "what is written of these mails, by itself through raw SQLite, 100 in a commit",
        "smtp-source -d, 8 sessions",
        "mails/s",
    );
    let mut length = None;
    let measures = bench.pairs([measure.at_least(0.5, 0.9), wall], |_| {
        let (home, waiting) = filled_queue(bench);
        let queue = home.copy();
        let pair = beside_source(bench, &home, SESSIONS, waiting, Sink::start, &mut length);
        let raw = bench.beside(|| floor::mails::run(&queue.file(), &home.file()));
        [pair, Pair { a: raw, b: pair.b }]
    });
    noted(measures, length)
}

/// Row 5.
pub fn with_one(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        5,
        "mails sent and recorded, 1 session into a sink",
        "smtp-source -d, 1 session",
        "mails/s",
    );
    run(bench, measure.at_least(0.9, 1.6), 1, Sink::start)
}

/// Row 6.
pub fn into_postfix(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        6,
        "mails sent and recorded, 8 sessions into Postfix",
        "smtp-source -d, 8 sessions into Postfix",
        "mails/s",
    );
    run(bench, measure.at_least(0.7, 0.9), SESSIONS, Postfix::start)
}

fn run<R: Relay>(
    bench: &Bench,
    measure: Measure,
    sessions: usize,
    start: impl Fn() -> R,
) -> Vec<Measure> {
    let mut length = None;
    let measures = bench.pairs([measure], |_| {
        let (home, waiting) = filled_queue(bench);
        [beside_source(
            bench,
            &home,
            sessions,
            waiting,
            &start,
            &mut length,
        )]
    });
    noted(measures, length)
}

/// Each side has a relay of its own, so that both find it as fresh as the other.
fn beside_source<R: Relay>(
    bench: &Bench,
    home: &Home,
    sessions: usize,
    waiting: usize,
    start: impl Fn() -> R,
    length: &mut Option<usize>,
) -> Pair {
    let mut relay = start();
    let (_, a) = drain(bench, home, &mut relay, sessions, waiting);
    drop(relay);
    let b = bench.beside(|| {
        let length = *length.get_or_insert_with(|| length_of_a_mail(bench));
        source::run(&mut start(), sessions, waiting, length - source::header())
    });
    Pair { a, b }
}

fn noted(mut measures: Vec<Measure>, length: Option<usize>) -> Vec<Measure> {
    let note = |length| {
        format!("{length} bytes a mail on either side; the clock runs from when confirmd serves")
    };
    measures[0].notes.extend(length.map(note));
    measures
}

/// Signs people up while nothing is delivered, and ends the daemon; returns its home, and how many mails wait.
fn filled_queue(bench: &Bench) -> (Home, usize) {
    let home = Home::new(Db::Sqlite, None);
    let daemon = home.serve();
    home.assert_durable();
    let mut waiting = 0;
    while waiting < LEAST {
        let load = sign_up_paced(bench, &home, &daemon, Pace::Closed);
        waiting += load.answers.len();
    }
    drop(daemon);
    bench.block_on(home.assert_signups(waiting));
    (home, waiting)
}

/// Starts a daemon that delivers what waits; returns it, and mails a second from when it serves to the last `sent`.
pub fn drain(
    bench: &Bench,
    home: &Home,
    relay: &mut impl Relay,
    sessions: usize,
    waiting: usize,
) -> (Daemon, f64) {
    home.deliver_to(Some(relay.addr()), sessions);
    let daemon = home.serve();
    let began = Instant::now();
    let ended = wait_for_mails(bench, home, relay, waiting);
    (daemon, waiting as f64 / (ended - began).as_secs_f64())
}

/// Returns the mean length of the mails that people get, their header with it.
fn length_of_a_mail(bench: &Bench) -> usize {
    const PEOPLE: usize = 100;
    let mut sink = Sink::start();
    let home = Home::new(Db::Sqlite, Some(sink.addr()));
    let daemon = home.serve();
    let plan = Plan {
        numbers: 0..PEOPLE as u64,
        ..bench.closed(vec![daemon.http], 1, 202)
    };
    let signup = People::new(1).signup(&home.key());
    let load = bench.block_on(load::run(plan, signup));
    let load = load.all_expected("signups");
    wait_for_mails(bench, &home, &mut sink, load.answers.len());
    sink.length()
}
