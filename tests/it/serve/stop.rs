//! Stops: what runs is finished, and the next start goes on where the last one was.

use std::fs::File;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::app::{Db, both, signup};
use crate::support::daemon::{Home, PATIENCE, QUICK};
use crate::support::driver::Driver;
use crate::support::patience::seen;
use crate::support::peer::{Act, Peer, Point};
use crate::support::sql;

both!(a_stop_finishes_the_request_and_the_mail_that_run, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;

    // Ten mails: four wait for the answer to their dot, six for a session.
    peer.hold(Point::Dot);
    for i in 0..10 {
        let email = format!("stop-{i}@example.org");
        assert_eq!(daemon.sign_up(&key, &email, &["weekly"]).await.status, 202);
    }
    peer.until("four mails at their dots", |seen| seen.waiting == 4)
        .await;
    // One request of which half was sent.
    let body = signup("half@example.org", &["weekly"]).to_string();
    crate::support::out::secret("half@example.org");
    let (first, rest) = body.split_at(20);
    let head = format!(
        "POST /v1/signups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{first}",
        body.len()
    );
    let mut half = TcpStream::connect(daemon.addr).await.expect("a connection");
    half.write_all(head.as_bytes()).await.expect("written");
    // The request is in the server's hands when a later one on the same listener was answered.
    assert_eq!(daemon.open("/c/nothing").await.status, 404);

    daemon.term();
    daemon
        .message("stopping: no new work, finishing what runs")
        .await;
    let ready = daemon.ops("/readyz").await;
    assert_eq!((ready.status, &*ready.body), (503, "stopping\n"));
    assert_eq!(daemon.ops("/livez").await.status, 200);
    half.write_all(rest.as_bytes()).await.expect("written");
    let mut answer = String::new();
    half.read_to_string(&mut answer)
        .await
        .expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    peer.release();
    assert_eq!(daemon.wait().await.code(), Some(0));
    let stopped = daemon.message("stopped").await;
    assert_eq!(stopped["ended"], "Clean");

    // Four were finished; seven are left, free for whoever comes, without waiting for a lease.
    assert_eq!(peer.mails().len(), 4);
    let states = |state: &str| format!("select count(*) from message where state = '{state}'");
    assert_eq!(home.count(&states("sent")).await, 4);
    assert_eq!(home.count(&states("queued")).await, 7);
    let mut daemon = home.start().await;
    home.idle().await;
    assert_eq!(peer.mails().len(), 11);
    // What is in the database may be said a moment later.
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    assert_eq!(daemon.count("message.sent"), 7);
    home.trail().await;
});

