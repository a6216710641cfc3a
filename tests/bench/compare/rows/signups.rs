//! Rows 1 and 2: durable signups beside the raw database writing the same rows.

use crate::Bench;
use crate::daemon::{Daemon, Db, Home};
use crate::floor;
use crate::load::{self, Load, Pace, Plan};
use crate::pairs::{Measure, Pair};

/// Connections of rows that do not say otherwise.
pub const CONNECTIONS: usize = 64;

/// Row 1.
pub fn on_sqlite(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        1,
        "signups durable on SQLite, 64 connections",
        "raw SQLite, 100 signups in a commit",
        "signups/s",
    );
    bench.pairs([measure.at_least(0.30, 0.50)], |_| {
        let home = Home::new(Db::Sqlite, None);
        let a = sign_up(bench, &home, CONNECTIONS).rate();
        let b = bench.beside(|| floor::sqlite::run(&home.file()).rate());
        [Pair { a, b }]
    })
}

/// Row 2.
pub fn on_postgres(bench: &Bench) -> Vec<Measure> {
    let measure = Measure::new(
        2,
        "signups durable on PostgreSQL, 64 connections",
        "raw PostgreSQL, 8 clients, 10 signups in a set",
        "signups/s",
    );
    bench.pairs([measure.at_least(0.30, 0.50)], |_| {
        let home = Home::new(Db::Postgres, None);
        let a = sign_up(bench, &home, CONNECTIONS).rate();
        let b = bench.beside(|| bench.block_on(floor::postgres::run(&home.url)).rate());
        [Pair { a, b }]
    })
}

/// Runs a daemon under signups, kills it, and checks that everything that it accepted is there.
pub fn sign_up(bench: &Bench, home: &Home, connections: usize) -> Load {
    let daemon = home.serve();
    let before = daemon.cpu();
    let load = sign_up_at(bench, home, &[&daemon], connections);
    let each = (daemon.cpu() - before) / load.answers.len() as f64;
    println!(
        "    processor time of confirmd for a signup: {:.1} us",
        each * 1e6
    );
    // What a 202 promises is there after any end.
    drop(daemon);
    bench.block_on(home.assert_signups(load.answers.len()));
    load
}

/// Signs up at daemons that run on one database, in a closed loop.
pub fn sign_up_at(bench: &Bench, home: &Home, daemons: &[&Daemon], connections: usize) -> Load {
    home.assert_durable();
    let to = daemons.iter().map(|daemon| daemon.http).collect();
    sign_up_as(bench, home, bench.closed(to, connections, 202))
}

/// Signs up at a pace, over the usual connections.
pub fn sign_up_paced(bench: &Bench, home: &Home, daemon: &Daemon, pace: Pace) -> Load {
    let plan = bench.closed(vec![daemon.http], CONNECTIONS, 202);
    sign_up_as(bench, home, Plan { pace, ..plan })
}

/// Signs up those who did not yet.
fn sign_up_as(bench: &Bench, home: &Home, plan: Plan) -> Load {
    let numbers = home.next.get()..u64::MAX;
    let signup = home.people.signup(&home.key());
    let load = bench.block_on(load::run(Plan { numbers, ..plan }, signup));
    home.next.set(load.next);
    load.all_expected("signups")
}
