//! An older database takes the place of a lost one: nobody who left since is ever eligible, with or without the operator's
//! own copy of the events; signups and links work all the time; and nothing is ever signed twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::app::{Db, both};
use crate::support::daemon::{Daemon, Done, Home, QUICK, until};
use crate::support::mail::{Mail, links};
use crate::support::peer::{self, Peer, Seen};
use crate::support::strace::Strace;
use crate::support::{postgres, sql};

/// Who is there before the backup.
const CONFIRMED: [&str; 6] = ["stays", "page", "clicked", "button", "gone", "both"];
/// Who has a mail before the backup, and did not answer it.
const ASKED: [&str; 4] = ["not-me", "late", "waits", "said-no"];

fn address(name: &str) -> String {
    format!("{name}@example.org")
}

/// An installation that lost its database, and what its operator has left.
struct Lost {
    peer: Peer,
    home: Home,
    key: String,
    revoked: String,
    backup: PathBuf,
    events: PathBuf,
    /// The way out of each who confirmed before the backup.
    leave: BTreeMap<&'static str, String>,
    restored: Option<postgres::Database<'static>>,
    /// How many events the backup has.
    size: usize,
}

impl Lost {
    async fn new(db: Db) -> Lost {
        let peer = Peer::start().await;
        let exempt = "[limits]\nexempt = [\"stays@example.org\", \"button@example.org\"]\n";
        let home = Home::new(db, peer.addr(), &format!("{QUICK}{exempt}"));
        let key = home.key("acme", "signup").await;
        let revoked = home.key("acme", "signup").await;
        let mut daemon = home.start().await;
        let mut copy = home.spawn(&["events", "export", "--follow"]);
        let mut lost = Lost {
            backup: home.dir.path().join("backup"),
            events: home.dir.path().join("events.ndjson"),
            leave: BTreeMap::new(),
            restored: None,
            size: 0,
            peer,
            home,
            key,
            revoked,
        };
        for name in CONFIRMED {
            let page = lost.join(&daemon, name).await;
            lost.leave.insert(name, page);
        }
        for name in ASKED {
            lost.ask(&daemon, name).await;
        }
        lost.home.idle().await;
        lost.size = lost.home.count("select size from trail_head").await;
        match db {
            Db::Sqlite => {
                let done = lost
                    .run(&["backup", lost.backup.to_str().expect("UTF-8")])
                    .await;
                assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
            }
            Db::Postgres => postgres::shared().back_up(&lost.home.url, &lost.backup),
        }

        // What the backup does not know.
        let left = daemon.press(&lost.leave["page"], "by=page").await;
        let button = daemon
            .press(&lost.leave["button"], "List-Unsubscribe=One-Click")
            .await;
        let clicked = daemon
            .press(&lost.leave["clicked"], "List-Unsubscribe=One-Click")
            .await;
        assert_eq!(
            (left.status, button.status, clicked.status),
            (200, 200, 200)
        );
        let both = daemon
            .press(&lost.mail("both").decline(), "reason=not_me")
            .await;
        let not_me = daemon
            .press(&lost.mail("not-me").decline(), "reason=not_me")
            .await;
        let no = daemon
            .press(
                &lost.mail("said-no").list_unsubscribe(),
                "List-Unsubscribe=One-Click",
            )
            .await;
        assert_eq!((both.status, not_me.status, no.status), (200, 200, 200));
        let page = daemon.press(&lost.mail("late").confirm(), "").await;
        let leave = links(&page.body, "/u/").pop().expect("a way out");
        assert_eq!(
            daemon
                .press(&leave, "List-Unsubscribe=One-Click")
                .await
                .status,
            200
        );
        let (email, sender) = (address("gone"), ["--sender", "acme"]);
        let words = [
            &["subscriber", "erase", &email, "--destroy-proof"][..],
            &sender,
        ]
        .concat();
        assert_eq!(lost.run(&words).await.code, Some(0));
        lost.join(&daemon, "came-after").await;
        let keys = lost.run(&["key", "list", "--format", "json"]).await.stdout;
        let last: Value = serde_json::from_str(keys.lines().last().expect("a key")).expect("JSON");
        let id = last["id"].as_str().expect("an id");
        assert_eq!(lost.run(&["key", "revoke", id]).await.code, Some(0));

        lost.home.idle().await;
        daemon.term();
        assert!(daemon.wait().await.success());
        // As it happened; the last line is what was signed at the stop.
        let size = lost.home.count("select size from trail_head").await;
        let whole = |lines: &Vec<String>| {
            let events = lines.iter().filter(|line| line.starts_with("{\"seq\""));
            let signed = lines
                .last()
                .is_some_and(|line| line.starts_with("{\"checkpoint\""));
            events.count() == size && signed
        };
        let lines = until(&mut copy.stdout, "the whole trail", whole).await;
        copy.int();
        assert!(copy.wait().await.success());
        fs::write(&lost.events, lines.join("\n") + "\n").expect("a file");
        lost
    }

