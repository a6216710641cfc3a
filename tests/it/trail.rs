//! The trail: what was written once cannot be changed, numbers have no gap, and the program prints them in their order.

use serde_json::Value;

use crate::support::app::{Db, TestApp, both, signup};
use crate::support::serve;

const NUMBERED: &str = "id in (select id from numbered_event)";
const UNNUMBERED: &str = "id in (select id from unnumbered_event)";
const FIRST: &str = "id in (select id from numbered_event where seq = 1)";

/// Two events with numbers and one without, all with every column set that an event may have.
async fn begin(db: Db) -> TestApp {
    let app = TestApp::start(db).await;
    app.subscribe("trail@example.org", &["weekly"]).await;
    app.sequence().await;
    app.sign_up("unnumbered@example.org", &["weekly"]).await;
    app
}

/// Refused, and by nothing else than the rule itself.
async fn refused(app: &TestApp, statement: &str) {
    let done = app.execute(statement).await;
    let error = done.expect_err(statement);
    assert!(error.contains("append-only"), "{statement}: {error}");
}

both!(no_column_of_an_event_can_be_changed, |db| {
    let app = begin(db).await;
    let before = app.dump().await;
    let (id, time, leaf) = match db {
        Db::Sqlite => ("x'00000000000070008000000000000000'", "7", "x'7b7d'"),
        Db::Postgres => (
            "'00000000-0000-7000-8000-000000000000'",
            "now()",
            r"'\x7b7d'",
        ),
    };
    for (column, value) in [
        ("id", id),
        ("type", "'key.revoked'"),
        ("time", time),
        ("sender", "'other'"),
        ("sender", "null"),
        ("list", "'tips'"),
        ("subscriber", id),
        ("signup", id),
        ("message", id),
        ("leaf", leaf),
        ("type", "type"),
    ] {
        for rows in [NUMBERED, UNNUMBERED, FIRST] {
            let statement = format!("update event set {column} = {value} where {rows}");
            refused(&app, &statement).await;
        }
        // With its number at the same time.
        if db == Db::Postgres && column != value {
            let statement =
                format!("update event set {column} = {value}, seq = 5000 where {UNNUMBERED}");
            refused(&app, &statement).await;
        }
    }
    match db {
        // An event's place is its number.
        Db::Sqlite => {
            for place in ["ord + 1000", "-ord", "ord"] {
                refused(&app, &format!("update event set ord = {place}")).await;
            }
        }
        Db::Postgres => {
            for number in ["null", "seq + 1000", "seq"] {
                for rows in [NUMBERED, UNNUMBERED, FIRST] {
                    let statement = format!("update event set seq = {number} where {rows}");
                    refused(&app, &statement).await;
                }
            }
            // The identity is refused by PostgreSQL itself.
            let moved = app.execute("update event set ord = ord + 1000").await;
            assert!(moved.is_err());
        }
    }
    assert_eq!(app.dump().await, before);
});

both!(no_event_can_be_taken_away_or_written_over, |db| {
    let app = begin(db).await;
    let before = app.dump().await;
    for rows in ["true", NUMBERED, UNNUMBERED, FIRST] {
        refused(&app, &format!("delete from event where {rows}")).await;
    }
    let columns = "id, type, time, sender, list, subscriber, signup, message, leaf";
    let upsert = format!(
        "insert into event ({columns}) select {columns} from event where true on conflict (id) do update set type = 'key.revoked'"
    );
    refused(&app, &upsert).await;
    match db {
        Db::Sqlite => {
            let fresh = "randomblob(16), 'key.revoked', time, sender, list, subscriber, signup, message, leaf";
            for statement in [
                format!("insert or replace into event ({columns}) select {columns} from event where {FIRST}"),
                format!("replace into event ({columns}) select {columns} from event where {UNNUMBERED}"),
                format!("insert or replace into event (ord, {columns}) select ord, {fresh} from event where {FIRST}"),
                format!("update or replace event set ord = 1 where {UNNUMBERED}"),
                "update or replace event set id = (select id from event where ord = 1) where ord = 2".to_owned(),
            ] {
                refused(&app, &statement).await;
            }
            // A place that is not the next one would leave a gap between numbers.
            for place in ["5000", "0", "-1", "(select max(ord) + 2 from event)"] {
                let gap = format!(
                    "insert into event (ord, {columns}) select {place}, {fresh} from event where {FIRST}"
                );
                refused(&app, &gap).await;
            }
        }
        Db::Postgres => {
            let numbered = format!(
                "insert into event ({columns}, seq) select gen_random_uuid(), type, time, sender, list, subscriber, signup, message, leaf, 5000 from event where {FIRST}"
            );
            refused(&app, &numbered).await;
            for statement in [
                "truncate event",
                "truncate event cascade",
                "truncate trail_head, event restart identity",
            ] {
                refused(&app, statement).await;
            }
        }
    }
    assert_eq!(app.dump().await, before);
});

