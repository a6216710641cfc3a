//! The whole job through real sockets: a thousand signups, a thousand mails, a thousand decisions, counted by both ends.
//!
//! "600 confirmed, 200 declined, 100 unsubscribed with one-click, 100 left" is read as where people stand at the end: 700
//! press confirm, of whom 100 then leave by their mail program's button; 200 say no, by page and by button; 100 do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::app::{Db, both};
use crate::support::daemon::{Daemon, Home};
use crate::support::driver::{Accepted, Driver, signups};
use crate::support::http::{Connection, Response};
use crate::support::mail::Mail;
use crate::support::peer::Peer;
use crate::support::sink::Sink;

const PEOPLE: usize = 1000;
const CONNECTIONS: usize = 8;

/// One press on a button.
#[derive(Clone, Debug)]
struct Press {
    link: String,
    form: &'static str,
}

fn press(link: String, form: &'static str) -> Press {
    Press { link, form }
}

/// Presses buttons over several connections; returns the pages in the order of the presses.
async fn press_all(daemon: &Daemon, presses: &[Press]) -> Vec<Response> {
    let presses: Arc<Vec<Press>> = Arc::new(presses.to_vec());
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        let (presses, addr) = (presses.clone(), daemon.addr);
        workers.spawn(async move {
            let mut connection = Connection::open(addr).await.expect("a connection");
            let mut pages = Vec::new();
            for (i, press) in presses.iter().enumerate().skip(worker).step_by(CONNECTIONS) {
                let kind = [("content-type", "application/x-www-form-urlencoded")];
                let path = crate::support::app::path(&press.link);
                let page = connection
                    .send("POST", path, &kind, press.form.as_bytes())
                    .await;
                let page = page.expect("an answer");
                assert_eq!(page.status, 200, "{}", page.body);
                pages.push((i, page));
            }
            pages
        });
    }
    let mut pages: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    pages.sort_by_key(|(i, _)| *i);
    pages.into_iter().map(|(_, page)| page).collect()
}

/// Has a thousand people sign up; returns what the driver was answered.
async fn sign_up(daemon: &Daemon, driver: &Arc<Driver>) -> BTreeSet<Accepted> {
    driver.at.send_replace(Some(daemon.addr));
    driver.run(CONNECTIONS).await;
    let accepted: BTreeSet<_> = driver.accepted().into_iter().collect();
    assert_eq!(accepted.len(), PEOPLE);
    accepted
}

/// Decides for everybody who got a mail, and fails unless everything adds up. Returns every press that was made.
async fn decide(
    home: &Home,
    daemon: &Daemon,
    accepted: &BTreeSet<Accepted>,
    mails: &BTreeMap<String, Mail>,
) -> Vec<Press> {
    // What was promised is there, and nothing else; each of them got one mail.
    let there: BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    assert!(there == *accepted, "the signups are not those of the 202s");
    let promised: BTreeSet<_> = accepted.iter().map(|a| a.email.as_str()).collect();
    let mailed: BTreeSet<_> = mails.keys().map(String::as_str).collect();
    assert!(promised == mailed, "the mails are not those of the 202s");

    let mut presses: Vec<Press> = Vec::new();
    for (i, mail) in mails.values().enumerate() {
        match i {
            0..700 => presses.push(press(mail.confirm(), "")),
            700..800 => presses.push(press(mail.decline(), "reason=no")),
            800..850 => presses.push(press(mail.decline(), "reason=not_me")),
            850..900 => presses.push(press(mail.list_unsubscribe(), ONE_CLICK)),
            _ => {}
        }
    }
    let pages = press_all(daemon, &presses).await;
    let leave = |page: &Response| {
        let links = crate::support::mail::links(&page.body, "/u/");
        press(links.into_iter().next().expect("a way out"), ONE_CLICK)
    };
    let leavers: Vec<_> = pages[600..700].iter().map(leave).collect();
    press_all(daemon, &leavers).await;
    presses.extend(leavers);
    home.idle().await;

    for (query, expected) in [
        ("subscription where state = 'confirmed'", 600),
        ("subscription where state = 'unsubscribed'", 100),
        ("subscription", 700),
        ("signup_list where state = 'confirmed'", 700),
        (
            "signup_list where state = 'declined' and reason = 'no'",
            100,
        ),
        (
            "signup_list where state = 'declined' and reason = 'not_me'",
            50,
        ),
        (
            "signup_list where state = 'declined' and reason = 'one_click'",
            50,
        ),
        ("signup_list where state = 'open'", 100),
        ("signup_list", 1000),
        ("signup where state = 'sent'", 1000),
        ("signup", 1000),
        ("subscriber", 1000),
        ("message where state = 'sent' and attempts = 1", 1000),
        ("message", 1000),
    ] {
        let found = home.count(&format!("select count(*) from {query}")).await;
        assert_eq!(found, expected, "{query}");
    }
    let mut events = home.trail().await;
    events.retain(|kind, _| !kind.starts_with("key") && !kind.starts_with("list."));
    let expected = [
        ("message.sent", 1000),
        ("signup.accepted", 1000),
        ("signup.declined", 200),
        ("subscription.confirmed", 700),
        ("subscription.unsubscribed", 100),
    ];
    let events: Vec<_> = events.iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
    assert_eq!(events, expected);
    // Counts of events, in the log and in the metrics.
    assert_eq!(daemon.count("subscription.confirmed"), 700);
    let metrics = daemon.ops("/metrics").await.body;
    for line in [
        "confirmd_signups_accepted_total{sender=\"acme\"} 1000",
        "confirmd_messages_total{kind=\"confirmation\",outcome=\"sent\"} 1000",
        "confirmd_confirms_total 700",
        "confirmd_declines_total{how=\"no\"} 100",
        "confirmd_unsubscribes_total{how=\"one_click\"} 100",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is missing:\n{metrics}"
        );
    }
    presses
}

