//! Commands beside a running service, its log and its numbers.

use serde_json::Value;

use crate::support::app::{Db, both};
use crate::support::daemon::{Home, PATIENCE, QUICK, until};
use crate::support::links::forged;
use crate::support::mail::{Mail, links};
use crate::support::peer::{Act, Peer, Point};

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

both!(check_says_what_is_in_order_and_what_is_not, |db| {
    let mut peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    // Before the first start.
    let check = home.run(&["check"]).await;
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(
        check
            .stdout
            .contains("none yet; the first `confirmd serve` makes them")
    );
    assert!(!home.keys().exists(), "a check changes nothing");
    let daemon = home.start().await;
    let check = home.run(&["check"]).await;
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    let disk = match db {
        Db::Sqlite => Some("disk"),
        Db::Postgres => None,
    };
    let words: Vec<_> = ["configuration", "templates"]
        .into_iter()
        .chain(disk)
        .chain(["database", "keys", "trail", "lists", "trail.copy", "smtp"])
        .collect();
    let lines: Vec<_> = check.stdout.lines().collect();
    assert_eq!(lines.len(), words.len(), "{}", check.stdout);
    for (line, word) in lines.iter().zip(&words) {
        assert!(line.starts_with(&format!("ok   {word} ")), "{line}");
    }
    let durable = match db {
        Db::Sqlite => "journal_mode wal, synchronous 2",
        Db::Postgres => "fsync on, synchronous_commit on",
    };
    let database = lines[words.len() - 6];
    assert!(database.contains(durable), "{database}");

    // The relay refuses, then is gone.
    peer.at(Point::Greeting, Act::reply("554 5.7.1 not you"));
    let check = home.run(&["check"]).await;
    assert_eq!(check.code, Some(1));
    let smtp = check.stdout.lines().last().expect("a line");
    assert!(
        smtp.starts_with("BAD  smtp") && smtp.contains("554") && smtp.contains("greeting"),
        "{smtp}"
    );
    peer.down().await;
    let check = home.run(&["check", "--format", "json"]).await;
    assert_eq!(check.code, Some(1));
    let smtp = json(check.stdout.lines().last().expect("a line"));
    assert_eq!(
        (&smtp["check"], &smtp["ok"]),
        (&"smtp".into(), &false.into())
    );
    assert!(
        smtp["detail"]
            .as_str()
            .is_some_and(|d| d.contains(&peer.addr().to_string())),
        "{smtp}"
    );
    assert_eq!(home.run(&["check", "--offline"]).await.code, Some(0));

    // A list that could not come into force.
    home.write(
        &crate::support::app::LISTS.replace("en = \"Tips\"", "en = \"Hints\""),
        QUICK,
    );
    let check = home.run(&["check", "--offline"]).await;
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.contains("BAD  lists") && check.stdout.contains("lists.tips.revision"),
        "{}",
        check.stdout
    );
    assert_eq!(daemon.ops("/readyz").await.status, 200);
});

#[tokio::test]
async fn check_looks_at_what_goes_outside_and_at_every_certificate() {
    let peer = Peer::start().await;
    let trail =
        "[trail]\ncopy = \"confirmd.toml\"\ncommand = [\"/nowhere/tell\"]\nstamp = [\"sh\"]\n";
    let home = Home::new(Db::Sqlite, peer.addr(), trail);
    let check = home.run(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    for line in [
        "BAD  trail.copy     confirmd.toml cannot be written: it is no folder",
        "BAD  trail.command  /nowhere/tell: no program",
        "ok   trail.stamp    /",
    ] {
        assert!(check.stdout.contains(line), "{line}: {}", check.stdout);
    }
    // Nobody may be kept from leaving by a place that is away.
    let check = home.run(&["check", "--offline"]).await;
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(!check.stdout.contains("trail."), "{}", check.stdout);
    // What the next start would refuse.
    home.write(
        crate::support::app::LISTS,
        "[smtp]\nca_file = \"confirmd.toml\"\n",
    );
    let check = home.run(&["check", "--offline"]).await;
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("BAD  smtp"), "{}", check.stdout);
    assert_eq!(home.run(&["serve"]).await.code, Some(2));
}

