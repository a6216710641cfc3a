//! One row for each thing that a relay can do: what is written down, what follows, and that the mail leaves later.

use std::time::Duration;

use super::{MINUTE, QUICK, kinds, last_event, message, metric};
use crate::support::app::{LISTS, TestApp, both};
use crate::support::mail::Mail;
use crate::support::peer::{Act, Crypt, Peer, Point};

/// What the relay does, and what must be written down.
struct Row {
    point: Point,
    act: Act,
    /// The message: state, attempts, ambiguous ones.
    message: &'static str,
    /// The signup and its list.
    outcome: &'static str,
    /// Type, phase, cause, code and enhanced code of the event.
    event: &'static str,
    /// What the metric of failures calls it.
    class: &'static str,
    /// The relay itself is at fault, and an alarm says so.
    alarm: u64,
}

/// The relay does not have the mail: it waits, nobody is given up.
fn waits(point: Point, act: Act, event: &'static str) -> Row {
    Row {
        point,
        act,
        message: "queued 1 0",
        outcome: "accepted weekly=open",
        event,
        class: "deferred",
        alarm: 0,
    }
}

/// The relay refuses to work for us at all.
fn alarms(point: Point, line: &str, event: &'static str) -> Row {
    Row {
        class: "misconfigured",
        alarm: 1,
        ..waits(point, Act::reply(line), event)
    }
}

/// The mail is given up.
fn fails(point: Point, line: &str, event: &'static str, class: &'static str) -> Row {
    Row {
        message: "failed 1 0",
        outcome: "undeliverable weekly=undeliverable",
        class,
        ..waits(point, Act::reply(line), event)
    }
}

/// The mail may have arrived.
fn unclear(point: Point, act: Act, event: &'static str) -> Row {
    Row {
        message: "queued 1 1",
        class: "ambiguous",
        ..waits(point, act, event)
    }
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Point::*;
    let reply = Act::reply;
    let kept = |act| Act::Kept(Box::new(act));
    vec![
        waits(Greeting, reply("421 4.3.2 closing"), "message.deferred greeting reply 421 4.3.2"),
        alarms(Greeting, "554 5.7.1 not you", "message.deferred greeting reply 554 5.7.1"),
        alarms(Greeting, "554 no service", "message.deferred greeting reply 554 -"),
        alarms(Ehlo, "550 bad name", "message.deferred hello reply 550 -"),
        alarms(Auth, "535 5.7.8 wrong", "message.deferred auth reply 535 5.7.8"),
        alarms(Mail, "550 not from you", "message.deferred mail reply 550 -"),
        waits(Mail, reply("451 4.3.0 later"), "message.deferred mail reply 451 4.3.0"),
        waits(Rcpt, reply("451 4.7.1 greylisted"), "message.deferred rcpt reply 451 4.7.1"),
        waits(Rcpt, reply("452 4.2.2 full"), "message.deferred rcpt reply 452 4.2.2"),
        fails(Rcpt, "550 5.1.1 unknown", "message.failed rcpt reply 550 5.1.1", "refused"),
        fails(Rcpt, "550 no such user", "message.failed rcpt reply 550 -", "refused"),
        alarms(Mail, "530 5.7.0 log in", "message.deferred mail reply 530 5.7.0"),
        Row { alarm: 0, ..alarms(Rcpt, "550 5.7.1 relaying denied", "message.deferred rcpt reply 550 5.7.1") },
        waits(Data, reply("451 4.3.0 later"), "message.deferred data reply 451 4.3.0"),
        waits(Dot, reply("451 4.3.0 later"), "message.deferred dot reply 451 4.3.0"),
        fails(Dot, "554 no", "message.failed dot reply 554 -", "rejected"),
        fails(Dot, "554 5.6.0 content", "message.failed dot reply 554 5.6.0", "rejected"),
        fails(Dot, "571 refused", "message.failed dot reply 571 -", "rejected"),
        waits(Greeting, Act::Silence, "message.deferred greeting timeout - -"),
        waits(Ehlo, Act::Silence, "message.deferred hello timeout - -"),
        waits(Auth, Act::Silence, "message.deferred auth timeout - -"),
        waits(Mail, Act::Silence, "message.deferred mail timeout - -"),
        waits(Rcpt, Act::Silence, "message.deferred rcpt timeout - -"),
        waits(Data, Act::Silence, "message.deferred data timeout - -"),
        unclear(Dot, Act::Silence, "message.deferred dot timeout - -"),
        unclear(Dot, kept(Act::Silence), "message.deferred dot timeout - -"),
        waits(Greeting, Act::Close, "message.deferred greeting closed - -"),
        waits(Ehlo, Act::Close, "message.deferred hello closed - -"),
        waits(Auth, Act::Close, "message.deferred auth closed - -"),
        waits(Mail, Act::Close, "message.deferred mail closed - -"),
        waits(Rcpt, Act::Close, "message.deferred rcpt closed - -"),
        waits(Data, Act::Close, "message.deferred data closed - -"),
        unclear(Dot, Act::Close, "message.deferred dot closed - -"),
        unclear(Dot, kept(Act::Close), "message.deferred dot closed - -"),
        waits(Rcpt, Act::Raw(b"hello\r\n".to_vec()), "message.deferred rcpt malformed - -"),
        waits(Mail, Act::Endless, "message.deferred mail malformed - -"),
    ]
}