    async fn run(&self, words: &[&str]) -> Done {
        self.home.run(words).await
    }

    fn mail(&self, name: &str) -> Mail {
        let mails = self.peer.mails();
        let own = mails.iter().rfind(|mail| asks(mail, name));
        Mail::read(&own.expect("a mail").bytes)
    }

    async fn ask(&self, daemon: &Daemon, name: &str) {
        // only its own mails count: a goodbye to somebody else may come between
        let own = |seen: &Seen| seen.mails.iter().filter(|mail| asks(mail, name)).count();
        let before = self.peer.seen(own);
        let answer = daemon.sign_up(&self.key, &address(name), &["weekly"]).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        self.peer.until("its mail", |seen| own(seen) > before).await;
    }

    /// Signs up and confirms; returns the way out.
    async fn join(&self, daemon: &Daemon, name: &str) -> String {
        self.ask(daemon, name).await;
        let page = daemon.press(&self.mail(name).confirm(), "").await;
        assert_eq!(page.status, 200, "{}", page.body);
        links(&page.body, "/u/").pop().expect("a way out")
    }

    /// Puts the backup back, by the command that is for it, with more words.
    async fn restore(&mut self, words: &[&str]) -> Done {
        let file = self.backup.display().to_string();
        let first: Vec<&str> = match self.home.db {
            Db::Sqlite => vec!["restore", &file, "--replace"],
            Db::Postgres => {
                let database = postgres::shared().restore(&self.backup);
                self.home.move_to(&database.url.clone());
                self.restored = Some(database);
                vec!["restore", "--in-place"]
            }
        };
        self.run(&[&first, words].concat()).await
    }

    /// Returns `state eligible-or-why` on the list, or that nothing is known.
    async fn standing(&self, name: &str) -> String {
        let email = address(name);
        let words = [
            "subscriber",
            "show",
            &email,
            "--sender",
            "acme",
            "--format",
            "json",
        ];
        let shown = self.run(&words).await;
        if shown.code == Some(1) {
            return "unknown".to_owned();
        }
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        let found = &shown["subscriptions"][0];
        let word = |name: &str| found[name].as_str().unwrap_or("none").to_owned();
        match found["eligible"].as_bool() {
            Some(true) => format!("{} eligible", word("state")),
            _ => format!("{} {}", word("state"), word("reason")),
        }
    }

    async fn standings(&self, names: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for name in names {
            found.push(format!("{name}: {}", self.standing(name).await));
        }
        found
    }

    async fn is_intact(&self) {
        let done = self.run(&["audit", "verify"]).await;
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }

    async fn stop(&self, mut daemon: Daemon) {
        self.home.idle().await;
        daemon.term();
        assert!(daemon.wait().await.success());
    }

