//! The disk under a SQLite file is full: nothing new comes in, whoever wants to leave can.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home, QUICK};
use crate::support::http::Response;
use crate::support::mail::{Mail, links};
use crate::support::peer::{Peer, Point};
use crate::support::small_disk::SmallDisk;

const BEGINS: &str =
    "too little is free on the disk of the database: signups are refused, mails wait; make room";
const ENDS: &str = "there is room on the disk of the database again: signups are accepted";
/// Presses on a full disk, beside those that are looked at one by one.
const MANY: usize = 12;

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

/// Fills the disk, and once more when the reserve was given up: what is left is what the log was given.
async fn fill(disk: &SmallDisk, daemon: &mut Daemon) {
    disk.fill();
    daemon.message(BEGINS).await;
    let end = Instant::now() + Duration::from_secs(20);
    let mut again = interval(Duration::from_millis(20));
    while reserved(disk) > 0 {
        again.tick().await;
        assert!(Instant::now() < end, "the reserve is kept on a full disk");
    }
    disk.fill();
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
    let people = ["leaves", "confirms", "declines"].map(|who| format!("{who}@example.org"));
    let more: Vec<_> = (0..MANY).map(|i| format!("more-{i}@example.org")).collect();
    let emails = [&people[..], &more[..]].concat();
    let mut mails = mails(&home, &daemon, &peer, &key, &emails)
        .await
        .into_iter();
    let [leaves, confirms, declines] = [(); 3].map(|()| mails.next().expect("a mail"));
    let page = daemon.press(&leaves.confirm(), "").await;
    let leave = links(&page.body, "/u/").pop().expect("a way out");
    // One mail is on its way, its text sent and not yet answered, while the disk fills.
    peer.hold(Point::Dot);
    let answer = daemon.sign_up(&key, "flies@example.org", &["weekly"]).await;
    assert_eq!(answer.status, 202);
    peer.until("a mail at its dot", |seen| seen.waiting == 1)
        .await;

    fill(&disk, &mut daemon).await;
    refused(&daemon.sign_up(&key, "comes@example.org", &["weekly"]).await);
    refused(
        &daemon
            .press(&format!("{}/again", confirms.confirm()), "")
            .await,
    );
    let ready = daemon.ops("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("disk"), "{}", ready.body);
    let numbers = daemon.ops("/metrics").await.body;
    assert!(
        numbers.contains("confirmd_sqlite_disk_alarm 1"),
        "{numbers}"
    );
    let one_click = "List-Unsubscribe=One-Click";
    for (link, form) in [
        (&leave, one_click),
        (&confirms.confirm(), ""),
        (&declines.decline(), "reason=no"),
    ] {
        let page = daemon.press(link, form).await;
        assert_eq!(page.status, 200, "{}", page.body);
    }
    for mail in mails {
        let page = daemon.press(&mail.list_unsubscribe(), one_click).await;
        assert_eq!(page.status, 200, "{}", page.body);
    }
    assert_eq!(
        home.count("select count(*) from subscription where state = 'unsubscribed'")
            .await,
        1
    );
    assert_eq!(
        home.count("select count(*) from subscription where state = 'confirmed'")
            .await,
        1
    );
    let declined = "select count(*) from signup_list where state = 'declined'";
    assert_eq!(home.count(declined).await, 1 + MANY);
    peer.release();
    let claimed = "select count(*) from message where state = 'claimed'";
    home.until("mails without an outcome", claimed, 0).await;
    assert_eq!(
        peer.mails().len(),
        emails.len() + 1,
        "none goes out beside it"
    );
    assert_eq!(home.sql("pragma integrity_check").await, ["ok"]);
    // It is the full disk on which all this was.
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
    assert_eq!(events["subscription.confirmed"], 2);
    assert_eq!(events["subscription.unsubscribed"], 1);
    assert_eq!(events["signup.declined"], 1 + MANY);
    assert_eq!(events["message.sent"], peer.mails().len());
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
    let check = home.run(&["check", "--offline"]).await;
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
    let declined = "select count(*) from signup_list where state = 'declined'";
    assert_eq!(home.count(declined).await, 1);
}
