//! How many mails one mailbox may be made to receive: counted where they arrive, and in what became of each signup.

use std::time::Duration;

use confirmd::domain::id::SignupId;
use confirmd::domain::signup::ListState;
use confirmd::flow::api_key::Scope;
use serde_json::Value;

use crate::support::app::{Db, LISTS, TestApp, both, signup};
use crate::support::http::send;
use crate::support::links::{A_LIFE, fresh, press_button, read};
use crate::support::out;
use crate::support::peer::{Act, Point};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const SENT: &str = "sent weekly=open";
const WITHHELD: &str = "withheld weekly=withheld";
const LEDGERS: &str = "select cast(count(*) as text) from address where ledger is not null";

/// Signs up with an API key, has mails sent and says what became of the signup.
async fn try_at(app: &TestApp, key: &str, email: &str, lists: &[&str]) -> String {
    out::secret(email);
    let body = signup(email, lists).to_string();
    let answer = app.post_json("/v1/signups", key, &[], &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    app.deliver().await;
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    app.outcome(&id).await
}

/// The same with the key of `acme`.
async fn attempt(app: &TestApp, email: &str, lists: &[&str]) -> String {
    try_at(app, &app.key, email, lists).await
}

/// The reasons of everything that was withheld, with the sender that is told.
async fn reasons(app: &TestApp) -> Vec<String> {
    let events = app.events().await;
    let withheld = events.iter().filter(|e| e["type"] == "signup.withheld");
    let words = |e: &Value| {
        let sender = e["sender"].as_str().unwrap_or("nobody");
        format!("{sender}: {} {}", e["reason"].as_str().unwrap(), e["lists"])
    };
    withheld.map(words).collect()
}

both!(one_mail_for_a_list_in_ten_minutes, |db| {
    let app = TestApp::start(db).await;
    let email = "ten.minutes@example.org";
    assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
    app.pass(10 * MINUTE - Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
    assert_eq!(attempt(&app, email, &["offers"]).await, "sent offers=open");
    assert_eq!(
        attempt(&app, "somebody.else@example.org", &["weekly"]).await,
        SENT
    );
    app.pass(Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
    assert_eq!(app.mailbox(email).len(), 3);
    assert_eq!(reasons(&app).await, ["acme: list_limit [\"weekly\"]"]);
});

both!(signups_that_wait_together_send_one_mail, |db| {
    let app = TestApp::start(db).await;
    let email = "together@example.org";
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.sign_up(email, &["weekly"]).await);
    }
    app.deliver().await;
    let mut outcomes = Vec::new();
    for id in &ids {
        outcomes.push(app.outcome(id).await);
    }
    outcomes.sort();
    assert_eq!(outcomes, [SENT, WITHHELD, WITHHELD, WITHHELD, WITHHELD]);
    assert_eq!(app.mailbox(email).len(), 1);
});

both!(sending_the_first_mail_writes_nothing_to_its_mailbox, |db| {
    let app = TestApp::start(db).await;
    let email = "first@example.org";
    let both = attempt(&app, email, &["weekly", "offers"]).await;
    assert_eq!(both, "sent offers=open weekly=open");
    assert_eq!(app.sql(LEDGERS).await, ["0"]);
    // It counts all the same.
    assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
    app.pass(11 * MINUTE);
    for _ in 0..2 {
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
        app.pass(11 * MINUTE);
    }
    assert_eq!(app.sql(LEDGERS).await, ["1"]);
    assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
    assert_eq!(
        reasons(&app).await,
        [
            "acme: list_limit [\"weekly\"]",
            "acme: sender_limit [\"weekly\"]"
        ]
    );
});

both!(
    confirming_the_first_mail_writes_nothing_to_its_mailbox,
    |db| {
        let app = TestApp::start(db).await;
        let email = "first.yes@example.org";
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
        let mail = app.mailbox(email).pop().expect("a mail");
        assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
        assert_eq!(app.sql(LEDGERS).await, ["0"]);
        // All the same it no longer counts over the month.
        app.pass(DAY);
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(attempt(&app, email, &["offers"]).await, "sent offers=open");
                app.pass(11 * MINUTE);
            }
            app.pass(2 * DAY);
        }
        assert_eq!(
            attempt(&app, email, &["offers"]).await,
            "withheld offers=withheld"
        );
        assert_eq!(app.sql(LEDGERS).await, ["1"]);
    }
);

