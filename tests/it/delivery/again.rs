//! Further attempts: when, how often, with which bytes, and what stops them.

use std::time::Duration;

use confirmd::domain::time::Timestamp;

use super::{MINUTE, QUICK, kinds, last_event, message, next};
use crate::audit::fixture;
use crate::support::app::{LISTS, TestApp, both};
use crate::support::peer::{Act, Point};

fn kept_and_dropped() -> Act {
    Act::Kept(Box::new(Act::Close))
}

/// Tries at the time that the last event names; returns how long that was away.
async fn wait_and_try(app: &TestApp, signup: &str) -> Duration {
    let wait = next(&last_event(app, signup).await).since(app.clock.now());
    app.pass(wait - Duration::from_secs(1));
    let connections = app.peer.seen(|seen| seen.connections);
    app.deliver().await;
    let early = app.peer.seen(|seen| seen.connections) - connections;
    assert_eq!(early, 0, "tried before its time");
    app.pass(Duration::from_secs(1));
    app.deliver().await;
    wait
}

both!(a_mail_is_tried_less_and_less_often_for_two_days, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
    let signup = app.sign_up("slow@example.org", &["weekly"]).await;
    let begin = app.clock.now();
    app.deliver().await;
    let mut waits = Vec::new();
    while message(&app, &signup).await.starts_with("queued") {
        waits.push(wait_and_try(&app, &signup).await);
    }
    let usual = [1, 5, 15, 30, 60, 120].into_iter();
    for (i, (wait, minutes)) in waits
        .iter()
        .zip(usual.chain(std::iter::repeat(240)))
        .enumerate()
    {
        let (least, most) = (minutes * 48, minutes * 72);
        let seconds = wait.as_secs();
        assert!((least..=most).contains(&seconds), "wait {i}: {seconds} s");
    }
    // Waits of four hours by a fifth more or less fill 48 hours with 15 to 21 attempts.
    assert!((14..=20).contains(&waits.len()), "{waits:?}");
    let life = app.clock.now().since(begin);
    assert!(
        life < 48 * 60 * MINUTE && life > 43 * 60 * MINUTE,
        "{life:?}"
    );
    assert_eq!(
        app.outcome(&signup).await,
        "undeliverable weekly=undeliverable"
    );
    let last = last_event(&app, &signup).await;
    assert_eq!(
        (&last["type"], &last["code"]),
        (&"message.failed".into(), &451.into())
    );
    assert_eq!(app.mailbox("slow@example.org").len(), 0);
    // Given up is given up.
    app.peer.script(|_| None);
    app.pass(24 * 60 * MINUTE);
    app.deliver().await;
    assert_eq!(app.peer.mails().len(), 0);
});

both!(a_mail_that_a_clock_ahead_put_off_waits_no_longer, |db| {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.pass(DAY);
    app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
    let ahead = app.sign_up("ahead@example.org", &["weekly"]).await;
    app.deliver().await;
    app.set_back(DAY);
    let usual = app.sign_up("usual@example.org", &["weekly"]).await;
    app.deliver().await;
    app.peer.script(|_| None);
    app.deliver().await;
    assert_eq!(message(&app, &ahead).await, "queued 1 0");
    app.sweep().await;
    app.deliver().await;
    assert_eq!(message(&app, &ahead).await, "sent 2 0");
    assert_eq!(message(&app, &usual).await, "queued 1 0", "it has its time");
});

both!(a_mail_is_not_tried_beyond_the_end_of_its_link, |db| {
    let lists = LISTS.replace("frequency = \"P7D\"", "link_life = \"1 hour\"");
    let app = TestApp::with(db, &lists, QUICK).await;
    app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
    let signup = app.sign_up("short@example.org", &["weekly"]).await;
    let begin = app.clock.now();
    app.deliver().await;
    while message(&app, &signup).await.starts_with("queued") {
        wait_and_try(&app, &signup).await;
        assert!(app.clock.now().since(begin) < 60 * MINUTE);
    }
    assert_eq!(
        app.outcome(&signup).await,
        "undeliverable weekly=undeliverable"
    );
    assert_eq!(last_event(&app, &signup).await["type"], "message.failed");
});

