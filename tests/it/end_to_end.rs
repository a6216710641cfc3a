//! The whole job through real sockets: counted by the driver's 202s and the peer's mails, compared with the database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::support::app::{Db, both, path};
use crate::support::daemon::{self, Daemon};
use crate::support::http::{Connection, Response};
use crate::support::load::{Told, addresses, sign_up_all};
use crate::support::mail::{Mail, links};
use crate::support::peer::Peer;
use crate::support::sink::Sink;
use crate::support::{postgres, sql};

// Of 1,000, 700 confirm and 100 of those leave again: 600 stay, 200 said no, 100 left, 100 never answered.
const SIGNUPS: usize = 1000;
const CONFIRM: usize = 700;
const LEAVE: usize = 100;
const DECLINE: usize = 200;

async fn press(connection: &mut Connection, link: &str, form: &str) -> Response {
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let sent = connection.send("POST", path(link), &kind, form.as_bytes());
    let answer = sent.await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Waits until every event has a number, then returns every row of every table.
async fn settled(url: &str) -> String {
    loop {
        let waiting = "select cast(count(*) as text) from event where seq is null";
        if sql::rows(url, waiting).await == ["0"] {
            return sql::dump(url).await;
        }
    }
}

both!(every_signup_is_accounted_for, |db| {
    let dir = tempfile::tempdir().expect("a folder");
    let database = (db == Db::Postgres).then(postgres::database);
    let url = match &database {
        Some(database) => database.url.clone(),
        None => format!("sqlite:{}/confirmd.db", dir.path().display()),
    };
    let peer = Peer::start().await;
    let config = daemon::config(dir.path(), &url, peer.addr(), "");
    let service = Daemon::start(&config).await;
    let key = daemon::make_key(&config);
    let (_here, watching): (watch::Sender<SocketAddr>, _) = watch::channel(service.addr);
    let all = Arc::new(addresses("whole", SIGNUPS));
    let told = Arc::new(Told::default());
    sign_up_all(all.clone(), &key, 16, watching.clone(), told.clone()).await;
    assert_eq!(told.all().len(), SIGNUPS, "202s");
    peer.wait_for(SIGNUPS).await;

    let mut mails: BTreeMap<String, Mail> = BTreeMap::new();
    for mail in peer.mails() {
        let [to] = &mail.envelope_to[..] else {
            panic!("one recipient")
        };
        assert!(
            mails.insert(to.clone(), Mail::read(&mail.bytes)).is_none(),
            "twice"
        );
    }
    assert_eq!(mails.len(), SIGNUPS, "mails");
    assert!(all.iter().all(|address| mails.contains_key(address)));

    let mut connection = Connection::open(service.addr).await.expect("a connection");
    let mut left = Vec::new();
    for address in &all[..CONFIRM] {
        let page = press(&mut connection, &mails[address].confirm(), "").await;
        left.extend(links(&page.body, "/u/").pop());
    }
    assert_eq!(
        left.len(),
        CONFIRM,
        "every confirmed page shows the way out"
    );
    left.truncate(LEAVE);
    for address in &all[CONFIRM..CONFIRM + DECLINE] {
        press(&mut connection, &mails[address].decline(), "reason=no").await;
    }
    for link in &left {
        press(&mut connection, link, "List-Unsubscribe=One-Click").await;
    }
    let before = settled(&url).await;

    // Every POST once more.
    let again = Arc::new(Told::default());
    sign_up_all(all.clone(), &key, 16, watching, again.clone()).await;
    assert_eq!(again.all(), told.all(), "a repeat gets the same id");
    for address in &all[..CONFIRM] {
        press(&mut connection, &mails[address].confirm(), "").await;
    }
    for address in &all[CONFIRM..CONFIRM + DECLINE] {
        press(&mut connection, &mails[address].decline(), "reason=no").await;
    }
    for link in &left {
        press(&mut connection, link, "List-Unsubscribe=One-Click").await;
    }
    assert!(settled(&url).await == before, "a repeat changed something");
    assert!(service.term().await.success());
    assert_eq!(peer.mails().len(), SIGNUPS, "no further mail");

    let count = async |query: &str| -> BTreeMap<String, usize> {
        let rows = sql::rows(&url, query).await;
        let mut counts = BTreeMap::new();
        for row in rows {
            *counts.entry(row).or_default() += 1;
        }
        counts
    };
    let is = |pairs: &[(&str, usize)]| -> BTreeMap<String, usize> {
        pairs
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect()
    };
    let kept = CONFIRM - LEAVE;
    assert_eq!(
        count("select state from signup").await,
        is(&[("sent", SIGNUPS)])
    );
    assert_eq!(
        count("select state from signup_list").await,
        is(&[
            ("confirmed", CONFIRM),
            ("declined", DECLINE),
            ("open", SIGNUPS - CONFIRM - DECLINE)
        ])
    );
    assert_eq!(
        count("select state from subscription").await,
        is(&[("confirmed", kept), ("unsubscribed", LEAVE)])
    );
    assert_eq!(
        count("select state from message").await,
        is(&[("sent", SIGNUPS)])
    );
    assert_eq!(
        count("select type from event where signup is not null or subscriber is not null").await,
        is(&[
            ("message.sent", SIGNUPS),
            ("signup.accepted", SIGNUPS),
            ("signup.declined", DECLINE),
            ("subscription.confirmed", CONFIRM),
            ("subscription.unsubscribed", LEAVE),
        ])
    );
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mails_arrive_at_another_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}/confirmd.db", dir.path().display());
    let sink = Sink::start();
    let config = daemon::config(dir.path(), &url, sink.addr, "");
    let service = Daemon::start(&config).await;
    let key = daemon::make_key(&config);
    let (_here, watching): (watch::Sender<SocketAddr>, _) = watch::channel(service.addr);
    let all = Arc::new(addresses("sink", SIGNUPS));
    let told = Arc::new(Told::default());
    sign_up_all(all.clone(), &key, 16, watching, told).await;
    let open = "select state from message where state <> 'sent'";
    while !sql::rows(&url, open).await.is_empty() {}
    assert!(service.term().await.success());
    let mails: BTreeMap<String, Mail> = sink.mails().into_iter().collect();
    assert_eq!(mails.len(), SIGNUPS);
    assert!(
        all.iter()
            .all(|address| mails[address].confirm().contains("/c/"))
    );
}