#[tokio::test]
async fn a_stop_during_the_start_ends_it() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    // PostgreSQL takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut home = Home::new(Db::Postgres, nobody, QUICK);
    let addr = silent.local_addr().expect("an address");
    home.set("DATABASE__URL", &format!("postgres://one@{addr}/two"));
    let mut daemon = home.spawn(&["serve"]);
    let _taken = silent.accept().await.expect("a connection");
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    let done = home.run(&["stats"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("database"), "{}", done.stderr);

    // Somebody else has the lock of the schema.
    let home = Home::new(Db::Sqlite, nobody, QUICK);
    let beside = |name: &str| home.dir.path().join(name);
    let migrating = File::create(beside("confirmd.db.migrate")).expect("a file");
    migrating.lock().expect("nobody has it");
    let mut daemon = home.spawn(&["serve"]);
    seen("the daemon's lock", PATIENCE, async || {
        let made = beside("confirmd.db.lock").exists();
        made.then_some(()).ok_or("none")
    })
    .await;
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    migrating.unlock().expect("it is ours");
    home.first_start().await;
    migrating.lock().expect("nobody has it");
    // Who only compares the schema waits for nobody.
    let done = home.run(&["key", "list"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let done = home.run(&["serve"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(
        done.stderr.contains("confirmd.db.migrate"),
        "{}",
        done.stderr
    );
}

both!(
    a_second_signal_or_the_deadline_cuts_and_nothing_is_lost,
    |db| {
        for deadline in [false, true] {
            let peer = Peer::start().await;
            let mut home = Home::new(db, peer.addr(), QUICK);
            home.set("SERVER__DRAIN", if deadline { "300 ms" } else { "60 s" });
            if deadline {
                // DATA goes out with the rest; the text does not.
                peer.offer(&["PIPELINING"]);
            }
            let key = home.key("acme", "signup").await;
            let mut daemon = home.start().await;
            peer.at(Point::Rcpt, Act::Silence);
            home.set("SMTP__TIMEOUTS__RCPT", "60 s");
            daemon.term();
            assert_eq!(daemon.wait().await.code(), Some(0));
            let mut daemon = home.start().await;
            let email = format!("cut-{deadline}@example.org");
            assert_eq!(daemon.sign_up(&key, &email, &["weekly"]).await.status, 202);
            peer.until("RCPT", |seen| seen.count("RCPT") == 1).await;
            daemon.term();
            if !deadline {
                daemon
                    .message("stopping: no new work, finishing what runs")
                    .await;
                daemon.int();
            }
            assert_eq!(daemon.wait().await.code(), Some(0));
            let stopped = daemon.message("stopped").await;
            assert_eq!(stopped["ended"], "Cut");
            // The relay has heard nothing: whoever comes next may have it, and nobody died with it.
            let message =
                "select cast(state || ' ' || attempts || ' ' || lost as text) from message";
            assert_eq!(sql::rows(&home.url, message).await, ["queued 0 0"]);
            peer.script(|_| None);
            home.set("SMTP__TIMEOUTS__RCPT", "1 s");
            let _daemon = home.start().await;
            home.idle().await;
            assert_eq!(peer.mails().len(), 1);
        }
    }
);

both!(
    a_mail_that_is_cut_off_at_its_dot_is_perhaps_sent_and_waits,
    |db| {
        let peer = Peer::start().await;
        let mut home = Home::new(db, peer.addr(), QUICK);
        home.set("SERVER__DRAIN", "300 ms");
        let key = home.key("acme", "signup").await;
        let mut daemon = home.start().await;
        peer.at(Point::Dot, Act::Kept(Box::new(Act::Silence)));
        let email = "cut@example.org";
        assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
        peer.until("the dot", |seen| seen.mails.len() == 1).await;
        daemon.term();
        assert_eq!(daemon.wait().await.code(), Some(0));
        let message = "select cast(state || ' ' || attempts || ' ' || ambiguous || ' ' || lost as text) from message";
        assert_eq!(sql::rows(&home.url, message).await, ["queued 1 1 0"]);
        // The next one sends another mail, and no second copy of this at once.
        peer.script(|_| None);
        let daemon = home.start().await;
        let email = "next@example.org";
        assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
        peer.until("the next", |seen| seen.mails.len() == 2).await;
        let to: Vec<_> = peer
            .mails()
            .into_iter()
            .flat_map(|m| m.envelope_to)
            .collect();
        assert_eq!(to, ["cut@example.org", "next@example.org"]);
    }
);

both!(
    ten_stops_under_load_lose_nothing_and_send_nothing_twice,
    |db| {
        let peer = Peer::start().await;
        let home = Home::new(db, peer.addr(), QUICK);
        let key = home.key("acme", "signup").await;
        let people = 600;
        let driver = Driver::new(&key, &format!("stops-{}", db as u8), people, None);
        let driving = tokio::spawn({
            let driver = driver.clone();
            async move { driver.run(8).await }
        });
        let mut accepted = driver.accepted.subscribe();
        for stop in 0..10 {
            let mut daemon = home.start().await;
            driver.at.send_replace(Some(daemon.addr));
            let enough = accepted.wait_for(|n| *n > stop * people / 11).await;
            drop(enough.expect("the driver drives"));
            daemon.term();
            driver.at.send_replace(None);
            assert_eq!(daemon.wait().await.code(), Some(0));
            assert_eq!(daemon.message("stopped").await["ended"], "Clean");
            let claimed = "select count(*) from message where state = 'claimed'";
            assert_eq!(home.count(claimed).await, 0, "stop {stop}");
        }
        let daemon = home.start().await;
        driver.at.send_replace(Some(daemon.addr));
        driving.await.expect("every signup has its 202");
        home.idle().await;
        let mut to: Vec<_> = peer
            .mails()
            .iter()
            .map(|m| m.envelope_to.concat())
            .collect();
        assert_eq!(to.len(), people);
        to.sort();
        to.dedup();
        assert_eq!(to.len(), people);
        assert_eq!(home.trail().await["signup.accepted"], people);
    }
);
