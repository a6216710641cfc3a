//! Rows 9 and 10: how many confirms and one-click unsubscribes beside signups, and their p99 beside one `fdatasync`.

use confirmd::token::Purpose;

use super::mailed::wait_for_mails;
use super::signups::{sign_up, sign_up_at};
use crate::Bench;
use crate::daemon::{Daemon, Db, Home};
use crate::load::{self, Load, Pace, Plan};
use crate::pairs::{Measure, Pair};
use crate::sink::{Relay as _, Sink};
use crate::{floor, links};

const MANY: usize = 16;
/// An open loop asks for this share of what the closed loop reached.
pub const SHARE: f64 = 1.0 / 3.0;

/// A press on a link.
#[derive(Clone, Copy)]
pub struct Press {
    purpose: Purpose,
    body: &'static str,
    /// Whose links can be pressed.
    subjects: &'static str,
    /// What a press leaves behind.
    event: &'static str,
}

pub const CONFIRM: Press = Press {
    purpose: Purpose::Confirm,
    body: "",
    subjects: "select id from signup where id > $1",
    event: "select count(*) from event where id > $1 and type = 'subscription.confirmed'",
};
const ONE_CLICK: Press = Press {
    purpose: Purpose::Unsubscribe,
    body: "List-Unsubscribe=One-Click",
    // Those who were filled in can leave as well.
    subjects: "select id from subscription where state = 'confirmed' order by id desc limit 200000",
    event: "select count(*) from event where id > $1 and type = 'subscription.unsubscribed'",
};

/// Rows 9 and 10.
pub fn run(bench: &Bench) -> Vec<Measure> {
    let rate =
        |what| Measure::new(9, what, "signups, 16 connections", "requests/s").at_least(0.6, 0.9);
    let one = |what| Measure::new(10, what, "fdatasync p50", "ms").at_most(60.0, 15.0);
    let many = |what| Measure::new(10, what, "fdatasync p50", "ms").at_most(60.0, 30.0);
    let measures = [
        rate("confirms, 16 connections"),
        rate("one-click unsubscribes, 16 connections"),
        one("p99 of a confirm, 1 connection, a third of capacity"),
        many("p99 of a confirm, 16 connections, a third of capacity"),
        one("p99 of a one-click, 1 connection, a third of capacity"),
        many("p99 of a one-click, 16 connections, a third of capacity"),
    ];
    let mut shortest = [f64::INFINITY; 6];
    let mut measures = bench.pairs(measures, |measures| {
        let signups = sign_up(bench, &Home::new(Db::Sqlite, None), MANY).rate();
        let mut sink = Sink::start();
        let home = bench.home(Some(sink.addr()));
        let daemon = home.serve();
        let accepted = sign_up_at(bench, &home, &[&daemon], MANY).answers.len();
        wait_for_mails(bench, &home, &mut sink, accepted);
        let (sync, _) = floor::disk::fdatasync();
        let confirms = presses(bench, &home, &daemon, CONFIRM);
        let leaves = presses(bench, &home, &daemon, ONE_CLICK);
        let loads = [
            &confirms[0],
            &leaves[0],
            &confirms[1],
            &confirms[2],
            &leaves[1],
            &leaves[2],
        ];
        for (shortest, load) in shortest.iter_mut().zip(loads) {
            *shortest = load.elapsed.as_secs_f64().min(*shortest);
        }
        let p99 = |load: &Load| {
            Pair {
                a: load.latency(0.99).as_secs_f64(),
                b: sync.as_secs_f64(),
            }
            .times(1000.0)
        };
        for (measure, load) in measures[2..]
            .iter_mut()
            .zip(confirms[1..].iter().chain(&leaves[1..]))
        {
            measure.latencies(load);
        }
        [
            Pair {
                a: confirms[0].rate(),
                b: signups,
            },
            Pair {
                a: leaves[0].rate(),
                b: signups,
            },
            p99(&confirms[1]),
            p99(&confirms[2]),
            p99(&leaves[1]),
            p99(&leaves[2]),
        ]
    });
    for (measure, shortest) in measures.iter_mut().zip(shortest) {
        let note = format!("each link is pressed once: the shortest run took {shortest:.1} s");
        measure.notes.push(note);
    }
    measures
}

/// Presses every link once at most: a closed loop over 16 connections, then open loops over one and 16.
pub fn presses(bench: &Bench, home: &Home, daemon: &Daemon, press: Press) -> [Load; 3] {
    let keys = bench.block_on(links::keys(home));
    let paths = bench.block_on(links::paths(home, &keys, press.purpose, press.subjects));
    let (all, before) = (paths.len() as u64, bench.block_on(home.count(press.event)));
    // Half of the links for the closed loop, a tenth to learn what one connection can do.
    let (mut next, mut pressed) = (0, 0);
    let mut run = |pace, connections, share: f64| {
        let numbers = next..all.min(next + (all as f64 * share) as u64);
        let plan = Plan {
            pace,
            numbers,
            ..bench.closed(vec![daemon.http], connections, 200)
        };
        let load = bench.block_on(load::run(plan, links::press(paths.clone(), press.body)));
        let load = load.all_expected("presses");
        next = load.next;
        pressed += load.answers.len();
        load
    };
    let many = run(Pace::Closed, MANY, 0.5);
    let one = run(Pace::Closed, 1, 0.1);
    let open_one = run(Pace::Open(one.rate() * SHARE), 1, 0.2);
    let open_many = run(Pace::Open(many.rate() * SHARE), MANY, 0.2);
    let after = bench.block_on(home.count(press.event));
    assert_eq!(
        after - before,
        pressed,
        "events beside answers: {}",
        press.event
    );
    [many, open_one, open_many]
}
