//! Several processes on one PostgreSQL, and why one SQLite file serves one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::support::app::{Db, both};
use crate::support::daemon::{Home, PATIENCE, QUICK};
use crate::support::driver::{Driver, signups};
use crate::support::mail::Mail;
use crate::support::patience::seen;
use crate::support::peer::{Peer, Point};

/// Counts the mails of each recipient.
fn copies(peer: &Peer) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for mail in peer.mails() {
        *copies.entry(mail.envelope_to.concat()).or_insert(0) += 1;
    }
    copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_share_the_work() {
    const PEOPLE: usize = 500;
    let peer = Peer::start().await;
    let home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    // Both find an empty database: one of them makes the keys.
    let (mut one, mut two) = tokio::join!(home.start(), home.start());
    let drivers = [
        Driver::new(&key, "one", PEOPLE, None),
        Driver::new(&key, "two", PEOPLE, None),
    ];
    drivers[0].at.send_replace(Some(one.addr));
    drivers[1].at.send_replace(Some(two.addr));
    tokio::join!(drivers[0].run(4), drivers[1].run(4));
    home.idle().await;

    let mut accepted = drivers[0].accepted();
    accepted.extend(drivers[1].accepted());
    let accepted: BTreeSet<_> = accepted.into_iter().collect();
    let there: BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    assert!(there == accepted && there.len() == 2 * PEOPLE);
    let copies = copies(&peer);
    assert_eq!((copies.len(), peer.mails().len()), (2 * PEOPLE, 2 * PEOPLE));
    let events = home.trail().await;
    assert_eq!(
        (events["signup.accepted"], events["message.sent"]),
        (1000, 1000)
    );
    assert_eq!(
        home.count("select count(*) from message where claims > 1")
            .await,
        0
    );
    // What is in the database may be said a moment later.
    for daemon in [&mut one, &mut two] {
        daemon.term();
        assert!(daemon.wait().await.success());
    }
    let sent = [one.count("message.sent"), two.count("message.sent")];
    println!("replicas: sent {sent:?}");
    assert_eq!(sent[0] + sent[1], 1000, "{sent:?}");
    assert!(sent[0] > 0 && sent[1] > 0, "one did everything: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_signs_up_at_both_at_once_gets_one_mail() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let (one, two) = tokio::join!(home.start(), home.start());
    for i in 0..40 {
        let email = format!("same-{i}@example.org");
        let (a, b) = tokio::join!(
            one.sign_up(&key, &email, &["weekly"]),
            two.sign_up(&key, &email, &["weekly"]),
        );
        assert_eq!((a.status, b.status), (202, 202));
        assert_ne!(a.json()["id"], b.json()["id"]);
    }
    home.idle().await;
    let copies = copies(&peer);
    assert_eq!(copies.len(), 40);
    assert!(copies.values().all(|n| *n == 1), "{:?}", copies.values());
    let events = home.trail().await;
    assert_eq!(
        (events["message.sent"], events["signup.withheld"]),
        (40, 40)
    );
    assert_eq!(home.count("select count(*) from subscriber").await, 40);
}

/// What a dead replica had claimed, the other sends when the lease has ended; what it had sent before, only once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_dead_replica_is_done_by_the_other() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), QUICK);
    // Four stand there when the first one still does, however slow the machine.
    home.set("SMTP__TIMEOUTS__HELLO", "20 s");
    let key = home.key("acme", "signup").await;
    let mut dying = home.start().await;
    peer.hold(Point::Ehlo);
    for i in 0..20 {
        let email = format!("left-{i}@example.org");
        assert_eq!(dying.sign_up(&key, &email, &["weekly"]).await.status, 202);
    }
    peer.until("four connections at EHLO", |seen| seen.waiting == 4)
        .await;
    home.until(
        "claimed mails",
        "select count(*) from message where state = 'claimed'",
        20,
    )
    .await;
    let mut heir = home.start().await;
    dying.kill9();
    peer.release();
    home.idle().await;
    heir.term();
    assert!(heir.wait().await.success());
    assert_eq!(heir.count("message.sent"), 20);
    let copies = copies(&peer);
    assert_eq!(copies.len(), 20);
    assert!(
        copies.values().all(|n| *n == 1),
        "nothing had reached its DATA"
    );
    home.trail().await;
}

/// Activates a key as soon as nobody who runs lacks it; says why not while somebody does.
async fn activate(home: &Home, id: &str, until: &str) {
    seen(until, PATIENCE, async || {
        let done = home.run(&["keyring", "activate", id]).await;
        let as_wanted = done.stderr.contains(until);
        as_wanted.then_some(()).ok_or(done.stderr)
    })
    .await;
}

