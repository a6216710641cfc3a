//! What is stored may grow: no statement that `serve` runs goes over a table that grows, on either database.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::app::{Db, both, signup};
use crate::support::daemon::{Daemon, Home, QUICK};
use crate::support::http::send;
use crate::support::mail::{Mail, links};
use crate::support::peer::Peer;
use crate::support::{out, sql};

/// Tables with a row for each person, signup, mail, event or minute.
const GROWING: [&str; 14] = [
    "address",
    "subscriber",
    "subscription",
    "tombstone",
    "signup",
    "signup_list",
    "message",
    "event",
    "numbered_event",
    "unnumbered_event",
    "tile",
    "checkpoint",
    "evidence",
    "idempotency",
];

/// Indexes that hold only what waits, and may be read from one end.
const WAITING: [&str; 4] = [
    "message_due",
    "message_leased",
    "message_quarantined",
    "event_unsequenced",
];

/// What ends with the first row, which stands at one end of the table.
const FIRST: [&str; 2] = [
    "select epoch, size, note, signed_at, stamp from checkpoint\n            order by epoch desc, size desc, signed_at desc limit 1",
    "select time from event order by ord desc limit 1",
];

/// The beginning of some statement of every flow below: without them the test would show less than it says.
const RUN: [&str; 23] = [
    "insert into address (mailbox, first_mail)",
    "insert into address (mailbox, ledger)",
    "insert into subscriber",
    "insert into signup ",
    "insert into signup_list",
    "insert into message",
    "insert into event",
    "insert into evidence",
    "insert into idempotency",
    "insert into subscription",
    "insert into tile",
    "insert into checkpoint",
    "update signup set",
    "update signup_list set",
    "update message set lost = lost + 1",
    "update message set state = 'cancelled'",
    "update message set state = 'claimed'",
    "update message set state = s.state, due_at",
    "delete from idempotency",
    "delete from evidence where (event, part)",
    "select ord, leaf from unnumbered_event",
    "select id from signup",
    "select seq, leaf",
];