/// A login, and a new connection for each mail, so that each row has every phase.
const LOGIN: &str = r#"
[smtp]
username = "confirmd"
password = "not.a.secret"
messages_per_connection = 1
"#;

async fn started(db: crate::support::app::Db) -> TestApp {
    let app = TestApp::with(db, LISTS, &format!("{LOGIN}{QUICK}")).await;
    well(&app);
    app
}

/// The relay works, and offers a login.
fn well(app: &TestApp) {
    misbehave(app, None, ONE_BY_ONE);
}

/// What EHLO answers, where commands go one by one and where they go at once.
const ONE_BY_ONE: &str = "250-peer.test\r\n250 AUTH PLAIN";
const AT_ONCE: &str = "250-peer.test\r\n250-PIPELINING\r\n250 AUTH PLAIN";

fn misbehave(app: &TestApp, fault: Option<(Point, Act)>, hello: &str) {
    let hello = Act::reply(hello);
    app.peer.script(move |moment| match &fault {
        Some((point, act)) if *point == moment.point => Some(act.clone()),
        _ => (moment.point == Point::Ehlo).then(|| hello.clone()),
    });
}

fn said(event: &serde_json::Value) -> String {
    let word = |name: &str| match &event[name] {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    ["type", "phase", "cause", "code", "enhanced"]
        .map(word)
        .join(" ")
}

both!(every_answer_of_a_relay_has_its_outcome, |db| {
    let app = started(db).await;
    let ways = [ONE_BY_ONE, AT_ONCE].into_iter();
    let rows = ways.flat_map(|hello| rows().into_iter().map(move |row| (row, hello)));
    for (i, (row, hello)) in rows.enumerate() {
        let name = format!("row {i}, {:?}", (row.point, &row.act));
        let email = format!("row-{i}@example.org");
        let phase = row.event.split(' ').nth(1).expect("a phase");
        let failures = format!(
            "confirmd_smtp_phase_failures_total{{phase=\"{phase}\",class=\"{}\"}}",
            row.class
        );
        let kind = row.event.split(' ').next().expect("a type");
        let outcomes = format!(
            "confirmd_messages_total{{kind=\"confirmation\",outcome=\"{}\"}}",
            kind.trim_start_matches("message.")
        );
        let before = (metric(&app, &failures).await, metric(&app, &outcomes).await);

        misbehave(&app, Some((row.point, row.act.clone())), hello);
        let signup = app.sign_up(&email, &["weekly"]).await;
        app.deliver().await;
        assert_eq!(message(&app, &signup).await, row.message, "{name}");
        assert_eq!(app.outcome(&signup).await, row.outcome, "{name}");
        assert_eq!(said(&last_event(&app, &signup).await), row.event, "{name}");
        assert_eq!(kinds(&app, &signup).await.len(), 2, "{name}");
        let after = (metric(&app, &failures).await, metric(&app, &outcomes).await);
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{name}");
        assert_eq!(
            metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await,
            row.alarm,
            "{name}"
        );

        // Later all is well; what was refused for good is not tried again, and nothing is tried early.
        well(&app);
        let mails = app.peer.seen(|seen| seen.count("MAIL"));
        app.pass(Duration::from_secs(47));
        app.deliver().await;
        assert_eq!(app.peer.seen(|seen| seen.count("MAIL")), mails, "{name}");
        let wait = match row.class {
            "ambiguous" => 30 * MINUTE,
            _ => Duration::from_secs(72),
        };
        app.pass(wait - Duration::from_secs(46));
        app.deliver().await;
        let recovered = match row.class {
            "refused" | "rejected" => row.message,
            "ambiguous" => "sent 2 1",
            _ => "sent 2 0",
        };
        assert_eq!(message(&app, &signup).await, recovered, "{name}");
        if recovered == row.message {
            assert_eq!(app.mailbox(&email).len(), 0, "{name}");
            continue;
        }
        assert_eq!(app.outcome(&signup).await, "sent weekly=open", "{name}");
        assert_eq!(
            metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await,
            0,
            "{name}"
        );
        let copies = 1 + usize::from(matches!(row.act, Act::Kept(_)));
        assert_eq!(app.mailbox(&email).len(), copies, "{name}");
    }
});

both!(a_relay_that_is_not_there_loses_nothing, |db| {
    let mut app = started(db).await;
    app.peer.down().await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(message(&app, &signup).await, "queued 1 0");
    assert_eq!(app.outcome(&signup).await, "accepted weekly=open");
    let event = said(&last_event(&app, &signup).await);
    assert_eq!(event, "message.deferred connect io - -");
    let failures = "confirmd_smtp_phase_failures_total{phase=\"connect\",class=\"deferred\"}";
    assert_eq!(metric(&app, failures).await, 1);
    app.peer.up().await;
    app.pass(Duration::from_secs(73));
    app.deliver().await;
    assert_eq!(message(&app, &signup).await, "sent 2 0");
    assert_eq!(app.mailbox("anna@example.org").len(), 1);
});

both!(a_relay_that_closes_on_one_mail_gets_the_others, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.peer.script(|moment| {
        let unlucky = moment.recipient == Some("p4@example.org");
        (unlucky && moment.point == Point::Rcpt).then(|| Act::reply("421 4.3.2 closing"))
    });
    let mut signups = Vec::new();
    for i in 0..10 {
        let email = format!("p{i}@example.org");
        signups.push(app.sign_up(&email, &["weekly"]).await);
    }
    app.deliver().await;
    for (i, signup) in signups.iter().enumerate() {
        let expected = if i == 4 { "queued 1 0" } else { "sent 1 0" };
        assert_eq!(message(&app, signup).await, expected, "{i}");
    }
    let counts = app.event_counts().await;
    assert_eq!((counts["message.sent"], counts["message.deferred"]), (9, 1));
});

