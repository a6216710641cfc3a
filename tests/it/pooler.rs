//! PostgreSQL behind PgBouncer in transaction mode: each transaction runs on whichever of four connections is free.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home, QUICK};
use crate::support::driver::{Driver, signups};
use crate::support::mail::{Mail, links};
use crate::support::peer::Peer;
use crate::support::pooler::{CONNECTIONS, Pooler};

/// Makes a home whose daemons reach its database through a pooler.
fn behind(pooler: &Pooler, home: &mut Home) {
    home.set("DATABASE__URL", &pooler.url);
    home.set("DATABASE__MIGRATE_URL", &home.url.clone());
    home.set("DATABASE__POOLER", "true");
}

/// Confirms what each mail asks, and leaves again by every second one; returns how many left.
async fn answer(daemons: Arc<[Daemon; 2]>, mails: Vec<Mail>) -> usize {
    let mut people = JoinSet::new();
    let mails = Arc::new(mails);
    for worker in 0..8 {
        let (daemons, mails) = (daemons.clone(), mails.clone());
        people.spawn(async move {
            let mut left = 0;
            for (i, mail) in mails.iter().enumerate().skip(worker).step_by(8) {
                let page = daemons[i % 2].press(&mail.confirm(), "list=all").await;
                assert_eq!(page.status, 200, "{}", page.body);
                if i % 2 == 0 {
                    let way_out = links(&page.body, "/u/").pop().expect("a way out");
                    let form = "List-Unsubscribe=One-Click";
                    let out = daemons[(i / 2) % 2].press(&way_out, form).await;
                    assert_eq!(out.status, 200, "{}", out.body);
                    left += 1;
                }
            }
            left
        });
    }
    people.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_work_through_a_pooler() {
    const PEOPLE: usize = 150;
    let peer = Peer::start().await;
    // No claim ends while its mail waits for one of four connections.
    let calm = QUICK.replace("lease_margin = \"1 s\"", "lease_margin = \"20 s\"");
    let mut home = Home::new(Db::Postgres, peer.addr(), &calm);
    let pooler = Pooler::before(&home.url, "");
    behind(&pooler, &mut home);
    let key = home.key("acme", "signup").await;
    let (one, two) = tokio::join!(home.start(), home.start());
    let drivers = [
        Driver::new(&key, "one", PEOPLE, None),
        Driver::new(&key, "two", PEOPLE, None),
    ];
    drivers[0].at.send_replace(Some(one.addr));
    drivers[1].at.send_replace(Some(two.addr));
    tokio::join!(drivers[0].run(8), drivers[1].run(8));
    home.idle().await;
    for driver in &drivers {
        let repeated = driver.repeated.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(repeated, 0, "every first request has its 202");
    }
    let mut promised: BTreeSet<_> = drivers[0].accepted().into_iter().collect();
    promised.extend(drivers[1].accepted());
    let there: BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    assert!(promised == there && there.len() == 2 * PEOPLE);
    assert_eq!(peer.mails().len(), 2 * PEOPLE);

    let mails = peer.mails();
    let mails = mails.iter().map(|mail| Mail::read(&mail.bytes)).collect();
    let daemons = Arc::new([one, two]);
    let left = answer(daemons.clone(), mails).await;
    home.idle().await;
    let events = home.trail().await;
    let happened = |kind: &str| events.get(kind).copied().unwrap_or_default();
    assert_eq!(
        (
            happened("signup.accepted"),
            happened("message.sent"),
            happened("subscription.confirmed"),
            happened("subscription.unsubscribed"),
        ),
        (2 * PEOPLE, 2 * PEOPLE, 2 * PEOPLE, left)
    );
    assert_eq!(left, PEOPLE);
    let twice = "select count(*) from message where claims > 1";
    assert_eq!(home.count(twice).await, 0);
    // A query of this test may still be going away.
    let ours = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'confirmd'";
    let ours = home.count(ours).await;
    assert!((1..=CONNECTIONS).contains(&ours), "{ours} connections");
    for mut daemon in Arc::into_inner(daemons).expect("nobody else") {
        assert_eq!(daemon.count("the database refused"), 0);
        daemon.term();
        assert!(daemon.wait().await.success());
    }
}

/// What a session would hold for good holds in each transaction, whatever the database says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_through_a_pooler_has_its_own_settings() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let name = home.sql("select current_database()::text").await.remove(0);
    for setting in ["synchronous_commit = off", "statement_timeout = '20ms'"] {
        let alter = format!("alter database {name} set {setting}");
        crate::support::sql::execute(&home.url, &alter)
            .await
            .expect("ours");
    }
    let pooler = Pooler::before(&home.url, "");
    behind(&pooler, &mut home);
    let key = home.key("acme", "signup").await;
    let checked = home.run(&["check", "--offline"]).await;
    assert!(
        checked.stdout.contains("synchronous_commit on"),
        "{}",
        checked.stdout
    );
    // No signup is written within the database's own timeout.
    let slow = "set statement_timeout = 0;
        create function slow() returns trigger language plpgsql as
            'begin perform pg_sleep(0.03); return new; end';
        create trigger slow before insert on signup for each row execute function slow()";
    crate::support::sql::execute(&home.url, slow)
        .await
        .expect("ours");
    let daemon = home.start().await;
    for i in 0..20 {
        let email = format!("settings-{i}@example.org");
        assert_eq!(daemon.sign_up(&key, &email, &["weekly"]).await.status, 202);
    }
    peer.wait_for(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_nobody_spoke_of_is_named() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let pooler = Pooler::before(&home.url, "");
    home.set("DATABASE__URL", &pooler.url);
    home.set("DATABASE__MIGRATE_URL", &home.url.clone());
    for command in [&["serve"][..], &["key", "list"]] {
        let refused = home.run(command).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        let told = "before a pooler such as PgBouncer set database.pooler = true";
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
}
