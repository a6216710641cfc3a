//! `kill -9` while signups come in and mails leave: no 202 is lost, and no more copies are sent than were in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::support::app::{Db, both};
use crate::support::daemon::{self, Daemon};
use crate::support::load::{Told, addresses, sign_up_all};
use crate::support::peer::Peer;
use crate::support::{postgres, sql};

const SIGNUPS: usize = 5000;
const KILLS: usize = 20;
/// `smtp.sessions`: mails that one process has in flight at most.
const SESSIONS: usize = 8;

both!(no_acknowledged_signup_is_lost, |db| {
    let dir = tempfile::tempdir().expect("a folder");
    let database = (db == Db::Postgres).then(postgres::database);
    let url = match &database {
        Some(database) => database.url.clone(),
        None => format!("sqlite:{}/confirmd.db", dir.path().display()),
    };
    let peer = Peer::with_journal(&dir.path().join("mails")).await;
    let config = daemon::config(dir.path(), &url, peer.addr(), "");
    let mut service = Daemon::start(&config).await;
    let key = daemon::make_key(&config);

    let (where_it_is, watching): (watch::Sender<SocketAddr>, _) = watch::channel(service.addr);
    let told = Arc::new(Told::in_file(&dir.path().join("acknowledged")));
    let all = Arc::new(addresses("kill", SIGNUPS));
    let driver = {
        let (all, told) = (all.clone(), told.clone());
        tokio::spawn(async move { sign_up_all(all, &key, 16, watching, told).await })
    };
    // Half of the kills fall while signups come in, half while what is left of the queue is sent.
    for kill in 1..=KILLS {
        if kill <= KILLS / 2 {
            let reached = SIGNUPS * kill / (KILLS / 2 + 1) + kill * 7 % 13;
            let mut count = told.count.subscribe();
            count.wait_for(|n| *n >= reached).await.expect("counted");
        } else {
            let before = peer.seen(|seen| seen.mails.len());
            let more = 60 + kill * 31 % 97;
            peer.until("more mails", |seen| seen.mails.len() >= before + more)
                .await;
        }
        service.kill();
        service = Daemon::start(&config).await;
        where_it_is.send_replace(service.addr);
    }
    driver.await.expect("every signup was acknowledged");
    // As long as mails arrive, the run goes on.
    while recipients(&peer) < SIGNUPS {
        let before = peer.seen(|seen| seen.mails.len());
        peer.until("a mail for everybody", |seen| seen.mails.len() > before)
            .await;
    }
    assert!(service.term().await.success());

    let acknowledged = std::fs::read_to_string(dir.path().join("acknowledged")).expect("a file");
    let acknowledged: BTreeSet<&str> = acknowledged.lines().collect();
    assert_eq!(acknowledged.len(), SIGNUPS);
    let stored = match db {
        Db::Sqlite => "select lower(hex(id)) from signup where state = 'sent'",
        Db::Postgres => "select replace(id::text, '-', '') from signup where state = 'sent'",
    };
    let stored: BTreeSet<String> = sql::rows(&url, stored).await.into_iter().collect();
    let expected: BTreeSet<String> = acknowledged.iter().map(|id| id.replace('-', "")).collect();
    assert_eq!(
        stored, expected,
        "every 202 is stored and was mailed, and nothing else"
    );

    let mut copies: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for mail in peer.mails() {
        copies
            .entry(message_id(&mail.bytes))
            .or_default()
            .push(mail.bytes);
    }
    assert_eq!(copies.len(), SIGNUPS, "one Message-ID a signup");
    let differing = copies
        .values()
        .filter(|c| c.iter().any(|copy| *copy != c[0]));
    assert_eq!(
        differing.count(),
        0,
        "copies of one mail are the same bytes"
    );
    let duplicates = copies
        .values()
        .map(|copies| copies.len() - 1)
        .sum::<usize>();
    #[expect(clippy::print_stdout, reason = "the figures of this run")]
    {
        println!("{db:?}: {SIGNUPS} signups, {KILLS} kills, {duplicates} duplicates");
    }
    assert!(duplicates <= KILLS * SESSIONS, "{duplicates}");
    assert!(
        duplicates > 0,
        "no kill fell between a claim and its settlement: the rig is broken"
    );

    let numbers = "select cast(count(seq) as text) || ' ' || cast(max(seq) as text) from event";
    let counted = sql::rows(&url, numbers).await.remove(0);
    let (events, last) = counted.split_once(' ').expect("two numbers");
    assert_eq!(events, last, "events have numbers without a gap");
    let sent = "select cast(count(*) as text) from event where type = 'message.sent'";
    assert_eq!(sql::rows(&url, sent).await, [SIGNUPS.to_string()]);
});

fn recipients(peer: &Peer) -> usize {
    peer.seen(|seen| {
        let to = seen.mails.iter().map(|mail| mail.envelope_to[0].as_str());
        to.collect::<BTreeSet<_>>().len()
    })
}

fn message_id(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().find(|line| line.starts_with("Message-ID:"));
    line.expect("a Message-ID").to_owned()
}
