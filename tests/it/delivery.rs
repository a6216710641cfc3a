//! What becomes of a mail when the relay refuses, hangs or lies; and that nothing is lost by it.

use std::time::Duration;

use crate::support::app::{LISTS, TestApp, both};
use crate::support::peer::{Act, Point};

const SHORT: &str = r#"
[smtp]
username = "acme"
password = "not.a.real.password"
[smtp.timeouts]
connect = "1 s"
greeting = "1 s"
hello = "1 s"
mail = "1 s"
rcpt = "1 s"
data = "1 s"
body = "1 s"
dot = "1 s"
"#;

/// What one row of the table leads to.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Tried again in a minute; `alarm` where the relay refuses to work for us at all.
    Again { alarm: bool },
    /// Perhaps sent: tried once more in half an hour.
    Perhaps,
    /// Given up at once.
    Failed,
}

/// One try under one fault, and what is written down about it.
async fn expect(app: &TestApp, row: &str, phase: &str, fate: Fate) {
    let email = format!("{}@example.org", row.replace([' ', '.'], "-"));
    let signup = app.sign_up(&email, &["weekly"]).await;
    assert_eq!(app.deliver().await, 1, "{row}");
    assert!(app.mailbox(&email).len() <= 1, "{row}");

    let id = signup.replace('-', "");
    let of = |column: &str, table: &str, key: &str| {
        let id = match app.db {
            crate::support::app::Db::Sqlite => format!("lower(hex({key}))"),
            crate::support::app::Db::Postgres => format!("replace({key}::text, '-', '')"),
        };
        format!(
            "select {column} from {table} where {id} = '{}'",
            signup.replace('-', "")
        )
    };
    let one = async |query: String| app.sql(&query).await.remove(0);
    let message = one(of("state", "message", "signup")).await;
    let list = one(of("state", "signup_list", "signup")).await;
    let state = one(of("state", "signup", "id")).await;
    let attempts = one(of("cast(attempts as text)", "message", "signup")).await;
    let events = app.events().await;
    let last = events
        .iter()
        .rev()
        .find(|event| event["signup"] == signup.as_str());
    let last = last.expect("an event");
    assert_eq!(attempts, "1", "{row}");
    assert_eq!(last["phase"], phase, "{row}: {last}");
    let expected = match fate {
        Fate::Again { .. } | Fate::Perhaps => ("queued", "accepted", "open", "message.deferred"),
        Fate::Failed => ("failed", "undeliverable", "undeliverable", "message.failed"),
    };
    let kind = last["type"].as_str().unwrap_or_default();
    assert_eq!((&*message, &*state, &*list, kind), expected, "{row} ({id})");
    let alarm = app.metric("confirmd_relay_alarm").await;
    let wanted = matches!(fate, Fate::Again { alarm: true });
    assert_eq!(alarm == 1.0, wanted, "{row}: alarm");

    if let Fate::Again { .. } | Fate::Perhaps = fate {
        let wait = match fate {
            Fate::Perhaps => Duration::from_secs(30 * 60),
            _ => Duration::from_secs(72),
        };
        // Not a moment too soon, and then it leaves.
        app.peer.script(|_| None);
        let almost = wait.mul_f64(if matches!(fate, Fate::Perhaps) {
            0.99
        } else {
            0.66
        });
        app.pass(almost);
        assert_eq!(app.deliver().await, 0, "{row}: too soon");
        app.pass(wait - almost);
        assert_eq!(app.deliver().await, 1, "{row}");
        let mail = app.mailbox(&email).pop();
        assert!(mail.is_some(), "{row}: sent in the end");
        assert_eq!(one(of("state", "signup", "id")).await, "sent", "{row}");
    }
}

async fn with_fault(db: crate::support::app::Db, rows: &[(&str, Point, Act, &str, Fate)]) {
    let app = TestApp::with(db, LISTS, SHORT).await;
    for (row, point, act, phase, fate) in rows {
        app.peer.at(*point, act.clone());
        // A kept connection is past its greeting.
        app.forget_connections().await;
        expect(&app, row, phase, *fate).await;
        app.peer.script(|_| None);
    }
}

