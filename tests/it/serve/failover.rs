//! PostgreSQL fails and comes back under load: what was answered holds, and nobody has to start confirmd again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::database::ready;
use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home};
use crate::support::driver::{Driver, signups};
use crate::support::http::Connection;
use crate::support::mail::Mail;
use crate::support::peer::Peer;
use crate::support::postgres::Cluster;

/// Leases that outlive what the tests do to the database: a mail after its dot is not sent again before.
const PATIENT: &str = r#"
[smtp.timeouts]
connect = "1 s"
greeting = "1 s"
hello = "1 s"
mail = "1 s"
rcpt = "1 s"
data = "2 s"
body = "2 s"
dot = "60 s"
[delivery]
lease_margin = "1 s"
poll = "200 ms"
"#;

const PEOPLE: usize = 400;

fn drive(key: &str, daemon: &Daemon) -> (Arc<Driver>, JoinHandle<()>) {
    let driver = Driver::new(key, "failover", PEOPLE, None);
    driver.at.send_replace(Some(daemon.addr));
    let driving = tokio::spawn({
        let driver = driver.clone();
        async move { driver.run(8).await }
    });
    (driver, driving)
}

/// Waits until this many signups have their 202.
async fn accepted(driver: &Driver, driving: &mut JoinHandle<()>, n: usize) {
    let mut accepted = driver.accepted.subscribe();
    tokio::select! {
        biased;
        enough = accepted.wait_for(|accepted| *accepted >= n) => drop(enough.expect("the driver drives")),
        ended = driving => panic!("the driver ended before: {ended:?}"),
    }
}

/// Every 202 is in the database and nothing else is, and each has its mail, once.
async fn kept(home: &Home, driver: &Driver, peer: &Peer) {
    home.idle().await;
    let promised: BTreeSet<_> = driver.accepted().into_iter().collect();
    let there: BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    assert!(promised == there && there.len() == PEOPLE);
    let mails = peer.mails();
    let to: BTreeSet<_> = mails.iter().map(|mail| mail.envelope_to.concat()).collect();
    assert_eq!((to.len(), mails.len()), (PEOPLE, PEOPLE));
    let events = home.trail().await;
    assert_eq!(
        (events["signup.accepted"], events["message.sent"]),
        (PEOPLE, PEOPLE)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_nothing() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), PATIENT);
    home.move_to(&database.url);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let (driver, mut driving) = drive(&key, &daemon);
    let began = "select pg_postmaster_start_time()::text";
    let first = home.sql(began).await;
    for restart in 1..=3 {
        accepted(&driver, &mut driving, restart * 90).await;
        cluster.restart();
        // Everybody waits for the server, and goes on by itself.
        accepted(&driver, &mut driving, restart * 90 + 40).await;
    }
    driving.await.expect("every signup has its 202");
    assert_ne!(home.sql(began).await, first);
    assert!(
        daemon.count("the database refused") + daemon.count("the database refused; trying again")
            > 0
    );
    ready(&daemon, 200).await;
    kept(&home, &driver, &peer).await;
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    drop(home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_waited_for() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), PATIENT);
    home.move_to(&database.url);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let (driver, mut driving) = drive(&key, &daemon);
    accepted(&driver, &mut driving, 100).await;
    peer.wait_for(1).await;

    cluster.admin("alter system set default_transaction_read_only = on; select pg_reload_conf()");
    ready(&daemon, 503).await;
    let told = daemon.ops("/readyz").await;
    assert!(told.body.contains("read-only"), "{}", told.body);
    let answer = daemon
        .sign_up(&key, "refused@example.org", &["weekly"])
        .await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    let mail = Mail::read(&peer.mails()[0].bytes);
    let page = daemon.press(&mail.confirm(), "list=all").await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").is_some());
    assert_eq!(daemon.ops("/livez").await.status, 200);

    cluster.admin("alter system reset default_transaction_read_only; select pg_reload_conf()");
    ready(&daemon, 200).await;
    driving.await.expect("every signup has its 202");
    assert_eq!(daemon.press(&mail.confirm(), "list=all").await.status, 200);
    kept(&home, &driver, &peer).await;
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    drop(home);
}

/// A way to PostgreSQL that can be told to take one COMMIT to the server, and nothing back.
async fn cutting(to: String, cut: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.expect("PostgreSQL");
            tokio::spawn(pass(from, server, cut.clone()));
        }
    });
    addr
}

