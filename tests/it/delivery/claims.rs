//! Claims: one at a time, for as long as the lease lasts, and nothing that comes later counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use confirmd::domain::consent::{Hash, Network};
use confirmd::domain::delivery::retry::Next;
use confirmd::domain::delivery::{Attempt, MessageKind, MessageState};
use confirmd::domain::id::SignupId;
use confirmd::domain::list::ConfirmBy;
use confirmd::domain::locale::Locale;
use confirmd::flow::claim::{Claimed, Room, claim};
use confirmd::flow::confirm::{self, Choice, confirm};
use confirmd::flow::job::Job;
use confirmd::flow::settle::{self, Outcome, settle};
use confirmd::flow::start::start;
use confirmd::token::KeyId;

use super::{MINUTE, QUICK, kinds, last_event, literal, message};
use crate::audit::fixture;
use crate::support::app::{Db, LISTS, TestApp, both};
use crate::support::peer::Point;

fn template(_: MessageKind, _: &Locale) -> Hash {
    Hash::of(b"templates that nobody renders")
}

pub(crate) async fn claimed(app: &TestApp, mails: i64) -> Claimed {
    let room = Room { mails, alone: true };
    claim(&app.flows, room, &template).await.expect("a claim")
}

/// Ends every lease: by the clock on SQLite, on PostgreSQL by hand, for leases go by the server's own clock.
pub(crate) async fn end_leases(app: &TestApp) {
    app.pass(60 * MINUTE);
    if app.db == Db::Postgres {
        let past =
            "update message set lease_until = now() - interval '1 s' where state = 'claimed'";
        app.execute(past).await.expect("it runs");
    }
}

both!(claims_made_at_once_never_overlap, |db| {
    let app = Arc::new(TestApp::with(db, LISTS, QUICK).await);
    for i in 0..120 {
        app.sign_up(&format!("p{i}@example.org"), &["weekly"]).await;
    }
    let mut claiming = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let app = app.clone();
        claiming.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claimed(&app, 7).await;
                assert_eq!(claimed.ended, []);
                match claimed.jobs.is_empty() {
                    // Others may hold what is left only until their commit.
                    true => return mine,
                    false => mine.extend(claimed.jobs.iter().map(|job| job.message.id)),
                }
            }
        });
    }
    let all: Vec<_> = claiming.join_all().await.into_iter().flatten().collect();
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (120, 120));
    // A claim that holds keeps everybody else away.
    assert_eq!(claimed(&app, 100).await.jobs.len(), 0);
    let left = app
        .count("message where state = 'claimed' and claims = 1")
        .await;
    assert_eq!(left, 120);
});

both!(a_claim_whose_lease_has_ended_is_another_s, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    let late = claimed(&app, 10).await.jobs.remove(0);
    assert_eq!(claimed(&app, 10).await.jobs.len(), 0, "the lease holds");
    end_leases(&app).await;
    let mine = claimed(&app, 10).await.jobs.remove(0);
    assert_ne!(late.claim, mine.claim);
    assert_eq!(late.pinned, mine.pinned, "the same mail");

    let jobs = [late.clone(), mine.clone()];
    let result = |job: &Arc<Job>| settle::Result {
        job: job.clone(),
        attempt: Attempt::Sent,
        answer: None,
        proof: None,
        again: false,
    };
    let flows = app.flows.clone();
    let settled = async |results: Vec<settle::Result>| {
        let tx = flows.pool.begin().await.expect("begun");
        let plans = results.into_iter();
        let plans = plans.map(|r| Arc::new(r.plan(flows.clock.now())));
        settle(flows.clone(), tx, plans.collect()).await
    };
    // Alone, and in one batch with the one that holds: who comes late may neither begin nor report.
    let alone = start(flows.clone(), &jobs[..1]).await;
    assert_eq!(alone.expect("a read"), [false]);
    let both = start(flows.clone(), &jobs).await;
    assert_eq!(both.expect("a read"), [false, true]);
    let alone = settled(vec![result(&late)]).await;
    assert_eq!(alone.expect("a write"), [Outcome::TooLate]);
    assert_eq!(message(&app, &signup).await, "claimed 0 0");
    let both = settled(vec![result(&late), result(&mine)]).await;
    let sent = Outcome::Settled(Next::End(MessageState::Sent));
    assert_eq!(both.expect("a write"), [Outcome::TooLate, sent]);
    let again = settled(vec![result(&mine), result(&late)]).await;
    assert_eq!(
        again.expect("a write"),
        [Outcome::TooLate, Outcome::TooLate]
    );
    assert_eq!(message(&app, &signup).await, "sent 1 0");
    // Each that came late was written down as late, whatever it said.
    let late = "message.late";
    assert_eq!(
        kinds(&app, &signup).await,
        ["signup.accepted", late, late, "message.sent", late, late]
    );
    // A write that is repeated since nobody knows whether it succeeded is not late.
    let repeated = settle::Result {
        again: true,
        ..result(&mine)
    };
    let repeated = settled(vec![repeated]).await;
    assert_eq!(repeated.expect("a write"), [Outcome::TooLate]);
    assert_eq!(kinds(&app, &signup).await.len(), 6);
});

