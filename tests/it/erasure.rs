//! A person is erased with the proof: nothing about them is left, the trail is whole, and their old links still work.

use std::path::Path;
use std::time::Duration;

use confirmd::background::fold::Fold;
use confirmd::domain::address::Address;
use confirmd::domain::consent::{Action, Consent, Network};
use confirmd::domain::delivery::About;
use confirmd::domain::pepper::Keyed;
use confirmd::flow::erase::erase;
use confirmd::flow::signup::{Outcome, Request, sign_up};

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::audit::fixture;
use crate::support::app::{Db, LISTS, TestApp, both, signup};
use crate::support::daemon::{Home, QUICK, unread, until};
use crate::support::out;
use crate::support::peer::Peer;

/// Makes requests as the API makes them, but a thousand at a time.
fn requests(app: &TestApp, emails: &[String]) -> Vec<Request> {
    let in_force = app.flows.in_force();
    let entry = in_force.catalog.list(&"weekly".parse().expect("a name"));
    let entry = entry.expect("a list");
    let request = |email: &String| {
        out::secret(email);
        Request {
            sender: "acme".parse().expect("a name"),
            email: Address::parse(email).expect("an address"),
            lists: vec![About {
                list: entry.facts.list.id.clone(),
                facts: entry.hash,
            }],
            locale: "en".parse().expect("a language"),
            consent: Consent {
                first_at: None,
                action: Action::Checkbox,
                source: "https://acme.example/news".to_owned(),
                text_sha256: None,
                at: None,
                challenge: None,
            },
            network: Network::default(),
            reference: None,
            attributes: None,
            redirect: None,
            idempotency: None,
            again_of: None,
        }
    };
    emails.iter().map(request).collect()
}

async fn join(app: &TestApp, emails: &[String]) {
    for some in emails.chunks(500) {
        let tx = app.flows.pool.begin().await.expect("begun");
        let done = sign_up(app.flows.clone(), tx, requests(app, some).into()).await;
        let done = done.expect("accepted");
        assert!(done.iter().all(|o| matches!(o, Outcome::Accepted(_))));
    }
}

async fn erase_at_acme(app: &TestApp, email: &str) -> bool {
    let address = Address::parse(email).expect("an address");
    let sender = "acme".parse().expect("a name");
    let keys = app.flows.keys();
    let erased = erase(&app.flows.pool, &keys, &sender, &address, app.clock.now()).await;
    erased.expect("erased").is_some()
}

/// Every byte that the database keeps: SQLite's files, or what PostgreSQL's own tool writes out.
fn every_byte(app: &TestApp) -> Vec<u8> {
    match app.db {
        Db::Sqlite => files(app.dir.path()),
        Db::Postgres => crate::support::postgres::shared().dump(&app.url),
    }
}

/// The same of a home.
fn every_byte_of(home: &Home) -> Vec<u8> {
    match home.db {
        Db::Sqlite => files(home.dir.path()),
        Db::Postgres => crate::support::postgres::shared().dump(&home.url),
    }
}

/// Every byte of SQLite's files.
fn files(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        if name.starts_with("confirmd.db") {
            bytes.extend(std::fs::read(&path).expect("bytes"));
        }
    }
    bytes
}

/// Returns where the first of some needles is, in one pass.
fn find(bytes: &[u8], needles: &[Vec<u8>]) -> Option<usize> {
    let mut begins = vec![false; 1 << 16];
    let two = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    needles.iter().for_each(|needle| begins[two(needle)] = true);
    (0..bytes.len() - 1).find(|i| {
        begins[two(&bytes[*i..])] && needles.iter().any(|needle| bytes[*i..].starts_with(needle))
    })
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    find(bytes, &[needle.as_bytes().to_vec()]).is_some()
}

