//! The disk under a SQLite file is full: nothing new comes in, whoever wants to leave can.

use std::time::Duration;

use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home, QUICK};
use crate::support::http::Response;
use crate::support::mail::{Mail, links};
use crate::support::patience::seen;
use crate::support::peer::{Peer, Point, Seen};
use crate::support::small_disk::SmallDisk;

const BEGINS: &str =
    "too little is free on the disk of the database: signups are refused, mails wait; make room";
const ENDS: &str = "there is room on the disk of the database again: signups are accepted";
/// Presses on a full disk, beside those that are looked at one by one.
const MANY: usize = 12;
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";
const CLAIMED: &str = "select count(*) from message where state = 'claimed'";

/// A home whose database has a disk of its own.
fn home(peer: &Peer) -> (Home, SmallDisk) {
    let mut home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let disk = SmallDisk::mount(&home.dir.path().join("disk"), "32m");
    home.move_to(&format!("sqlite:{}/confirmd.db", disk.folder.display()));
    home.set("DATABASE__MIN_FREE", "8 MB");
    home.set("DATABASE__RESERVE", "4 MB");
    (home, disk)
}

fn reserved(disk: &SmallDisk) -> u64 {
    let file = disk.folder.join("confirmd.db.reserve").metadata();
    file.expect("a file").len()
}

/// Waits until the reserve is given up.
async fn given_up(disk: &SmallDisk, daemon: &mut Daemon) {
    daemon.message(BEGINS).await;
    seen(
        "the reserve given up",
        Duration::from_secs(20),
        async || match reserved(disk) {
            0 => Ok(()),
            kept => Err(format!("{kept} bytes on a full disk")),
        },
    )
    .await;
}

/// Confirms, and returns the link that ends it.
async fn way_out(daemon: &Daemon, mail: &Mail) -> String {
    let page = daemon.press(&mail.confirm(), "").await;
    links(&page.body, "/u/").pop().expect("a way out")
}

async fn subscriptions(home: &Home, state: &str) -> usize {
    let count = format!("select count(*) from subscription where state = '{state}'");
    home.count(&count).await
}

async fn declined(home: &Home) -> usize {
    let count = "select count(*) from signup_list where state = 'declined'";
    home.count(count).await
}

fn refused(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.header("retry-after").is_some(),
        "{:?}",
        answer.headers
    );
}

/// Signs up on an empty disk, and returns the mails in the order of the addresses.
async fn mails(
    home: &Home,
    daemon: &Daemon,
    peer: &Peer,
    key: &str,
    emails: &[String],
) -> Vec<Mail> {
    for email in emails {
        let answer = daemon.sign_up(key, email, &["weekly"]).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    home.idle().await;
    let arrived = peer.mails();
    let to = |email: &String| {
        let mail = arrived.iter().find(|m| m.envelope_to.contains(email));
        Mail::read(&mail.expect("a mail").bytes)
    };
    emails.iter().map(to).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_people_can_leave_and_nobody_comes() {
    let peer = Peer::start().await;
    let (home, disk) = home(&peer);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    assert_eq!(reserved(&disk), 4_000_000);
    let people = ["leaves", "walks", "confirms", "declines", "hurries"];
    let people = people.map(|who| format!("{who}@example.org"));
    let more = (0..MANY).map(|i| format!("more-{i}@example.org"));
    let emails: Vec<_> = people.into_iter().chain(more).collect();
    let mails = mails(&home, &daemon, &peer, &key, &emails).await;
    let [leaves, walks, confirms, declines, hurries, more @ ..] = &mails[..] else {
        panic!("a mail each");
    };
    let leave = way_out(&daemon, leaves).await;
    let walk = way_out(&daemon, walks).await;
    // One mail is on its way, its text sent and not yet answered, while the disk fills.
    peer.hold(Point::Dot);
    let answer = daemon.sign_up(&key, "flies@example.org", &["weekly"]).await;
    assert_eq!(answer.status, 202);
    let at_dot = |seen: &Seen| seen.waiting == 1;
    peer.until("a mail at its dot", at_dot).await;

    disk.fill();
    // Before anybody has looked.
    let page = daemon.press(&hurries.list_unsubscribe(), ONE_CLICK).await;
    assert_eq!(page.status, 200, "{}", page.body);
    given_up(&disk, &mut daemon).await;
    // What is left now is what the log was given.
    disk.fill();
    let answer = daemon.sign_up(&key, "comes@example.org", &["weekly"]).await;
    refused(&answer);
    let again = format!("{}/again", confirms.confirm());
    refused(&daemon.press(&again, "").await);
    let ready = daemon.ops("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("disk"), "{}", ready.body);
    let numbers = daemon.ops("/metrics").await.body;
    assert!(numbers.contains("\nconfirmd_sqlite_disk_alarm 1\n"));
    let presses = [
        (leave, ONE_CLICK),
        (walk, "by=page"),
        (confirms.confirm(), ""),
        (declines.decline(), "reason=no"),
    ];
    let more = more.iter().map(|m| (m.list_unsubscribe(), ONE_CLICK));
    for (link, form) in presses.into_iter().chain(more) {
        let page = daemon.press(&link, form).await;
        assert_eq!(page.status, 200, "{}", page.body);
    }
    assert_eq!(subscriptions(&home, "unsubscribed").await, 2);
    assert_eq!(subscriptions(&home, "confirmed").await, 1);
    assert_eq!(declined(&home).await, 2 + MANY);
    peer.release();
    home.until("mails in flight", CLAIMED, 0).await;
    let sent = peer.mails().len();
    assert_eq!(sent, emails.len() + 1, "what is not in flight waits");
    let waits = "select count(*) from message where state = 'queued'";
    assert_eq!(home.count(waits).await, 1, "the goodbye");
    let unnumbered = home.count("select count(*) from unnumbered_event").await;
    assert!(unnumbered > MANY, "numbers take from the reserve");
    assert_eq!(home.sql("pragma integrity_check").await, ["ok"]);
    assert_eq!(reserved(&disk), 0);

    disk.clear();
    daemon.message(ENDS).await;
    assert_eq!(daemon.ops("/readyz").await.status, 200);
    let answer = daemon.sign_up(&key, "comes@example.org", &["weekly"]).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    home.idle().await;
    assert_eq!(reserved(&disk), 4_000_000);
    let events = home.trail().await;
    assert_eq!(events["signup.accepted"], emails.len() + 2);
    assert_eq!(events["subscription.confirmed"], 3);
    assert_eq!(events["subscription.unsubscribed"], 2);
    assert_eq!(events["signup.declined"], 2 + MANY);
    assert_eq!(peer.mails().len(), sent + 2);
    assert_eq!(events["message.sent"], sent + 2);
    assert_eq!((daemon.count(BEGINS), daemon.count(ENDS)), (1, 1));
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_serves_those_who_leave() {
    let peer = Peer::start().await;
    let (home, disk) = home(&peer);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let emails = ["declines@example.org".to_owned()];
    let mail = mails(&home, &daemon, &peer, &key, &emails).await.remove(0);
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));

    disk.fill();
    // The unit runs this before every start.
    let check = home.run(&["check", "--offline"]).await;
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(
        check.stdout.contains("signups are refused"),
        "{}",
        check.stdout
    );
    let daemon = home.start().await;
    assert_eq!(daemon.count(BEGINS), 1);
    refused(&daemon.sign_up(&key, "comes@example.org", &["weekly"]).await);
    let page = daemon.press(&mail.decline(), "reason=no").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(declined(&home).await, 1);
}