both!(api_keys_are_made_listed_and_revoked, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    home.first_start().await;
    let none = home.run(&["key", "list"]).await;
    assert_eq!((none.code, &*none.stdout), (Some(0), ""));
    assert!(
        none.stderr.contains("confirmd key create"),
        "{}",
        none.stderr
    );
    let daemon = home.start().await;
    let key = home.key("acme", "signup,read,signup").await;
    assert_eq!(key.lines().count(), 1);
    let listed = home.run(&["key", "list", "--format", "json"]).await;
    let listed = json(&listed.stdout);
    assert_eq!(listed["scopes"], serde_json::json!(["signup", "read"]));
    assert_eq!(listed["revoked_at"], Value::Null);
    assert!(
        !listed.to_string().contains(&key[10..]),
        "a list shows no secret"
    );
    assert_eq!(
        daemon
            .sign_up(&key, "before@example.org", &["weekly"])
            .await
            .status,
        202
    );
    let id = listed["id"].as_str().expect("an id");
    let revoked = home.run(&["key", "revoke", id]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut again = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        again.tick().await;
        match daemon
            .sign_up(&key, "after@example.org", &["weekly"])
            .await
            .status
        {
            401 => break,
            status => assert_eq!(status, 202),
        }
        assert!(tokio::time::Instant::now() < end, "still in force");
    }
    assert_eq!(home.run(&["key", "revoke", id]).await.code, Some(1));
    let unknown = home
        .run(&["key", "create", "--sender", "acne", "--scope", "signup"])
        .await;
    assert_eq!((unknown.code, &*unknown.stdout), (Some(2), ""));
    assert!(unknown.stderr.contains("acme, other"), "{}", unknown.stderr);
    let scope = home
        .run(&["key", "create", "--sender", "acme", "--scope", "all"])
        .await;
    assert_eq!(scope.code, Some(2));
    home.idle().await;
    let events = home.trail().await;
    assert_eq!((events["key.created"], events["key.revoked"]), (1, 1));
});

