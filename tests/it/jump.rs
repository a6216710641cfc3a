//! A clock that has jumped ahead ends nothing until somebody believes it.

use std::time::Duration;

use confirmd::background::sweep;
use confirmd::clock::Clock;

use crate::support::app::{Db, TestApp, both};
use crate::support::daemon::{Home, QUICK};
use crate::support::http::send;
use crate::support::peer::Peer;

const DAYS: Duration = Duration::from_secs(8 * 24 * 3600);
const ALARM: &str = "the clock has jumped ahead: nothing expires and nothing is deleted; put it right, or, if it is right and the service was off, run: confirmd clock accept";

both!(a_clock_that_jumps_ahead_ends_nothing, |db| {
    let app = TestApp::start(db).await;
    let says = async |path: &str| send(app.ops, "GET", path, &[], b"").await.body;
    let step = async || sweep::step(&app.flows).await.expect("the database works");
    // PostgreSQL's server goes by the machine's clock.
    app.pass(Clock::System.now().since(app.clock.now()));
    app.sweep().await;
    app.mail_for("anna@example.org", &["weekly"]).await;
    app.pass(DAYS);
    // Whoever signs up meanwhile has the wrong time too.
    app.mail_for("ben@example.org", &["weekly"]).await;
    step().await;
    let open = "signup_list where state = 'open'";
    assert_eq!(app.count(open).await, 2);
    assert_eq!(app.count("idempotency").await, 0);
    assert!(says("/metrics").await.contains("confirmd_clock_alarm 1\n"));
    let ready = says("/readyz").await;
    assert!(ready.starts_with("ready\nthe clock has jumped"), "{ready}");
    // It is put right.
    app.set_back(DAYS);
    step().await;
    assert!(says("/metrics").await.contains("confirmd_clock_alarm 0\n"));
    assert_eq!(says("/readyz").await, "ready\n");
    assert_eq!(app.count(open).await, 2);
});

both!(a_clock_that_goes_on_needs_nobody, |db| {
    let app = TestApp::start(db).await;
    app.pass(Clock::System.now().since(app.clock.now()));
    app.sweep().await;
    app.mail_for("anna@example.org", &["weekly"]).await;
    // Nothing happens for longer than a link lives.
    for _ in 0..8 * 24 {
        app.pass(DAYS / (8 * 24));
        // Its server does not follow this clock.
        if db == Db::Postgres {
            app.execute("update clock set at = at + interval '1 hour'")
                .await
                .expect("it runs");
        }
        sweep::step(&app.flows).await.expect("the database works");
    }
    assert_eq!(app.count("signup_list where state = 'expired'").await, 1);
});

both!(what_was_off_for_long_waits_for_the_operator, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let none = home.run(&["clock", "accept"]).await;
    assert_eq!(none.code, Some(1), "{}{}", none.stdout, none.stderr);
    let answer = daemon.sign_up(&key, "anna@example.org", &["weekly"]).await;
    assert_eq!(answer.status, 202);
    home.idle().await;
    home.until("looks at the clock", "select count(*) from clock", 1)
        .await;
    daemon.term();
    assert!(daemon.wait().await.success());

    // It was off since a time at which the link was young.
    let run = async |text: &str| {
        let done = crate::support::sql::execute(&home.url, text).await;
        assert!(done.is_ok(), "{text}: {done:?}");
    };
    match db {
        Db::Sqlite => {
            run("update clock set at = at - 86400000000").await;
            run("update signup set expires_at = 1").await;
        }
        // Or its clock is ahead of the server's.
        Db::Postgres => {
            run("update clock set at = at - interval '1 day'").await;
            run("update signup set expires_at = '1970-01-02'").await;
            run(
                "create function public.clock_timestamp() returns timestamptz language sql as
                'select pg_catalog.clock_timestamp() - interval ''1 day'''",
            )
            .await;
            run("do $$ begin execute format(
                'alter database %I set search_path = public, pg_catalog', current_database()); end $$")
            .await;
        }
    }
    let mut daemon = home.start().await;
    daemon.message(ALARM).await;
    let open = "select count(*) from signup_list where state = 'open'";
    assert_eq!(home.count(open).await, 1);
    let accepted = home.run(&["clock", "accept"]).await;
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    assert!(
        accepted.stdout.starts_with("accepted: it is "),
        "{}",
        accepted.stdout
    );
    home.until("open lists", open, 0).await;
    daemon
        .message("the clock goes on: what is over ends again")
        .await;
    home.idle().await;
    let events = home.trail().await;
    assert_eq!((events["clock.accepted"], events["signup.expired"]), (1, 1));
    let again = home.run(&["clock", "accept"]).await;
    assert_eq!(again.code, Some(1), "{}", again.stdout);
});
