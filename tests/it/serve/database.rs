//! The database goes and comes back under a running service.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Duration;

use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home, QUICK};
use crate::support::patience::seen;
use crate::support::peer::Peer;

/// A way to PostgreSQL that can be cut, as a restart of the server cuts it.
struct Way {
    to: String,
    addr: SocketAddr,
    open: Option<JoinHandle<()>>,
}

impl Way {
    async fn open(to: &str) -> Way {
        let mut way = Way {
            to: to.to_owned(),
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            open: None,
        };
        way.up().await;
        way
    }

    async fn up(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR");
        socket.bind(self.addr).expect("the port is free");
        let listener = socket.listen(64).expect("the port is free");
        self.addr = listener.local_addr().expect("an address");
        self.open = Some(tokio::spawn(forward(listener, self.to.clone())));
    }

    async fn down(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            // The listener and every connection are closed when the task has ended.
            let _ = open.await;
        }
    }
}

async fn forward(listener: TcpListener, to: String) {
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let to = to.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                // Its end is one side's going away.
                let _ = copy_bidirectional(&mut from, &mut server).await;
            }
        });
    }
}

/// Asks the readiness until it is as wanted.
pub(super) async fn ready(daemon: &Daemon, wanted: u16) {
    seen(
        &format!("{wanted} of /readyz"),
        Duration::from_secs(30),
        async || match daemon.ops("/readyz").await {
            answer if answer.status == wanted => Ok(()),
            answer => Err(format!("{}: {}", answer.status, answer.body)),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_restarts_is_waited_for() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let server = home
        .url
        .split(['@', '/'])
        .nth(3)
        .expect("host and port")
        .to_owned();
    let mut way = Way::open(&server).await;
    let through = home.url.replace(&server, &way.addr.to_string());
    home.set("DATABASE__URL", &through);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    assert_eq!(
        daemon
            .sign_up(&key, "before@example.org", &["weekly"])
            .await
            .status,
        202
    );
    peer.wait_for(1).await;

    way.down().await;
    ready(&daemon, 503).await;
    assert_eq!(daemon.ops("/livez").await.status, 200, "alive all the same");
    let answer = daemon
        .sign_up(&key, "during@example.org", &["weekly"])
        .await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.header("retry-after").is_some(),
        "{:?}",
        answer.headers
    );
    let mail = crate::support::mail::Mail::read(&peer.mails()[0].bytes);
    let page = daemon.press(&mail.confirm(), "").await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").is_some(), "{:?}", page.headers);

    way.up().await;
    ready(&daemon, 200).await;
    assert_eq!(
        daemon
            .sign_up(&key, "after@example.org", &["weekly"])
            .await
            .status,
        202
    );
    assert_eq!(daemon.press(&mail.confirm(), "").await.status, 200);
    home.idle().await;
    assert_eq!(peer.mails().len(), 2);
    let events = home.trail().await;
    assert_eq!(
        (events["signup.accepted"], events["subscription.confirmed"]),
        (2, 1)
    );
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
}

/// Every connection is killed, again and again, while signups come: each ends as a 202 that holds, or a 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_cost_nobody_a_signup() {
    use crate::support::driver::{Driver, signups};
    let peer = Peer::start().await;
    let home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let driver = Driver::new(&key, "killed", 400, None);
    driver.at.send_replace(Some(daemon.addr));
    let driving = tokio::spawn({
        let driver = driver.clone();
        async move { driver.run(8).await }
    });
    let mut accepted = driver.accepted.subscribe();
    let mut killed = 0;
    for kill in 0..10 {
        let enough = accepted.wait_for(|n| *n > kill * 35).await;
        drop(enough.expect("the driver drives"));
        let kill = "select pg_terminate_backend(pid)::text from pg_stat_activity
            where datname = current_database() and application_name = 'confirmd'";
        killed += home.sql(kill).await.len();
    }
    driving.await.expect("every signup has its 202");
    assert!(killed > 10, "{killed}");
    // What was cut in the middle of its mail is free when its lease has ended.
    home.idle().await;
    let promised: std::collections::BTreeSet<_> = driver.accepted().into_iter().collect();
    let there: std::collections::BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    assert!(promised == there && there.len() == 400);
    let mut to: Vec<_> = peer
        .mails()
        .iter()
        .map(|m| m.envelope_to.concat())
        .collect();
    to.sort();
    to.dedup();
    assert_eq!(to.len(), 400);
    assert_eq!(home.trail().await["signup.accepted"], 400);
    ready(&daemon, 200).await;
}

/// SQLite has no server to lose; what can happen is that somebody else holds its lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_is_waited_for() {
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let options = SqliteConnectOptions::new().filename(home.dir.path().join("confirmd.db"));
    let mut other = options.connect().await.expect("SQLite opens");
    sqlx::raw_sql("begin immediate")
        .execute(&mut other)
        .await
        .expect("a lock");
    let (answer, ()) = tokio::join!(
        daemon.sign_up(&key, "waits@example.org", &["weekly"]),
        ready(&daemon, 503)
    );
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.header("retry-after").is_some(),
        "{:?}",
        answer.headers
    );
    sqlx::raw_sql("rollback")
        .execute(&mut other)
        .await
        .expect("no lock");
    ready(&daemon, 200).await;
    assert_eq!(
        daemon
            .sign_up(&key, "waits@example.org", &["weekly"])
            .await
            .status,
        202
    );
    home.idle().await;
    assert_eq!(peer.mails().len(), 1);
}