both!(
    an_operator_sees_what_is_known_of_an_address_and_what_happened,
    |db| {
        let peer = Peer::start().await;
        let home = Home::new(db, peer.addr(), QUICK);
        let early = home
            .run(&["subscriber", "show", "anna@example.org", "--sender", "acme"])
            .await;
        assert_eq!(early.code, Some(2), "{}", early.stderr);
        let key = home.key("acme", "signup").await;
        let mut daemon = home.start().await;

        let mut tail = home.spawn(&[
            "events", "tail", "--follow", "--after", "0", "--format", "json",
        ]);
        let answer = daemon.sign_up(&key, "anna@example.org", &["weekly"]).await;
        let signup = answer.json()["id"].as_str().expect("an id").to_owned();
        // A quick reader could confirm before the relay's answer is written down.
        daemon.message("message.sent").await;
        let mail = Mail::read(&peer.mails()[0].bytes);
        let page = daemon.press(&mail.confirm(), "").await;
        let leave = links(&page.body, "/u/").pop().expect("a way out");
        let told = until(&mut tail.stdout, "the confirm", |lines| {
            lines
                .iter()
                .any(|line| line.contains("subscription.confirmed"))
        })
        .await;
        let mut seqs = told
            .iter()
            .map(|line| json(line)["seq"].as_u64().expect("a number"));
        assert!((1..).zip(&mut seqs).all(|(n, seq)| n == seq), "{told:?}");
        assert_eq!(
            daemon
                .press(&leave, "List-Unsubscribe=One-Click")
                .await
                .status,
            200
        );
        let told = until(&mut tail.stdout, "the unsubscribe", |lines| {
            lines
                .iter()
                .any(|line| line.contains("subscription.unsubscribed"))
        })
        .await;
        tail.int();
        assert_eq!(tail.wait().await.code(), Some(0));
        let ours = told
            .iter()
            .map(|line| json(line))
            .filter(|e| e["signup"] == *signup);
        let ours: Vec<_> = ours
            .map(|e| e["type"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            ours,
            ["signup.accepted", "message.sent", "subscription.confirmed"]
        );
        assert!(!told.join("").contains('@'), "an event names nobody");
        let readable = home.run(&["events", "tail", "--after", "0"]).await;
        assert_eq!(
            (readable.code, readable.stdout.lines().count()),
            (Some(0), told.len())
        );
        assert!(readable.stdout.contains(&format!("signup={signup}")));
        // Without --after: the last ten at most.
        let last = home.run(&["events", "tail"]).await.stdout;
        assert!(
            last.lines().count() <= 10 && last.lines().last() == readable.stdout.lines().last()
        );

        let show = ["subscriber", "show", "Anna@Example.ORG", "--sender", "acme"];
        let text = home.run(&show).await;
        assert_eq!(text.code, Some(0), "{}", text.stderr);
        for word in [
            "anna@example.org",
            &signup,
            "weekly  unsubscribed",
            "sent after 1 attempts",
            "subscription.confirmed",
        ] {
            assert!(text.stdout.contains(word), "a word is missing");
        }
        let shown = home.run(&[&show[..], &["--format", "json"]].concat()).await;
        let shown = json(&shown.stdout);
        assert_eq!(shown["subscriptions"][0]["state"], "unsubscribed");
        assert_eq!(shown["signups"][0]["id"], *signup);
        assert_eq!(shown["signups"][0]["lists"][0]["state"], "confirmed");
        assert_eq!(shown["messages"][0]["state"], "sent");
        let kinds = shown["events"].as_array().expect("events").len();
        assert_eq!(kinds, 4);
        for (words, code, said) in [
            (
                &[
                    "subscriber",
                    "show",
                    "nobody@example.org",
                    "--sender",
                    "acme",
                ][..],
                1,
                "nothing is known",
            ),
            (
                &[
                    "subscriber",
                    "proof",
                    "anna@example.org",
                    "--sender",
                    "acme",
                    "--list",
                    "nope",
                ],
                1,
                "for a list nope",
            ),
            (&["subscriber", "show", "anna@example.org"], 2, "--sender"),
            (
                &[
                    "subscriber",
                    "show",
                    "anna@example.org",
                    "--sender",
                    "other",
                ],
                1,
                "nothing is known",
            ),
            (
                &["subscriber", "show", "no address", "--sender", "acme"],
                2,
                "address",
            ),
        ] {
            let done = home.run(words).await;
            assert_eq!(done.code, Some(code), "{}", done.stderr);
            assert!(done.stderr.contains(said), "{}", done.stderr);
        }

        // The log: one line for each thing that happened, with ids and without anybody's name.
        home.idle().await;
        let line = daemon.message("subscription.unsubscribed").await;
        assert_eq!(
            (&line["list"], &line["sender"]),
            (&"weekly".into(), &"acme".into())
        );
        let sent = daemon.message("message.sent").await;
        assert_eq!(
            (&sent["signup"], &sent["smtp_code"], &sent["phase"]),
            (&Value::from(signup), &"250".into(), &"dot".into())
        );
        for kind in [
            "signup.accepted",
            "message.sent",
            "subscription.confirmed",
            "subscription.unsubscribed",
        ] {
            assert_eq!(daemon.count(kind), 1, "{kind}");
        }
        let stderr = daemon.stderr.borrow().join("\n");
        let token = mail.confirm();
        let token = token.rsplit('/').next().expect("a token");
        assert!(
            !stderr.contains('@') && !stderr.contains(token),
            "the log names somebody"
        );

        // The numbers.
        assert_eq!(daemon.open(&forged("/d/")).await.status, 404);
        let metrics = daemon.ops("/metrics").await;
        let kind = metrics.header("content-type");
        assert_eq!(
            kind,
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        for line in [
            "confirmd_signups_accepted_total{sender=\"acme\"} 1",
            "confirmd_messages_total{kind=\"confirmation\",outcome=\"sent\"} 1",
            "confirmd_confirms_total 1",
            "confirmd_unsubscribes_total{how=\"one_click\"} 1",
            "confirmd_http_requests_total{route=\"/v1/signups\",method=\"POST\",status_class=\"2xx\"} 1",
            "confirmd_http_requests_total{route=\"/u/{token}\",method=\"POST\",status_class=\"2xx\"} 1",
            "confirmd_http_requests_total{route=\"/d/{token}\",method=\"GET\",status_class=\"4xx\"} 1",
        ] {
            assert!(
                metrics.body.lines().any(|l| l == line),
                "{line} is missing:\n{}",
                metrics.body
            );
        }
        assert!(metrics.body.ends_with("# EOF\n") && !metrics.body.contains('@'));
        assert_eq!(daemon.ops("/livez").await.body, "alive\n");
        assert_eq!(daemon.ops("/readyz").await.body, "ready\n");
        // They are not the public's.
        assert_eq!(daemon.open("/metrics").await.status, 404);
        assert_eq!(daemon.open("/readyz").await.status, 404);
    }
);

both!(stats_say_how_much_there_is_and_what_waits, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let stats = home.run(&["stats"]).await;
    assert_eq!(stats.code, Some(0), "{}", stats.stderr);
    // By the first start, which made the database.
    let signed = "checkpoint  over 6 events";
    assert!(stats.stdout.contains(signed), "{}", stats.stdout);
    let mut daemon = home.start().await;
    let email = "counted@example.org";
    assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
    home.idle().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    let stats = json(&home.run(&["stats", "--format", "json"]).await.stdout);
    let events = home.count("select count(*) from event").await;
    assert_eq!(stats["trail"]["events"], events);
    assert_eq!(stats["trail"]["unsequenced"], 0);
    assert_eq!(
        stats["checkpoint"]["size"], events,
        "the stop signs what is there"
    );
    assert_eq!(stats["mails"]["queued"], 0);
});
