//! Several processes on one PostgreSQL, of which one has lists that another was not told of yet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use confirmd::background::deliver::Deliver;
use confirmd::cli::serve::{Parts, Service};
use confirmd::lifecycle::Stop;

use crate::support::app::{Db, LISTS, TestApp, signup};
use crate::support::http::send;
use crate::support::mail::links;
use crate::support::out;

const NEW: &str = r#"
[lists.extra]
sender = "acme"
title = { en = "Extra" }
consent = { en = "Extra, please." }
"#;
const MINUTE: Duration = Duration::from_secs(60);

/// Another process.
struct Other {
    addr: SocketAddr,
    deliver: Arc<Deliver>,
    parts: Parts,
    stop: Stop,
}

impl Other {
    /// Starts it with these lists, beside one that is not told of them.
    async fn start(app: &TestApp, lists: &str) -> Other {
        let config = app.config(lists, "");
        let service = Service::open(&config, app.clock.clone()).await;
        let service = service.unwrap_or_else(|e| panic!("{e:#}"));
        let stop = Stop::new();
        let other = Other {
            addr: service.http_address().expect("an address"),
            deliver: service.deliver.clone(),
            parts: service.parts(),
            stop: stop.clone(),
        };
        tokio::spawn(async move { service.run(&stop).await });
        other
    }

    /// Signs up there and returns the id.
    async fn sign_up(&self, app: &TestApp, email: &str, lists: &[&str]) -> String {
        out::secret(email);
        let bearer = format!("Bearer {}", app.key);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = signup(email, lists).to_string();
        let answer = send(self.addr, "POST", "/v1/signups", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    async fn deliver(&self) {
        while self.deliver.step().await.expect("the database works") > 0 {}
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stop.trigger_hard();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_wait_for_a_process_that_knows_their_lists() {
    let app = TestApp::start(Db::Postgres).await;
    let other = Other::start(&app, &format!("{LISTS}{NEW}")).await;
    let one = other.sign_up(&app, "one@example.org", &["extra"]).await;
    let two = ["extra", "weekly"];
    let two = other.sign_up(&app, "two@example.org", &two).await;
    app.deliver().await;
    assert_eq!(app.outcome(&one).await, "accepted extra=open");
    assert_eq!(app.outcome(&two).await, "accepted extra=open weekly=open");
    app.pass(MINUTE);
    other.deliver().await;
    assert_eq!(app.outcome(&one).await, "sent extra=open");
    assert_eq!(app.outcome(&two).await, "sent extra=open weekly=open");
    assert_eq!(app.peer.mails().len(), 2);

    // For longer than mails are tried nobody who knows the list looks: then it goes by the facts that were kept.
    let late = other.sign_up(&app, "late@example.org", &["extra"]).await;
    app.deliver().await;
    app.pass(49 * 60 * MINUTE);
    app.deliver().await;
    assert_eq!(app.outcome(&late).await, "sent extra=open");
    assert_eq!(app.mailbox("late@example.org").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_a_list_that_only_others_know_work() {
    let app = TestApp::start(Db::Postgres).await;
    let other = Other::start(&app, &format!("{LISTS}{NEW}")).await;
    let mail = async |email: &str| {
        other.sign_up(&app, email, &["extra"]).await;
        other.deliver().await;
        app.mailbox(email).pop().expect("a mail")
    };
    let no = mail("no@example.org").await;
    let page = app.press(&no.decline(), "reason=no").await;
    assert!(page.body.contains("you do not want this"), "{}", page.body);

    let yes = mail("yes@example.org").await;
    let page = app.open(&yes.confirm()).await;
    assert!(page.body.contains("Yes, I want this"), "{}", page.body);
    let page = app.press(&yes.confirm(), "").await;
    assert!(page.body.contains("You are subscribed"), "{}", page.body);
    let receipt = links(&page.body, "/r/").pop().expect("a receipt");
    let receipt = app.open(&receipt).await;
    assert!(receipt.body.contains("Extra, please."), "{}", receipt.body);
    assert!(!receipt.body.contains("ended this"), "{}", receipt.body);

    let leave = links(&page.body, "/u/").pop().expect("a way out");
    let page = app.open(&leave).await;
    assert!(page.body.contains("Extra"), "{}", page.body);
    assert_eq!(app.one_click(&leave).await.status, 200);
    let state = "select state from subscription";
    assert_eq!(app.sql(state).await, ["unsubscribed"]);
    let page = app.press(&leave, "by=page").await;
    assert!(page.body.contains("already"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_was_opened_again_elsewhere_is_open_here_too() {
    let app = TestApp::start(Db::Postgres).await;
    let (before, offers) = LISTS.split_once("[lists.offers]").expect("offers");
    let (_, after) = offers.split_once("[lists.tips]").expect("tips");
    let without = format!("{before}[lists.tips]{after}");
    app.reload(&without).await;
    let other = Other::start(&app, LISTS).await;
    let id = other.sign_up(&app, "anna@example.org", &["offers"]).await;
    app.deliver().await;
    assert_eq!(app.outcome(&id).await, "accepted offers=open");
    app.pass(MINUTE);
    other.deliver().await;
    let mail = app.mailbox("anna@example.org").pop().expect("a mail");
    app.press(&mail.confirm(), "").await;
    assert_eq!(app.outcome(&id).await, "sent offers=confirmed");
    // It is taken out everywhere.
    let next = other.sign_up(&app, "ben@example.org", &["offers"]).await;
    let config = app.config(&without, "");
    let reloaded = other.parts.reload(&config).await;
    reloaded.unwrap_or_else(|e| panic!("{e:#}"));
    app.deliver().await;
    assert_eq!(app.outcome(&next).await, "withheld offers=withheld");
}