    /// Fails if anything of one length was ever signed with two roots under one name.
    fn one_root_for_each_size(&self) {
        let mut roots = BTreeMap::new();
        for entry in fs::read_dir(self.home.dir.path().join("checkpoints")).expect("copies") {
            let path = entry.expect("a file").path();
            if path.extension().is_none_or(|end| end != "ndjson") {
                continue;
            }
            for line in fs::read_to_string(path).expect("text").lines() {
                let line: Value = serde_json::from_str(line).expect("JSON");
                let note = line["checkpoint"].as_str().expect("a note").to_owned();
                let mut parts = note.lines().map(str::to_owned);
                let mut part = || parts.next().expect("a part");
                let (origin, size, root) = (part(), part(), part());
                let known = roots.entry((origin, size)).or_insert(root.clone());
                assert_eq!(*known, root, "{note}");
            }
        }
        assert!(roots.len() > 1);
    }
}

/// The last words of what is printed: what ends the window.
fn interval(done: &Done) -> String {
    let (_, after) = done
        .stdout
        .rsplit_once("--accept-window ")
        .expect("a window");
    after.trim_end_matches(['`', '\n']).to_owned()
}

both!(
    without_its_events_a_restored_database_mails_nobody_of_before,
    |db| {
        let mut lost = Lost::new(db).await;
        let restored = lost.restore(&[]).await;
        assert_eq!(
            restored.code,
            Some(0),
            "{}{}",
            restored.stdout,
            restored.stderr
        );
        let window = interval(&restored);
        let stats = lost.run(&["stats", "--format", "json"]).await;
        let stats: Value = serde_json::from_str(&stats.stdout).expect("JSON");
        assert_eq!(stats["restored"], window.as_str());
        for name in CONFIRMED {
            assert_eq!(lost.standing(name).await, "confirmed restored", "{name}");
        }

        // Intake and links work.
        let daemon = lost.home.start().await;
        lost.join(&daemon, "fresh").await;
        assert_eq!(lost.standing("fresh").await, "confirmed restored");
        assert_eq!(
            daemon
                .press(&lost.leave["button"], "List-Unsubscribe=One-Click")
                .await
                .status,
            200
        );
        assert_eq!(lost.standing("button").await, "unsubscribed restored");
        // Who left in the lost time presses their old mail again, before and after the loss is accepted.
        assert_eq!(
            daemon.press(&lost.mail("late").confirm(), "").await.status,
            200
        );
        assert_eq!(lost.standing("late").await, "confirmed restored");

        let wrong = "2020-01-01T00:00:00Z/2020-01-02T00:00:00Z";
        let refused = lost
            .run(&["audit", "epoch", "--accept-window", wrong])
            .await;
        assert_eq!(refused.code, Some(2), "{}", refused.stdout);
        assert!(refused.stderr.contains(&window), "{}", refused.stderr);
        assert_eq!(lost.standing("fresh").await, "confirmed restored");
        let accepted = lost
            .run(&["audit", "epoch", "--accept-window", &window])
            .await;
        assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);

        let lapsed = ["stays", "page", "clicked", "gone", "both", "late"];
        for name in lapsed {
            assert_eq!(lost.standing(name).await, "lapsed lapsed", "{name}");
        }
        assert_eq!(lost.standing("fresh").await, "confirmed eligible");
        for name in ASKED {
            let page = daemon.press(&lost.mail(name).confirm(), "").await;
            assert!(
                !lost.standing(name).await.contains("eligible"),
                "{name}: {}",
                page.body
            );
        }
        // By a new signup everybody may come back.
        lost.join(&daemon, "stays").await;
        lost.join(&daemon, "button").await;
        assert_eq!(
            lost.standings(&["stays", "button", "came-after"]).await,
            [
                "stays: confirmed eligible",
                "button: confirmed eligible",
                "came-after: unknown"
            ]
        );
        let again = lost
            .run(&["audit", "epoch", "--accept-window", &window])
            .await;
        assert_eq!(again.code, Some(2), "{}", again.stdout);
        lost.stop(daemon).await;
        lost.is_intact().await;
        lost.home.trail().await;
        lost.one_root_for_each_size();
    }
);

