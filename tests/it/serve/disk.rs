//! The disk under a SQLite file fails, or is none of ours.

use std::os::unix::fs::PermissionsExt;

use crate::support::app::Db;
use crate::support::daemon::{Home, QUICK};
use crate::support::driver::{Driver, signups};
use crate::support::peer::Peer;
use crate::support::strace::Strace;

const PEOPLE: usize = 600;

/// What was answered 202 is there, though from some moment on the disk takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_ends_the_service_and_costs_nobody_a_signup() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    // Signups alone are synced, and these do not fill the log.
    home.set("ROLES__DELIVER", "false");
    home.set("ROLES__SEQUENCE", "false");
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let driver = Driver::new(&key, "failed", PEOPLE, None);
    driver.at.send_replace(Some(daemon.addr));
    let driving = tokio::spawn({
        let driver = driver.clone();
        async move { driver.run(8).await }
    });
    let mut accepted = driver.accepted.subscribe();
    drop(accepted.wait_for(|n| *n >= 20).await.expect("it drives"));
    let (calls, fault) = (home.dir.path().join("calls"), "error=EIO:when=1");
    let fault = Strace::inject(daemon.id(), "fdatasync,fsync", fault, &calls);
    assert_eq!(daemon.wait().await.code(), Some(3));
    driver.at.send_replace(None);
    assert_eq!(fault.calls(), 1, "after a failed fsync none is tried");
    let log = daemon.log();
    let why = log.iter().find(|line| line["message"] == "died");
    let why = why.expect("it says why")["error"].to_string();
    assert!(why.contains("look at the disk"), "{why}");
    let answered = driver.accepted().len();
    assert!(answered < PEOPLE, "it went on");
    let there = signups(&home.url).await;
    for accepted in driver.accepted() {
        assert!(there.contains(&accepted), "{accepted:?} is lost");
    }

    home.set("ROLES__DELIVER", "true");
    home.set("ROLES__SEQUENCE", "true");
    let daemon = home.start().await;
    driver.at.send_replace(Some(daemon.addr));
    driving.await.expect("every signup has its 202");
    home.idle().await;
    let mut there = signups(&home.url).await;
    let mut answered = driver.accepted();
    there.sort();
    answered.sort();
    assert_eq!(there, answered);
    assert_eq!(home.trail().await["signup.accepted"], PEOPLE);
    assert_eq!(home.sql("pragma integrity_check").await, ["ok"]);
}

/// What statfs(2) says of NFS, put in its place by strace: the kernel's number in the first eight bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_machines_filesystem_is_refused() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), "");
    let nfs = Strace::command("statfs", "poke_exit=@arg2=6969000000000000");
    let nfs: Vec<&str> = nfs.iter().map(String::as_str).collect();
    for words in [&["serve"][..], &["check", "--offline"]] {
        let done = home.run_by(&nfs, words).await;
        let said = done.stdout + &done.stderr;
        assert!(matches!(done.code, Some(1 | 2)), "{said}");
        assert!(said.contains("is on NFS"), "{said}");
        assert!(said.contains("put the file on a local disk"), "{said}");
    }
    let done = home.run(&["check", "--offline"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(
        done.stdout.contains("keeps what is written"),
        "{}",
        done.stdout
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Sqlite, peer.addr(), "");
    let folder = home.dir.path().join("closed");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o555)).expect("ours");
    home.move_to(&format!("sqlite:{}/confirmd.db", folder.display()));
    let done = home.run_as_nobody(&["check", "--offline"]).await;
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    let line = done
        .stdout
        .lines()
        .find(|line| line.starts_with("BAD  disk"));
    let line = line.expect("a line of its own");
    assert!(
        line.contains("closed cannot be used: Permission denied"),
        "{line}"
    );
    assert!(line.contains("confirmd's user must be able to"), "{line}");
}
