//! Starts that must refuse: the exit code, the key and the remedy.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use tokio::net::TcpListener;

use crate::support::app::{Db, LISTS, both};
use crate::support::daemon::Home;
use crate::support::postgres;

/// A relay that nobody asks.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

async fn refuses(home: &Home, words: &[&str]) {
    let done = home.run(&["serve"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    for word in words {
        assert!(
            done.stderr.contains(word),
            "{word} is not in:\n{}",
            done.stderr
        );
    }
    assert_eq!(done.stdout, "");
}

#[tokio::test]
async fn a_slip_in_the_configuration_is_named_with_its_remedy() {
    let home = Home::new(Db::Sqlite, nowhere(), "");
    for (settings, words) in [
        (
            "[server]\nlisten_on = \"127.0.0.1:1\"",
            &["server.listen_on"][..],
        ),
        (
            "[smtp]\nsessions = \"many\"",
            &["smtp.sessions", "whole number"],
        ),
        (
            "[smtp.timeouts]\ndot = 600",
            &["smtp.timeouts.dot", "with its unit"],
        ),
        ("[lists.weekly]\nsender = \"acne\"", &["confirmd.toml:"]),
        ("[limits]\nhold = \"soon\"", &["limits.hold", "soon"]),
        ("[log]\nfilter = \"info,confirmd=chatty\"", &["log.filter"]),
        ("[log]\nfilter = \"inof\"", &["log.filter", "inof"]),
        (
            "[templates]\ndir = \"/nowhere/at/all\"",
            &["templates", "/nowhere/at/all"],
        ),
        ("[smtp", &["confirmd.toml:1"]),
    ] {
        home.write(LISTS, settings);
        refuses(&home, words).await;
    }
    home.write(
        &LISTS.replace("sender = \"other\"", "sender = \"nobody\""),
        "",
    );
    refuses(&home, &["lists.tips.sender", "nobody"]).await;
    home.write(
        &LISTS.replace("title = { en = \"Tips\" }", "title = { fr = \"Conseils\" }"),
        "",
    );
    refuses(&home, &["lists.tips"]).await;
    assert!(
        !home.dir.path().join("confirmd.db").exists(),
        "it looked first"
    );
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_named() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    home.set("SERVER__LISTN", "127.0.0.1:1");
    refuses(&home, &["CONFIRMD_SERVER__LISTN"]).await;
}

#[tokio::test]
async fn a_relay_elsewhere_is_not_spoken_to_in_clear() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    home.set("SMTP__HOST", "mail.acme.example");
    refuses(&home, &["smtp.tls", "allow_plaintext"]).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named() {
    let mut home = Home::new(Db::Postgres, nowhere(), "");
    home.set(
        "DATABASE__URL",
        "postgres://nobody:hunter2@127.0.0.1:9/nothing",
    );
    let done = home.run(&["serve"]).await;
    let place = "database.url: nothing at 127.0.0.1:9: ";
    assert!(done.stderr.contains(place), "{}", done.stderr);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    let there = home.url.clone();
    home.set("DATABASE__URL", &format!("{there}_gone"));
    refuses(
        &home,
        &["database.url: t", "_gone at 127.0.0.1:", "no such database"],
    )
    .await;
    postgres::shared().admin("create role guest login");
    home.set("DATABASE__URL", &there.replace("confirmd@", "guest@"));
    refuses(&home, &["the login lacks a right", "database.migrate_url"]).await;
    home.set("DATABASE__URL", &there);
    home.set("DATABASE__MIGRATE_URL", &format!("{there}_owned"));
    refuses(&home, &["database.migrate_url: t", "_owned at 127.0.0.1:"]).await;
    home.unset("DATABASE__MIGRATE_URL");
    home.set("DATABASE__URL", "mysql://localhost/confirmd");
    refuses(&home, &["database.url"]).await;
    home.set("DATABASE__URL", "sqlite:/proc/confirmd.db");
    refuses(&home, &["/proc/confirmd.db"]).await;
}

/// Root may write anywhere, so that what must be refused is something that even root cannot write.
#[tokio::test]
async fn a_database_or_a_folder_of_keys_that_cannot_be_written_is_named() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    let file = home.dir.path().join("a-file");
    std::fs::write(&file, "no folder").expect("a file");
    home.set("KEYS__DIR", &file.join("keys").display().to_string());
    refuses(&home, &["keys.dir", "a-file"]).await;
    home.set("KEYS__DIR", "/proc/confirmd-keys");
    refuses(&home, &["keys.dir", "/proc/confirmd-keys"]).await;
    home.set("KEYS__DIR", &home.keys().display().to_string());
    home.set(
        "DATABASE__URL",
        &format!("sqlite:{}/confirmd.db", file.display()),
    );
    refuses(&home, &["database.url", "a-file"]).await;
    let folder = home.dir.path().join("folder");
    std::fs::create_dir(&folder).expect("a folder");
    home.set("DATABASE__URL", &format!("sqlite:{}", folder.display()));
    refuses(&home, &["database.url", "folder"]).await;
    // What is no database is not written over.
    let text = home.dir.path().join("letter.txt");
    std::fs::write(&text, "Dear Sir or Madam,\n".repeat(100)).expect("a file");
    home.set("DATABASE__URL", &format!("sqlite:{}", text.display()));
    refuses(&home, &["database.url", "letter.txt", "no SQLite database"]).await;
    assert!(std::fs::read_to_string(&text).is_ok_and(|text| text.starts_with("Dear")));
}

/// As an ordinary user meets it; root passes over modes, and becomes one for it.
#[tokio::test]
async fn a_database_that_became_read_only_is_refused() {
    let home = Home::new(Db::Sqlite, nowhere(), "");
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let file = home.dir.path().join("confirmd.db");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o400).expect("ours");
    let writable = std::fs::OpenOptions::new().append(true).open(&file).is_ok();
    let done = match writable {
        // Root.
        true => home.run_as_nobody(&["serve"]).await,
        false => home.run(&["serve"]).await,
    };
    mode(0o600).expect("ours");
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("database"), "{}", done.stderr);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    for key in ["server.listen", "ops.listen"] {
        let mut home = Home::new(Db::Sqlite, nowhere(), "");
        home.set(&key.replace('.', "__").to_uppercase(), &addr);
        refuses(&home, &[key, &addr]).await;
    }
}

