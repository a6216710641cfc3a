//! Several processes on one PostgreSQL share the work; on SQLite there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::support::app::signup;
use crate::support::daemon::{self, Daemon};
use crate::support::load::{Told, addresses, sign_up_all};
use crate::support::peer::Peer;
use crate::support::{http, postgres, sql};

const SIGNUPS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_send_each_mail_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let database = postgres::database();
    let peer = Peer::start().await;
    let config = daemon::config(dir.path(), &database.url, peer.addr(), "");
    let (one, two) = (Daemon::start(&config).await, Daemon::start(&config).await);
    let key = daemon::make_key(&config);

    let all = addresses("replica", SIGNUPS);
    let told = Arc::new(Told::default());
    let halves = all.split_at(SIGNUPS / 2);
    let drive = |half: &[String], addr| {
        let (_, watching): (watch::Sender<SocketAddr>, _) = watch::channel(addr);
        let half = Arc::new(half.to_vec());
        let (key, told) = (key.clone(), told.clone());
        async move { sign_up_all(half, &key, 8, watching, told).await }
    };
    tokio::join!(drive(halves.0, one.addr), drive(halves.1, two.addr));
    peer.wait_for(SIGNUPS).await;
    let mut by_address: BTreeMap<String, usize> = BTreeMap::new();
    for mail in peer.mails() {
        *by_address.entry(mail.envelope_to[0].clone()).or_default() += 1;
    }
    assert_eq!(by_address.len(), SIGNUPS);
    assert!(
        by_address.values().all(|mails| *mails == 1),
        "each mail once"
    );

    // The same address at both at once: one mail.
    let pairs = addresses("both", 20);
    for address in &pairs {
        let body = signup(address, &["weekly"]).to_string();
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let (a, b) = tokio::join!(
            http::send(one.addr, "POST", "/v1/signups", &headers, body.as_bytes()),
            http::send(two.addr, "POST", "/v1/signups", &headers, body.as_bytes())
        );
        assert_eq!((a.status, b.status), (202, 202));
    }
    let open = "select cast(count(*) as text) from message where state in ('queued', 'claimed')";
    while sql::rows(&database.url, open).await != ["0"] {}
    let paired = peer.mails().split_off(SIGNUPS);
    let to: BTreeSet<&str> = paired
        .iter()
        .map(|mail| mail.envelope_to[0].as_str())
        .collect();
    assert_eq!((paired.len(), to.len()), (pairs.len(), pairs.len()));

    let sent = [
        one.lines_with("message.sent"),
        two.lines_with("message.sent"),
    ];
    assert!(
        sent.iter().all(|sent| *sent > 0),
        "both share the work: {sent:?}"
    );
    assert_eq!(sent.iter().sum::<usize>(), SIGNUPS + pairs.len());
    assert!(one.term().await.success());
    assert!(two.term().await.success());
}

#[tokio::test]
async fn a_process_without_the_keys_refuses_and_names_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let database = postgres::database();
    let peer = Peer::start().await;
    let config = daemon::config(dir.path(), &database.url, peer.addr(), "");
    let one = Daemon::start(&config).await;
    let keys: Vec<_> = std::fs::read_dir(dir.path().join("keys"))
        .expect("keys were made")
        .map(|entry| entry.expect("a file").path())
        .collect();
    assert_eq!(keys.len(), 2, "one for links, one pepper");

    let other = tempfile::tempdir().expect("a folder");
    let elsewhere = daemon::config(other.path(), &database.url, peer.addr(), "");
    let refused = daemon::run(&elsewhere, &["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let missing = keys[0]
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let pepper = keys[1]
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(said.contains(&missing) || said.contains(&pepper), "{said}");
    assert!(said.contains("is missing"), "{said}");

    // Another key under the same name.
    for key in &keys {
        let name = key.file_name().expect("a name");
        let copy = other.path().join("keys").join(name);
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        std::fs::copy(key, &copy).expect("copied");
    }
    let changed = other.path().join("keys").join(&missing);
    std::fs::write(&changed, "A".repeat(43)).expect("written");
    let refused = daemon::run(&elsewhere, &["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said.contains(&missing) && said.contains("another fingerprint"),
        "{said}"
    );
    assert!(one.term().await.success());
}

#[tokio::test]
async fn a_second_daemon_on_one_sqlite_file_refuses() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}/confirmd.db", dir.path().display());
    let peer = Peer::start().await;
    let config = daemon::config(dir.path(), &url, peer.addr(), "");
    let one = Daemon::start(&config).await;
    let refused = daemon::run(&config, &["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("is in use by another confirmd"), "{said}");
    assert!(one.term().await.success());
}