both!(
    a_mail_that_was_perhaps_sent_is_sent_once_more_and_never_again,
    |db| {
        let app = TestApp::with(db, LISTS, QUICK).await;
        app.peer.at(Point::Dot, kept_and_dropped());
        let signup = app.sign_up("twice@example.org", &["weekly"]).await;
        app.deliver().await;
        assert_eq!(message(&app, &signup).await, "queued 1 1");
        // Not for half an hour, by the clock.
        for _ in 0..29 {
            app.pass(MINUTE);
            app.deliver().await;
        }
        app.pass(MINUTE - Duration::from_secs(1));
        app.deliver().await;
        assert_eq!(app.peer.mails().len(), 1);
        app.pass(Duration::from_secs(1));
        app.deliver().await;
        assert_eq!(message(&app, &signup).await, "unknown 2 2");
        assert_eq!(app.outcome(&signup).await, "sent weekly=open");
        let happened = kinds(&app, &signup).await;
        let expected = ["signup.accepted", "message.deferred", "message.unknown"];
        assert_eq!(happened, expected);
        for _ in 0..50 {
            app.pass(60 * MINUTE);
            app.deliver().await;
        }
        let mails = app.peer.mails();
        assert_eq!(mails.len(), 2);
        assert!(mails[0].bytes == mails[1].bytes, "the copies differ");
        // What perhaps arrived did arrive, and works.
        let mail = app.mailbox("twice@example.org").remove(1);
        assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
        assert_eq!(app.outcome(&signup).await, "sent weekly=confirmed");
    }
);

both!(a_second_try_that_cannot_be_made_is_no_failure, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.peer.at(Point::Dot, kept_and_dropped());
    let signup = app.sign_up("later@example.org", &["weekly"]).await;
    app.deliver().await;
    app.peer.at(Point::Rcpt, Act::reply("451 4.3.0 later"));
    while message(&app, &signup).await.starts_with("queued") {
        wait_and_try(&app, &signup).await;
    }
    assert!(message(&app, &signup).await.starts_with("unknown"));
    assert_eq!(app.outcome(&signup).await, "sent weekly=open");
});

both!(
    every_attempt_has_the_same_bytes_whatever_was_reloaded_between,
    |db| {
        let mut app = TestApp::with(db, LISTS, QUICK).await;
        app.peer.at(Point::Dot, kept_and_dropped());
        let signup = app.sign_up("same@example.org", &["weekly", "offers"]).await;
        app.deliver().await;

        // Other words, another sender's name, other templates, another signing key: nothing of it is in the second copy.
        let templates = app.dir.path().join("templates");
        std::fs::create_dir_all(templates.join("mail")).expect("a folder");
        std::fs::write(templates.join("mail/subject.txt"), "Another subject\n").expect("a file");
        let settings = format!("{QUICK}[templates]\ndir = \"{}\"\n", templates.display());
        let lists = LISTS
            .replace(
                "title = { en = \"Weekly news\"",
                "revision = 2\nchange = \"editorial\"\ntitle = { en = \"Other news\"",
            )
            .replace("Acme B.V.\"\naddress", "Acme Holding\"\naddress");
        app.reload_with(&lists, &settings).await.expect("a reload");
        app.peer.script(|_| None);
        let fresh = app.mail_for("fresh@example.org", &["weekly"]).await;
        assert_eq!(fresh.header("subject"), "Another subject");
        assert!(fresh.text.contains("Other news") && fresh.text.contains("Acme Holding"));

        // And after a new start, with everything read anew.
        app.pass(31 * MINUTE);
        app.restart_with(&lists, &settings).await;
        app.deliver().await;
        assert_eq!(message(&app, &signup).await, "sent 2 1");
        let mut copies = app.peer.mails();
        copies.retain(|mail| mail.envelope_to == ["same@example.org"]);
        assert_eq!(copies.len(), 2);
        assert!(copies[0].bytes == copies[1].bytes, "the copies differ");
    }
);

/// Where a mail waits that has not come to the write that carries DATA: at RCPT of a relay that takes commands one by
/// one, else before the first.
const POINTS: [(Point, &[&str]); 2] =
    [(Point::Rcpt, &["8BITMIME"]), (Point::Ehlo, &["PIPELINING"])];

/// The usual lists, of which one greets those who join.
fn greeting() -> String {
    LISTS.replacen(
        "frequency = \"P7D\"",
        "welcome = true\nfrequency = \"P7D\"",
        1,
    )
}