both!(numbers_are_given_without_gap_or_repeat, |db| {
    let app = TestApp::start(db).await;
    let crowd = |name: &'static str| {
        let app = &app;
        async move {
            for n in 0..40 {
                app.sign_up(&format!("{name}{n}@example.org"), &["weekly"])
                    .await;
                app.sequence().await;
            }
        }
    };
    tokio::join!(crowd("left"), crowd("right"), crowd("middle"));
    let events = app.events().await;
    let numbers: Vec<_> = events.iter().map(|e| e["seq"].as_i64().unwrap()).collect();
    let expected: Vec<_> = (1..=i64::try_from(events.len()).unwrap()).collect();
    assert_eq!(numbers, expected);
    assert_eq!(events.len(), app.count("event").await);
    assert_eq!(app.event_counts().await["signup.accepted"], 120);
    // In the order in which they were written.
    let id = match db {
        Db::Sqlite => "lower(hex(id))",
        Db::Postgres => "replace(id::text, '-', '')",
    };
    let written = app
        .sql(&format!("select {id} from event order by ord"))
        .await;
    let told: Vec<_> = events
        .iter()
        .map(|e| e["id"].as_str().unwrap().replace('-', ""))
        .collect();
    assert_eq!(told, written);
    assert_eq!(
        app.count(&format!("trail_head where size = {}", events.len()))
            .await,
        1
    );
    // Nobody is given a number twice.
    app.sequence().await;
    assert_eq!(app.events().await, events);
});

both!(the_program_prints_the_trail, |db| {
    let app = begin(db).await;
    let tail = |words: &[&str]| {
        let words = [&["events", "tail", "--format", "json"], words].concat();
        let done = serve::command(&app, &words);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let printed = String::from_utf8(done.stdout).unwrap();
        let lines = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    // An event without a number is not yet in the trail.
    let numbered = app.count("numbered_event").await;
    assert_eq!(tail(&["--after", "0"]).len(), numbered);
    let answer = app
        .post_signup(&signup("printed@example.org", &["weekly", "offers"]))
        .await;
    let events = app.events().await;
    assert_eq!(events.len(), numbered + 2);
    assert_eq!(tail(&["--after", "0"]), events);
    assert_eq!(tail(&["--after", "3"]), events[3..]);
    let last = events.len().to_string();
    assert!(tail(&["--after", &last]).is_empty());
    assert_eq!(
        tail(&[]),
        events[events.len().saturating_sub(10)..],
        "the last ten"
    );
    let newest = events.last().unwrap();
    assert_eq!(newest["type"], "signup.accepted");
    assert_eq!(newest["signup"], answer.json()["id"]);
    assert_eq!(newest["lists"], serde_json::json!(["weekly", "offers"]));
    for member in [
        "seq",
        "id",
        "type",
        "time",
        "sender",
        "list",
        "subscriber",
        "signup",
        "message",
    ] {
        assert!(
            newest.get(member).is_some(),
            "{member} is missing: {newest}"
        );
    }

    let text = serve::command(&app, &["events", "tail", "--after", "0"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.lines().count(), events.len());
    for (line, event) in text.lines().zip(&events) {
        assert!(line.contains(event["type"].as_str().unwrap()), "{line}");
    }
});
