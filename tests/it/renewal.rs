//! Words that change materially: who agreed to the old ones is asked for the new ones when they sign up again, and nobody who
//! may not be mailed is told that they may be.

use std::time::Duration;

use crate::audit::fixture;
use crate::record::intact_records;
use crate::support::app::{Db, LISTS, TestApp, both, path};
use crate::support::http::send;
use crate::support::links::{BY_LINK, read, receipt_of, with};
use crate::support::serve::command;

const OLD: &str = "Yes, mail me the weekly news of Acme B.V.";
const NEW: &str = "Yes, mail me everything.";
const ENDED: &str = "Your subscription has ended\nAcme B.V. may not mail you “Weekly news”.";
const HOUR: Duration = Duration::from_secs(3600);

/// The usual lists with other words of the weekly news.
fn changed(change: &str) -> String {
    let revision = format!("frequency = \"P1D\"\nrevision = 2\nchange = \"{change}\"");
    LISTS
        .replace(OLD, NEW)
        .replacen("frequency = \"P7D\"", &revision, 1)
}

/// What the operator is told of anna.
fn shown(app: &TestApp) -> String {
    let show = ["subscriber", "show", "anna@example.org", "--sender", "acme"];
    let done = command(app, &show);
    String::from_utf8(done.stdout).expect("UTF-8")
}

both!(who_agreed_to_old_words_is_asked_for_new_ones, |db| {
    let app = TestApp::start(db).await;
    let old = app.subscribe("anna@example.org", &["weekly"]).await;
    app.reload(&changed("material")).await;
    app.pass(HOUR);
    assert!(shown(&app).contains("needs_renewal"), "{}", shown(&app));
    // Her old link does not say that she may be mailed, opened or pressed, nor does her receipt.
    for page in [
        app.open(&old.confirm()).await,
        app.press(&old.confirm(), "").await,
    ] {
        assert!(read(&page).contains(ENDED), "{}", read(&page));
    }
    let receipt = app.open(&receipt_of(&app, &old.confirm())).await;
    assert!(
        read(&receipt).contains("but may not be mailed"),
        "{}",
        read(&receipt)
    );

    let new = app
        .mail_for("anna@example.org", &["weekly", "offers"])
        .await;
    assert!(
        new.text.contains(NEW) && !new.text.contains(OLD),
        "{}",
        new.text
    );
    let page = app.press(&new.confirm(), "list=weekly").await;
    assert!(
        read(&page).contains("Done. You are subscribed."),
        "{}",
        read(&page)
    );
    assert!(!shown(&app).contains("needs_renewal"), "{}", shown(&app));
    let counts = app.event_counts().await;
    let counts = ["subscription.confirmed", "subscription.renewed"].map(|kind| counts[kind]);
    assert_eq!(counts, [1, 1]);
    for link in [old.confirm(), new.confirm()] {
        let page = read(&app.press(&link, "list=weekly").await);
        assert!(
            page.contains("already") && !page.contains("has ended"),
            "{page}"
        );
    }
    let receipt = app.open(&receipt_of(&app, &new.confirm())).await;
    assert!(read(&receipt).contains(NEW), "{}", read(&receipt));
    assert_eq!(intact_records(&app).await, 2);
    let report = fixture::verified(&app).await;
    assert_eq!(report.findings, []);

    // Now there is nothing to ask.
    app.pass(HOUR);
    let again = app.sign_up("anna@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(
        app.outcome(&again).await,
        "not_needed weekly=already_confirmed"
    );
    // She leaves, and comes back.
    let leave = app.mailbox("anna@example.org").pop().expect("a mail");
    let leave = crate::support::mail::links(&leave.text, "/u/").pop();
    assert_eq!(app.one_click(&leave.expect("a way out")).await.status, 200);
    app.pass(HOUR);
    app.subscribe("anna@example.org", &["weekly"]).await;
    assert_eq!(intact_records(&app).await, 2);
    let report = fixture::verified(&app).await;
    assert_eq!(report.findings, []);
});