/// The usual lists but one.
fn without_offers() -> String {
    let (before, after) = LISTS.split_once("[lists.offers]").expect("a list");
    let (_, after) = after.split_once("[lists.tips]").expect("a list");
    format!("{before}[lists.tips]{after}")
}

/// A mail waits at its relay while something happens to its signup, then goes on.
async fn meanwhile(app: &TestApp, point: Point, press: impl AsyncFnOnce(&TestApp)) {
    if point == Point::Ehlo {
        // it needs a connection of its own
        app.deliver.rest().await;
    }
    app.peer.hold(point);
    let pressing = async {
        app.peer
            .until("a mail that waits", |seen| seen.waiting == 1)
            .await;
        press(app).await;
        app.peer.release();
    };
    tokio::join!(app.deliver(), pressing);
}

both!(a_decision_between_claim_and_data_cancels_the_mail, |db| {
    let wishes = ["confirm", "no", "one_click", "leave", "hold"];
    for (wish, (point, offer)) in wishes
        .into_iter()
        .flat_map(|wish| POINTS.map(|at| (wish, at)))
    {
        let app = TestApp::with(db, LISTS, QUICK).await;
        app.peer.offer(offer);
        let first = app.mail_for("anna@example.org", &["weekly"]).await;
        app.pass(11 * MINUTE);
        // A hold concerns every mail of the sender; the others, this list.
        let list = if wish == "hold" { "offers" } else { "weekly" };
        let second = app.sign_up("anna@example.org", &[list]).await;
        meanwhile(&app, point, async |app| match wish {
            "no" => assert_eq!(app.press(&first.decline(), "reason=no").await.status, 200),
            "one_click" => {
                let link = first.list_unsubscribe();
                assert_eq!(app.one_click(&link).await.status, 200);
            }
            "hold" => assert_eq!(
                app.press(&first.decline(), "reason=not_me").await.status,
                200
            ),
            _ => {
                let page = app.press(&first.confirm(), "").await;
                assert_eq!(page.status, 200);
                if wish == "leave" {
                    let leave = app.unsubscribe_links(&page).pop().expect("a way out");
                    assert_eq!(app.one_click(&leave).await.status, 200);
                }
            }
        })
        .await;
        // A plain "no" to one mail is no answer to the other: that one was asked for once more.
        let (state, outcome, mails) = match wish {
            "no" => ("sent 1 0", "sent weekly=open", 2),
            "confirm" => ("cancelled 0 0", "not_needed weekly=already_confirmed", 1),
            "hold" => ("withheld 0 0", "withheld offers=withheld", 1),
            _ => ("withheld 0 0", "withheld weekly=withheld", 1),
        };
        assert_eq!(message(&app, &second).await, state, "{wish}");
        assert_eq!(app.outcome(&second).await, outcome, "{wish}");
        assert_eq!(app.mailbox("anna@example.org").len(), mails, "{wish}");
        let sent = kinds(&app, &second).await;
        assert_eq!(
            sent.contains(&"message.sent".to_owned()),
            wish == "no",
            "{wish}"
        );
        fixture::sign(&app).await;
        assert_eq!(fixture::verified(&app).await.findings, [], "{wish}");
        // The connection was put right for the next mail.
        app.mail_for("bert@example.org", &["weekly"]).await;
        let connections = 1 + usize::from(point == Point::Ehlo);
        assert_eq!(
            app.peer.seen(|seen| seen.connections),
            connections,
            "{wish}"
        );
    }
});

both!(a_signup_whose_mail_is_no_longer_needed_says_so, |db| {
    for held in [false, true] {
        let app = TestApp::with(db, LISTS, QUICK).await;
        let first = app.mail_for("anna@example.org", &["weekly"]).await;
        app.pass(11 * MINUTE);
        app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
        let second = app.sign_up("anna@example.org", &["weekly"]).await;
        app.deliver().await;
        app.peer.script(|_| None);
        let press =
            async |app: &TestApp| assert_eq!(app.press(&first.confirm(), "").await.status, 200);
        if held {
            app.pass(2 * MINUTE);
            meanwhile(&app, Point::Ehlo, press).await;
        } else {
            press(&app).await;
            app.pass(2 * MINUTE);
            app.deliver().await;
        }
        assert_eq!(message(&app, &second).await, "cancelled 1 0", "{held}");
        let outcome = app.outcome(&second).await;
        assert_eq!(outcome, "not_needed weekly=already_confirmed", "{held}");
        fixture::sign(&app).await;
        assert_eq!(fixture::verified(&app).await.findings, []);
    }
});

