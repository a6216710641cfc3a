//! The program: its exit codes, what it prints, and the files that others check.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use confirmd::background::sequence;
use confirmd::domain::consent::Hash;
use confirmd::flow::audit::report::{Check, Finding};
use confirmd::flow::epoch;
use confirmd::trail::note::{Checkpoint, Verifier};
use confirmd::trail::tree::{leaf_hash, verify_consistency, verify_inclusion};
use serde_json::Value;

use super::fixture::{self, sign};
use super::world::World;
use crate::support::app::{TestApp, both};
use crate::support::serve;

fn run(app: &TestApp, words: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = serve::command(app, words);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        status.code().expect("an exit code"),
        text(stdout),
        text(stderr),
    )
}

async fn keys(app: &TestApp, epoch: u64) -> Vec<Verifier> {
    fixture::trusted(app).await.keys(epoch)
}

both!(verify_says_what_it_found_and_how_it_ends, |db| {
    let app = fixture::trail(db, 1).await;
    let (code, out, err) = run(&app, &["audit", "verify"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("intact: ") && out.lines().count() == 1,
        "{out}"
    );

    let mut world = World::open(&app).await;
    let (size, seq) = (world.checkpoints[0].0.size, db.seq());
    let since = |size: u64| run(&app, &["audit", "verify", "--since", &size.to_string()]);
    assert_eq!(since(size).0, 0, "{:?}", since(size));
    let (code, _, err) = since(size + 1);
    assert!(
        code == 2 && err.contains("no checkpoint of that size"),
        "{err}"
    );

    // What lies before is believed as it was signed; what lies after is not.
    for (at, later) in [(size - 1, 0), (size + 1, 1)] {
        let mut leaf = world.leaves[usize::try_from(at).expect("small") - 1].clone();
        leaf["salt"] = "00".repeat(16).into();
        let leaf = world.bytes(leaf.to_string().as_bytes());
        let set = format!("update event set leaf = {leaf} where {seq} = {at}");
        world.raw.run(&set).await;
        let (code, out, _) = run(&app, &["audit", "verify"]);
        assert_eq!(code, 1);
        assert!(out.starts_with(&format!("broken: event {at}: ")), "{out}");
        assert!(out.contains("\n  do: "), "{out}");
        assert_eq!(since(size).0, later);
        world.restore(&["event"]).await;
    }
    world
        .raw
        .run(&format!("delete from event where {seq} > {}", size + 3))
        .await;
    let (code, out, _) = run(&app, &["audit", "verify", "--format", "json"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &told["intact"], &told["findings"][0]["from"]),
        (1, &false.into(), &(size + 4).into())
    );
    world.restore(&["event"]).await;

    let (code, _, err) = run(&app, &["audit", "verify", "--copy", "/nowhere"]);
    assert!(code == 2 && err.contains("no such folder"), "{err}");
    // Without the key files, public keys do.
    let key = &keys(&app, 1).await[0].to_string();
    let folder = app.dir.path().join("keys");
    let trail = || {
        fs::read_dir(&folder).expect("keys").find_map(|entry| {
            let path = entry.expect("a file").path();
            path.file_name()?
                .to_str()?
                .starts_with("trail-")
                .then_some(path)
        })
    };
    let file = trail().expect("a trail key");
    let aside = app.dir.path().join("aside");
    fs::rename(&file, &aside).expect("moved");
    let (code, _, err) = run(&app, &["audit", "verify"]);
    assert!(code == 2 && err.contains("--key"), "{err}");
    assert_eq!(run(&app, &["audit", "verify", "--key", key]).0, 0);
    fs::rename(&aside, &file).expect("moved");
});

/// Exports to a file, and returns its lines.
fn export(app: &TestApp, words: &[&str]) -> String {
    let (code, out, err) = run(app, &[&["events", "export"], words].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

async fn verify_file(app: &TestApp, text: &str) -> (i32, String) {
    let file: PathBuf = app.dir.path().join("export.ndjson");
    fs::write(&file, text).expect("a file");
    let mut words = vec![
        "audit",
        "verify",
        "--file",
        file.to_str().expect("UTF-8"),
        "--key",
    ];
    let keys: Vec<String> = [keys(app, 1).await, keys(app, 2).await]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect();
    words.extend(keys.iter().map(String::as_str));
    // No configuration, no database.
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_confirmd"))
        .args(&words)
        .env_clear()
        .output()
        .expect("the program starts");
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.code().expect("an exit code"),
        String::from_utf8(said).expect("UTF-8"),
    )
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

both!(an_export_is_checked_with_public_keys_alone, |db| {
    let app = fixture::trail(db, 1).await;
    let whole = export(&app, &[]);
    let (code, said) = verify_file(&app, &whole).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("under no checkpoint yet"), "{said}");

    let lines: Vec<&str> = whole.lines().collect();
    let is_note = |line: &&str| line.starts_with("{\"checkpoint\"");
    let notes: Vec<usize> = (0..lines.len()).filter(|at| is_note(&lines[*at])).collect();
    assert_eq!(notes.len(), 2);
    // A third of the way to the second checkpoint; one note stands before it.
    let at = notes[0] + (notes[1] - notes[0]) / 3;
    let first: u64 = serde_json::from_str::<Value>(lines[notes[0] - 1]).expect("JSON")["seq"]
        .as_u64()
        .expect("a number");
    let second: u64 = serde_json::from_str::<Value>(lines[notes[1] - 1]).expect("JSON")["seq"]
        .as_u64()
        .expect("a number");
    let seq = at as u64;
    let range = format!("broken: an event from {} to {second}: ", first + 1);
    let exact = |seq: u64| format!("broken: event {seq}: ");

    let mut leaf: Value = serde_json::from_str(lines[at]).expect("JSON");
    let bytes = BASE64
        .decode(leaf["leaf"].as_str().expect("a leaf"))
        .expect("base64");
    let mut inner: Value = serde_json::from_slice(&bytes).expect("JSON");
    inner["data"]["remark"] = true.into();
    leaf["leaf"] = BASE64.encode(inner.to_string()).into();
    let changed = leaf.to_string();
    let broken = lines[at].replace("\"leaf\":\"e", "\"leaf\":\"?");
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    let mut without = lines.clone();
    without.remove(at);
    let mut twice = lines.clone();
    twice.insert(at, lines[at]);
    let mut early = lines.clone();
    early.swap(notes[1], notes[1] - 1);
    let replaced = |line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        joined(&lines)
    };
    let forged = lines[notes[1]].replace("\\ntime 2026", "\\ntime 2025");
    let mut signed = lines.clone();
    signed[notes[1]] = &forged;
    for (name, text, expected) in [
        ("a leaf changed", replaced(&changed), range.clone()),
        ("a line missing", joined(&without), exact(seq)),
        ("lines swapped", joined(&swapped), exact(seq)),
        ("a line twice", joined(&twice), exact(seq + 1)),
        ("the beginning missing", joined(&lines[1..]), exact(1)),
        (
            "a checkpoint too early",
            joined(&early),
            format!("broken: an event from {} to {}: ", first + 1, second - 1),
        ),
        ("a checkpoint changed", joined(&signed), exact(second)),
    ] {
        let (code, said) = verify_file(&app, &text).await;
        assert_eq!(code, 1, "{name}: {said}");
        assert!(
            said.starts_with(&expected),
            "{name}: {said}, expected {expected}"
        );
        assert!(!said.contains("daemon"), "{name}: {said}");
    }
    // What cannot be read is no copy of the trail, and shows no change to it.
    let torn = whole.trim_end();
    let torn = &torn[..torn.len() - 20];
    let html = "<!DOCTYPE html>\n<title>Sign in</title>\n".to_owned();
    let resume = |after: u64| format!("events export --after {after}`");
    for (name, text, number, after) in [
        ("a leaf spoilt", replaced(&broken), at + 1, seq - 1),
        ("a line spoilt", replaced("{"), at + 1, seq - 1),
        (
            "the end missing",
            torn.to_owned(),
            lines.len(),
            (lines.len() - notes.len() - 1) as u64,
        ),
        ("a page", html, 1, 0),
    ] {
        let (code, said) = verify_file(&app, &text).await;
        assert_eq!(code, 2, "{name}: {said}");
        assert!(
            said.contains(&format!("line {number} cannot be read")),
            "{name}: {said}"
        );
        assert!(said.contains(&resume(after)), "{name}: {said}");
    }
    let without: Vec<&str> = lines
        .iter()
        .copied()
        .filter(|line| !is_note(line))
        .collect();
    let (code, said) = verify_file(&app, &joined(&without)).await;
    for (code, said) in [(code, said), verify_file(&app, "").await] {
        assert!(
            code == 2 && said.contains("nothing in it is signed") && !said.contains("intact"),
            "{said}"
        );
    }
    let (code, _, said) = run(
        &app,
        &[
            "audit",
            "verify",
            "--file",
            "/nowhere",
            "--key",
            &keys(&app, 1).await[0].to_string(),
        ],
    );
    assert_eq!(code, 2, "{said}");
});

both!(an_export_goes_on_where_it_ended, |db| {
    let app = fixture::trail(db, 1).await;
    sign(&app).await;
    let (head, _) = app
        .flows
        .pool
        .read()
        .await
        .unwrap()
        .trail_length()
        .await
        .unwrap();
    let mut file = export(&app, &[]);
    assert!(file.lines().last().unwrap().starts_with("{\"checkpoint\""));
    for n in 0..3 {
        app.sign_up(&format!("more.{n}@example.org"), &["weekly"])
            .await;
        while sequence::step(&app.flows).await.unwrap() {}
        if n != 1 {
            sign(&app).await;
        }
        let last = head + n;
        file += &export(&app, &["--after", &last.to_string()]);
    }
    assert_eq!(file, export(&app, &[]));
    assert_eq!(verify_file(&app, &file).await.0, 0);
    // Nothing new: the checkpoint over the end comes again, for it may be younger than the file.
    let end = (head + 3).to_string();
    let again = export(&app, &["--after", &end]);
    assert!(
        again.lines().count() == 1 && file.ends_with(&again),
        "{again}"
    );
    assert_eq!(verify_file(&app, &(file.clone() + &again)).await.0, 0);
    let (code, out, err) = run(
        &app,
        &["events", "export", "--after", &(head + 4).to_string()],
    );
    assert!(
        (code, out.as_str()) == (2, "") && err.contains("the trail has"),
        "{err}"
    );

    // One sender reads its own; of the others it has the hashes, and the signatures hold.
    let own = export(&app, &["--sender", "other"]);
    assert_eq!(own.lines().count(), file.lines().count());
    let mut shown = 0;
    for (own, all) in own.lines().zip(file.lines()) {
        if own == all {
            if let Some(leaf) = serde_json::from_str::<Value>(own).unwrap()["leaf"].as_str() {
                let leaf: Value = serde_json::from_slice(&BASE64.decode(leaf).unwrap()).unwrap();
                assert_eq!(leaf["sender"], "other");
                shown += 1;
            }
        } else {
            let (own, all): (Value, Value) = (
                serde_json::from_str(own).unwrap(),
                serde_json::from_str(all).unwrap(),
            );
            let leaf = BASE64.decode(all["leaf"].as_str().unwrap()).unwrap();
            let hash = BASE64.encode(leaf_hash(&leaf).0);
            assert_eq!(
                own,
                serde_json::json!({ "seq": all["seq"], "leaf_hash": hash })
            );
        }
    }
    assert!(shown > 3, "{shown}");
    assert_eq!(verify_file(&app, &own).await.0, 0);
    let (code, _, err) = run(&app, &["events", "export", "--sender", "nobody"]);
    assert!(code == 2 && err.contains("known: "), "{err}");
});

fn hash(value: &Value) -> Hash {
    Hash(
        BASE64
            .decode(value.as_str().expect("text"))
            .expect("base64")
            .try_into()
            .expect("a hash"),
    )
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().expect("hashes").iter().map(hash).collect()
}

both!(proofs_convince_whoever_has_the_public_key, |db| {
    let app = fixture::trail(db, 1).await;
    let keys = keys(&app, 1).await;
    let mut world = World::open(&app).await;
    let signed = world.signed();
    let holds = |proven: &Value| {
        let signed =
            Checkpoint::open(proven["checkpoint"].as_str().unwrap(), &keys).expect("signed");
        let leaf = BASE64.decode(proven["leaf"].as_str().unwrap()).unwrap();
        assert_eq!(hash(&proven["leaf_hash"]), leaf_hash(&leaf));
        let index = proven["seq"].as_u64().unwrap() - 1;
        verify_inclusion(
            leaf_hash(&leaf),
            index,
            signed.size,
            &hashes(&proven["proof"]),
            signed.root,
        )
    };
    for at in [1, signed / 2, signed] {
        let (code, out, err) = run(&app, &["audit", "prove", &at.to_string()]);
        assert_eq!((code, err.as_str()), (0, ""));
        let proven: Value = serde_json::from_str(&out).expect("JSON");
        assert!(holds(&proven), "{out}");
        let by_id = run(
            &app,
            &["audit", "prove", &world.events[at - 1].id.to_string()],
        );
        assert_eq!(by_id, (0, out, String::new()));
    }
    let person = [
        "audit",
        "prove",
        "--subscriber",
        "yes.0.1@example.org",
        "--sender",
        "acme",
    ];
    let (code, out, _) = run(&app, &person);
    assert_eq!(code, 0);
    let all: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(all.len() > 4 && all.iter().all(holds), "{out}");
    for (words, code, says) in [
        (vec!["0"], 1, "no event"),
        (vec!["999999"], 1, "no event"),
        (vec!["01a207d1-0eb9-7626-91fb-67e27633f308"], 1, "no event"),
        (vec!["one"], 2, "neither"),
        (vec![], 2, "required"),
        (
            vec![
                "--subscriber",
                "nobody.at.all@example.org",
                "--sender",
                "acme",
            ],
            1,
            "nothing is known",
        ),
    ] {
        let (found, out, err) = run(&app, &[vec!["audit", "prove"], words.clone()].concat());
        assert!(
            (found, out.as_str()) == (code, "") && err.contains(says),
            "{words:?}: {found} {err}"
        );
    }
    let unsigned = (signed + 1).to_string();
    let (code, _, err) = run(&app, &["audit", "prove", &unsigned]);
    assert!(
        code == 1 && err.contains("under no checkpoint yet"),
        "{err}"
    );

    let (a, b) = (world.checkpoints[0].0.size, world.checkpoints[1].0.size);
    for (from, to) in [(a, b), (0, b), (b, b), (a + 1, b)] {
        let (code, out, err) = run(
            &app,
            &["audit", "consistency", &from.to_string(), &to.to_string()],
        );
        assert_eq!((code, err.as_str()), (0, ""));
        let grown: Value = serde_json::from_str(&out).expect("JSON");
        let [x, y] = [&grown["from"]["root"], &grown["to"]["root"]].map(hash);
        assert!(
            verify_consistency(from, x, to, y, &hashes(&grown["proof"])),
            "{out}"
        );
        assert_eq!(
            grown["from"]["checkpoint"].is_string(),
            from == a || from == b
        );
        let note = Checkpoint::open(grown["to"]["checkpoint"].as_str().unwrap(), &keys).unwrap();
        assert_eq!((note.size, note.root), (to, y));
    }
    assert_eq!(
        run(
            &app,
            &["audit", "consistency", &b.to_string(), &a.to_string()]
        )
        .0,
        2
    );
    assert_eq!(run(&app, &["audit", "consistency", "1", "999999"]).0, 1);

    // What is not as it was signed is not proven.
    world
        .raw
        .run(&format!(
            "update event set leaf = {} where {} = 2",
            world.bytes(b"{}"),
            db.seq()
        ))
        .await;
    let (code, out, err) = run(&app, &["audit", "prove", "2"]);
    assert!(
        (code, out.as_str()) == (1, "") && err.contains("audit verify"),
        "{err}"
    );
    assert_eq!(run(&app, &["audit", "prove", "3"]).0, 0);
});

both!(a_declared_loss_is_told_and_is_no_fault, |db| {
    let app = fixture::trail(db, 1).await;
    let mut world = World::open(&app).await;
    let left = world.checkpoints[0].0.size;
    // Yesterday's copy: nothing after the first checkpoint ever happened here.
    for statement in world.sql_of_yesterday(left) {
        world.raw.run(&statement).await;
    }
    let (code, out, _) = run(&app, &["audit", "verify"]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with(&format!("broken: event {}: ", left + 1)) && out.contains("cut off"),
        "{out}"
    );
    epoch::begin(&app.flows.pool, "restored", 0, app.clock.now())
        .await
        .expect("declared");
    sign(&app).await;
    let report = fixture::verified(&app).await;
    let of_the_trail = |f: &&Finding| f.check <= Check::Outside;
    let trail: Vec<_> = report.findings.iter().filter(of_the_trail).collect();
    assert!(trail.is_empty(), "{trail:?}");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("declared lost")),
        "{:?}",
        report.notes
    );
    assert_eq!(verify_file(&app, &export(&app, &[])).await.0, 0);
    // Without the event nothing declares it.
    world.raw.run("update trail_head set epoch = 3").await;
    let report = fixture::verified(&app).await;
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.what.contains("no event begins epoch 3")),
        "{report:?}"
    );
});

