//! Checkpoints: signed in time, over what was read back; copied; and never continued from a database that is older.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use confirmd::background::copies::Copies;
use confirmd::background::sequence::Sequencer;
use confirmd::domain::event::{Event, EventKind};
use confirmd::domain::time::Timestamp;
use confirmd::store::trail::Kept;
use confirmd::trail::note::Checkpoint;
use serde_json::Value;

use crate::support::app::{Db, TestApp, both};
use crate::support::daemon::{Home, QUICK};
use crate::support::driver::Driver;
use crate::support::mail::Mail;
use crate::support::peer::Peer;
use crate::support::serve;
use crate::support::small_disk::SmallDisk;

fn sequencer(app: &TestApp) -> Sequencer {
    let copies = Copies::new(app.dir.path().join("copies"));
    Sequencer::new(app.flows.clone(), Some(copies))
}

async fn step(sequencer: &Sequencer) {
    while sequencer.step().await.expect("the database works") {}
}

/// The checkpoints that are kept, as `epoch size`.
async fn kept(app: &TestApp) -> Vec<String> {
    let rows = "select epoch || ' ' || size from checkpoint order by epoch, size";
    app.sql(rows).await
}

/// Appends events that mean nothing.
async fn append(app: &TestApp, events: u64) {
    let mut tx = app.flows.pool.begin().await.expect("the database works");
    let now = app.clock.now();
    let event = |_| Event::of(confirmd::clock::random(), EventKind::ListChanged, now, None);
    let events: Vec<_> = (0..events).map(event).collect();
    tx.append(&events).await.expect("appended");
    tx.commit().await.expect("committed");
}

async fn metric(app: &TestApp, name: &str) -> String {
    let text = app.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

/// Every note that a folder of copies ever got.
fn notes(folder: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|e| e == "ndjson") {
            let text = std::fs::read_to_string(path).expect("text");
            let note = |line: &str| {
                let line: Value = serde_json::from_str(line).expect("JSON");
                line["checkpoint"].as_str().expect("a note").to_owned()
            };
            notes.extend(text.lines().map(note));
        }
    }
    notes
}

both!(
    a_checkpoint_comes_after_a_minute_or_a_thousand_events,
    |db| {
        let app = TestApp::start(db).await;
        let role = sequencer(&app);
        let pass = |seconds| app.pass(Duration::from_secs(seconds));
        step(&role).await;
        let first = app.count("event").await;
        assert_eq!(
            kept(&app).await,
            [format!("1 {first}")],
            "the first at once"
        );

        append(&app, 1).await;
        pass(59);
        step(&role).await;
        assert_eq!(kept(&app).await.len(), 1, "not before a minute");
        pass(1);
        step(&role).await;
        let second = first + 1;
        assert_eq!(kept(&app).await.last(), Some(&format!("1 {second}")));

        append(&app, 999).await;
        pass(2);
        step(&role).await;
        assert_eq!(kept(&app).await.len(), 2, "not for 999 events");
        append(&app, 1).await;
        step(&role).await;
        assert_eq!(
            kept(&app).await.last(),
            Some(&format!("1 {}", second + 1000))
        );
        append(&app, 1000).await;
        step(&role).await;
        assert_eq!(kept(&app).await.len(), 3, "not twice in a second");
        pass(1);
        step(&role).await;
        assert_eq!(kept(&app).await.len(), 4);

        // While nothing happens, the same is signed again every hour.
        let times = "select note from checkpoint order by size desc limit 1";
        let before = app.sql(times).await;
        pass(3599);
        step(&role).await;
        assert_eq!(app.sql(times).await, before);
        pass(1);
        step(&role).await;
        assert_ne!(app.sql(times).await, before, "silence is signed too");
        assert_eq!(kept(&app).await.len(), 4);

        // Each of them is in the folder, the newest by itself, and carries a good signature.
        let copies = app.dir.path().join("copies");
        let newest = std::fs::read_to_string(copies.join("checkpoint")).expect("a copy");
        let notes = notes(&copies);
        assert_eq!((notes.len(), notes.last()), (5, Some(&newest)));
        let verifiers = app.flows.verifiers(1).expect("keys");
        let sizes = notes
            .iter()
            .map(|note| Checkpoint::open(note, &verifiers).expect("signed").size);
        let grown = [first, second, second + 1000, second + 2000, second + 2000];
        assert!(sizes.eq(grown.map(|n| u64::try_from(n).expect("small"))));
        assert_eq!(
            metric(&app, "confirmd_checkpoint_size ").await,
            (second + 2000).to_string()
        );
        assert_eq!(metric(&app, "confirmd_trail_alarm ").await, "0");
    }
);