both!(a_look_at_the_next_in_line_counts_for_a_moment, |db| {
    // One session: the second mail is looked at together with the first, and waits for it.
    let settings = format!(
        "{}[smtp]\nsessions = 1\n",
        QUICK.replace("dot = \"1 s\"", "dot = \"30 s\"")
    );
    for later in [false, true] {
        let app = TestApp::with(db, LISTS, &settings).await;
        let first = app.mail_for("bert@example.org", &["weekly"]).await;
        app.pass(11 * MINUTE);
        app.sign_up("anna@example.org", &["weekly"]).await;
        app.pass(Duration::from_secs(1));
        let second = app.sign_up("bert@example.org", &["weekly"]).await;
        app.peer.hold(Point::Dot);
        let pressing = async {
            app.peer
                .until("the first at its dot", |seen| seen.waiting == 1)
                .await;
            let link = first.list_unsubscribe();
            assert_eq!(app.one_click(&link).await.status, 200);
            if later {
                app.pass(Duration::from_millis(100));
            }
            app.peer.release();
        };
        tokio::join!(app.deliver(), pressing);
        let state = if later { "withheld 0 0" } else { "sent 1 0" };
        assert_eq!(message(&app, &second).await, state, "{later}");
        assert_eq!(app.mailbox("anna@example.org").len(), 1);
    }
});

both!(a_decision_between_two_attempts_cancels_the_second, |db| {
    for wish in ["confirm", "no", "leave"] {
        for held in [false, true] {
            let app = TestApp::with(db, LISTS, QUICK).await;
            app.peer.at(Point::Dot, kept_and_dropped());
            let signup = app.sign_up("anna@example.org", &["weekly"]).await;
            app.deliver().await;
            app.peer.script(|_| None);
            let mail = app.mailbox("anna@example.org").remove(0);
            let press = async |app: &TestApp| match wish {
                "no" => drop(app.press(&mail.decline(), "reason=no").await),
                _ => {
                    let page = app.press(&mail.confirm(), "").await;
                    if wish == "leave" {
                        let leave = app.unsubscribe_links(&page).pop().expect("a way out");
                        app.one_click(&leave).await;
                    }
                }
            };
            if held {
                app.pass(31 * MINUTE);
                meanwhile(&app, Point::Ehlo, press).await;
            } else {
                press(&app).await;
                app.pass(31 * MINUTE);
                app.deliver().await;
            }
            let state = message(&app, &signup).await;
            assert_eq!(state, "cancelled 1 1", "{wish}, held at the relay: {held}");
            // What was perhaps sent, and answered, was.
            let answer = if wish == "no" {
                "declined"
            } else {
                "confirmed"
            };
            assert_eq!(app.outcome(&signup).await, format!("sent weekly={answer}"));
            assert_eq!(
                app.peer.mails().len(),
                1,
                "{wish}, held at the relay: {held}"
            );
        }
    }
});

both!(nobody_is_greeted_who_has_left, |db| {
    for left in [
        "before the first attempt",
        "before the second",
        "at the relay",
    ] {
        let app = TestApp::with(db, &greeting(), QUICK).await;
        let mail = app.mail_for("anna@example.org", &["weekly"]).await;
        let page = app.press(&mail.confirm(), "").await;
        let leave = app.unsubscribe_links(&page).pop().expect("a way out");
        let leave = async |app: &TestApp| assert_eq!(app.one_click(&leave).await.status, 200);
        match left {
            "at the relay" => meanwhile(&app, Point::Ehlo, leave).await,
            "before the second" => {
                app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
                app.deliver().await;
                app.peer.script(|_| None);
                leave(&app).await;
            }
            _ => leave(&app).await,
        }
        app.pass(31 * MINUTE);
        app.deliver().await;
        assert_eq!(app.mailbox("anna@example.org").len(), 1, "left {left}");
        let state = "select state from message where kind = 'welcome'";
        assert_eq!(app.sql(state).await, ["cancelled"], "left {left}");
    }
});