both!(replies_decide_by_phase, |db| {
    let again = Fate::Again { alarm: false };
    let alarm = Fate::Again { alarm: true };
    with_fault(
        db,
        &[
            (
                "421 greeting",
                Point::Greeting,
                Act::reply("421 4.3.2 busy"),
                "greeting",
                again,
            ),
            (
                "554 greeting",
                Point::Greeting,
                Act::reply("554 5.3.2 no"),
                "greeting",
                alarm,
            ),
            (
                "535",
                Point::Auth,
                Act::reply("535 5.7.8 wrong password"),
                "auth",
                alarm,
            ),
            (
                "550 at mail",
                Point::Mail,
                Act::reply("550 5.7.1 not you"),
                "mail",
                alarm,
            ),
            (
                "451 at rcpt",
                Point::Rcpt,
                Act::reply("451 4.7.1 greylisted"),
                "rcpt",
                again,
            ),
            (
                "550 5.1.1 at rcpt",
                Point::Rcpt,
                Act::reply("550 5.1.1 unknown"),
                "rcpt",
                Fate::Failed,
            ),
            (
                "550 5.7.1 at rcpt",
                Point::Rcpt,
                Act::reply("550 5.7.1 relaying"),
                "rcpt",
                alarm,
            ),
            (
                "554 after data",
                Point::Dot,
                Act::reply("554 5.6.0 content"),
                "dot",
                Fate::Failed,
            ),
            (
                "malformed",
                Point::Mail,
                Act::Raw(b"hello\r\n".to_vec()),
                "mail",
                again,
            ),
        ],
    )
    .await;
});

both!(a_dropped_connection_is_tried_again, |db| {
    let again = Fate::Again { alarm: false };
    with_fault(
        db,
        &[
            (
                "drop at greeting",
                Point::Greeting,
                Act::Close,
                "greeting",
                again,
            ),
            ("drop at ehlo", Point::Ehlo, Act::Close, "hello", again),
            ("drop at mail", Point::Mail, Act::Close, "mail", again),
            ("drop at rcpt", Point::Rcpt, Act::Close, "rcpt", again),
            ("drop at data", Point::Data, Act::Close, "data", again),
            (
                "drop after the dot",
                Point::Dot,
                Act::Close,
                "dot",
                Fate::Perhaps,
            ),
        ],
    )
    .await;
});

both!(a_silent_relay_costs_one_timeout, |db| {
    let again = Fate::Again { alarm: false };
    with_fault(
        db,
        &[
            (
                "silent at greeting",
                Point::Greeting,
                Act::Silence,
                "greeting",
                again,
            ),
            ("silent at ehlo", Point::Ehlo, Act::Silence, "hello", again),
            ("silent at mail", Point::Mail, Act::Silence, "mail", again),
            ("silent at rcpt", Point::Rcpt, Act::Silence, "rcpt", again),
            ("silent at data", Point::Data, Act::Silence, "data", again),
            (
                "silent after the dot",
                Point::Dot,
                Act::Silence,
                "dot",
                Fate::Perhaps,
            ),
        ],
    )
    .await;
});

both!(
    a_mail_that_was_perhaps_sent_is_sent_once_more_at_most,
    |db| {
        let app = TestApp::with(db, LISTS, SHORT).await;
        app.peer.at(Point::Dot, Act::Kept(Box::new(Act::Close)));
        app.sign_up("perhaps@example.org", &["weekly"]).await;
        app.deliver().await;
        app.pass(Duration::from_secs(30 * 60));
        app.deliver().await;
        // A whole day more brings nothing more.
        for _ in 0..24 {
            app.pass(Duration::from_secs(3600));
            app.deliver().await;
        }
        let mails = app.peer.mails();
        assert_eq!(mails.len(), 2);
        assert!(
            mails[0].bytes == mails[1].bytes,
            "the same bytes, so the same Message-ID, Date and links"
        );
        assert_eq!(app.sql("select state from message").await, ["unknown"]);
        assert_eq!(app.event_counts().await.get("message.unknown"), Some(&1));
        // Either copy works.
        let mail = app.mailbox("perhaps@example.org").remove(0);
        let page = app.press(&mail.confirm(), "").await;
        assert_eq!(page.status, 200);
        assert_eq!(
            app.sql("select state from subscription").await,
            ["confirmed"]
        );
    }
);