both!(a_tenth_of_ten_thousand_is_erased, |db| {
    let app = TestApp::start(db).await;
    let people = |kind: &str, n: usize| -> Vec<String> {
        (0..n).map(|i| format!("{kind}-{i}@example.org")).collect()
    };
    // Some have had their mail and confirmed, the others still wait.
    let mailed = [people("leaver", 100), people("stayer", 100)].concat();
    join(&app, &mailed).await;
    app.deliver().await;
    for email in &mailed {
        let mail = app.mailbox(email).pop().expect("a mail");
        assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
    }
    let waiting = [people("leaver-queued", 900), people("stayer-queued", 8900)].concat();
    join(&app, &waiting).await;
    app.sequence().await;
    fixture::sign(&app).await;
    let before = app.event_counts().await;
    assert_eq!(before["signup.accepted"], 10_000);
    assert!(
        holds(&every_byte(&app), "leaver-7@example.org"),
        "the search finds what is there"
    );
    let keys = "select EXPR from evidence where subscriber in (select id from subscriber where email like 'leaver%') limit 300";
    let keys = keys.replace(
        "EXPR",
        match db {
            Db::Sqlite => "lower(hex(key))",
            Db::Postgres => "encode(key, 'hex')",
        },
    );
    let keys = app.sql(&keys).await;
    assert_eq!(keys.len(), 300);

    for email in [people("leaver", 100), people("leaver-queued", 900)].concat() {
        assert!(erase_at_acme(&app, &email).await);
        assert!(!erase_at_acme(&app, &email).await, "twice");
    }
    assert!(app.flows.pool.scrub().await.expect("possible"));
    let bytes = every_byte(&app);
    // In PostgreSQL's text the bytes of events are hexadecimal.
    let hexadecimal = b"6c6561766572".to_vec();
    let left = find(&bytes, &[b"leaver".to_vec(), hexadecimal]);
    assert_eq!(left, None, "a part of an erased address is left");
    assert!(holds(&bytes, "stayer-7@example.org"));
    // PostgreSQL's dump is text, SQLite's file is bytes.
    let raw = |key: String| match db {
        Db::Postgres => key.into_bytes(),
        Db::Sqlite => (0..32)
            .map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).expect("hexadecimal"))
            .collect(),
    };
    let keys: Vec<_> = keys.into_iter().map(raw).collect();
    assert_eq!(find(&bytes, &keys), None, "the key of a commitment is left");
    let after = app.event_counts().await;
    assert_eq!(
        (after["subscriber.erased"], after["evidence.erased"]),
        (1000, 1000)
    );
    assert_eq!(after["signup.accepted"], 10_000, "events stay");
    assert_eq!(app.count("subscriber").await, 9000);
    assert_eq!(app.count("address").await, 9000);
    assert_eq!(app.count("tombstone").await, 100);
    fixture::sign(&app).await;
    let report = fixture::verified(&app).await;
    assert_eq!(report.findings, []);
    assert_eq!((report.checkpoints, report.subscribers), (2, 10_000));
    // The mails of those who are left still wait, and only those.
    assert_eq!(app.count("message where state = 'queued'").await, 8900);
});

both!(
    old_links_of_an_erased_person_say_so_and_still_end_a_later_subscription,
    |db| {
        let app = TestApp::start(db).await;
        let email = "back.again@example.org";
        let mail = app.mail_for(email, &["weekly"]).await;
        let page = app.press(&mail.confirm(), "").await;
        let leave = app.unsubscribe_links(&page).pop().expect("a way out");
        assert!(erase_at_acme(&app, email).await);
        for link in [mail.confirm(), mail.decline(), leave.clone()] {
            let shown = app.open(&link).await;
            assert!(!shown.body.contains(email), "{link}");
            assert!(matches!(shown.status, 200 | 404), "{}", shown.status);
        }
        assert_eq!(app.one_click(&leave).await.status, 200);

        // They come back: the limits of before are forgotten, the old link ends the new subscription.
        app.subscribe(email, &["weekly"]).await;
        let state = "select state from subscription";
        assert_eq!(app.sql(state).await, ["confirmed"]);
        assert_eq!(app.one_click(&leave).await.status, 200);
        assert_eq!(app.sql(state).await, ["unsubscribed"]);
    }
);

both!(a_hold_outlives_erasure, |db| {
    let app = TestApp::start(db).await;
    let email = "not.me@example.org";
    let mail = app.mail_for(email, &["weekly"]).await;
    assert_eq!(
        app.press(&mail.decline(), "reason=not_me").await.status,
        200
    );
    assert!(erase_at_acme(&app, email).await);
    assert_eq!(app.count("address").await, 1);
    let signup = app.sign_up(email, &["weekly"]).await;
    app.deliver().await;
    assert_eq!(app.outcome(&signup).await, "withheld weekly=withheld");
});

both!(
    what_one_spelling_says_holds_after_another_was_erased,
    |db| {
        let app = TestApp::start(db).await;
        let [stays, goes] = ["two.names@example.org", "two.names+x@example.org"];
        let mail = app.mail_for(stays, &["weekly"]).await;
        app.sign_up(goes, &["offers"]).await;
        assert!(erase_at_acme(&app, goes).await);
        let no = app.press(&mail.decline(), "reason=not_me").await;
        assert_eq!(no.status, 200);
        app.pass(Duration::from_secs(3600));
        let signup = app.sign_up(stays, &["weekly"]).await;
        app.deliver().await;
        assert_eq!(app.outcome(&signup).await, "withheld weekly=withheld");
    }
);