both!(a_clock_that_was_set_back_keeps_no_event_waiting, |db| {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);
    let app = TestApp::start(db).await;
    let role = sequencer(&app);
    app.pass(DAY);
    step(&role).await;
    let first = app.count("event").await;
    app.set_back(DAY);
    step(&role).await;
    assert_eq!(kept(&app).await.len(), 1, "there is nothing to say");
    app.pass(DAY - MINUTE);
    append(&app, 1).await;
    step(&role).await;
    assert_eq!(kept(&app).await.len(), 1, "it comes within a minute or two");
    app.set_back(SECOND);
    step(&role).await;
    let signed = kept(&app).await;
    assert_eq!(signed[1..], [format!("1 {}", first + 1)]);
    // From there on all is as it was.
    append(&app, 1).await;
    app.pass(MINUTE - SECOND);
    step(&role).await;
    assert_eq!(kept(&app).await.len(), 2);
    app.pass(SECOND);
    step(&role).await;
    assert_eq!(kept(&app).await.len(), 3);
    let copies = app.dir.path().join("copies").display().to_string();
    let verified = serve::command(&app, &["audit", "verify", "--copy", &copies]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
});

/// The copies of today, and what they hold.
fn today(folder: &Path) -> (PathBuf, String) {
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut paths = files.map(|file| file.expect("a file").path());
    let day = paths.find(|path| path.extension().is_some_and(|e| e == "ndjson"));
    let day = day.expect("a copy");
    let text = std::fs::read_to_string(&day).expect("text");
    (day, text)
}

both!(a_copy_that_a_power_cut_tore_goes_on, |db| {
    let app = TestApp::start(db).await;
    let role = sequencer(&app);
    let copies = app.dir.path().join("copies");
    let next = async || {
        append(&app, 1).await;
        app.pass(Duration::from_secs(60));
        step(&role).await;
    };
    let verify = || {
        let folder = copies.display().to_string();
        let verified = serve::command(&app, &["audit", "verify", "--copy", &folder]);
        let said = String::from_utf8(verified.stdout).expect("UTF-8");
        (verified.status.code(), said)
    };
    step(&role).await;
    for left in [1, 10, 15, 80] {
        next().await;
        let (day, text) = today(&copies);
        let last = text.lines().last().expect("a line").len() + 1;
        std::fs::write(&day, &text[..text.len() - last + left]).expect("written");
        assert_eq!(verify().0, Some(0), "a line that is being written");
    }
    next().await;
    let (day, text) = today(&copies);
    assert_eq!(text.lines().count(), 6);
    let newest = std::fs::read_to_string(copies.join("checkpoint")).expect("a copy");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["checkpoint"], newest);
    let (code, said) = verify();
    assert_eq!(code, Some(0), "{said}");
    for n in 2..6 {
        let place = format!("note: {} line {n} is cut off", day.display());
        assert!(said.contains(&place), "{said}");
    }
    // What nobody began to write is something else.
    std::fs::write(&day, format!("{text}{{\"checkpoint\":1}}\n")).expect("written");
    let (code, said) = verify();
    assert!(
        code == Some(1) && said.contains("line 7 holds no checkpoint"),
        "{said}"
    );
});

#[test]
fn a_copy_on_a_full_disk_stays_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(&dir.path().join("disk"), "64k");
    let folder = disk.folder.join("copies");
    let copies = Copies::new(folder.clone());
    let add = |size, length| {
        copies.add(&Kept {
            epoch: 1,
            size,
            note: size.to_string().repeat(length),
            signed_at: Timestamp::from_seconds(1_800_000_000),
            stamp: None,
        })
    };
    add(1, 300).expect("there is room");
    disk.fill();
    // The line comes to stand where there is room yet, the newest by itself does not.
    for _ in 0..2 {
        add(2, 300).expect_err("the disk is full");
        assert_eq!(today(&folder).1.lines().count(), 2, "said once");
    }
    let (_, before) = today(&folder);
    add(3, 8000).expect_err("the disk is full");
    assert_eq!(today(&folder).1, before);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 2);
    let newest = || std::fs::read_to_string(folder.join("checkpoint")).expect("a copy");
    assert_eq!(newest(), "1".repeat(300));
    disk.clear();
    add(3, 8000).expect("there is room");
    assert_eq!(today(&folder).1.lines().count(), 3);
    assert_eq!(newest(), "3".repeat(8000));
}