both!(what_was_erased_by_confirmd_is_no_fault, |db| {
    use confirmd::clock::random;
    use confirmd::domain::event::{Event, EventKind};
    use confirmd::domain::id::SubscriberId;
    let app = fixture::trail(db, 1).await;
    let mut world = World::open(&app).await;
    let kept = world.evidence[0].clone();
    let (event, part) = (world.uuid(kept.event.0), kept.evidence.part.as_str());
    world
        .raw
        .run(&format!(
            "delete from evidence where event = {event} and part = '{part}'"
        ))
        .await;
    let report = fixture::verified(&app).await;
    assert_eq!(
        report.first().map(|f| f.check.as_str()),
        Some("evidence"),
        "{report:?}"
    );
    let erased = |kind| Event::of(random(), kind, app.clock.now(), None);
    let append = async |event: Event| {
        let mut tx = app.flows.pool.begin().await.expect("the database works");
        tx.append(&[event]).await.expect("appended");
        tx.commit().await.expect("the database works");
    };
    let other = if part == "form" { "wording" } else { "form" };
    for (part, intact) in [(other, false), (part, true)] {
        let event = erased(EventKind::EvidenceErased).subscriber(kept.subscriber);
        append(
            event
                .with("event", kept.event.to_string())
                .with("part", part)
                .with("reason", "request"),
        )
        .await;
        assert_eq!(
            fixture::verified(&app).await.first().is_none(),
            intact,
            "{part}"
        );
    }
    // Everything of another person, rows and all.
    let person = world
        .people
        .iter()
        .map(|(id, _)| *id)
        .find(|id| *id != kept.subscriber.0)
        .expect("another");
    let whose = world.uuid(person);
    for statement in [
        format!("delete from evidence where subscriber = {whose}"),
        format!("delete from subscription where subscriber = {whose}"),
        format!("delete from message where subscriber = {whose}"),
        format!(
            "delete from signup_list where signup in (select id from signup where subscriber = {whose})"
        ),
        format!("delete from signup where subscriber = {whose}"),
        format!("delete from subscriber where id = {whose}"),
    ] {
        world.raw.run(&statement).await;
    }
    for (destroyed, left) in [(false, "evidence"), (true, "")] {
        let event = erased(EventKind::SubscriberErased).subscriber(SubscriberId(person));
        append(event.with("destroyed_proof", destroyed)).await;
        let report = fixture::verified(&app).await;
        let checks: Vec<_> = report.findings.iter().map(|f| f.check.as_str()).collect();
        assert!(
            checks.iter().all(|check| *check == left),
            "{:?}",
            report.findings
        );
        assert_eq!(checks.is_empty(), left.is_empty());
    }
    sign(&app).await;
    assert_eq!(fixture::verified(&app).await.findings, []);
});