both!(with_its_events_a_restored_database_knows_who_left, |db| {
    let mut lost = Lost::new(db).await;
    let events = lost.events.display().to_string();
    let text = fs::read_to_string(&lost.events).expect("events");

    // A copy that ends too early does what it can, and says what is missing.
    let lines: Vec<&str> = text.lines().collect();
    let early = lost.home.dir.path().join("early.ndjson");
    let after = format!("{{\"seq\":{},", lost.size + 2);
    let end = lines.iter().position(|line| line.starts_with(&after));
    let some = lines[..end.expect("an event")].join("\n") + "\n";
    fs::write(&early, some).expect("a file");
    let early = early.display().to_string();
    let restored = lost.restore(&["--replay", &early, "--complete"]).await;
    assert_eq!(
        restored.code,
        Some(1),
        "{}{}",
        restored.stdout,
        restored.stderr
    );
    assert!(
        restored.stdout.contains("are missing"),
        "{}",
        restored.stdout
    );
    assert_eq!(lost.standing("stays").await, "confirmed restored");

    // Later, beside a running service, on which somebody came back.
    let daemon = lost.home.start().await;
    assert_eq!(daemon.press(&lost.leave["button"], "").await.status, 200);
    lost.join(&daemon, "button").await;
    let asked = lost.run(&["restore", "--replay", &events]).await;
    assert_eq!(asked.code, Some(1), "{}{}", asked.stdout, asked.stderr);
    assert!(asked.stdout.contains("--complete"), "{}", asked.stdout);
    assert_eq!(lost.standing("stays").await, "confirmed restored");
    lost.home.idle().await;
    let before = lost.home.trail().await;
    let whole = lost
        .run(&["restore", "--replay", &events, "--complete"])
        .await;
    assert_eq!(whole.code, Some(0), "{}{}", whole.stdout, whole.stderr);
    lost.home.idle().await;
    let mut after = lost.home.trail().await;
    *after.get_mut("trail.epoch").expect("declared") -= 1;
    assert_eq!(before, after, "what was done again is not done once more");
    let more = lost
        .run(&["restore", "--replay", &events, "--complete"])
        .await;
    assert_eq!(more.code, Some(2), "{}", more.stderr);

    assert_eq!(
        lost.standings(&[
            "stays",
            "page",
            "clicked",
            "button",
            "gone",
            "both",
            "late",
            "came-after"
        ])
        .await,
        [
            "stays: confirmed eligible",
            "page: unsubscribed unsubscribed",
            "clicked: unsubscribed unsubscribed",
            "button: confirmed eligible",
            "gone: unknown",
            "both: unsubscribed unsubscribed",
            "late: unsubscribed unsubscribed",
            "came-after: unknown",
        ]
    );
    // Old mails confirm nobody who left or said no; who did not answer still may.
    for name in ASKED {
        daemon.press(&lost.mail(name).confirm(), "").await;
    }
    assert_eq!(
        lost.standings(&ASKED).await,
        [
            "not-me: none none",
            "late: unsubscribed unsubscribed",
            "waits: confirmed eligible",
            "said-no: none none",
        ]
    );
    let email = address("not-me");
    let words = [
        "subscriber",
        "show",
        &email,
        "--sender",
        "acme",
        "--format",
        "json",
    ];
    let shown = lost.run(&words).await.stdout;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert!(shown["held_until"].is_string(), "{}", shown["held_until"]);
    assert_eq!(
        daemon
            .sign_up(&lost.revoked, "x@example.org", &["weekly"])
            .await
            .status,
        401
    );
    assert_eq!(lost.home.count("select count(*) from tombstone").await, 1);
    let told = lost
        .run(&["events", "tail", "--after", "0", "--format", "json"])
        .await
        .stdout;
    let told = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let again = told.filter(|event| event["replayed"].is_string()).count();
    // Page, the mail's no of "both", "late", two refusals, their holds, and an erasure of two events.
    assert!(again >= 7, "{again}");
    lost.stop(daemon).await;
    lost.is_intact().await;
    lost.one_root_for_each_size();
});