both!(what_changed_since_it_was_numbered_is_not_signed, |db| {
    let app = TestApp::start(db).await;
    let role = sequencer(&app);
    append(&app, 300).await;
    step(&role).await;
    let off = match db {
        Db::Sqlite => "drop trigger event_is_never_changed",
        Db::Postgres => "alter table event disable trigger user",
    };
    app.execute(off).await.expect("ours");
    let leaf = match db {
        Db::Sqlite => "x'7b7d'",
        Db::Postgres => r"'\x7b7d'",
    };
    let number = db.seq();
    let set = |what: &str, of: &str| format!("update event set {what} where {number} = {of}");
    for (change, undo) in [
        (
            &*set(&format!("leaf = {leaf}"), "SEQ"),
            &*set("leaf = (select leaf from spare where seq = SEQ)", "SEQ"),
        ),
        (
            &*set(&format!("{number} = SEQ + 5000"), "SEQ"),
            &*set(&format!("{number} = SEQ"), "SEQ + 5000"),
        ),
        (
            "update tile set hashes = (select hashes from tile where level = 1) where level = 0 and place = 1",
            "update tile set hashes = (select hashes from spare_tile) where level = 0 and place = 1",
        ),
    ] {
        // Numbered, and not yet signed.
        append(&app, 20).await;
        step(&role).await;
        let signed = kept(&app).await;
        let seq = (app.count("event").await - 3).to_string();
        for copy in [
            "create table spare as select seq, leaf from numbered_event",
            "create table spare_tile as select hashes from tile where level = 0 and place = 1",
        ] {
            app.execute(copy).await.expect("ours");
        }
        let done = app.execute(&change.replace("SEQ", &seq)).await;
        assert_eq!(done, Ok(1), "{change}");
        app.pass(Duration::from_secs(61));
        step(&role).await;
        assert_eq!(kept(&app).await, signed, "{change}");
        assert_eq!(metric(&app, "confirmd_trail_alarm ").await, "1", "{change}");
        let done = app.execute(&undo.replace("SEQ", &seq)).await;
        assert_eq!(done, Ok(1), "{undo}");
        step(&role).await;
        assert_ne!(kept(&app).await, signed, "{change}");
        assert_eq!(metric(&app, "confirmd_trail_alarm ").await, "0", "{change}");
        for table in ["drop table spare", "drop table spare_tile"] {
            app.execute(table).await.expect("ours");
        }
    }
});

both!(what_cannot_be_numbered_is_told_and_waits, |db| {
    let app = TestApp::start(db).await;
    let role = sequencer(&app);
    append(&app, 5).await;
    step(&role).await;
    let tile = [
        "create table spare as select * from tile",
        "delete from tile",
        "insert into tile select * from spare",
    ];
    let mut losses = vec![tile];
    if db == Db::Sqlite {
        let off = "drop trigger event_is_never_deleted";
        app.execute(off).await.expect("ours");
        losses.push([
            "create table spare as select * from event order by ord desc limit 1 offset 1",
            "delete from event where ord in (select ord from spare)",
            "insert into event select * from spare",
        ]);
    }
    for [copy, lose, undo] in losses {
        append(&app, 3).await;
        let numbered = app.count("numbered_event").await;
        app.execute(copy).await.expect("ours");
        app.execute(lose).await.expect("ours");
        step(&role).await;
        assert_eq!(app.count("numbered_event").await, numbered, "{lose}");
        assert_eq!(metric(&app, "confirmd_trail_alarm ").await, "1", "{lose}");
        let verified = serve::command(&app, &["audit", "verify"]);
        assert_eq!(verified.status.code(), Some(1), "{lose}");
        app.execute(undo).await.expect("ours");
        step(&role).await;
        assert_eq!(app.count("unnumbered_event").await, 0, "{undo}");
        assert_eq!(metric(&app, "confirmd_trail_alarm ").await, "0", "{undo}");
        app.execute("drop table spare").await.expect("ours");
    }
});

#[tokio::test]
async fn a_copy_that_cannot_be_read_is_no_older_database() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    std::fs::create_dir_all(home.dir.path().join("checkpoints/checkpoint")).expect("a folder");
    let mut daemon = home.start().await;
    let alarm = daemon.message("the trail needs you").await;
    assert_eq!(alarm["alarm"], "Unread", "{alarm}");
    let reason = alarm["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("trail.copy: ") && reason.contains("cannot be read"),
        "{reason}"
    );
}

