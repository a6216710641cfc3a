//! A home in which many people are confirmed: one by signup, mail and link, the others as copies of that one.

use std::path::Path;
use std::time::{Duration, Instant};

use confirmd::token::Purpose;
use sqlx::Connection as _;

use crate::Bench;
use crate::daemon::{Db, Home, SESSIONS};
use crate::fill::{self, Database};
use crate::links;
use crate::load::{self, Plan};
use crate::people::People;
use crate::rows::mailed::wait_for_mails;
use crate::sink::{Relay as _, Sink};

/// Takes the one that is kept in a folder, or makes it there: ten million people take an hour.
pub fn kept(bench: &Bench, dir: &Path, people: u64) -> Home {
    if dir.exists() {
        let home = Home::kept(dir);
        let there = bench.block_on(home.count("select size / 3 from trail_head"));
        assert!(
            there as u64 >= people,
            "{} holds {there} people",
            dir.display()
        );
        sign(bench, &home);
        return home;
    }
    home(bench, Db::Sqlite, people).keep(dir)
}

/// Reads what every signup touches somewhere else: where a service has run for a while it is in memory.
pub fn warm(bench: &Bench, home: &Home) {
    for keys in [
        "select count(*) from address where ledger is not null",
        "select count(identity) from subscriber",
    ] {
        bench.block_on(home.count(keys));
    }
}

/// Makes one without delivery. What is filled in does not count later.
pub fn home(bench: &Bench, db: Db, people: u64) -> Home {
    let began = Instant::now();
    let home = Home::new(db, None);
    confirm_one(bench, &home);
    bench.block_on(copy_them(&home, people));
    sign(bench, &home);
    home.sync();
    home.count_from_now();
    println!(
        "    {people} subscriptions filled in after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    home
}

fn confirm_one(bench: &Bench, home: &Home) {
    let mut sink = Sink::start();
    home.deliver_to(Some(sink.addr()), SESSIONS);
    let daemon = home.serve();
    let once = |expect| Plan {
        numbers: 0..1,
        ..bench.closed(vec![daemon.http], 1, expect)
    };
    // Nobody else of the benchmark signs up out of this stream.
    let signup = People::new(u64::MAX).signup(&home.key());
    bench
        .block_on(load::run(once(202), signup))
        .all_expected("signup");
    wait_for_mails(bench, home, &mut sink, 1);
    let keys = bench.block_on(links::keys(home));
    let subjects = "select id from signup";
    let paths = bench.block_on(links::paths(home, &keys, Purpose::Confirm, subjects));
    bench
        .block_on(load::run(once(200), links::press(paths, "")))
        .all_expected("confirm");
    while bench.block_on(home.count("select count(*) from unnumbered_event")) > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(daemon);
    home.deliver_to(None, SESSIONS);
}

/// Waits until a checkpoint is signed over all that was filled in, for which each event is read once.
fn sign(bench: &Bench, home: &Home) {
    const UNSIGNED: &str =
        "select size - coalesce((select max(size) from checkpoint), 0) from trail_head";
    let _daemon = home.serve();
    while bench.block_on(home.count(UNSIGNED)) > 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn copy_them(home: &Home, people: u64) {
    let (database, _) = fill::fill(&home.url, people).await;
    let closed = match database {
        Database::Sqlite(database) => database.close().await,
        Database::Postgres(database) => database.close().await,
    };
    closed.expect("closed");
}