both!(waits_grow_and_end_with_two_days, |db| {
    let mut app = TestApp::with(db, LISTS, SHORT).await;
    app.peer.down().await;
    app.sign_up("waits@example.org", &["weekly"]).await;
    app.deliver().await;
    for _ in 0..(48 * 60 + 60) {
        if app.sql("select state from message").await == ["failed"] {
            break;
        }
        app.pass(Duration::from_secs(600));
        app.deliver().await;
    }
    assert_eq!(app.sql("select state from signup").await, ["undeliverable"]);
    assert_eq!(
        app.sql("select state from signup_list").await,
        ["undeliverable"]
    );
    let attempts: usize = app.sql("select cast(attempts as text) from message").await[0]
        .parse()
        .expect("a number");
    assert!(
        (12..=24).contains(&attempts),
        "{attempts} attempts in 48 hours"
    );
    app.peer.up().await;
});

both!(one_421_of_ten_defers_one, |db| {
    let app = TestApp::with(db, LISTS, SHORT).await;
    app.peer.script(|moment| {
        let unlucky = moment.recipient == Some("n3@example.org");
        (moment.point == Point::Rcpt && unlucky).then(|| Act::reply("421 4.7.0 not now"))
    });
    for n in 0..10 {
        app.sign_up(&format!("n{n}@example.org"), &["weekly"]).await;
    }
    app.deliver().await;
    assert_eq!(app.peer.mails().len(), 9);
    let counts = app.event_counts().await;
    assert_eq!((counts["message.sent"], counts["message.deferred"]), (9, 1));
});

both!(
    with_the_relay_down_every_signup_is_accepted_and_mailed_later,
    |db| {
        let mut app = TestApp::with(db, LISTS, SHORT).await;
        app.peer.down().await;
        for n in 0..30 {
            // Everybody is impatient.
            for _ in 0..3 {
                app.sign_up(&format!("later{n}@example.org"), &["weekly"])
                    .await;
            }
            app.deliver().await;
            app.pass(Duration::from_secs(60));
        }
        assert_eq!(app.peer.mails().len(), 0);
        app.peer.up().await;
        for _ in 0..24 {
            app.pass(Duration::from_secs(3600));
            app.deliver().await;
        }
        for n in 0..30 {
            let mails = app.mailbox(&format!("later{n}@example.org"));
            assert_eq!(
                mails.len(),
                1,
                "one each: the limits hold for mails that wait as well"
            );
        }
        let mut states = app.sql("select state from signup").await;
        states.sort();
        let sent = states.iter().filter(|state| *state == "sent").count();
        let withheld = states.iter().filter(|state| *state == "withheld").count();
        assert_eq!((sent, withheld), (30, 60));
    }
);

both!(who_says_no_before_data_gets_no_mail, |db| {
    let app = TestApp::start(db).await;
    let first = app.mail_for("changes@example.org", &["weekly"]).await;
    app.pass(Duration::from_secs(3600));
    app.sign_up("changes@example.org", &["weekly"]).await;
    app.peer.hold(Point::Rcpt);
    tokio::join!(app.deliver(), async {
        app.peer
            .until("a held mail", |seen| seen.waiting == 1)
            .await;
        // The first mail's link confirms; the second mail has nothing left to ask.
        assert_eq!(app.press(&first.confirm(), "").await.status, 200);
        app.peer.release();
    });
    assert_eq!(app.peer.mails().len(), 1);
    let mut states = app.sql("select state from message").await;
    states.sort();
    assert_eq!(states, ["cancelled", "sent"]);
});

both!(whoever_lost_the_claim_sends_nothing, |db| {
    let app = TestApp::start(db).await;
    app.sign_up("fenced@example.org", &["weekly"]).await;
    app.peer.hold(Point::Rcpt);
    tokio::join!(app.deliver(), async {
        app.peer
            .until("a held mail", |seen| seen.waiting == 1)
            .await;
        let other = match db {
            crate::support::app::Db::Sqlite => "x'00000000000000000000000000000001'",
            crate::support::app::Db::Postgres => "'00000000-0000-0000-0000-000000000001'",
        };
        let taken = app
            .execute(&format!("update message set claim = {other}"))
            .await;
        assert_eq!(taken, Ok(1));
        app.peer.release();
    });
    assert_eq!(app.peer.mails().len(), 0);
    assert_eq!(app.sql("select state from message").await, ["claimed"]);
});