both!(no_statement_goes_over_a_table_that_grows, |db| {
    let peer = Peer::start().await;
    let mut home = Home::new(db, peer.addr(), QUICK);
    home.set("LOG__FILTER", "info,sqlx::query=debug");
    home.set("EVIDENCE__IP", "full");
    let key = home.key("acme", "signup").await;

    let mut daemon = home.start().await;
    for (n, email) in ["stays@example.org", "goes@example.org", "waits@example.org"]
        .iter()
        .enumerate()
    {
        out::secret(email);
        let bearer = format!("Bearer {key}");
        let request = format!("request-{n}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", request.as_str()),
        ];
        let body = signup(email, &["weekly", "offers"]).to_string();
        for _ in 0..2 {
            let answer = send(
                daemon.addr,
                "POST",
                "/v1/signups",
                &headers,
                body.as_bytes(),
            )
            .await;
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }
    home.idle().await;
    let mail = |email: &str| {
        let mails = peer.mails();
        let mail = mails.iter().find(|mail| mail.envelope_to == [email]);
        Mail::read(&mail.expect("a mail").bytes)
    };
    for email in ["stays@example.org", "goes@example.org"] {
        let confirm = mail(email).confirm();
        assert_eq!(daemon.open(&confirm).await.status, 200);
        let lists = if email == "goes@example.org" {
            "list=all"
        } else {
            "list=weekly"
        };
        let page = daemon.press(&confirm, lists).await;
        assert_eq!(page.status, 200, "{}", page.body);
        for receipt in links(&page.body, "/r/") {
            assert_eq!(daemon.open(&receipt).await.status, 200);
        }
        let page = daemon.open(&confirm).await;
        if email == "goes@example.org" {
            let leave = links(&page.body, "/u/").pop().expect("a way out");
            assert_eq!(daemon.open(&leave).await.status, 200);
            let left = daemon.press(&leave, "List-Unsubscribe=One-Click").await;
            assert_eq!(left.status, 200, "{}", left.body);
        }
    }
    let decline = mail("stays@example.org").decline();
    assert_eq!(daemon.open(&decline).await.status, 200);
    assert_eq!(daemon.press(&decline, "reason=not_me").await.status, 200);
    home.idle().await;
    let mut statements = stop(&mut daemon).await;

    // Time passes: what was remembered is forgotten, and a link ends.
    let long_ago = match db {
        Db::Sqlite => "1",
        Db::Postgres => "'1970-01-02'",
    };
    for (table, column) in [
        ("idempotency", "created_at"),
        ("evidence", "kept_at"),
        ("signup", "expires_at"),
    ] {
        let age = format!("update {table} set {column} = {long_ago}");
        let aged = sql::execute(&home.url, &age).await.expect("it can be aged");
        assert!(aged > 0, "{table}");
    }
    let mut daemon = home.start().await;
    home.until("requests", "select count(*) from idempotency", 0)
        .await;
    let network = "select count(*) from evidence where part = 'network'";
    home.until("network facts", network, 0).await;
    let open = "select count(*) from signup_list where state = 'open'";
    home.until("open lists", open, 0).await;
    let confirm = mail("waits@example.org").confirm();
    let ended = daemon.open(&confirm).await;
    assert_eq!(ended.status, 410, "{}", ended.body);
    statements.extend(stop(&mut daemon).await);

    // SQLite claims for so long that a look has nothing to write, and numbers events by their places.
    let own: &[&str] = match db {
        Db::Sqlite => &["select message.id, message.claim from"],
        Db::Postgres => &["update message set lease_until", "update event set seq"],
    };
    for run in RUN.iter().chain(own) {
        let found = statements.iter().any(|text| text.starts_with(run));
        assert!(found, "{run} was not run:\n{statements:#?}");
    }
    let of_several: Vec<_> = statements
        .iter()
        .flat_map(|text| of_several(text))
        .collect();
    assert_eq!(of_several.is_empty(), db == Db::Postgres);
    statements.extend(of_several);
    let mut wrong = Vec::new();
    for text in statements
        .iter()
        .filter(|text| !FIRST.contains(&text.as_str()))
    {
        let offences = match db {
            Db::Sqlite => scans(&sql::plan(&home.url, text).await),
            Db::Postgres => unbounded(&sql::plan(&home.url, text).await),
        };
        wrong.extend(
            offences
                .iter()
                .map(|offence| format!("{offence}\n  in {text}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
});

/// Ends a daemon and returns the different statements that it ran on these tables.
async fn stop(daemon: &mut Daemon) -> BTreeSet<String> {
    daemon.term();
    assert!(daemon.wait().await.success());
    let log = daemon.log();
    let queries = log.iter().filter(|line| line["target"] == "sqlx::query");
    let text = |line: &Value| {
        let words = |name: &str| line[name].as_str().unwrap_or_default().trim().to_owned();
        Some(words("db.statement"))
            .filter(|text| !text.is_empty())
            .unwrap_or(words("summary"))
    };
    let ours = |text: &String| {
        let verb = ["select ", "insert ", "update ", "delete "];
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        verb.iter().any(|verb| text.starts_with(verb))
            && names.into_iter().any(|name| GROWING.contains(&name))
    };
    // On SQLite several go out together.
    let texts = queries.map(text).collect::<Vec<_>>();
    let alone = texts.iter().flat_map(|text| text.split(';'));
    let alone = alone.map(|text| text.trim().to_owned());
    alone.filter(ours).collect()
}

/// A statement over one row as SQLite gets it where there are several: nobody says when requests come together.
fn of_several(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("(select $")?;
    let (picks, after) = rest.split_once("1 as n) as s")?;
    let names = picks.split(", ").flat_map(|pick| pick.split_once(" as "));
    let names: String = names
        .map(|(_, name)| format!("row ->> 0 as {name}, "))
        .collect();
    let after = of_several(after).unwrap_or_else(|| after.to_owned());
    Some(format!(
        "{before}(with rows as materialized (select key, value as row from jsonb_each($1))
        select {names}key + 1 as n from rows) as s{after}"
    ))
}

/// A step of SQLite that reads every row: its plan names what it searches, and by which index.
fn scans(plan: &[String]) -> Vec<String> {
    let small = [
        "jsonb_each",
        "rows",
        "facts",
        "list",
        "trail_head",
        "clock",
        "CONSTANT",
    ];
    let reads_all = |step: &&String| {
        let mut words = step.split(' ');
        let scan = words.next() == Some("SCAN");
        let what = words.next().unwrap_or_default();
        let waits = WAITING
            .iter()
            .any(|index| step.ends_with(&format!(" INDEX {index}")));
        // A set, and a subquery, which has a step of its own.
        let set =
            what.len() == 1 || small.contains(&what) || what.starts_with('(') || what == "open";
        (scan && !set && !waits) || step.contains("AUTOMATIC")
    };
    plan.iter().filter(reads_all).cloned().collect()
}

/// A node of PostgreSQL's plan that reads a table without a condition on an index.
fn unbounded(plan: &[String]) -> Vec<String> {
    let plan: Value = serde_json::from_str(&plan.concat()).expect("a plan in JSON");
    let mut offences = Vec::new();
    let mut nodes = vec![&plan[0]["Plan"]];
    while let Some(node) = nodes.pop() {
        let text = |name: &str| node[name].as_str().unwrap_or_default();
        let kind = text("Node Type");
        let by_index = kind.contains("Index")
            && (node["Index Cond"].is_string() || WAITING.contains(&text("Index Name")));
        let reads = kind.ends_with("Scan")
            && GROWING.contains(&text("Relation Name"))
            && kind != "Bitmap Heap Scan";
        let whole_index = kind == "Bitmap Index Scan" && !by_index;
        if (reads && !by_index) || whole_index {
            offences.push(format!(
                "{kind} {} {}",
                text("Relation Name"),
                text("Index Name")
            ));
        }
        nodes.extend(node["Plans"].as_array().into_iter().flatten());
    }
    offences
}