both!(a_yes_to_old_words_is_no_leave_to_mail, |db| {
    let app = TestApp::start(db).await;
    let waits = app.mail_for("anna@example.org", &["weekly"]).await;
    app.reload(&changed("material")).await;
    let page = app.press(&waits.confirm(), "").await;
    assert!(read(&page).contains(ENDED), "{}", read(&page));
    assert!(shown(&app).contains("needs_renewal"), "{}", shown(&app));
    app.pass(HOUR);
    let new = app.mail_for("anna@example.org", &["weekly"]).await;
    app.press(&new.confirm(), "").await;
    assert!(!shown(&app).contains("needs_renewal"), "{}", shown(&app));
});

both!(opening_a_link_renews_nothing, |db| {
    let app = TestApp::with(db, &with(&[BY_LINK]), "").await;
    let old = app.mail_for("anna@example.org", &["instant"]).await;
    app.open(&old.confirm()).await;
    let words = "{ en = \"Yes, mail me at once.\" }";
    let other = format!("{{ en = \"{NEW}\" }}\nrevision = 2\nchange = \"material\"");
    app.reload(&with(&[&BY_LINK.replace(words, &other)])).await;
    app.pass(HOUR);
    let new = app.mail_for("anna@example.org", &["instant"]).await;
    let before = app.dump().await;
    let page = app.open(&new.confirm()).await;
    assert!(read(&page).contains("Yes, I want this"), "{}", read(&page));
    assert_eq!(app.dump().await, before);
    let page = app.press(&new.confirm(), "").await;
    assert!(
        read(&page).contains("Done. You are subscribed."),
        "{}",
        read(&page)
    );
});

both!(
    who_is_told_that_they_are_subscribed_agrees_to_nothing,
    |db| {
        let app = TestApp::start(db).await;
        app.subscribe("anna@example.org", &["weekly"]).await;
        app.reload(&changed("editorial")).await;
        app.pass(HOUR);
        let told = app.mail_for("anna@example.org", &["weekly"]).await;
        assert!(told.header("subject").contains("already subscribed"));
        for text in [&told.text, &told.html] {
            assert!(!text.contains(NEW) && !text.contains("You agree"), "{text}");
        }
    }
);

both!(an_old_link_says_who_may_not_be_mailed, |db| {
    let app = TestApp::start(db).await;
    let at = match db {
        Db::Sqlite => "1",
        Db::Postgres => "now()",
    };
    let lost = format!(
        "insert into lost_window (epoch, size, since, until, reached) values (2, 0, {at}, {at}, 0)"
    );
    let person = "where subscriber in (select id from subscriber where email =";
    for (n, set) in [
        "state = 'lapsed'".to_owned(),
        "state = 'undeliverable'".to_owned(),
        format!("restricted_at = {at}"),
    ]
    .iter()
    .enumerate()
    {
        let email = format!("p{n}@example.org");
        let mail = app.subscribe(&email, &["weekly"]).await;
        let marked = format!("update subscription set {set} {person} '{email}')");
        assert_eq!(app.execute(&marked).await, Ok(1));
        let page = read(&app.open(&mail.confirm()).await);
        assert!(page.contains(ENDED), "{set}: {page}");
        let head = send(app.addr, "HEAD", path(&mail.confirm()), &[], b"").await;
        assert_eq!(head.status, 200);
    }
    let mail = app.subscribe("restored@example.org", &["weekly"]).await;
    let page = read(&app.open(&mail.confirm()).await);
    assert!(page.contains("You are already subscribed"), "{page}");
    assert_eq!(app.execute(&lost).await, Ok(1));
    for page in [
        app.open(&mail.confirm()).await,
        app.press(&mail.confirm(), "").await,
    ] {
        assert!(read(&page).contains(ENDED), "{}", read(&page));
    }
    let receipt = app.open(&receipt_of(&app, &mail.confirm())).await;
    assert!(
        read(&receipt).contains("but may not be mailed"),
        "{}",
        read(&receipt)
    );
});