/// The row that orders what is decided about a mailbox went with one spelling of the address: the next one makes it anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_about_another_spelling_of_the_erased_waits_for_the_other() {
    let app = TestApp::start(Db::Postgres).await;
    let [stays, goes] = ["two.names@example.org", "two.names+x@example.org"];
    let mail = app.mail_for(stays, &["weekly"]).await;
    app.sign_up(goes, &["offers"]).await;
    assert!(erase_at_acme(&app, goes).await);
    assert_eq!(app.count("address").await, 0);
    let tx = app.hold_mailbox(stays).await;
    let holder = async {
        app.until_one_waits().await;
        tx.commit().await.expect("committed");
    };
    let link = mail.confirm();
    let (confirmed, ()) = tokio::join!(app.press(&link, ""), holder);
    assert_eq!(confirmed.status, 200);
}

both!(a_repeat_for_somebody_who_was_erased_makes_nobody, |db| {
    let app = TestApp::start(db).await;
    let emails = ["gone@example.org", "known@example.org", "new@example.org"];
    let [gone, known, new] = emails;
    let under = |email: &str, key: u8, body: u8| Request {
        idempotency: Some((Keyed([key; 16]), Keyed([body; 16]))),
        ..requests(&app, &[email.to_owned()]).remove(0)
    };
    let together = async |batch: &[Request]| {
        let tx = app.flows.pool.begin().await.expect("begun");
        let done = sign_up(app.flows.clone(), tx, batch.into()).await;
        done.expect("answered")
    };
    let first = together(&[under(gone, 1, 1), under(known, 2, 2)]).await;
    assert!(erase_at_acme(&app, gone).await);
    // Repeats alone, then with one that is new and comes twice.
    let rows = app.dump().await;
    let repeats = [under(gone, 1, 1), under(known, 2, 2)];
    assert_eq!(together(&repeats).await, first);
    assert_eq!(app.dump().await, rows);
    let batch = [
        under(gone, 1, 1),
        under(known, 2, 9),
        under(new, 3, 3),
        under(new, 3, 3),
    ];
    let done = together(&batch).await;
    assert_eq!(done[..2], [first[0], Outcome::KeyReused]);
    assert!(matches!(done[2], Outcome::Accepted(id) if Outcome::Accepted(id) != first[0]));
    assert_eq!(done[3], done[2]);
    let people = app.sql("select email from subscriber order by email").await;
    assert_eq!(people, [known, new]);
    assert_eq!(app.count("address").await, 2);
    // Somebody who was erased may come back, beside the repeat of what was before.
    let done = together(&[under(gone, 1, 1), under(gone, 4, 4)]).await;
    assert_eq!(done[0], first[0]);
    assert_ne!(done[1], first[0]);
    assert_eq!(app.count("signup").await, 3);
    assert_eq!(app.event_counts().await["signup.accepted"], 4);
});

/// The command, beside a running daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_went_and_what_stays() {
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    let email = "erase.me@example.org";
    assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
    home.idle().await;
    let erase = ["subscriber", "erase", email, "--sender", "acme"];
    let asked = home.run(&erase).await;
    assert_eq!(asked.code, Some(2), "it must be said: {}", asked.stderr);
    let erase = [&erase[..], &["--destroy-proof"]].concat();
    let done = home.run(&erase).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("4 parts of evidence"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("erase.me"), "{}", done.stdout);
    let again = home.run(&erase).await;
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("nothing is known"),
        "{}",
        again.stderr
    );
    let unknown = home
        .run(&["subscriber", "show", email, "--sender", "acme"])
        .await;
    assert_eq!(unknown.code, Some(1));
    home.idle().await;
    assert_eq!(home.trail().await["subscriber.erased"], 1);
}

/// Makes people at a service that has stopped since.
async fn left_behind(db: Db, emails: &[&str]) -> Home {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    for email in emails {
        assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
    }
    home.idle().await;
    daemon.term();
    assert!(daemon.wait().await.success());
    home
}

async fn people(home: &Home) -> Vec<String> {
    home.sql("select email from subscriber order by email")
        .await
}