both!(
    a_restored_database_is_not_continued_before_somebody_says_so,
    |db| {
        let peer = Peer::start().await;
        let mut home = Home::new(db, peer.addr(), QUICK);
        let key = home.key("acme", "signup").await;
        let mut daemon = home.start().await;
        assert_eq!(
            daemon
                .sign_up(&key, "early@example.org", &["weekly"])
                .await
                .status,
            202
        );
        home.idle().await;
        daemon.term();
        assert!(daemon.wait().await.success());
        let (yesterday, _keep) = home.back_up();

        let mut daemon = home.start().await;
        assert_eq!(
            daemon
                .sign_up(&key, "lost@example.org", &["weekly"])
                .await
                .status,
            202
        );
        home.idle().await;
        daemon.term();
        assert!(daemon.wait().await.success());
        let copy = home.dir.path().join("checkpoints/checkpoint");
        let signed = std::fs::read_to_string(&copy).expect("a copy");
        let size = home.count("select size from trail_head").await;

        home.move_to(&yesterday);
        let older = home.count("select size from trail_head").await;
        assert!(older < size);
        let mut daemon = home.start().await;
        let alarm = daemon.message("the trail needs you").await;
        let reason = alarm["reason"].as_str().expect("a reason");
        for part in [
            &copy.display().to_string(),
            &format!("{size} events were signed, and the database has {older}"),
            "confirmd audit epoch --reason",
        ] {
            assert!(reason.contains(part), "{part} is not in {reason}");
        }
        // Flows do not wait for it.
        assert_eq!(
            daemon
                .sign_up(&key, "next@example.org", &["weekly"])
                .await
                .status,
            202
        );
        home.until(
            "mails",
            "select count(*) from message where state in ('queued', 'claimed')",
            0,
        )
        .await;
        assert!(
            daemon
                .ops("/metrics")
                .await
                .body
                .contains("confirmd_trail_alarm 1")
        );
        assert_eq!(home.count("select size from trail_head").await, older);
        assert_eq!(std::fs::read_to_string(&copy).expect("a copy"), signed);
        daemon.term();
        assert!(daemon.wait().await.success());
        assert_eq!(
            home.count("select size from trail_head").await,
            older,
            "not at the stop either"
        );

        let mut daemon = home.start().await;
        daemon.message("the trail needs you").await;
        let refused = home.run(&["audit", "epoch"]).await;
        assert_eq!(refused.code, Some(2), "a reason is needed");
        let refused = home.run(&["audit", "epoch", "--reason", " "]).await;
        assert_eq!(refused.code, Some(2), "a reason says something");
        let declared = home
            .run(&[
                "audit",
                "epoch",
                "--reason",
                "restored the backup of yesterday",
            ])
            .await;
        assert_eq!(declared.code, Some(0), "{}", declared.stderr);
        daemon.message("the trail is well again").await;
        home.idle().await;
        daemon.term();
        assert!(daemon.wait().await.success());
        let trail = home.trail().await;
        assert_eq!((trail["trail.epoch"], trail["signup.accepted"]), (1, 2));
        let now = std::fs::read_to_string(&copy).expect("a copy");
        assert!(now.starts_with("lists.acme.example/confirmd/2\n"), "{now}");
        let printed = home.run(&["audit", "checkpoint"]).await;
        assert_eq!((printed.code, printed.stdout + "\n"), (Some(0), now));

        // The one that was lost in between is now the older one.
        let first = match db {
            Db::Sqlite => format!("sqlite:{}/confirmd.db", home.dir.path().display()),
            Db::Postgres => home.original().to_owned(),
        };
        home.move_to(&first);
        let mut daemon = home.start().await;
        let alarm = daemon.message("the trail needs you").await;
        assert!(
            alarm["reason"]
                .as_str()
                .expect("a reason")
                .contains("older than its copy"),
            "{alarm}"
        );
        daemon.term();
        assert!(daemon.wait().await.success());
    }
);

/// The places of the events with the last numbers, from the last on.
async fn last_places(app: &TestApp, events: usize) -> Vec<u64> {
    let places = "select ord::text from event order by seq desc nulls first";
    let places = app.sql(&format!("{places} limit {events}")).await;
    let places = places.iter().map(|place| place.parse().expect("a place"));
    places.collect()
}

/// On PostgreSQL an event takes its place before it is committed.
#[tokio::test]
async fn an_event_that_is_committed_late_comes_before_those_that_began_after_it() {
    let app = TestApp::start(Db::Postgres).await;
    let sequencer = sequencer(&app);
    let mut late = app.flows.pool.begin().await.expect("the database works");
    let now = app.clock.now();
    let event = Event::of(confirmd::clock::random(), EventKind::ListChanged, now, None);
    late.append(&[event]).await.expect("appended");
    for _ in 0..3 {
        append(&app, 1).await;
        step(&sequencer).await;
    }
    late.commit().await.expect("committed");
    append(&app, 1).await;
    step(&sequencer).await;
    let places = last_places(&app, 5).await;
    let late = places[1];
    let others = [3, 2, 1].map(|n| late + n);
    assert_eq!((places[0], &places[2..]), (late + 4, &others[..]));
}

