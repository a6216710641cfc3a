//! Relays that do not work, work again, or are slow for some: who gets the mails, when, and how many at once.

use std::collections::BTreeMap;

use super::*;
use crate::support::app::{LISTS, both};
use crate::support::daemon::Home;
use crate::support::peer::{Act, Peer, Point};

const SECOND: Duration = Duration::from_secs(1);

/// Mails that wait for a dead relay. More than a few hundred show nothing else: a long run may ask for them.
fn backlog() -> usize {
    let given = std::env::var("CONFIRMD_TEST_BACKLOG").ok();
    given.map_or(600, |n| n.parse().expect("a number"))
}

/// Delivers second by second until nothing is due; returns how many mails came in each.
async fn seconds(app: &TestApp) -> Vec<usize> {
    let mut went = Vec::new();
    let mut before = app.peer.seen(|seen| seen.mails.len());
    loop {
        app.pass(SECOND);
        app.deliver().await;
        let now = app.peer.seen(|seen| seen.mails.len());
        went.push(now - before);
        before = now;
        if app.count("message where state = 'queued'").await == 0 {
            return went;
        }
    }
}

both!(a_relay_that_was_gone_for_six_hours_is_not_flooded, |db| {
    let lists = LISTS.replace("frequency = \"P7D\"", "link_life = \"1 hour\"");
    let settings = format!("{QUICK}[smtp]\nrate = 100\n");
    let mut app = TestApp::with(db, &lists, &settings).await;
    // Mails that were tried have a link whose time runs.
    app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
    for i in 0..40 {
        app.sign_up(&format!("early-{i}@example.org"), &["weekly"])
            .await;
    }
    app.deliver().await;
    assert_eq!(app.event_counts().await["message.deferred"], 40);
    app.peer.script(|_| None);
    app.peer.down().await;
    let people = backlog();
    for i in 0..people {
        app.sign_up(&format!("p{i}@example.org"), &["offers"]).await;
    }
    for _ in 0..6 * 12 {
        app.pass(5 * MINUTE);
        app.deliver().await;
        app.sweep().await;
    }
    assert_eq!(
        metric(&app, "confirmd_relay_paused{relay=\"smtp\"}").await,
        1
    );
    // A few found out; after that it was knocked at, and every mail left alone.
    let deferred = app.event_counts().await["message.deferred"] - 40;
    assert!((3..=8).contains(&deferred), "{deferred} attempts");
    assert_eq!(app.event_counts().await["signup.expired"], 40);
    let dead = app.count("message where state = 'cancelled'").await;
    assert_eq!(dead, 40, "dead links went before anything was sent");

    app.peer.up().await;
    app.pass(5 * MINUTE);
    let went = seconds(&app).await;
    let total: usize = went.iter().sum();
    assert_eq!(total, people, "{went:?}");
    // 20 in a second at first, twice as many after each ten seconds, and never more than the cap.
    for (second, n) in went.iter().enumerate() {
        let most = [22, 42, 82].get(second / 10).copied().unwrap_or(101);
        assert!(*n <= most, "{n} in second {second}: {went:?}");
    }
    assert!(went.iter().any(|n| *n > 22) || people < 200, "{went:?}");
    let mut copies = BTreeMap::new();
    app.peer.seen(|seen| {
        for mail in &seen.mails {
            *copies.entry(mail.envelope_to.concat()).or_insert(0) += 1;
        }
    });
    assert_eq!(copies.len(), people);
    assert!(copies.values().all(|n| *n == 1));
    assert!(!copies.keys().any(|to| to.starts_with("early")));
    assert_eq!(
        metric(&app, "confirmd_relay_paused{relay=\"smtp\"}").await,
        0
    );
});