both!(all_are_erased_also_where_nobody_reads, |db| {
    let emails = ["one@example.org", "two@example.org", "three@example.org"];
    let home = left_behind(db, &emails).await;
    let erase = [
        &["subscriber", "erase", "--sender", "acme", "--destroy-proof"],
        &emails[..],
    ]
    .concat();
    let done = home.run_into(unread(), &erase).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(people(&home).await, [""; 0]);
    let bytes = every_byte_of(&home);
    assert!(emails.iter().all(|email| !holds(&bytes, email)));
});

both!(one_that_cannot_be_erased_keeps_no_other, |db| {
    let emails = ["one@example.org", "stays@example.org", "two@example.org"];
    let home = left_behind(db, &emails).await;
    let refuse = match db {
        Db::Sqlite => {
            "create trigger stays before delete on subscriber when old.email like 'stays%'
             begin select raise(abort, 'no'); end"
        }
        Db::Postgres => {
            "create function stays() returns trigger language plpgsql as
             $$ begin if old.email like 'stays%' then raise 'no'; end if; return old; end $$;
             create trigger stays before delete on subscriber for each row execute function stays()"
        }
    };
    let made = crate::support::sql::execute(&home.url, refuse).await;
    made.expect("a trigger");
    let erase = [
        &["subscriber", "erase", "--sender", "acme", "--destroy-proof"],
        &emails[..],
    ]
    .concat();
    let done = home.run(&erase).await;
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(
        done.stderr.contains("address 2 was not erased"),
        "{}",
        done.stderr
    );
    assert_eq!(people(&home).await, ["stays@example.org"]);
    let bytes = every_byte_of(&home);
    assert!(!holds(&bytes, "one@example.org") && !holds(&bytes, "two@example.org"));
});

/// Somebody reads the log while a person is erased: the daemon empties it when they have gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_emptied_of_the_erased_as_soon_as_nobody_reads_it() {
    const EMPTIED: &str = "SQLite's write-ahead log was emptied: it holds nothing that was erased";
    let peer = Peer::start().await;
    let home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let (email, trace) = ("in.the.log@example.org", "in.the.log");
    let erase = [
        "subscriber",
        "erase",
        email,
        "--sender",
        "acme",
        "--destroy-proof",
    ];
    assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
    home.idle().await;
    let options = SqliteConnectOptions::new().filename(home.dir.path().join("confirmd.db"));
    let mut reader = options.connect().await.expect("SQLite opens");
    let read = sqlx::raw_sql("begin; select count(*) from event;");
    read.execute(&mut reader).await.expect("a read");
    let done = home.run(&erase).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("is being read"), "{}", done.stderr);
    let emptied = daemon.count(EMPTIED);
    assert!(holds(&files(home.dir.path()), trace), "the search finds it");

    let gone = sqlx::raw_sql("rollback").execute(&mut reader).await;
    gone.expect("the reader goes");
    let again =
        |lines: &Vec<String>| lines.iter().filter(|line| line.contains(EMPTIED)).count() > emptied;
    until(&mut daemon.stderr, "an empty log", again).await;
    assert!(!holds(&files(home.dir.path()), trace), "a trace is left");
    // What emptying itself wrote is no reason to empty it again.
    assert_eq!(
        daemon
            .sign_up(&key, "stays@example.org", &["weekly"])
            .await
            .status,
        202
    );
    home.idle().await;
    assert!(holds(&files(home.dir.path()), "stays@example.org"));
}

/// Network facts go by themselves, out of the log too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_whose_time_is_over_leave_the_log_too() {
    let app = TestApp::with(Db::Sqlite, LISTS, "[evidence]\nip = \"full\"\n").await;
    let mut body = signup("kept@example.org", &["weekly"]);
    body["consent"]["ip"] = "198.51.100.7".into();
    assert_eq!(app.post_signup(&body).await.status, 202);
    let fold = Fold::new(app.flows.clone()).await.expect("SQLite");
    let fold = fold.expect("a log");
    assert!(fold.step().await.expect("folded"));
    assert!(holds(&every_byte(&app), "198.51.100.7"));
    app.pass(Duration::from_secs(31 * 24 * 3600));
    app.sweep().await;
    // A fold that has just begun: the other one looks for traces every two seconds.
    let fold = Fold::new(app.flows.clone()).await.expect("SQLite");
    let fold = fold.expect("a log");
    assert!(fold.step().await.expect("folded"));
    let bytes = every_byte(&app);
    assert!(!holds(&bytes, "198.51.100.7"), "a trace is left");
    assert!(holds(&bytes, "kept@example.org"));
}