/// On PostgreSQL a statement that waits for a lock sees what else there is as it was before it waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waited_for_a_confirm_knows_of_it() {
    let app = TestApp::start(Db::Postgres).await;
    let email = "waits.for.yes@example.org";
    let first = app.sign_up(email, &["weekly"]).await;
    app.deliver().await;
    app.pass(11 * MINUTE);
    app.sign_up(email, &["offers"]).await;

    let first = [SignupId(first.parse().expect("an id"))];
    let mut tx = app.hold_mailbox(email).await;
    let mut lists = tx.signup_lists(&first).await.expect("read");
    lists[0].state = ListState::Confirmed;
    tx.save_signup_lists(&lists).await.expect("written");
    let confirmed = async {
        app.until_one_waits().await;
        tx.commit().await.expect("committed");
    };
    tokio::join!(app.deliver(), confirmed);
    let counted = "select coalesce(ledger -> 'mails' -> 0 ->> 'confirmed', 'no') from address";
    assert_eq!(app.sql(counted).await, ["true"]);
}

both!(three_mails_of_a_sender_in_24_hours, |db| {
    let app = TestApp::start(db).await;
    let email = "three.a.day@example.org";
    for list in ["weekly", "offers", "weekly"] {
        assert!(attempt(&app, email, &[list]).await.starts_with("sent"));
        app.pass(11 * MINUTE);
    }
    for list in ["weekly", "offers"] {
        assert!(attempt(&app, email, &[list]).await.starts_with("withheld"));
    }
    let other = app.make_key("other", &[Scope::Signup]).await;
    assert_eq!(
        try_at(&app, &other, email, &["tips"]).await,
        "sent tips=open"
    );
    app.pass(DAY - 33 * MINUTE - Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
    app.pass(Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
    assert_eq!(
        attempt(&app, email, &["offers"]).await,
        "withheld offers=withheld"
    );
    assert_eq!(app.mailbox(email).len(), 5);
    let reasons = reasons(&app).await;
    assert!(
        reasons.iter().all(|r| r.starts_with("acme: sender_limit")),
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 4);
});

/// Sends the six mails of 30 days, three on each of two days.
async fn six(app: &TestApp, email: &str) {
    for _ in 0..2 {
        for _ in 0..3 {
            assert_eq!(attempt(app, email, &["weekly"]).await, SENT);
            app.pass(11 * MINUTE);
        }
        app.pass(2 * DAY - 33 * MINUTE);
    }
}

both!(six_mails_of_a_sender_in_30_days_without_a_confirm, |db| {
    let app = TestApp::start(db).await;
    let (silent, active) = ("silent@example.org", "active@example.org");
    six(&app, silent).await;
    assert_eq!(attempt(&app, silent, &["weekly"]).await, WITHHELD);
    assert_eq!(
        attempt(&app, silent, &["offers"]).await,
        "withheld offers=withheld"
    );
    six(&app, active).await;
    assert_eq!(
        attempt(&app, active, &["offers"]).await,
        "withheld offers=withheld"
    );
    let mail = app.mailbox(active).pop().unwrap();
    assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
    assert_eq!(attempt(&app, active, &["offers"]).await, "sent offers=open");
    // Eight days have passed since the first mail to the silent one.
    app.pass(22 * DAY - Duration::from_secs(1));
    assert_eq!(attempt(&app, silent, &["weekly"]).await, WITHHELD);
    app.pass(Duration::from_secs(1));
    assert_eq!(attempt(&app, silent, &["weekly"]).await, SENT);
    assert_eq!(
        (app.mailbox(silent).len(), app.mailbox(active).len()),
        (7, 7)
    );
});

both!(
    ten_mails_a_day_over_the_installation_and_no_sender_is_told,
    |db| {
        let sender = LISTS.split("[senders.other]").next().unwrap();
        let mut lists = String::new();
        for s in 0..4 {
            lists += &sender.replace("[senders.acme]", &format!("[senders.s{s}]"));
            for l in 0..3 {
                lists += &format!(
                    "[lists.s{s}l{l}]\nsender = \"s{s}\"\ntitle = {{ en = \"News\" }}\nconsent = {{ en = \"Yes.\" }}\n"
                );
            }
        }
        let app = TestApp::with(db, &lists, "").await;
        let email = "everywhere@example.org";
        let mut outcomes = Vec::new();
        for s in 0..4 {
            let key = app.make_key(&format!("s{s}"), &[Scope::Signup]).await;
            for l in 0..3 {
                let list = format!("s{s}l{l}");
                let outcome = try_at(&app, &key, email, &[&list]).await;
                outcomes.push(outcome.split(' ').next().unwrap().to_owned());
                app.pass(MINUTE);
            }
        }
        let expected = [vec!["sent"; 10], vec!["withheld"; 2]].concat();
        assert_eq!(outcomes, expected);
        assert_eq!(app.mailbox(email).len(), 10);
        assert_eq!(
            reasons(&app).await,
            [
                "nobody: installation_limit [\"s3l1\"]",
                "nobody: installation_limit [\"s3l2\"]"
            ]
        );
        // The operator sees the number.
        let numbers = app.metrics().await;
        let line = "confirmd_signups_withheld_total{reason=\"installation_limit\"} 2";
        assert!(numbers.contains(line), "{numbers}");
        // In the sender's own feed the two look as if they waited.
        let own = "s3".parse().unwrap();
        let feed = app.flows.pool.read().await.unwrap();
        let feed = { feed }.events_after(0, 1000, Some(&own)).await.unwrap();
        let kinds: Vec<_> = feed.iter().map(|e| e.kind.as_str()).collect();
        let count = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!(
            (
                count("signup.accepted"),
                count("message.sent"),
                count("signup.withheld")
            ),
            (3, 1, 0)
        );
        // A day after the first of the ten there is room for one.
        app.pass(DAY - 12 * MINUTE);
        let key = app.make_key("s3", &[Scope::Signup]).await;
        assert_eq!(try_at(&app, &key, email, &["s3l1"]).await, "sent s3l1=open");
    }
);

both!(
    spellings_of_one_mailbox_share_its_limits_and_get_their_own_mail,
    |db| {
        let app = TestApp::start(db).await;
        for (spelling, to) in [
            ("anna.b@gmail.com", "anna.b@gmail.com"),
            ("annab+news@gmail.com", "annab+news@gmail.com"),
            ("A.N.N.A.B@GoogleMail.com", "A.N.N.A.B@googlemail.com"),
        ] {
            assert_eq!(attempt(&app, spelling, &["weekly"]).await, SENT);
            assert_eq!(app.mailbox(to).len(), 1, "{to}");
            let mail = app.mailbox(to).remove(0);
            assert_eq!(mail.header("to"), to);
            assert!(
                !mail.raw.contains("annab@gmail.com"),
                "a spelling that nobody gave"
            );
            for again in ["annab@gmail.com", "an.nab+x+y@gmail.com", spelling] {
                assert_eq!(attempt(&app, again, &["weekly"]).await, WITHHELD, "{again}");
            }
            app.pass(11 * MINUTE);
        }
        assert_eq!(
            attempt(&app, "annab+more@gmail.com", &["offers"]).await,
            "withheld offers=withheld"
        );
        assert_eq!(app.peer.mails().len(), 3);
        // Other providers' dots are letters; case and plus-tags fold everywhere.
        assert_eq!(attempt(&app, "anna.b@example.org", &["weekly"]).await, SENT);
        assert_eq!(attempt(&app, "annab@example.org", &["weekly"]).await, SENT);
        assert_eq!(
            attempt(&app, "Anna.B+x@Example.ORG", &["weekly"]).await,
            WITHHELD
        );
        // Each spelling is a subscriber of its own, but for its case.
        let before = app.count("subscriber").await;
        attempt(&app, "ANNA.B@example.org", &["weekly"]).await;
        assert_eq!(app.count("subscriber").await, before);
    }
);

both!(
    a_mail_that_could_not_leave_keeps_its_list_out_however_old,
    |db| {
        let app = TestApp::start(db).await;
        let email = "relay.down@example.org";
        app.peer.at(Point::Rcpt, Act::reply("451 4.7.1 later"));
        let waiting = app.sign_up(email, &["weekly"]).await;
        for _ in 0..8 {
            app.deliver().await;
            assert_eq!(app.outcome(&waiting).await, "accepted weekly=open");
            assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
            app.pass(4 * HOUR);
        }
        let both = app.sign_up(email, &["weekly", "offers"]).await;
        app.deliver().await;
        assert_eq!(
            app.outcome(&both).await,
            "accepted offers=open weekly=withheld"
        );
        app.peer.script(|_| None);
        // The longest wait between two attempts, and a fifth for chance; still within the 48 hours that a mail is tried.
        app.pass(5 * HOUR);
        app.deliver().await;
        assert_eq!(app.outcome(&waiting).await, SENT);
        assert_eq!(app.outcome(&both).await, "sent offers=open weekly=withheld");
        let titles: Vec<_> = app
            .mailbox(email)
            .iter()
            .map(|m| m.text.contains("Weekly news"))
            .collect();
        assert_eq!(titles.len(), 2);
        assert_eq!(titles.iter().filter(|weekly| **weekly).count(), 1);
        // The ten minutes begin when it has left.
        app.pass(9 * MINUTE);
        assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
        app.pass(MINUTE);
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
    }
);

both!(
    a_list_inside_its_ten_minutes_is_left_out_of_the_mail,
    |db| {
        let app = TestApp::start(db).await;
        let email = "left.out@example.org";
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
        app.pass(5 * MINUTE);
        let id = app.sign_up(email, &["offers", "weekly"]).await;
        app.deliver().await;
        assert_eq!(app.outcome(&id).await, "sent offers=open weekly=withheld");
        let mail = app.mailbox(email).pop().unwrap();
        assert!(
            mail.text.contains("Offers") && !mail.text.contains("Weekly news"),
            "{}",
            mail.text
        );
        assert!(
            mail.html.contains("Offers") && !mail.html.contains("Weekly news"),
            "{}",
            mail.html
        );
        assert_eq!(reasons(&app).await, ["acme: list_limit [\"weekly\"]"]);
        // What the mail did not name, its link does not confirm.
        app.press(&mail.confirm(), "list=all&list=weekly").await;
        assert_eq!(
            app.outcome(&id).await,
            "sent offers=confirmed weekly=withheld"
        );
        assert_eq!(app.event_counts().await["subscription.confirmed"], 1);
    }
);

both!(own_test_addresses_have_no_limits, |db| {
    let settings = "[limits]\nexempt = [\"tester@example.org\"]\n";
    let app = TestApp::with(db, LISTS, settings).await;
    for _ in 0..15 {
        assert_eq!(
            attempt(&app, "tester+again@example.org", &["weekly"]).await,
            SENT
        );
    }
    assert_eq!(app.mailbox("tester+again@example.org").len(), 15);
    // Nothing is remembered of them, which nothing would bound.
    assert_eq!(app.count("address where ledger is not null").await, 0);
    assert_eq!(
        attempt(&app, "tester2@example.org", &["weekly"]).await,
        SENT
    );
    assert_eq!(
        attempt(&app, "tester2@example.org", &["weekly"]).await,
        WITHHELD
    );
});

both!(who_is_subscribed_is_told_so_once_in_24_hours, |db| {
    let app = TestApp::start(db).await;
    let email = "subscribed@example.org";
    app.subscribe(email, &["weekly"]).await;
    let not_needed = "not_needed weekly=already_confirmed";
    for _ in 0..3 {
        assert_eq!(attempt(&app, email, &["weekly"]).await, not_needed);
        app.pass(HOUR);
    }
    let mails = app.mailbox(email);
    assert_eq!(mails.len(), 2);
    assert!(
        !mails[1].text.contains("/c/"),
        "there is nothing to confirm: {}",
        mails[1].text
    );
    assert!(
        mails[1].header("subject").contains("already"),
        "{}",
        mails[1].header("subject")
    );
    app.pass(21 * HOUR - Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, not_needed);
    assert_eq!(app.mailbox(email).len(), 2);
    app.pass(Duration::from_secs(1));
    assert_eq!(attempt(&app, email, &["weekly"]).await, not_needed);
    assert_eq!(app.mailbox(email).len(), 3);
    assert_eq!(app.event_counts().await["subscription.confirmed"], 1);
});

both!(
    who_is_subscribed_to_one_list_is_asked_for_the_other_alone,
    |db| {
        let app = TestApp::start(db).await;
        let email = "partly@example.org";
        app.subscribe(email, &["weekly"]).await;
        let outcome = attempt(&app, email, &["weekly", "offers"]).await;
        assert_eq!(outcome, "sent offers=open weekly=already_confirmed");
        let mail = app.mailbox(email).pop().unwrap();
        assert!(
            mail.text.contains("Offers") && !mail.text.contains("Weekly news"),
            "{}",
            mail.text
        );
        app.press(&mail.confirm(), "").await;
        assert_eq!(app.event_counts().await["subscription.confirmed"], 2);
    }
);

both!(that_was_not_me_holds_a_sender_for_30_days, |db| {
    let app = TestApp::start(db).await;
    let other = app.make_key("other", &[Scope::Signup]).await;
    for (email, form) in [
        ("not.me@example.org", "reason=not_me"),
        ("one.click@example.org", "List-Unsubscribe=One-Click"),
    ] {
        let mail = app.mail_for(email, &["weekly"]).await;
        let link = match form.starts_with("List-Unsubscribe") {
            true => mail.list_unsubscribe(),
            false => mail.decline(),
        };
        assert_eq!(app.press(&link, form).await.status, 200);
        app.pass(11 * MINUTE);
        for list in ["weekly", "offers"] {
            assert_eq!(
                attempt(&app, email, &[list]).await,
                format!("withheld {list}=withheld")
            );
        }
        // Of the mailbox, whatever the spelling; not of another, and not of another sender.
        let tagged = email.replace('@', "+tag@");
        assert_eq!(attempt(&app, &tagged, &["weekly"]).await, WITHHELD);
        assert_eq!(
            try_at(&app, &other, email, &["tips"]).await,
            "sent tips=open"
        );
        assert_eq!(app.mailbox(email).len(), 2);
        app.pass(30 * DAY - 11 * MINUTE - Duration::from_secs(1));
        assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
        app.pass(Duration::from_secs(1));
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
    }
    let reasons = reasons(&app).await;
    assert!(
        reasons.iter().all(|r| r.starts_with("acme: hold")),
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 8);
    // A plain no holds nothing.
    let mail = app.mail_for("plain.no@example.org", &["weekly"]).await;
    app.press(&mail.decline(), "reason=no").await;
    app.pass(11 * MINUTE);
    assert_eq!(
        attempt(&app, "plain.no@example.org", &["weekly"]).await,
        SENT
    );
});

both!(
    the_mailbox_lifts_a_hold_or_extends_it_to_every_sender,
    |db| {
        let app = TestApp::start(db).await;
        let other = app.make_key("other", &[Scope::Signup]).await;
        let email = "owner@example.org";
        let mail = app.mail_for(email, &["weekly"]).await;
        app.press(&mail.decline(), "reason=not_me").await;
        app.pass(11 * MINUTE);
        assert_eq!(attempt(&app, email, &["weekly"]).await, WITHHELD);
        assert_eq!(app.press(&mail.decline(), "hold=all").await.status, 200);
        assert_eq!(
            try_at(&app, &other, email, &["tips"]).await,
            "withheld tips=withheld"
        );
        // The other sender's mailbox owner did not speak to it: it is told nothing.
        assert_eq!(
            reasons(&app).await.last().unwrap(),
            "nobody: installation_limit [\"tips\"]"
        );
        assert_eq!(app.press(&mail.decline(), "hold=lift").await.status, 200);
        assert_eq!(attempt(&app, email, &["weekly"]).await, SENT);
        assert_eq!(
            try_at(&app, &other, email, &["tips"]).await,
            "sent tips=open"
        );
        // What was withheld stays withheld: only the two that came later were sent.
        assert_eq!(app.mailbox(email).len(), 3);

        // Extended once more, it ends by itself after 30 days, for every sender.
        app.press(&mail.decline(), "hold=all").await;
        app.pass(30 * DAY - Duration::from_secs(1));
        assert_eq!(
            try_at(&app, &other, email, &["tips"]).await,
            "withheld tips=withheld"
        );
        app.pass(Duration::from_secs(1));
        assert_eq!(
            try_at(&app, &other, email, &["tips"]).await,
            "sent tips=open"
        );
        let changed = app.event_counts().await["subscriber.changed"];
        assert_eq!(changed, 3, "extended, lifted, extended");
    }
);

both!(a_hold_reaches_mails_that_still_wait, |db| {
    let mut app = TestApp::start(db).await;
    let email = "waiting@example.org";
    let mail = app.mail_for(email, &["weekly"]).await;
    app.peer.down().await;
    let tried = app.sign_up(email, &["offers"]).await;
    app.deliver().await;
    app.press(&mail.decline(), "reason=not_me").await;
    let untried = app.sign_up(email, &["weekly"]).await;
    app.peer.up().await;
    app.pass(HOUR);
    app.deliver().await;
    assert_eq!(app.mailbox(email).len(), 1);
    assert_eq!(app.outcome(&untried).await, WITHHELD);
    assert_eq!(app.outcome(&tried).await, "withheld offers=withheld");
    assert_eq!(reasons(&app).await.len(), 2);
});

both!(
    a_signup_of_somebody_who_left_meanwhile_has_an_outcome_too,
    |db| {
        let app = TestApp::start(db).await;
        let email = "left.meanwhile@example.org";
        let mail = app.subscribe(email, &["weekly"]).await;
        let page = app.open(&mail.confirm()).await;
        let leave = app.unsubscribe_links(&page).pop().unwrap();
        app.pass(HOUR);
        let alone = app.sign_up(email, &["weekly"]).await;
        let beside = app.sign_up(email, &["weekly", "offers"]).await;
        assert_eq!(app.one_click(&leave).await.status, 200);
        app.deliver().await;
        assert_eq!(app.outcome(&alone).await, WITHHELD);
        assert_eq!(
            app.outcome(&beside).await,
            "sent offers=open weekly=withheld"
        );
        let named = app.mailbox(email).pop().unwrap();
        assert!(
            named.text.contains("Offers") && !named.text.contains("Weekly news"),
            "{}",
            named.text
        );
        assert_eq!(
            reasons(&app).await,
            ["acme: left [\"weekly\"]", "acme: left [\"weekly\"]"]
        );
    }
);

both!(
    a_thousand_signups_for_one_address_send_what_the_limits_allow,
    |db| {
        let app = TestApp::start(db).await;
        let email = "flooded@example.org";
        out::secret(email);
        let other = app.make_key("other", &[Scope::Signup]).await;
        for _ in 0..5 {
            let mut sending = tokio::task::JoinSet::new();
            for n in 0..200 {
                let (key, list) = match n % 4 {
                    0 => (&app.key, "weekly"),
                    1 => (&app.key, "offers"),
                    _ => (&other, "tips"),
                };
                let (addr, bearer) = (app.addr, format!("Bearer {key}"));
                let body = signup(email, &[list]).to_string();
                sending.spawn(async move {
                    let headers = [
                        ("authorization", bearer.as_str()),
                        ("content-type", "application/json"),
                    ];
                    send(addr, "POST", "/v1/signups", &headers, body.as_bytes()).await
                });
            }
            assert!(
                sending
                    .join_all()
                    .await
                    .iter()
                    .all(|answer| answer.status == 202)
            );
            app.deliver().await;
            app.pass(11 * MINUTE);
        }
        // Three of each sender, though no list had more than one in ten minutes.
        assert_eq!(app.mailbox(email).len(), 6);
        let states = app.sql("select state from signup_list").await;
        let count = |state: &str| states.iter().filter(|s| *s == state).count();
        assert_eq!(
            (count("open"), count("withheld"), states.len()),
            (6, 994, 1000)
        );
        let events = app.event_counts().await;
        assert_eq!(
            (
                events["signup.accepted"],
                events["signup.withheld"],
                events["message.sent"]
            ),
            (1000, 994, 6)
        );
    }
);

both!(who_holds_the_mails_gets_no_new_one_and_is_told, |db| {
    let app = TestApp::start(db).await;
    let email = "held.again@example.org";
    let [confirm, no] = fresh(&app, email, &["weekly"]).await;
    app.pass(A_LIFE);
    app.sweep().await;
    app.press(&no, "reason=not_me").await;
    let before = app.dump().await;
    let again = format!("{confirm}/again");
    for _ in 0..3 {
        let page = app.press(&again, "").await;
        assert_eq!(page.status, 200);
        assert!(!read(&page).contains("on its way"), "{}", read(&page));
        assert!(
            read(&page).contains("Acme B.V. sends no mail"),
            "{}",
            read(&page)
        );
        assert_eq!(app.dump().await, before, "nothing is written");
    }
    // Whoever reads the mailbox lifts the hold there, and is mailed.
    let page = app.press(&again, "").await;
    press_button(&app, &page, "Allow these mails again").await;
    let page = app.press(&again, "").await;
    assert!(
        read(&page).contains("A new mail is on its way"),
        "{}",
        read(&page)
    );
    app.deliver().await;
    assert_eq!(app.mailbox(email).len(), 2);
});

both!(
    a_new_mail_that_was_withheld_is_asked_for_once_in_ten_minutes,
    |db| {
        let app = TestApp::start(db).await;
        let email = "again.and.again@example.org";
        let [one, _] = fresh(&app, email, &["weekly"]).await;
        app.pass(11 * MINUTE);
        let [two, _] = fresh(&app, email, &["weekly"]).await;
        app.pass(A_LIFE);
        app.press(&format!("{one}/again"), "").await;
        app.deliver().await;
        let again = format!("{two}/again");
        for _ in 0..3 {
            let page = app.press(&again, "").await;
            assert!(
                read(&page).contains("We mailed you a new link on"),
                "{}",
                read(&page)
            );
            app.deliver().await;
        }
        assert_eq!(app.count("signup").await, 4);
        assert_eq!(reasons(&app).await, ["acme: list_limit [\"weekly\"]"]);
        app.pass(10 * MINUTE);
        app.press(&again, "").await;
        app.deliver().await;
        assert_eq!(
            (app.count("signup").await, app.mailbox(email).len()),
            (5, 4)
        );
    }
);

both!(
    a_new_mail_can_be_asked_for_again_and_what_is_not_sent_is_not_promised,
    |db| {
        let lists = crate::support::app::LISTS
            .replace("[lists.weekly]", "[lists.weekly]\nlink_life = \"1 hour\"");
        let app = TestApp::with(db, &lists, "").await;
        let email = "lost.again@example.org";
        let [confirm, _] = fresh(&app, email, &["weekly"]).await;
        app.pass(A_LIFE);
        let again = format!("{confirm}/again");
        let ask = async || {
            let page = read(&app.press(&again, "").await);
            app.deliver().await;
            page
        };
        assert!(ask().await.contains("A new mail is on its way"));
        app.pass(9 * MINUTE);
        assert!(ask().await.contains("We mailed you a new link on"));
        assert_eq!(app.mailbox(email).len(), 2);
        // Whoever lost that mail too is sent another, as far as the limits go.
        for mails in [3, 4] {
            app.pass(11 * MINUTE);
            let page = ask().await;
            assert!(page.contains("A new mail is on its way"), "{page}");
            assert_eq!(app.mailbox(email).len(), mails);
        }
        app.pass(11 * MINUTE);
        assert!(ask().await.contains("We mailed you a new link on"));
        // No link works any more, and today nothing is sent.
        app.pass(2 * 60 * MINUTE);
        let page = ask().await;
        assert!(
            page.contains("We cannot send you a new mail just now"),
            "{page}"
        );
        assert_eq!(app.mailbox(email).len(), 4);
        app.pass(24 * 60 * MINUTE);
        assert!(ask().await.contains("A new mail is on its way"));
        assert_eq!(app.mailbox(email).len(), 5);
    }
);

// A list that a limit kept out of the mail was never asked about: its reason is its own.
both!(each_list_of_a_link_that_ended_has_its_own_reason, |db| {
    let app = TestApp::start(db).await;
    let email = "own.reason@example.org";
    fresh(&app, email, &["offers"]).await;
    let [confirm, no] = fresh(&app, email, &["weekly", "offers"]).await;
    app.press(&no, "reason=no").await;
    let page = read(&app.open(&confirm).await);
    assert!(
        page.contains("You told us that you do not want “Weekly news”. You are not"),
        "{page}"
    );
    assert!(
        page.contains("Offers: not in this mail; if we mailed you about it before, use that mail"),
        "{page}"
    );
});