both!(
    events_that_prove_nothing_are_refused_before_anything_is_done,
    |db| {
        let mut lost = Lost::new(db).await;
        let text = fs::read_to_string(&lost.events).expect("events");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lost.restore(&[]).await.code, Some(0));
        let before = lost.home.dump().await;
        let size = lost.home.count("select size from lost_window").await;
        let at = |seq: usize| {
            let event = format!("{{\"seq\":{seq},");
            lines
                .iter()
                .position(|line| line.starts_with(&event))
                .expect("an event")
        };
        let changed = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            lines.join("\n") + "\n"
        };
        let (first, second) = (at(size + 1), at(size + 2));
        let other = |line: &str| line.replace("\"leaf\":\"eyJ", "\"leaf\":\"eyI");
        for (name, file, said) in [
            (
                "a line spoilt",
                changed(&|l| l[second] = "{".to_owned()),
                format!("line {}: ", second + 1),
            ),
            (
                "no leaf",
                changed(&|l| l[second] = other(&l[second])),
                format!("line {}: ", second + 1),
            ),
            (
                "a gap",
                changed(&|l| drop(l.remove(second))),
                format!("event {} is missing", size + 2),
            ),
            (
                "begins late",
                changed(&|l| drop(l.drain(..=first))),
                format!("event {} is missing", size + 1),
            ),
            (
                "ends early",
                changed(&|l| l.truncate(at(size))),
                format!("event {size} is missing"),
            ),
            (
                "another event",
                changed(&|l| l.swap(0, 1)),
                "is missing".to_owned(),
            ),
            (
                "an event replaced",
                changed(&|l| {
                    let of = |line: &str| line.split_once("\"leaf\"").expect("a leaf").1.to_owned();
                    l[second] = format!("{{\"seq\":{},\"leaf\"{}", size + 2, of(&l[first]));
                }),
                "signs other events".to_owned(),
            ),
            (
                "nothing that ties it",
                changed(&|l| *l = vec![l[first].clone()]),
                "shows that it is of this trail".to_owned(),
            ),
        ] {
            let path = lost.home.dir.path().join("spoilt.ndjson");
            fs::write(&path, file).expect("a file");
            let path = path.display().to_string();
            let refused = lost
                .run(&["restore", "--replay", &path, "--complete"])
                .await;
            assert_eq!(refused.code, Some(2), "{name}: {}", refused.stdout);
            assert!(refused.stderr.contains(&said), "{name}: {}", refused.stderr);
            assert_eq!(lost.home.dump().await, before, "{name}");
        }
    }
);

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file")
}

/// Tells whether a mail asks this one to confirm.
fn asks(mail: &peer::Mail, name: &str) -> bool {
    mail.envelope_to == [address(name)] && String::from_utf8_lossy(&mail.bytes).contains("/c/")
}