both!(mails_that_piled_up_while_nobody_ran_go_slowly, |db| {
    let mut app = TestApp::with(db, LISTS, QUICK).await;
    for i in 0..50 {
        app.sign_up(&format!("p{i}@example.org"), &["weekly"]).await;
    }
    app.pass(9 * MINUTE);
    app.restart_with(LISTS, QUICK).await;
    assert_eq!(app.deliver().await, 50, "that is no time");
    for i in 0..50 {
        app.sign_up(&format!("q{i}@example.org"), &["weekly"]).await;
    }
    app.pass(11 * MINUTE);
    app.restart_with(LISTS, QUICK).await;
    assert_eq!(app.deliver().await, 20);
    assert_eq!(seconds(&app).await, [20, 10]);
});

both!(a_relay_that_refuses_to_work_is_left_alone, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let refusal = "554 5.7.1 no service for you";
    app.peer.at(Point::Greeting, Act::reply(refusal));
    let mut signups = Vec::new();
    for i in 0..50 {
        let email = format!("p{i}@example.org");
        signups.push(app.sign_up(&email, &["weekly"]).await);
    }
    app.deliver().await;
    let tried = app.event_counts().await["message.deferred"];
    assert!(tried <= 8, "{tried} of 50 mails ran into it");
    assert_eq!(
        metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await,
        1
    );
    for _ in 0..20 {
        app.pass(SECOND / 2);
        app.deliver().await;
    }
    assert_eq!(app.event_counts().await["message.deferred"], tried);
    // After a while somebody knocks, in vain; where it opens and still takes no mail, one mail finds out.
    let knocks = async |app: &TestApp, after: Duration| {
        let before = app.peer.seen(|seen| seen.connections);
        app.pass(after);
        app.deliver().await;
        app.peer.seen(|seen| seen.connections) - before
    };
    assert_eq!(knocks(&app, 10 * SECOND).await, 1);
    assert_eq!(app.event_counts().await["message.deferred"], tried);
    app.peer
        .at(Point::Mail, Act::reply("530 5.7.0 log in first"));
    assert_eq!(knocks(&app, 40 * SECOND).await, 2);
    assert_eq!(app.event_counts().await["message.deferred"], tried + 1);
    app.peer.script(|_| None);
    app.pass(2 * MINUTE);
    app.deliver().await;
    seconds(&app).await;
    for signup in &signups {
        assert!(message(&app, signup).await.starts_with("sent"));
    }
    assert_eq!(app.peer.mails().len(), 50);
    assert_eq!(
        metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await,
        0
    );
});

both!(mails_that_a_relay_refuses_keep_no_other_waiting, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.peer.script(|moment| {
        let refused = moment.recipient.is_some_and(|to| to.contains("@refused-"));
        (refused && moment.point == Point::Rcpt).then(|| Act::reply("554 5.7.1 denied"))
    });
    for i in 0..12 {
        app.sign_up(&format!("p{i}@refused-{i}.example"), &["weekly"])
            .await;
    }
    app.deliver().await;
    app.mail_for("good@example.org", &["weekly"]).await;
    // Each waits for itself, as long as any mail that was put off.
    assert_eq!(app.event_counts().await["message.deferred"], 12);
    app.pass(72 * SECOND);
    app.deliver().await;
    app.mail_for("better@example.org", &["weekly"]).await;
    assert_eq!(app.event_counts().await["message.deferred"], 24);
    assert_eq!(
        metric(&app, "confirmd_relay_paused{relay=\"smtp\"}").await,
        0
    );
});