/// Who cannot verify a link answers 404 to whoever wants to leave by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_signs_when_every_process_has_it() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut signs = home.start().await;
    let (here, there) = (home.keys(), home.dir.path().join("another-host"));
    std::fs::create_dir(&there).expect("a folder");
    let copy = || {
        for file in std::fs::read_dir(&here).expect("the keys") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), there.join(file.file_name())).expect("a copy");
        }
    };
    copy();
    home.set("KEYS__DIR", &there.display().to_string());
    home.set("ROLES__DELIVER", "false");
    let verifies = home.start().await;
    home.set("KEYS__DIR", &here.display().to_string());
    let seen =
        "select count(distinct pid) from pg_locks where locktype = 'advisory' and objsubid = 2
        and database = (select oid from pg_database where datname = current_database())";
    home.until("that are seen", seen, 2).await;

    let add = async || home.run(&["keyring", "add"]).await.stdout;
    let first = add().await;
    activate(&home, &first, "2 running daemons do not have").await;
    signs.hup();
    activate(&home, &first, "1 running daemons do not have").await;
    copy();
    verifies.hup();
    activate(&home, &first, "signs from now on").await;

    // Whoever was not seen for a while looks by itself.
    let second = add().await;
    copy();
    let deaf = "select pg_terminate_backend(pid)::text from pg_stat_activity
        where datname = current_database() and application_name = 'confirmd wake'";
    assert_eq!(home.sql(deaf).await, ["true", "true"]);
    home.until("that are seen again", seen, 2).await;
    activate(&home, &second, "signs from now on").await;
    signs.hup();
    signs
        .message("reloaded senders, lists, templates and link keys")
        .await;
    for n in 0..2 {
        let email = format!("rotated-{n}@example.org");
        assert_eq!(signs.sign_up(&key, &email, &["weekly"]).await.status, 202);
        peer.wait_for(n + 1).await;
        let mail = Mail::read(&peer.mails()[n].bytes);
        let way_out = mail.list_unsubscribe();
        let left = verifies.press(&way_out, "List-Unsubscribe=One-Click").await;
        assert_eq!(left.status, 200, "{}", left.body);
    }
}

both!(a_process_without_the_right_keys_refuses_to_start, |db| {
    let peer = Peer::start().await;
    let mut home = Home::new(db, peer.addr(), QUICK);
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let mut files: Vec<_> = std::fs::read_dir(home.keys())
        .expect("the keys")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "a link key, a pepper and a trail key");

    for file in &files {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a name");
        let right = std::fs::read(file).expect("a key");
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file, mode).expect("ours");
        };
        let refuses = async |wrong: &str| {
            for command in [
                &["serve"][..],
                &["check", "--offline"],
                &["keyring", "list"],
            ] {
                let done = home.run(command).await;
                let (code, said) = match command[0] {
                    "serve" => (2, &done.stderr),
                    _ => (1, &done.stdout),
                };
                assert_eq!(done.code, Some(code), "{command:?}: {}", done.stderr);
                assert!(
                    said.contains(name) && said.contains(wrong),
                    "{command:?}: {said}"
                );
            }
        };
        std::fs::remove_file(file).expect("ours");
        refuses("is missing").await;
        // Another key, whose base64 is as good.
        let mut other = right.clone();
        other[0] = if other[0] == b'A' { b'B' } else { b'A' };
        std::fs::write(file, other).expect("ours");
        mode(0o600);
        refuses("does not hold the key that is registered").await;
        std::fs::write(file, "nothing").expect("ours");
        refuses("does not hold 32 bytes").await;
        std::fs::write(file, &right).expect("ours");
        mode(0o640);
        refuses("can be read by others (mode 640); run: chmod 600").await;
        mode(0o600);
    }
    assert_eq!(home.run(&["check", "--offline"]).await.code, Some(0));

    // Another host, to which nobody has copied the keys.
    let empty = home.dir.path().join("another-host");
    home.set("KEYS__DIR", &empty.display().to_string());
    let done = home.run(&["serve"]).await;
    assert_eq!(done.code, Some(2));
    let names = files.iter().filter_map(|file| file.file_name());
    let mut missing = names.map(|name| empty.join(name).display().to_string());
    let named = missing.any(|path| done.stderr.contains(&path));
    assert!(
        named && done.stderr.contains("is missing"),
        "{}",
        done.stderr
    );
    assert!(!empty.exists());
});

/// Root adds a key beside a service of another user; only root can be another user.
#[tokio::test]
async fn a_key_that_root_adds_is_the_services() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let nobody = |path: &Path| chown(path, Some(65534), Some(65534));
    nobody(home.dir.path()).expect("this test needs root, as tests/run says");
    for folder in [home.dir.path(), &home.keys()] {
        nobody(folder).expect("root may");
        for file in std::fs::read_dir(folder).expect("a folder") {
            nobody(&file.expect("a file").path()).expect("root may");
        }
    }
    let added = home.run(&["keyring", "add"]).await;
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let listed = home.run_as_nobody(&["keyring", "list"]).await;
    assert_eq!(listed.code, Some(0), "{}{}", listed.stdout, listed.stderr);
    assert_eq!(listed.stdout.lines().count(), 4);

    // Without the right to give it away.
    let bounded = ["setpriv", "--bounding-set=-chown"];
    let refused = home.run_by(&bounded, &["keyring", "add"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("run it as that user"),
        "{}",
        refused.stderr
    );
    let listed = home.run_as_nobody(&["keyring", "list"]).await;
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 4));
    let files = std::fs::read_dir(home.keys()).expect("the keys");
    assert_eq!(files.count(), 4);
}

#[tokio::test]
async fn one_sqlite_file_serves_one_daemon() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let mut daemon = home.start().await;
    let second = home.run(&["serve"]).await;
    assert_eq!(second.code, Some(2));
    assert!(
        second
            .stderr
            .contains("is in use by another confirmd; one SQLite file serves one daemon"),
        "{}",
        second.stderr
    );
    // Commands are no daemons.
    assert_eq!(home.run(&["key", "list"]).await.code, Some(0));
    assert_eq!(daemon.ops("/readyz").await.status, 200);
    // A lock that a dead process held holds nobody up.
    daemon.kill9();
    let after = home.start().await;
    assert_eq!(after.ops("/readyz").await.status, 200);
}