const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

both!(a_thousand_signups_add_up, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), "");
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let driver = Driver::new(&key, "e2e", PEOPLE, None);
    let accepted = sign_up(&daemon, &driver).await;
    for n in (100..=PEOPLE).step_by(100) {
        peer.wait_for(n).await;
    }
    home.idle().await;
    let mails = peer.mails();
    assert_eq!(mails.len(), PEOPLE);
    let ids: BTreeSet<_> = mails.iter().map(|m| message_id(&m.bytes)).collect();
    assert_eq!(ids.len(), PEOPLE, "each mail has its own Message-ID");
    let mails: BTreeMap<_, _> = mails
        .iter()
        .map(|m| (m.envelope_to.concat(), Mail::read(&m.bytes)))
        .collect();
    let presses = decide(&home, &daemon, &accepted, &mails).await;

    // Every POST once more: nothing changes.
    let before = all_but_checkpoints(&home).await;
    press_all(&daemon, &presses).await;
    let mut connection = Connection::open(daemon.addr).await.expect("a connection");
    for accepted in &accepted {
        let again = driver.post(&mut connection, &accepted.email).await;
        let again = again.expect("an answer");
        assert_eq!(
            (again.status, again.json()["id"].as_str()),
            (202, Some(&*accepted.id))
        );
    }
    home.idle().await;
    let after = all_but_checkpoints(&home).await;
    let changed = before.iter().zip(&after).find(|(b, a)| b != a);
    // A row may hold an address, which nothing here may say.
    let table = changed.map(|(_, row)| row.split(':').next());
    assert!(before == after, "a repeat changed {table:?}");
    assert_eq!(peer.mails().len(), PEOPLE);
});

/// What is stored, without what time alone brings.
async fn all_but_checkpoints(home: &Home) -> Vec<String> {
    let dump = home.dump().await;
    let rows = dump.lines().filter(|row| !row.starts_with("checkpoint:"));
    rows.map(str::to_owned).collect()
}

fn message_id(bytes: &[u8]) -> String {
    Mail::read(bytes).header("message-id").to_owned()
}

/// The same with a server that is not ours: Debian's `smtp-sink`, which writes each mail into a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mails_arrive_at_another_server() {
    let sink = Sink::start();
    let home = Home::new(Db::Sqlite, sink.addr, "");
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let driver = Driver::new(&key, "sink", PEOPLE, None);
    let accepted = sign_up(&daemon, &driver).await;
    home.until(
        "mails sent",
        "select count(*) from message where state = 'sent'",
        PEOPLE,
    )
    .await;
    home.idle().await;
    let mails = sink.mails();
    assert_eq!(mails.len(), PEOPLE);
    let mails: BTreeMap<_, _> = mails.into_iter().collect();
    decide(&home, &daemon, &accepted, &mails).await;
    // SQLite's log was folded while it served: the file has what was written, and the log begins anew.
    let size = |name: &str| {
        let file = std::fs::metadata(home.dir.path().join(name));
        file.expect("a file").len()
    };
    let (file, log) = (size("confirmd.db"), size("confirmd.db-wal"));
    assert!(
        file > 1_000_000 && log < 40_000_000,
        "{file} and {log} bytes"
    );
}