/// A transaction that commits late may have begun after the newest that a look sees.
#[tokio::test]
async fn a_transaction_that_began_last_and_is_committed_late_comes_before_those_after_it() {
    let app = TestApp::start(Db::Postgres).await;
    let sequencer = sequencer(&app);
    let now = app.clock.now();
    let event = || Event::of(confirmd::clock::random(), EventKind::ListChanged, now, None);
    let mut early = app.flows.pool.begin().await.expect("the database works");
    early.append(&[event()]).await.expect("appended");
    let mut late = app.flows.pool.begin().await.expect("the database works");
    late.append(&[event()]).await.expect("appended");
    early.append(&[event()]).await.expect("appended");
    early.commit().await.expect("committed");
    for _ in 0..3 {
        step(&sequencer).await;
    }
    late.commit().await.expect("committed");
    append(&app, 1).await;
    step(&sequencer).await;
    let places = last_places(&app, 4).await;
    let late = places[1];
    assert_eq!(places, [late + 2, late, late + 1, late - 1]);
}

/// Two processes number and sign while one of them is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_root_for_each_size_whoever_signs_and_whoever_dies() {
    const PEOPLE: usize = 1500;
    const KILLS: usize = 8;
    let peer = Peer::start().await;
    let home = Home::new(Db::Postgres, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let steady = home.start().await;
    let mut dying = home.start().await;
    let drivers = [
        Driver::new(&key, "steady", PEOPLE / 2, None),
        Driver::new(&key, "dying", PEOPLE / 2, None),
    ];
    drivers[0].at.send_replace(Some(steady.addr));
    drivers[1].at.send_replace(Some(dying.addr));
    let driving: Vec<_> = drivers
        .iter()
        .map(|driver| {
            let driver = driver.clone();
            tokio::spawn(async move { driver.run(4).await })
        })
        .collect();
    let mut accepted = drivers[1].accepted.subscribe();
    let (mut seen, mut people) = (0, BTreeSet::new());
    for kill in 1..=KILLS {
        let enough = accepted
            .wait_for(|n| *n >= kill * PEOPLE / 2 / (KILLS + 1))
            .await;
        drop(enough.expect("the driver drives"));
        dying.kill9();
        drivers[1].at.send_replace(None);
        dying = home.start().await;
        drivers[1].at.send_replace(Some(dying.addr));
        // Whoever has a mail confirms with one and leaves with the other, at once.
        let mails = peer.mails();
        for mail in &mails[seen..] {
            // A kill may have made a second copy.
            if !people.insert(mail.envelope_to.concat()) {
                continue;
            }
            let mail = Mail::read(&mail.bytes);
            let page = dying.press(&mail.confirm(), "").await;
            let leave = crate::support::mail::links(&page.body, "/u/");
            let left = steady.press(&leave[0], "List-Unsubscribe=One-Click").await;
            assert_eq!((page.status, left.status), (200, 200));
        }
        seen = mails.len();
    }
    for driving in driving {
        driving.await.expect("every signup has its 202");
    }
    home.idle().await;
    let trail = home.trail().await;
    assert_eq!(trail["signup.accepted"], PEOPLE);
    let left = trail["subscription.unsubscribed"];
    assert_eq!(
        (left, trail["subscription.confirmed"]),
        (people.len(), left)
    );
    let early = "select count(*) from event l join event c on c.subscriber = l.subscriber
        where l.type = 'subscription.unsubscribed' and c.type = 'subscription.confirmed' and c.seq > l.seq";
    assert_eq!(home.count(early).await, 0, "left before they were there");

    for daemon in [steady, dying] {
        let mut daemon = daemon;
        daemon.term();
        assert!(daemon.wait().await.success());
    }
    let mut roots: BTreeMap<String, String> = BTreeMap::new();
    let notes = notes(&home.dir.path().join("checkpoints"));
    for note in &notes {
        let mut lines = note.lines().skip(1);
        let (size, root) = (lines.next().expect("a size"), lines.next().expect("a root"));
        let known = roots.entry(size.to_owned()).or_insert(root.to_owned());
        assert_eq!(known, root, "two roots of size {size}");
    }
    assert!(roots.len() > KILLS / 2, "{} sizes", roots.len());
    println!(
        "checkpoints: {} notes of {} sizes, {left} people left",
        notes.len(),
        roots.len()
    );
}