both!(a_newer_schema_or_another_one_is_refused, |db| {
    let home = Home::new(db, nowhere(), "");
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let run = async |statement: &str| {
        let done = crate::support::sql::execute(&home.url, statement).await;
        done.expect("it runs");
    };
    let checksum = match db {
        Db::Sqlite => "x'00'",
        Db::Postgres => "'\\x00'::bytea",
    };
    let newer = format!(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, {checksum}, 0)"
    );
    run(&newer).await;
    refuses(&home, &["newer confirmd", "9999"]).await;
    for command in [&["key", "list"][..], &["events", "tail"]] {
        assert_eq!(home.run(command).await.code, Some(2));
    }
    let check = home.run(&["check", "--offline"]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("BAD  database"), "{}", check.stdout);
    run("delete from _sqlx_migrations where version = 9999").await;
    run(&format!(
        "update _sqlx_migrations set checksum = {checksum}"
    ))
    .await;
    refuses(&home, &["migration 1 differs"]).await;
});

#[tokio::test]
async fn a_setting_of_postgres_that_would_lose_commits_is_overridden() {
    let home = Home::new(Db::Postgres, nowhere(), "");
    let name = home.url.rsplit('/').next().expect("a name");
    let off = format!("alter database {name} set synchronous_commit = off");
    crate::support::sql::execute(&home.url, &off)
        .await
        .expect("ours");
    // The connection's own setting wins over the database's; it is read back before anything is served.
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_a_new_installation() {
    let home = Home::new(Db::Sqlite, nowhere(), "");
    let path = home.dir.path().join("confirmd.db");
    // On a new machine everything is in order, and nothing is made by looking.
    let looked = home.run(&["check", "--offline"]).await;
    assert_eq!(looked.code, Some(0), "{}", looked.stdout);
    let commands: [&[&str]; 4] = [
        &["audit", "verify"],
        &["stats"],
        &["key", "create", "--sender", "acme", "--scope", "read"],
        &["events", "tail"],
    ];
    let refused = async || {
        for words in commands {
            let done = home.run(words).await;
            assert_eq!(done.code, Some(2), "{words:?}: {}", done.stdout);
            let name = path.display().to_string();
            assert!(done.stderr.contains(&name), "{words:?}: {}", done.stderr);
        }
        assert!(!path.exists());
    };
    refused().await;

    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    // An unmounted disk, or another working directory: links that were mailed would lead nowhere.
    refused().await;
    let looked = home.run(&["check", "--offline"]).await;
    assert_eq!(looked.code, Some(1), "{}", looked.stdout);
    assert!(
        looked.stdout.contains("confirmd restore"),
        "{}",
        looked.stdout
    );
    refuses(&home, &[".key is there", "confirmd restore"]).await;
}

/// As with a mistyped address: tables or keys there are in somebody's way, and say that all is well.
#[tokio::test]
async fn commands_change_nothing_where_nobody_served() {
    let home = Home::new(Db::Postgres, nowhere(), "");
    let looked = home.run(&["check", "--offline"]).await;
    assert_eq!(looked.code, Some(0), "{}", looked.stdout);
    assert!(looked.stdout.contains("not there yet"), "{}", looked.stdout);
    for words in [
        &["audit", "verify"][..],
        &["key", "create", "--sender", "acme", "--scope", "read"],
        &["keyring", "add"],
        &["restore", "--in-place"],
        &["audit", "epoch", "--reason", "none"],
    ] {
        let done = home.run(words).await;
        assert_eq!(done.code, Some(2), "{words:?}: {}", done.stdout);
        let why = "database.url: there is no database of confirmd yet: t";
        assert!(done.stderr.contains(why), "{words:?}: {}", done.stderr);
    }
    let tables =
        "select table_name::text from information_schema.tables where table_schema = 'public'";
    assert_eq!(home.sql(tables).await, [""; 0]);

    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    let folder = home.dir.path().join("not");
    home.set(
        "DATABASE__URL",
        &format!("sqlite:{}/yet/confirmd.db", folder.display()),
    );
    let looked = home.run(&["check", "--offline"]).await;
    assert_eq!(looked.code, Some(0), "{}", looked.stdout);
    assert!(!folder.exists(), "a check makes no folder");
    home.set("DATABASE__URL", &home.url.clone());
    let done = home.run(&["restore", "--in-place"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stdout);
    assert!(
        done.stderr.contains("there is no database"),
        "{}",
        done.stderr
    );
    assert!(!home.dir.path().join("confirmd.db").exists());
}

/// There a name outside of Latin-1 would be refused with 500 as often as somebody signs up.
#[tokio::test]
async fn a_database_that_is_not_in_utf_8_is_refused() {
    let mut home = Home::new(Db::Postgres, nowhere(), "");
    let name = format!("{}_latin", home.url.rsplit('/').next().expect("a name"));
    let cluster = postgres::shared();
    cluster.admin(&format!(
        "create database {name} owner confirmd encoding 'LATIN1' locale 'C' template template0"
    ));
    home.set("DATABASE__URL", &format!("{}_latin", home.url));
    refuses(&home, &["LATIN1", "encoding 'UTF8' template template0"]).await;
    cluster.admin(&format!("drop database {name} with (force)"));
}

#[tokio::test]
async fn a_setting_that_cannot_be_read_is_not_left_out() {
    let home = Home::new(Db::Sqlite, nowhere(), "");
    let spoilt = "CONFIRMD_KEYS__DIR=$(printf '\\377') exec \"$@\"";
    let done = home.run_by(&["sh", "-c", spoilt, "sh"], &["check"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stdout);
    assert!(
        done.stderr.contains("CONFIRMD_KEYS__DIR"),
        "{}",
        done.stderr
    );
}

#[tokio::test]
async fn a_database_by_another_name_is_the_same_database() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    let folder = home.dir.path().to_owned();
    let mut daemon = home.start().await;
    std::os::unix::fs::symlink("confirmd.db", folder.join("link.db")).expect("a link");
    home.move_to(&format!("sqlite:{}/link.db", folder.display()));
    refuses(&home, &["in use by another confirmd"]).await;
    daemon.term();
    assert!(daemon.wait().await.success());
}

#[tokio::test]
async fn another_name_for_the_trail_is_refused_with_the_one_that_it_has() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    assert_eq!(home.count("select count(*) from checkpoint").await, 1);

    home.set("SERVER__PUBLIC_URL", "https://signup.acme.example");
    let remedy = "origin = \"lists.acme.example/confirmd\"";
    refuses(&home, &["trail.origin", remedy]).await;
    let file = home.dir.path().join("copy.db").display().to_string();
    for words in [&["audit", "verify"][..], &["backup", &file]] {
        let done = home.run(words).await;
        assert_eq!(done.code, Some(2), "{words:?}: {}", done.stdout);
        assert!(done.stderr.contains(remedy), "{words:?}: {}", done.stderr);
    }
    let looked = home.run(&["check", "--offline"]).await;
    assert_eq!(looked.code, Some(1), "{}", looked.stdout);
    assert!(looked.stdout.contains(remedy), "{}", looked.stdout);

    home.set("TRAIL__ORIGIN", "lists.acme.example/confirmd");
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    assert_eq!(home.run(&["audit", "verify"]).await.code, Some(0));
}

/// Whatever the user's umask: addresses are nobody else's to read.
#[tokio::test]
async fn a_sqlite_file_is_for_its_owner_alone() {
    let mut home = Home::new(Db::Sqlite, nowhere(), "");
    let open = ["sh", "-c", "umask 022; exec \"$@\"", "sh"];
    home.wrapper = open.map(str::to_owned).into();
    let _daemon = home.start().await;
    for name in ["confirmd.db", "confirmd.db-wal", "confirmd.db-shm"] {
        let file = std::fs::metadata(home.dir.path().join(name)).expect(name);
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