both!(one_refused_recipient_raises_no_alarm, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let alarm = async || metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await;
    app.peer.at(Point::Rcpt, Act::reply("550 5.7.1 denied"));
    app.sign_up("one@example.org", &["weekly"]).await;
    for _ in 0..4 {
        app.deliver().await;
        app.pass(20 * MINUTE);
    }
    assert_eq!(app.event_counts().await["message.deferred"], 4);
    assert_eq!(alarm().await, 0);
    // One relay that refuses three, and has taken nothing since, refuses to work for us.
    app.sign_up("two@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(alarm().await, 0);
    app.sign_up("three@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(alarm().await, 1);
    app.peer.script(|_| None);
    app.mail_for("four@example.org", &["weekly"]).await;
    assert_eq!(alarm().await, 0);
});

both!(a_sender_that_a_relay_refuses_keeps_no_other_waiting, |db| {
    for (reply, raised) in [
        ("553 5.7.1 Sender address rejected", 1),
        ("550 not from you", 1),
        ("450 4.1.8 Sender address rejected: Domain not found", 0),
    ] {
        let app = TestApp::with(db, LISTS, QUICK).await;
        let key = app
            .make_key("other", &[confirmd::flow::api_key::Scope::Signup])
            .await;
        app.peer.script(move |moment| {
            let other = moment.sender == Some("confirm@other.example");
            (other && moment.point == Point::Mail).then(|| Act::reply(reply))
        });
        for i in 0..20 {
            let body = crate::support::app::signup(&format!("p{i}@example.org"), &["tips"]);
            let body = body.to_string();
            let answer = app.post_json("/v1/signups", &key, &[], &body).await;
            assert_eq!(answer.status, 202);
        }
        app.deliver().await;
        app.mail_for("good@example.org", &["weekly"]).await;
        let alarm = async || metric(&app, "confirmd_relay_alarm{relay=\"smtp\"}").await;
        let paused = "confirmd_relay_paused{relay=\"smtp\"}";
        // What it takes of another sender says nothing about this one.
        assert_eq!((metric(&app, paused).await, alarm().await), (0, raised));
        app.peer.script(|_| None);
        app.pass(72 * SECOND);
        app.deliver().await;
        assert_eq!((app.peer.mails().len(), alarm().await), (21, 0), "{reply}");
    }
});

/// A further relay beside the main one.
fn further(name: &str, peer: &Peer) -> String {
    let (ip, port) = (peer.addr().ip(), peer.addr().port());
    format!("[relays.{name}]\nhost = \"{ip}\"\nport = {port}\ntls = \"none\"\n")
}

both!(another_relay_takes_over_while_the_first_is_gone, |db| {
    let backup = Peer::start().await;
    let settings = format!(
        "{QUICK}[smtp]\nfallback = [\"backup\"]\n{}",
        further("backup", &backup)
    );
    let mut app = TestApp::with(db, LISTS, &settings).await;
    app.mail_for("first@example.org", &["weekly"]).await;
    app.peer.down().await;
    for i in 0..30 {
        app.sign_up(&format!("p{i}@example.org"), &["weekly"]).await;
    }
    app.deliver().await;
    // Three or a few more found out, and come back after a minute; every other goes the other way.
    app.pass(73 * SECOND);
    app.deliver().await;
    assert_eq!(backup.mails().len(), 30);
    assert_eq!(app.count("message where state = 'queued'").await, 0);
    // The first is asked again with one mail, and then takes them all.
    app.peer.up().await;
    app.pass(5 * MINUTE);
    app.mail_for("again@example.org", &["weekly"]).await;
    app.mail_for("once-more@example.org", &["weekly"]).await;
    assert_eq!((app.peer.mails().len(), backup.mails().len()), (3, 30));
    // One that refuses keeps its alarm, whatever the other takes.
    app.peer
        .at(Point::Mail, Act::reply("530 5.7.0 log in first"));
    for email in ["found-out@example.org", "went-round@example.org"] {
        app.sign_up(email, &["weekly"]).await;
        app.deliver().await;
    }
    assert_eq!((app.peer.mails().len(), backup.mails().len()), (3, 31));
    let alarm =
        async |relay| metric(&app, &format!("confirmd_relay_alarm{{relay=\"{relay}\"}}")).await;
    assert_eq!((alarm("smtp").await, alarm("backup").await), (1, 0));
});

both!(what_is_over_the_cap_of_a_relay_waits_for_it, |db| {
    let backup = Peer::start().await;
    let settings = format!(
        "{QUICK}[smtp]\nrate = 1\nfallback = [\"backup\"]\n{}",
        further("backup", &backup)
    );
    let app = TestApp::with(db, LISTS, &settings).await;
    for i in 0..5 {
        app.sign_up(&format!("p{i}@example.org"), &["weekly"]).await;
    }
    for sent in 1..=5 {
        app.deliver().await;
        app.deliver().await;
        assert_eq!((app.peer.mails().len(), backup.mails().len()), (sent, 0));
        assert_eq!(app.count("message where claims > 0").await, sent);
        app.pass(SECOND);
    }
});

both!(a_sender_may_have_relays_of_its_own, |db| {
    let own = Peer::start().await;
    let settings = format!("{QUICK}{}", further("own", &own));
    let lists = LISTS.replace("[senders.other]", "[senders.other]\nrelays = [\"own\"]");
    let mut app = TestApp::with(db, &lists, &settings).await;
    let key = app
        .make_key("other", &[confirmd::flow::api_key::Scope::Signup])
        .await;
    let tips = async |app: &TestApp, email: &str| {
        let body = crate::support::app::signup(email, &["tips"]).to_string();
        let answer = app.post_json("/v1/signups", &key, &[], &body).await;
        assert_eq!(answer.status, 202);
    };
    tips(&app, "a@example.org").await;
    app.sign_up("b@example.org", &["weekly"]).await;
    app.deliver().await;
    let to = |peer: &Peer| peer.mails().first().map(|mail| mail.envelope_to.concat());
    assert_eq!(to(&own).as_deref(), Some("a@example.org"));
    assert_eq!(to(&app.peer).as_deref(), Some("b@example.org"));

    // Its mails wait for it, whatever else works; others do not wait for them.
    let (mut own, addr) = (own, app.peer.addr());
    own.down().await;
    for i in 0..20 {
        tips(&app, &format!("c{i}@example.org")).await;
    }
    app.sign_up("d@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!((own.mails().len(), app.peer.mails().len()), (1, 2));
    // A reload sends them elsewhere; a relay that was not there at the start needs a restart.
    app.reload(LISTS).await;
    app.pass(10 * MINUTE);
    app.deliver().await;
    assert_eq!((own.mails().len(), app.peer.mails().len()), (1, 22));
    let unknown = LISTS.replace("[senders.other]", "[senders.other]\nrelays = [\"new\"]");
    let new = format!("[relays.new]\nhost = \"{}\"\ntls = \"none\"\n", addr.ip());
    let refused = app.reload_with(&unknown, &format!("{settings}{new}")).await;
    let refused = format!("{:#}", refused.expect_err("a new relay"));
    assert_eq!(
        refused,
        "relays.new: a relay that was added needs a restart"
    );
    app.end().await;
});

both!(a_domain_that_is_slow_keeps_no_other_waiting, |db| {
    let peer = Peer::start().await;
    peer.script(|moment| {
        let slow = moment.recipient.is_some_and(|to| to.contains("@slow-"));
        (slow && moment.point == Point::Rcpt).then_some(Act::Silence)
    });
    let home = Home::new(db, peer.addr(), "[smtp]\nsessions = 8\n");
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let sign_up = async |email: String| {
        let answer = daemon.sign_up(&key, &email, &["weekly"]).await;
        assert_eq!(answer.status, 202);
    };
    for i in 0..10 {
        sign_up(format!("known-{i}@quick.example")).await;
    }
    peer.wait_for(10).await;
    // More than is ever claimed at once for one domain, and more domains than there are sessions.
    for i in 0..300 {
        sign_up(format!("p{i}@slow-0.example")).await;
    }
    for i in 0..350 {
        sign_up(format!("p{i}@slow-{}.example", 1 + i % 50)).await;
    }
    for i in 0..100 {
        sign_up(format!("p{i}@quick.example")).await;
    }
    peer.wait_for(110).await;
    peer.seen(|seen| {
        let quick =
            |mail: &crate::support::peer::Mail| mail.envelope_to[0].ends_with("@quick.example");
        assert!(seen.mails.iter().all(quick));
        // They still hang: nothing was given up for the others.
        assert!(seen.waiting == 0 && seen.closed == 0);
    });
    let metrics = daemon.ops("/metrics").await.body;
    assert!(metrics.contains("confirmd_relay_paused{relay=\"smtp\"} 0"));
});