/// The names in a folder that a command may have left half done.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| {
        let name = entry.expect("a file").file_name();
        name.to_str().expect("UTF-8").to_owned()
    });
    names.filter(|name| name.contains("partial")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_whole_or_not_there_and_so_is_a_restore() {
    let lost = Lost::new(Db::Sqlite).await;
    let (folder, file) = (lost.home.dir.path(), lost.backup.display().to_string());
    let database = folder.join("confirmd.db");

    let second = folder.join("second.db").display().to_string();
    let done = lost.run(&["backup", &second, "--format", "json"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let events = lost.home.count("select size from trail_head").await;
    assert_eq!(told["trail"]["events"], events);
    assert_eq!(told["checkpoint"]["size"], events, "signed at the stop");
    assert_eq!(told["size"], bytes(Path::new(&second)).len());
    let hash = told["sha256"].as_str().expect("a hash").to_owned();
    let keys: Vec<_> = told["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| {
            format!(
                "{}-{}.key",
                key["purpose"].as_str().expect("it"),
                key["id"].as_str().expect("it")
            )
        })
        .collect();
    assert_eq!(keys.len(), 3);
    let before = bytes(Path::new(&second));
    let mode = fs::metadata(&second).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "people are in it");
    let again = lost.run(&["backup", &second]).await;
    assert_eq!(again.code, Some(2), "{}", again.stdout);
    assert!(
        again.stderr.contains("never written over"),
        "{}",
        again.stderr
    );
    assert_eq!(bytes(Path::new(&second)), before);
    let nowhere = lost.run(&["backup", "/nowhere/at/all"]).await;
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.stdout);
    assert_eq!(leftovers(folder), [""; 0]);

    // A database that is in the way, or in use, stays.
    let here = bytes(&database);
    let refused = lost.run(&["restore", &file]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    let daemon = lost.home.start().await;
    let refused = lost.run(&["restore", &file, "--replace"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    let refused = lost.run(&["restore", "--in-place"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    lost.stop(daemon).await;
    assert_eq!(bytes(&database), here);

    // Without a key that it needs.
    for key in &keys {
        let path = lost.home.keys().join(key);
        let aside = folder.join("aside.key");
        fs::rename(&path, &aside).expect("moved");
        let refused = lost.run(&["restore", &file, "--replace"]).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stdout);
        let name = path.display().to_string();
        assert!(
            refused.stderr.contains(&name) && refused.stderr.contains("missing"),
            "{}",
            refused.stderr
        );
        fs::rename(&aside, &path).expect("moved");
    }
    // Another file than the one that was written down, or part of a database in use.
    let refused = lost
        .run(&["restore", &file, "--replace", "--sha256", &hash])
        .await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    let live = folder.join("live.db");
    fs::copy(&file, &live).expect("a copy");
    fs::write(folder.join("live.db-wal"), "x").expect("a file");
    let refused = lost
        .run(&["restore", &live.display().to_string(), "--replace"])
        .await;
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);

    // A byte changed: of an event, of a state, of a page, of the header; and half of it lost.
    let whole = bytes(&lost.backup);
    let find = |text: &str| {
        let text = text.as_bytes();
        whole
            .windows(text.len())
            .position(|w| w == text)
            .expect("it is there")
    };
    let damaged = folder.join("damaged.db");
    for (name, at) in [
        ("an event", find("signup.accepted\",\"v\"")),
        ("a state", find("confirmedconsent")),
        ("a page", 4096),
        ("the header", 3),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&damaged, bytes).expect("a file");
        let refused = lost
            .run(&["restore", &damaged.display().to_string(), "--replace"])
            .await;
        assert!(
            matches!(refused.code, Some(1 | 2)),
            "{name}: {}",
            refused.stdout
        );
    }
    fs::write(&damaged, &whole[..whole.len() / 2]).expect("a file");
    let refused = lost
        .run(&["restore", &damaged.display().to_string(), "--replace"])
        .await;
    assert!(matches!(refused.code, Some(1 | 2)), "{}", refused.stdout);
    assert_eq!(bytes(&database), here, "nothing was written");
    assert_eq!(leftovers(folder), [""; 0]);

    // What was there is kept; a second restore of the same backup begins an epoch of its own.
    for epoch in [2, 3] {
        let done = lost.run(&["restore", &file, "--replace"]).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(lost.home.count("select epoch from trail_head").await, epoch);
        let daemon = lost.home.start().await;
        lost.ask(&daemon, &format!("epoch-{epoch}")).await;
        lost.stop(daemon).await;
        lost.is_intact().await;
    }
    let names = fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("a file").file_name());
    let names: Vec<_> = names
        .map(|n| n.to_str().expect("UTF-8").to_owned())
        .collect();
    let kept = names
        .iter()
        .filter(|n| n.contains(".replaced-") && n.ends_with('Z'));
    assert_eq!(kept.count(), 2, "{names:?}");
    assert_eq!(leftovers(folder), [""; 0]);
    lost.one_root_for_each_size();

    // Whoever copied a file by hand and only declares the loss is told the same.
    fs::copy(&file, &database).expect("a copy");
    let declared = lost
        .run(&["audit", "epoch", "--reason", "copied by hand"])
        .await;
    assert_eq!(declared.code, Some(0), "{}", declared.stderr);
    assert!(
        declared.stdout.contains(&interval(&declared)),
        "{}",
        declared.stdout
    );
    assert_eq!(lost.home.count("select epoch from trail_head").await, 4);
    assert_eq!(lost.standing("stays").await, "confirmed restored");
}

/// Ends the service so that its log still holds what was written last; returns how many signups there are.
async fn killed_with_a_log(lost: &Lost) -> usize {
    let mut daemon = lost.home.start().await;
    let log = lost.home.dir.path().join("confirmd.db-wal");
    // What was erased before may still be washed out of the log, which empties it.
    for nth in 0.. {
        lost.ask(&daemon, &format!("newest-{nth}")).await;
        daemon.signal("STOP");
        if fs::metadata(&log).expect("a log").len() > 0 {
            break;
        }
        daemon.signal("CONT");
    }
    daemon.kill9();
    daemon.wait().await;
    // Not through the live file, whose log whoever looks would fold.
    let copy = lost.home.dir.path().join("look.db");
    for part in ["", "-wal"] {
        let name = |path: &Path| format!("{}{part}", path.display());
        let from = lost.home.dir.path().join("confirmd.db");
        fs::copy(name(&from), name(&copy)).expect("a copy");
    }
    signups(&copy).await
}

async fn signups(database: &Path) -> usize {
    let url = format!("sqlite:{}", database.display());
    let rows = sql::rows(&url, "select cast(count(*) as text) from signup").await;
    rows[0].parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_database_was_moved_away_spoils_no_other() {
    let lost = Lost::new(Db::Sqlite).await;
    killed_with_a_log(&lost).await;
    let database = lost.home.dir.path().join("confirmd.db");
    fs::rename(&database, database.with_extension("broken")).expect("moved");
    let file = lost.backup.display().to_string();
    let log = "confirmd.db-wal";
    for words in [&["serve"][..], &["stats"], &["restore", &file]] {
        let refused = lost.run(words).await;
        assert_eq!(refused.code, Some(2), "{words:?}: {}", refused.stdout);
        assert!(
            refused.stderr.contains(log),
            "{words:?}: {}",
            refused.stderr
        );
        assert!(!database.exists(), "{words:?} made one");
    }
    let done = lost.run(&["restore", &file, "--replace"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    lost.is_intact().await;
}

/// A replacement is four renames: the database, its log, its index, and the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_is_cut_off_leaves_no_database_without_its_log() {
    let lost = Lost::new(Db::Sqlite).await;
    let known = killed_with_a_log(&lost).await;
    let folder = &lost.home.dir.path().to_owned();
    let file = lost.backup.display().to_string();
    let kept = ["", "-wal", "-shm"]
        .map(|part| folder.join(format!("confirmd.db{part}")))
        .map(|path| (bytes(&path), path));
    for nth in 1..=4 {
        let cut = Strace::command("rename", &format!("signal=KILL:when={nth}"));
        let cut: Vec<&str> = cut.iter().map(String::as_str).collect();
        let done = lost
            .home
            .run_by(&cut, &["restore", &file, "--replace"])
            .await;
        assert_ne!(done.code, Some(0), "{nth}: {}", done.stderr);
        if folder.join("confirmd.db").exists() {
            // Nothing had been moved, or all had been.
            let there = signups(&folder.join("confirmd.db")).await;
            assert_eq!(there, known, "{nth}");
        } else {
            let refused = lost.run(&["serve"]).await;
            assert_eq!(refused.code, Some(2), "{nth}: {}", refused.stderr);
        }
        // As it was, but for what was moved aside.
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a file").path();
            if path.display().to_string().contains(".replaced-") {
                fs::remove_file(path).expect("ours");
            }
        }
        for (bytes, path) in &kept {
            fs::write(path, bytes).expect("a file");
        }
    }
    // Done to the end, what was there is kept whole, under a name that can be opened.
    let done = lost.run(&["restore", &file, "--replace"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    lost.is_intact().await;
    let (_, aside) = done.stderr.split_once(" is now ").expect("a name");
    let aside = aside.lines().next().expect("a name");
    let mut other = lost.home;
    other.move_to(&format!("sqlite:{aside}"));
    let stats = other.run(&["stats"]).await;
    assert_eq!(stats.code, Some(0), "{}", stats.stderr);
    assert_eq!(signups(Path::new(aside)).await, known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_backed_up_by_its_own_tools() {
    let lost = Lost::new(Db::Postgres).await;
    let done = lost.run(&["backup", "x.dump"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stdout);
    assert!(
        done.stderr
            .contains("pg_dump --format=custom --file=x.dump"),
        "{}",
        done.stderr
    );
    let done = lost.run(&["restore", "x.dump"]).await;
    assert_eq!(done.code, Some(2), "{}", done.stdout);
    assert!(done.stderr.contains("--in-place"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_not_mounted_are_missed() {
    let mut lost = Lost::new(Db::Sqlite).await;
    assert_eq!(lost.restore(&[]).await.code, Some(0));
    let daemon = lost.home.start().await;
    lost.ask(&daemon, "in-epoch-2").await;
    lost.stop(daemon).await;
    // An empty folder, as a place where nothing is mounted.
    let copies = lost.home.dir.path().join("checkpoints");
    let aside = copies.with_extension("aside");
    fs::rename(&copies, &aside).expect("moved");
    fs::create_dir(&copies).expect("a folder");
    let before = lost.home.count("select epoch from trail_head").await;
    let refused = lost.restore(&[]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    for word in ["trail.copy", "--copy-lost"] {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    assert_eq!(
        lost.home.count("select epoch from trail_head").await,
        before
    );
    // Back in its place, the next epoch is one that was never signed.
    fs::remove_dir(&copies).expect("it is empty");
    fs::rename(&aside, &copies).expect("moved");
    assert_eq!(lost.restore(&[]).await.code, Some(0));
    let epoch = lost.home.count("select epoch from trail_head").await;
    assert_eq!((before, epoch), (2, 3));
    // Whoever has lost them for good may go on.
    fs::rename(&copies, &aside).expect("moved");
    let done = lost.restore(&["--copy-lost"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// As on a new machine whose state folder belongs to the user of the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_root_restores_belongs_to_the_owner_of_the_folder() {
    const NOBODY: u32 = 65_534;
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    home.first_start().await;
    let backup = home.dir.path().join("backup");
    let backup = backup.to_str().expect("UTF-8");
    let done = home.run(&["backup", backup]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let state = home.dir.path().join("state");
    fs::create_dir(&state).expect("a folder");
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), None).expect("root");
    let keys = fs::read_dir(home.keys()).expect("keys");
    let keys = keys.map(|key| key.expect("a key").path());
    keys.chain([home.keys(), state.clone()])
        .for_each(|path| give(&path));
    home.set(
        "DATABASE__URL",
        &format!("sqlite:{}/confirmd.db", state.display()),
    );
    let done = home.run(&["restore", backup]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for file in fs::read_dir(&state).expect("a folder") {
        let file = file.expect("a file");
        assert_eq!(file.metadata().expect("there").uid(), NOBODY, "{file:?}");
    }
    let done = home.run_as_nobody(&["stats"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// In a container every process has the same number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_that_died_left_is_in_nobodys_way() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let mut daemon = home.start().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let backup = home.dir.path().join("backup");
    let backup = backup.to_str().expect("UTF-8");
    let left = |name: &str| {
        let left = home.dir.path().join(format!(".{name}"));
        left.display().to_string()
    };
    for (name, words) in [
        ("backup", &["backup", backup][..]),
        ("confirmd.db", &["restore", backup, "--replace"]),
    ] {
        let leave = "touch \"$0.$$.partial\"; exec \"$@\"";
        let done = home.run_by(&["sh", "-c", leave, &left(name)], words).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
}
