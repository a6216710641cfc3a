//! What commands do where nobody reads what they say, or where it cannot be written.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::app::{Db, both};
use crate::support::daemon::{Home, QUICK, unread};

/// A home that was served once, with an API key.
async fn home(db: Db) -> Home {
    let home = Home::new(db, SocketAddr::from(([127, 0, 0, 1], 9)), QUICK);
    home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    home.idle().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    home
}

fn full() -> File {
    let full = OpenOptions::new().write(true).open("/dev/full");
    full.expect("Linux has one")
}

both!(a_command_that_cannot_say_all_says_so, |db| {
    let home = home(db).await;
    for words in [
        &["check", "--offline"][..],
        &["key", "list"],
        &["key", "list", "--format", "json"],
        &["keyring", "list"],
        &["message", "list"],
        &["stats"],
        &["events", "tail"],
        &["audit", "checkpoint"],
        &["audit", "verify"],
    ] {
        let had_enough = home.run_into(unread(), words).await;
        let (code, said) = (had_enough.code, had_enough.stderr);
        assert_eq!((code, &*said), (Some(0), ""), "{words:?}");
        let lost = home.run_into(full(), words).await;
        assert_eq!(lost.code, Some(2), "{words:?}: {}", lost.stderr);
        assert!(
            lost.stderr.contains("standard output: No space left"),
            "{words:?}: {}",
            lost.stderr
        );
    }
});

both!(an_api_key_whose_secret_nobody_has_is_revoked, |db| {
    let home = home(db).await;
    let create = ["key", "create", "--sender", "acme", "--scope", "read"];
    let nobody = home.run_into(unread(), &create).await;
    let lost = home.run_into(full(), &create).await;
    for done in [nobody, lost] {
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("is revoked"), "{}", done.stderr);
    }
    let listed = home.run(&["key", "list", "--format", "json"]).await;
    let keys = listed.stdout.lines();
    let keys = keys.map(|key| serde_json::from_str(key).expect("JSON"));
    let revoked = keys.map(|key: Value| key["revoked_at"].is_string());
    assert_eq!(revoked.collect::<Vec<_>>(), [false, true, true]);
});

#[tokio::test]
async fn a_backup_has_its_name_whoever_reads_about_it() {
    let home = home(Db::Sqlite).await;
    for (name, stdout, code) in [("unread", unread().into(), 0), ("full", full().into(), 2)] {
        let stdout: std::process::Stdio = stdout;
        let file = home.dir.path().join(name);
        let backup = ["backup", file.to_str().expect("UTF-8")];
        let done = home.run_into(stdout, &backup).await;
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(file.exists());
    }
}