both!(
    a_relay_that_is_down_all_day_gets_no_more_than_the_limits_allow,
    |db| {
        let mut app = TestApp::with(db, LISTS, QUICK).await;
        app.peer.down().await;
        // Each of twenty people signs up four times, every quarter of an hour, for one list or for both.
        for round in 0..4 {
            for i in 0..20 {
                let lists: &[&str] = if round % 2 == 0 {
                    &["weekly"]
                } else {
                    &["weekly", "offers"]
                };
                app.sign_up(&format!("down-{i}@example.org"), lists).await;
            }
            app.deliver().await;
            app.pass(15 * MINUTE);
        }
        assert_eq!(app.peer.mails().len(), 0);
        app.peer.up().await;
        app.pass(5 * 60 * MINUTE);
        // It gets them little by little.
        while app.count("message where state = 'queued'").await > 0 {
            app.pass(Duration::from_secs(1));
            app.deliver().await;
        }
        let mut counts = app.event_counts().await;
        assert_eq!(counts.remove("signup.accepted"), Some(80));
        for i in 0..20 {
            // The first mail asks for weekly; the second, whose weekly was left out, for offers. Nothing else was free.
            let mails = app.mailbox(&format!("down-{i}@example.org"));
            let about = |mail: &Mail| {
                let (weekly, offers) = ("weekly news of Acme", "offers of Acme");
                (mail.text.contains(weekly), mail.text.contains(offers))
            };
            let mut about: Vec<_> = mails.iter().map(about).collect();
            about.sort();
            assert_eq!(about, [(false, true), (true, false)], "{i}");
        }
        assert_eq!(counts.remove("message.sent"), Some(40));
        // Of what was asked, 20 weekly and 20 offers were in a mail; the second, third and fourth weekly, and the second
        // offers, are withheld. (A signup of which one list was mailed is withheld in part.)
        assert_eq!(counts.remove("signup.withheld"), Some(60));
        let open = app.count("signup_list where state = 'open'").await;
        let withheld = app.count("signup_list where state = 'withheld'").await;
        assert_eq!((open, withheld), (40, 80));
        assert_eq!(
            app.count("message where state in ('queued', 'claimed')")
                .await,
            0
        );
    }
);

both!(
    encryption_and_a_login_are_used_where_they_are_asked_for,
    |db| {
        use crate::support::daemon::Home;
        for (crypt, tls) in [(Crypt::Starttls, "starttls"), (Crypt::Implicit, "implicit")] {
            let peer = Peer::build()
                .capabilities(&["AUTH PLAIN"])
                .crypt(crypt)
                .start()
                .await;
            let mut home = Home::new(db, peer.addr(), "");
            let ca = home.dir.path().join("ca.pem");
            std::fs::write(&ca, peer.ca_pem()).expect("a file");
            home.set("SMTP__TLS", tls);
            home.set("SMTP__CA_FILE", &ca.display().to_string());
            home.set("SMTP__USERNAME", "confirmd");
            home.set("SMTP__PASSWORD", "tell.nobody.this.password");
            crate::support::out::secret("tell.nobody.this.password");
            let key = home.key("acme", "signup").await;
            let mut daemon = home.start().await;
            let answer = daemon.sign_up(&key, "tls@example.org", &["weekly"]).await;
            assert_eq!(answer.status, 202);
            daemon.message("message.sent").await;
            assert_eq!(peer.mails().len(), 1);
            let logins = peer.seen(|seen| seen.count("AUTH PLAIN"));
            assert_eq!(logins, 1);
            let starttls = peer.seen(|seen| seen.count("STARTTLS"));
            assert_eq!(starttls, usize::from(crypt == Crypt::Starttls));
        }
    }
);