both!(
    a_claim_that_waited_for_a_yes_does_not_say_that_it_came_before,
    |db| {
        let app = TestApp::with(db, LISTS, QUICK).await;
        let first = app.sign_up("anna@example.org", &["weekly"]).await;
        app.deliver().await;
        app.pass(11 * MINUTE);
        app.sign_up("anna@example.org", &["weekly"]).await;
        let signup = SignupId(first.parse().expect("an id"));
        let tx = app.hold_mailbox("anna@example.org").await;
        let yes = async {
            if db == Db::Postgres {
                app.until_one_waits().await;
            }
            app.pass(MINUTE);
            let press = confirm::Press {
                signup,
                choice: Choice::All,
                by: ConfirmBy::Button,
                key: KeyId([7; 4]),
                network: Network::default(),
            };
            let confirmed = confirm(app.flows.clone(), tx, [press].into()).await;
            assert_eq!(confirmed.expect("a commit")[0].confirmed.len(), 1);
        };
        let (claimed, ()) = tokio::join!(biased; claimed(&app, 10), yes);
        let kinds: Vec<_> = claimed.jobs.iter().map(|job| job.message.kind).collect();
        assert_eq!(kinds, [MessageKind::AlreadySubscribed]);
        fixture::sign(&app).await;
        assert_eq!(fixture::verified(&app).await.findings, []);
    }
);

both!(a_clock_that_was_set_back_says_no_yes_before_it_came, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.pass(MINUTE);
    let mail = app.mail_for("anna@example.org", &["weekly"]).await;
    app.pass(11 * MINUTE);
    let other = app.mail_for("anna@example.org", &["weekly"]).await;
    app.pass(11 * MINUTE);
    app.sign_up("anna@example.org", &["weekly"]).await;
    assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
    app.set_back(Duration::from_secs(1));
    // One mail has asked already, the next has not.
    assert_eq!(app.press(&other.confirm(), "").await.status, 200);
    app.deliver().await;
    fixture::sign(&app).await;
    assert_eq!(fixture::verified(&app).await.findings, []);
});

both!(
    a_list_that_was_left_before_it_was_joined_by_the_clock_was_joined,
    |db| {
        let app = TestApp::with(db, LISTS, QUICK).await;
        app.pass(60 * MINUTE);
        let mail = app.subscribe("anna@example.org", &["weekly"]).await;
        app.set_back(60 * MINUTE);
        app.mail_for("anna@example.org", &["weekly"]).await;
        let left = app.press(&mail.decline(), "reason=no").await;
        assert_eq!(left.status, 200, "{}", left.body);
        fixture::sign(&app).await;
        assert_eq!(fixture::verified(&app).await.findings, []);
        // What was asked for after that was not joined before.
        app.sign_up("anna@example.org", &["weekly"]).await;
        fixture::sign(&app).await;
        assert_eq!(fixture::verified(&app).await.findings, []);
        let lie = "update signup_list set state = 'already_confirmed',
          decided_at = (select max(decided_at) from signup_list)
        where state = 'open'";
        assert_eq!(app.execute(lie).await, Ok(1));
        assert_eq!(fixture::verified(&app).await.findings.len(), 1);
    }
);

both!(a_late_result_changes_nothing, |db| {
    let app = TestApp::with(db, LISTS, &QUICK.replace("dot = \"1 s\"", "dot = \"30 s\"")).await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    app.peer.hold(Point::Dot);
    let second = async {
        app.peer
            .until("the first at its dot", |seen| seen.waiting == 1)
            .await;
        end_leases(&app).await;
        let deliver = async {
            // As another process would; on PostgreSQL its clock says that the lease has ended.
            app.deliver().await;
        };
        let release = async {
            app.peer
                .until("both at their dots", |seen| seen.waiting == 2)
                .await;
            assert_eq!(message(&app, &signup).await, "claimed 0 0");
            app.peer.release();
        };
        tokio::join!(deliver, release);
    };
    tokio::join!(app.deliver(), second);
    assert_eq!(message(&app, &signup).await, "sent 1 0");
    let mut kinds = kinds(&app, &signup).await;
    kinds.sort();
    assert_eq!(kinds, ["message.late", "message.sent", "signup.accepted"]);
    // The price of a lease that ended too early is a copy, and it is a copy.
    let mails = app.peer.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails[0].bytes == mails[1].bytes, "the copies differ");
});

both!(a_lease_outlives_the_phase_in_progress, |db| {
    let app = TestApp::with(
        db,
        LISTS,
        &QUICK.replace("dot = \"1 s\"", "dot = \"20 minutes\""),
    )
    .await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    app.peer.hold(Point::Dot);
    let others = async {
        app.peer
            .until("the mail at its dot", |seen| seen.waiting == 1)
            .await;
        // connect, greeting, EHLO, MAIL, RCPT and the margin have passed; the dot may take 20 minutes.
        app.pass(19 * MINUTE);
        let ends = match app.db {
            Db::Sqlite => "lease_until > 0".to_owned(),
            Db::Postgres => "lease_until > now() + interval '19 minutes'".to_owned(),
        };
        let id = literal(app.db, &signup);
        let held = format!("message where signup = {id} and {ends}");
        assert_eq!(app.count(&held).await, 1);
        assert_eq!(claimed(&app, 10).await.jobs.len(), 0);
        app.peer.release();
    };
    tokio::join!(app.deliver(), others);
    assert_eq!(message(&app, &signup).await, "sent 1 0");
    assert_eq!(app.peer.mails().len(), 1);
    assert_eq!(last_event(&app, &signup).await["attempt"], 1);
});