/// Ends, and closes both sides, when either does or a COMMIT was cut.
async fn pass(
    mut from: TcpStream,
    mut server: TcpStream,
    cut: Arc<AtomicBool>,
) -> std::io::Result<()> {
    const COMMIT: &[u8] = b"COMMIT\0";
    let (mut asked, mut answered) = ([0; 16384], [0; 16384]);
    loop {
        tokio::select! {
            n = from.read(&mut asked) => match n? {
                0 => return Ok(()),
                n => {
                    server.write_all(&asked[..n]).await?;
                    let commits = asked[..n].windows(COMMIT.len()).any(|bytes| bytes == COMMIT);
                    if commits && cut.swap(false, Ordering::SeqCst) {
                        // It is stored once the server has answered.
                        server.readable().await?;
                        return Ok(());
                    }
                }
            },
            n = server.read(&mut answered) => match n? {
                0 => return Ok(()),
                n => from.write_all(&answered[..n]).await?,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unknown_and_its_repeat_converges() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), PATIENT);
    let server = home.url.split(['@', '/']).nth(3).expect("host and port");
    let server = server.to_owned();
    let cut = Arc::new(AtomicBool::new(false));
    let way = cutting(server.clone(), cut.clone()).await;
    let through = home.url.replace(&server, &way.to_string());
    home.set("DATABASE__URL", &through);
    let key = home.key("acme", "signup").await;
    // Nobody else commits.
    for role in ["DELIVER", "SEQUENCE", "SWEEP"] {
        home.set(&format!("ROLES__{role}"), "false");
    }
    let mut daemon = home.start().await;
    let driver = Driver::new(&key, "unknown", 1, None);
    let email = "unknown-00000@example.org";
    let mut connection = Connection::open(daemon.addr).await.expect("a connection");

    cut.store(true, Ordering::SeqCst);
    let answer = driver
        .post(&mut connection, email)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    assert!(!cut.load(Ordering::SeqCst), "no COMMIT came by");
    let told = daemon.message("the database refused").await;
    let told = told["error"].as_str().expect("a text");
    assert!(told.ends_with(" at commit"), "{told}");
    let stored = signups(&home.url).await;
    assert_eq!(stored.len(), 1, "it was stored all the same");

    let mut connection = Connection::open(daemon.addr).await.expect("a connection");
    let repeat = driver
        .post(&mut connection, email)
        .await
        .expect("an answer");
    assert_eq!(repeat.status, 202, "{}", repeat.body);
    assert_eq!(repeat.json()["id"], stored[0].id);
    assert_eq!(signups(&home.url).await, stored);
    for role in ["DELIVER", "SEQUENCE"] {
        home.set(&format!("ROLES__{role}"), "true");
    }
    let _worker = home.start().await;
    home.idle().await;
    assert_eq!(peer.mails().len(), 1);
    assert_eq!(home.trail().await["signup.accepted"], 1);
}

/// A way to PostgreSQL on which the first connections fall silent: nothing comes through any more, and nobody closes them.
async fn muting(to: String, silent: Arc<AtomicUsize>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(&to).await.expect("PostgreSQL");
            tokio::spawn(through(from, server, nth, silent.clone()));
        }
    });
    (addr, opened)
}

async fn through(
    mut from: TcpStream,
    mut server: TcpStream,
    nth: usize,
    silent: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = ([0; 16384], [0; 16384]);
    loop {
        let (to_server, n) = tokio::select! {
            n = from.read(&mut asked) => (true, n?),
            n = server.read(&mut answered) => (false, n?),
        };
        if nth < silent.load(Ordering::SeqCst) {
            // Whoever gives up is not heard either.
            std::future::pending::<()>().await;
        }
        match (to_server, n) {
            (_, 0) => return Ok(()),
            (true, n) => server.write_all(&asked[..n]).await?,
            (false, n) => from.write_all(&answered[..n]).await?,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_given_up_and_found_again() {
    let peer = Peer::start().await;
    let settings = format!("{PATIENT}[database]\nstatement_timeout = \"1 s\"\n");
    let mut home = Home::new(Db::Postgres, peer.addr(), &settings);
    let server = home.url.split(['@', '/']).nth(3).expect("host and port");
    let silent = Arc::new(AtomicUsize::new(0));
    let (way, opened) = muting(server.to_owned(), silent.clone()).await;
    let through = home.url.replace(server, &way.to_string());
    home.set("DATABASE__URL", &through);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let (driver, mut driving) = drive(&key, &daemon);
    accepted(&driver, &mut driving, 100).await;
    // As when a host is gone and another takes its address: nothing says so.
    silent.store(opened.load(Ordering::SeqCst), Ordering::SeqCst);
    driving.await.expect("every signup has its 202");
    // The server itself cancels those that wait for what a silent one has locked.
    let is_unanswered = |line: &serde_json::Value| {
        let error = line["error"].as_str().unwrap_or_default();
        line["message"] == "the database refused" && error.contains("does not answer")
    };
    daemon
        .line("a database that does not answer", is_unanswered)
        .await;
    ready(&daemon, 200).await;
    kept(&home, &driver, &peer).await;
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
}