both!(nobody_hears_a_goodbye_who_is_back, |db| {
    for (list, held) in [("weekly", false), ("weekly", true), ("offers", false)] {
        let app = TestApp::with(db, LISTS, QUICK).await;
        let mail = app.mail_for("anna@example.org", &["weekly"]).await;
        let page = app.press(&mail.confirm(), "").await;
        let leave = app.unsubscribe_links(&page).pop().expect("a way out");
        app.pass(11 * MINUTE);
        app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
        assert_eq!(app.press(&leave, "by=page").await.status, 200);
        app.deliver().await;
        app.peer.script(|_| None);
        let mail = app.mail_for("anna@example.org", &[list]).await;
        let join = async |app: &TestApp| {
            let page = app.press(&mail.confirm(), "").await;
            assert_eq!(page.status, 200);
        };
        if held {
            app.pass(2 * MINUTE);
            meanwhile(&app, Point::Ehlo, join).await;
        } else {
            join(&app).await;
            app.pass(2 * MINUTE);
            app.deliver().await;
        }
        let state = app.sql("select state from message where kind = 'goodbye'");
        let expected = if list == "weekly" {
            "cancelled"
        } else {
            "sent"
        };
        assert_eq!(state.await, [expected], "{list}, {held}");
        let mails = if list == "weekly" { 2 } else { 3 };
        assert_eq!(app.mailbox("anna@example.org").len(), mails);
    }
});

both!(a_welcome_outlives_the_link_that_led_to_it, |db| {
    let lists = greeting().replace("frequency = \"P7D\"", "link_life = \"1 hour\"");
    let app = TestApp::with(db, &lists, QUICK).await;
    let mail = app
        .mail_for("anna@example.org", &["weekly", "offers"])
        .await;
    app.press(&mail.confirm(), "list=weekly").await;
    app.pass(61 * MINUTE);
    app.sweep().await;
    app.deliver().await;
    assert_eq!(app.mailbox("anna@example.org").len(), 2);
});

both!(who_is_told_of_a_subscription_has_it, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.subscribe("anna@example.org", &["weekly"]).await;
    app.pass(11 * MINUTE);
    app.sign_up("anna@example.org", &["weekly", "offers"]).await;
    // Nobody can join the one that she is not on any more.
    app.reload(&without_offers()).await;
    app.deliver().await;
    let told = app.mailbox("anna@example.org").pop().expect("a mail");
    let kinds = "select kind || ' ' || state from message order by created_at";
    let kinds = app.sql(kinds).await;
    assert_eq!(kinds, ["confirmation sent", "already_subscribed sent"]);
    assert!(
        told.text.contains("Weekly news") && !told.text.contains("Offers"),
        "{}",
        told.text
    );
});

both!(
    a_list_that_closes_between_claim_and_data_is_not_asked_for,
    |db| {
        for (point, offer) in POINTS {
            let app = TestApp::with(db, LISTS, QUICK).await;
            app.peer.offer(offer);
            let signup = app.sign_up("anna@example.org", &["offers"]).await;
            let close = async |app: &TestApp| app.reload(&without_offers()).await;
            meanwhile(&app, point, close).await;
            assert_eq!(message(&app, &signup).await, "withheld 0 0");
            assert_eq!(app.outcome(&signup).await, "withheld offers=withheld");
            assert_eq!(app.peer.mails().len(), 0);
        }
    }
);

both!(a_link_that_ends_while_its_mail_waits_is_not_mailed, |db| {
    let lists = LISTS.replace("frequency = \"P7D\"", "link_life = \"1 hour\"");
    let app = TestApp::with(db, &lists, QUICK).await;
    app.peer.at(Point::Dot, kept_and_dropped());
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    app.deliver().await;
    app.peer.script(|_| None);
    // Nothing ran for a while.
    app.pass(61 * MINUTE);
    app.deliver().await;
    app.sweep().await;
    assert_eq!(message(&app, &signup).await, "cancelled 1 1");
    assert_eq!(
        app.outcome(&signup).await.split(' ').nth(1),
        Some("weekly=expired")
    );
    assert_eq!(app.peer.mails().len(), 1);
    let begin: Timestamp = Timestamp::parse(crate::support::app::BEGIN).expect("an instant");
    assert_eq!(app.clock.now().since(begin), 61 * MINUTE);
});
