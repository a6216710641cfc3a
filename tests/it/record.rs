//! The consent record: whoever has the file and a public key can check it, and nothing can be taken out of it unseen.

use std::collections::BTreeSet;
use std::sync::Mutex;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use boon::{Compiler, Schemas};
use confirmd::domain::consent::Hash;
use confirmd::domain::event::{Event, EventKind};
use confirmd::domain::evidence::{Evidence, Part};
use confirmd::domain::list::SenderId;
use confirmd::flow::api_key::Scope;
use confirmd::flow::checkpoint::checkpoint_now;
use confirmd::flow::record::verify::{Verified, verify};
use confirmd::message::Proof;
use confirmd::trail::note::{Checkpoint, Signer, Verifier};
use serde_json::{Value, json};

use crate::delivery::QUICK;
use crate::delivery::claims::{claimed, end_leases};
use crate::support::app::{Db, LISTS, TestApp, both, signup};
use crate::support::http::{Response, send};
use crate::support::links::{A_LIFE, fresh, read, without_styles};
use crate::support::peer::{Act, Point, Seen};
use crate::support::{out, serve};

const SCHEMA: &str = include_str!("../../deploy/consent-record.schema.json");
const CONTEXT: &str = include_str!("../../deploy/consent-record.context.jsonld");
const EVIDENCE: &str = "[evidence]\nip = \"full\"\nuser_agent = \"full\"\n";
const HOURS: std::time::Duration = std::time::Duration::from_secs(3 * 3600);

/// Every name of DPV 2.3 that a record may use, as its term files have it.
const DPV: &[&str] = &[
    "ConsentExpired",
    "ConsentGiven",
    "ConsentInvalidated",
    "ConsentRecord",
    "ConsentRefused",
    "ConsentRequested",
    "ConsentRevoked",
    "ConsentUnknown",
    "ConsentWithdrawn",
    "DataController",
    "DataProcessor",
    "DirectMarketing",
    "ExplicitlyExpressedConsent",
    "ExpressedConsent",
    "Marketing",
    "RenewedConsentGiven",
    "TemporalDuration",
    "UntilEventDuration",
    "hasAddress",
    "hasAuthority",
    "hasConsentControl",
    "hasConsentStatus",
    "hasContact",
    "hasDataController",
    "hasDataProcessor",
    "hasDataSource",
    "hasDataSubject",
    "hasDuration",
    "hasIdentifier",
    "hasIndicationMethod",
    "hasJurisdiction",
    "hasLegalBasis",
    "hasLocation",
    "hasName",
    "hasNotice",
    "hasPersonalData",
    "hasPurpose",
    "hasRecipient",
    "hasRight",
    "hasStorageCondition",
    "isExercisedAt",
    "isIndicatedAtTime",
    "isIndicatedBy",
];
const GDPR: &[&str] = &[
    "A6-1-a", "A6-1-f", "A7-3", "A15", "A16", "A17", "A18", "A20", "A21", "A77",
];
const PD: &[&str] = &["EmailAddress", "Name"];

/// The public keys that the reader of a record has from elsewhere.
static TRUSTED: Mutex<Vec<Verifier>> = Mutex::new(Vec::new());

/// Signs a checkpoint over all that happened; returns how far it reaches.
async fn checkpoint(app: &TestApp) -> u64 {
    app.sequence().await;
    checkpoint_now(&app.flows).await.expect("signed");
    let keys = app.flows.verifiers(1).expect("keys");
    TRUSTED.lock().expect("no panic").extend(keys);
    let mut tx = app.flows.pool.read().await.expect("the database works");
    let kept = tx.last_checkpoint().await.expect("read");
    kept.expect("one").size
}

fn open(note: &str) -> Result<(u64, Hash), String> {
    let trusted = TRUSTED.lock().expect("no panic").clone();
    let opened = Checkpoint::open(note, &trusted).map_err(|error| error.to_string())?;
    Ok((opened.size, opened.root))
}

fn check(text: &str) -> Result<Vec<Verified>, String> {
    verify(text, open).map_err(|broken| broken.to_string())
}

/// Validates by the published schema, with somebody else's validator.
fn validate(file: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("urn:record", schema).unwrap();
    let compiled = compiler.compile("urn:record", &mut schemas).unwrap();
    let valid = schemas.validate(file, compiled);
    valid.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Confirmed, left with one click, signed up again; on two lists, with network facts.
async fn anna(db: Db) -> (TestApp, String) {
    let label = "[lists.weekly]\nlabel = { en = \"Sign me up\" }";
    let lists = LISTS.replace("[lists.weekly]", label);
    let app = TestApp::with(db, &lists, EVIDENCE).await;
    let mut body = signup("anna@example.org", &["weekly", "offers"]);
    let words = "Yes, mail me the weekly news of Acme B.V.";
    body["consent"]["text"] = words.into();
    body["consent"]["ip"] = "198.51.100.7".into();
    body["consent"]["user_agent"] = "Mozilla/5.0 (X11)".into();
    body["consent"]["challenge"] = "passed".into();
    assert_eq!(app.post_signup(&body).await.status, 202);
    app.deliver().await;
    let mail = app.mailbox("anna@example.org").pop().unwrap();
    app.pass(HOURS);
    let page = app.press(&mail.confirm(), "list=weekly").await;
    assert_eq!(page.status, 200);
    app.pass(HOURS);
    let leave = app.unsubscribe_links(&page).pop().unwrap();
    assert_eq!(app.one_click(&leave).await.status, 200);
    app.pass(HOURS);
    app.sign_up("anna@example.org", &["weekly"]).await;
    app.deliver().await;
    checkpoint(&app).await;
    let subscriber = subscriber(&app).await;
    (app, subscriber)
}

async fn subscriber(app: &TestApp) -> String {
    let events = app.events().await;
    let mut people = events
        .iter()
        .filter_map(|event| event["subscriber"].as_str());
    people.next().unwrap().to_owned()
}

fn route(subscriber: &str, query: &str) -> String {
    format!("/v1/subscribers/{subscriber}/consent-record{query}")
}

async fn fetch(app: &TestApp, subscriber: &str, query: &str) -> Response {
    let key = app.make_key("acme", &[Scope::Read]).await;
    app.get(&route(subscriber, query), &key).await
}

async fn weekly(app: &TestApp, subscriber: &str) -> Value {
    let answer = fetch(app, subscriber, "?list=weekly").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

both!(no_to_an_older_mail_is_recorded_as_a_withdrawal, |db| {
    let app = TestApp::start(db).await;
    let older = app.mail_for("anna@example.org", &["weekly"]).await;
    app.pass(HOURS);
    app.subscribe("anna@example.org", &["weekly"]).await;
    app.pass(HOURS);
    assert_eq!(app.one_click(&older.decline()).await.status, 200);
    checkpoint(&app).await;
    let file = weekly(&app, &subscriber(&app).await).await;
    check(&file.to_string()).unwrap();
    let record = &file["records"][0];
    assert_eq!(record["status"], "dpv:ConsentWithdrawn");
});

// It is made for a court: what confirmd does not do has no place in it.
both!(a_record_promises_only_what_is_so, |db| {
    let (app, subscriber) = anna(db).await;
    let file = weekly(&app, &subscriber).await;
    validate(&file);
    let record = &file["records"][0];
    let privacy = "https://acme.example/privacy";
    assert_eq!(
        record["storage"]["retention"],
        json!({ "rule": "As the controller's privacy statement says; confirmd erases on request." })
    );
    assert_eq!(record["withdrawal"]["url"], privacy);
    let rights: Vec<_> = record["rights"].as_array().unwrap().iter().collect();
    assert!(rights.contains(&&json!({ "right": "eu-gdpr:A18", "url": privacy })));
    let mut told = record.clone();
    let proof = ["evidence", "sources", "checkpoint"];
    for part in proof {
        told.as_object_mut().unwrap().remove(part);
    }
    let told = told.to_string();
    for never in [
        "/p\"",
        "24 months",
        "24 hours",
        "third calendar year",
        "until\":\"20",
    ] {
        assert!(!told.contains(never), "{never}: {told}");
    }
});

both!(a_record_shows_who_agreed_to_what_when_and_how, |db| {
    let (app, subscriber) = anna(db).await;
    let answer = fetch(&app, &subscriber, "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let file = answer.json();
    validate(&file);
    let verified = check(&answer.body).unwrap();
    let labels = file["records"].as_array().unwrap().iter();
    let labels: Vec<_> = labels
        .map(|r| r["collection"]["control_label"].clone())
        .collect();
    assert_eq!(labels, [Value::Null, "Sign me up".into()]);
    let told = |v: &Verified| (v.list.to_string(), v.events, v.pending, v.mails);
    let told: Vec<_> = verified.iter().map(told).collect();
    // Offers was asked for once and never confirmed; weekly twice.
    assert_eq!(
        told,
        [
            ("offers".to_owned(), 2, 0, 1),
            ("weekly".to_owned(), 6, 0, 2)
        ]
    );
    let record = &file["records"][1];
    assert_eq!(record["subject"]["id"], subscriber.as_str());
    assert_eq!(record["subject"]["email"], "anna@example.org");
    let words = "Yes, mail me the weekly news of Acme B.V.";
    assert_eq!(record["notice"]["text"], words);
    assert_eq!(
        record["notice"]["sha256"],
        Hash::of(words.as_bytes()).to_string()
    );
    assert_eq!(record["notice"]["language"], "en");
    assert_eq!(record["notice"]["at_signup"]["text"], words);
    assert_eq!(record["collection"]["method"], "checkbox");
    assert_eq!(
        record["collection"]["source_url"],
        "https://acme.example/news"
    );
    assert_eq!(record["jurisdiction"], "NL");
    assert_eq!(record["purposes"][0]["type"], "dpv:DirectMarketing");
    // D-04: both roles.
    assert_eq!(record["controllers"][0]["name"], "Acme B.V.");
    assert_eq!(record["controllers"][0]["role"], "controller");
    assert_eq!(record["processors"][0]["role"], "processor");
    let steps = record["events"].as_array().unwrap().iter();
    let steps: Vec<_> = steps
        .map(|step| {
            format!(
                "{} {}",
                step["state"].as_str().unwrap(),
                step["method"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            "dpv:ConsentRequested signup",
            "dpv:ConsentGiven POST button",
            "dpv:ConsentWithdrawn one-click",
            "dpv:ConsentRequested signup",
        ]
    );
    // The copy of another moment is the same record.
    app.pass(HOURS);
    let again = weekly(&app, &subscriber).await;
    assert_eq!(again["records"][0]["record_id"], record["record_id"]);
    assert_eq!(again["records"][0]["evidence"], record["evidence"]);
});

both!(the_mail_is_made_again_from_the_record_alone, |db| {
    let (app, subscriber) = anna(db).await;
    let record = weekly(&app, &subscriber).await["records"][0].clone();
    let arrived = app.mailbox("anna@example.org");
    let parts = record["evidence"].as_array().unwrap().iter();
    let parts = parts.flat_map(|event| event["parts"].as_array().unwrap());
    let mails: Vec<_> = parts.filter(|part| part["part"] == "mail").collect();
    assert_eq!(mails.len(), arrived.len());
    for (part, arrived) in mails.iter().zip(&arrived) {
        let body: Value = serde_json::from_str(part["body"].as_str().unwrap()).unwrap();
        let proof: Proof = serde_json::from_value(body["mail"].clone()).unwrap();
        let text = |kind: &str, hash: &Hash| {
            record["sources"][kind][hash.to_string()]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let facts = proof.facts.iter();
        let facts: Vec<_> = facts.map(|hash| text("facts", hash)).collect();
        let facts: Vec<_> = facts.iter().map(String::as_str).collect();
        let template = text("templates", &proof.pinned.template);
        let made = proof.reproduce(&facts, &template).unwrap();
        assert_eq!(Hash::of(&made.bytes), proof.masked_sha256);
        assert_eq!(Hash::of(arrived.raw.as_bytes()), proof.sha256);
        // What is made again is what arrived, but for its tokens.
        assert_eq!(made.bytes.len(), arrived.raw.len());
        let differs = made.bytes.iter().zip(arrived.raw.as_bytes());
        assert!(
            differs
                .filter(|(a, b)| a != b)
                .all(|(made, _)| *made == b'*')
        );
    }
});

/// Returns how many records there are of the one person that there is; nothing is wrong with them.
pub(crate) async fn intact_records(app: &TestApp) -> usize {
    checkpoint(app).await;
    let answer = fetch(app, &subscriber(app).await, "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    check(&answer.body).expect("nothing is wrong with it").len()
}

/// Sends what is due, and stops as a process that dies once the relay has it and has not answered.
async fn die_after_the_dot(app: &TestApp) {
    let died = async {
        let kept = |seen: &Seen| !seen.mails.is_empty();
        app.peer.until("the relay has it", kept).await;
    };
    tokio::select! {
        _ = app.deliver() => panic!("nothing answers"),
        () = died => {}
    }
}

both!(
    a_yes_to_a_copy_of_which_nothing_was_heard_has_its_mail,
    |db| {
        let app = TestApp::start(db).await;
        app.peer.at(Point::Dot, Act::Kept(Box::new(Act::Close)));
        app.sign_up("anna@example.org", &["weekly"]).await;
        app.deliver().await;
        let mail = app.mailbox("anna@example.org").pop().unwrap();
        assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
        // The second copy is not wanted any more.
        app.peer.script(|_| None);
        app.pass(HOURS);
        app.deliver().await;
        assert_eq!(app.mailbox("anna@example.org").len(), 1);
        assert_eq!(intact_records(&app).await, 1);
    }
);

both!(a_yes_to_a_copy_that_the_relay_refused_has_its_mail, |db| {
    for (says, left) in [
        ("554 5.6.0 no", "undeliverable weekly=undeliverable"),
        ("451 4.3.0 later", "accepted weekly=open"),
    ] {
        let app = TestApp::start(db).await;
        let refused = Act::Kept(Box::new(Act::reply(says)));
        app.peer.at(Point::Dot, refused);
        let signup = app.sign_up("anna@example.org", &["weekly"]).await;
        app.deliver().await;
        assert_eq!(app.outcome(&signup).await, left);
        let mail = app.mailbox("anna@example.org").pop().unwrap();
        assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
        assert_eq!(intact_records(&app).await, 1);
    }
});

both!(a_yes_to_a_copy_whose_process_died_has_its_mail, |db| {
    for during in [false, true] {
        let app = TestApp::with(db, LISTS, QUICK).await;
        app.peer.at(Point::Dot, Act::Kept(Box::new(Act::Silence)));
        app.sign_up("anna@example.org", &["weekly"]).await;
        die_after_the_dot(&app).await;
        end_leases(&app).await;
        app.peer.script(|_| None);
        let mail = app.mailbox("anna@example.org").pop().unwrap();
        let press = async || assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
        if during {
            // While the next process is about to send it again, and has not looked yet.
            app.peer.hold(Point::Ehlo);
            let answered = async {
                let waits = |seen: &Seen| seen.waiting == 1;
                app.peer.until("it is sent again", waits).await;
                press().await;
                app.peer.release();
            };
            tokio::join!(app.deliver(), answered);
        } else {
            press().await;
            app.deliver().await;
        }
        assert_eq!(app.mailbox("anna@example.org").len(), 1);
        assert_eq!(intact_records(&app).await, 1);
        app.pass(HOURS);
        assert_eq!(app.deliver().await, 0);
    }
});

both!(a_yes_to_a_mail_that_was_set_aside_has_its_mail, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    app.peer.at(Point::Dot, Act::Kept(Box::new(Act::Silence)));
    let signup = app.sign_up("anna@example.org", &["weekly", "offers"]).await;
    die_after_the_dot(&app).await;
    for _ in 0..2 {
        end_leases(&app).await;
        assert_eq!(claimed(&app, 10).await.jobs.len(), 1);
    }
    end_leases(&app).await;
    app.peer.script(|_| None);
    let aside = async || {
        app.deliver().await;
        app.sweep().await;
        app.deliver().await;
        app.sql("select state from message").await
    };
    assert_eq!(aside().await, ["quarantined"]);
    let mail = app.mailbox("anna@example.org").pop().unwrap();
    let press = async |list| assert_eq!(app.press(&mail.confirm(), list).await.status, 200);
    press("list=weekly").await;
    // It would be sent again for the other list.
    assert_eq!(aside().await, ["quarantined"]);
    press("list=offers").await;
    assert_eq!(aside().await, ["unknown"]);
    assert_eq!(app.mailbox("anna@example.org").len(), 1);
    assert_eq!(
        app.outcome(&signup).await,
        "sent offers=confirmed weekly=confirmed"
    );
    assert_eq!(intact_records(&app).await, 2);
});

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(inner, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                places(inner, &format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

fn remove(document: &mut Value, at: &str) -> Value {
    let (parent, last) = at.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(members) => members
            .remove(&last.replace("~1", "/").replace("~0", "~"))
            .unwrap(),
        Value::Array(items) => items.remove(last.parse().unwrap()),
        _ => unreachable!("a place has a parent"),
    }
}

/// Changes one byte of a text, or one number.
fn change(value: &mut Value) -> bool {
    match value {
        Value::String(text) if !text.is_empty() => {
            let middle = text.char_indices().nth(text.chars().count() / 2);
            let (at, old) = middle.unwrap();
            let new = if old == 'a' { "b" } else { "a" };
            text.replace_range(at..at + old.len_utf8(), new);
            true
        }
        Value::Number(number) => {
            *value = (number.as_f64().unwrap() as u64 + 1).into();
            true
        }
        Value::Bool(told) => {
            *told = !*told;
            true
        }
        _ => false,
    }
}

/// What an error must say when something at this place is wrong.
fn name(record: &Value, at: &str) -> Vec<String> {
    let mut way = at.trim_start_matches('/').split('/');
    let (first, second, third) = (way.next().unwrap(), way.next(), way.next());
    let mut names = vec![first.trim_start_matches('@').to_owned()];
    if let (Some(index), "evidence") = (second, first) {
        let event = &record["evidence"][index.parse::<usize>().unwrap()];
        names = vec![
            format!("event {}:", event["seq"]),
            // Whose number is another is called by that.
            format!(
                "event {}: leaf and proof",
                event["seq"].as_u64().unwrap() + 1
            ),
            format!("evidence[{index}]"),
            "event 0".to_owned(), // an id, which begins with its time
            "seq is missing".to_owned(),
        ];
    }
    if first == "sources" {
        names.push(format!(
            "source {}",
            second.unwrap_or_default().trim_end_matches('s')
        ));
        names.extend(third.map(str::to_owned));
    }
    if first == "stated" {
        names.extend(
            [
                "source facts",
                "processors",
                "event",
                "storage",
                "is named by nothing",
            ]
            .map(str::to_owned),
        );
    }
    if first == "checkpoint" {
        names.push("the root of the checkpoint".to_owned());
        names.push("for a trail of".to_owned());
    }
    names
}

both!(nothing_can_be_taken_out_or_changed_unseen, |db| {
    let (app, subscriber) = anna(db).await;
    let file = weekly(&app, &subscriber).await;
    let record = file["records"][0].clone();
    check(&file.to_string()).unwrap();
    let mut all = Vec::new();
    places(&record, "", &mut all);
    assert!(all.len() > 250, "{}", all.len());
    let told = |changed: &Value| check(&json!({ "records": [changed] }).to_string());
    let (mut unseen, mut unnamed) = (Vec::new(), Vec::new());
    let mut seen = |what: &str, at: &str, told: Result<Vec<Verified>, String>| match told {
        Ok(_) => unseen.push(format!("{what} {at}")),
        Err(why) => {
            let names = name(&record, at);
            if !names.iter().any(|name| why.contains(name.as_str())) {
                unnamed.push(format!("{what} {at}: {why}"));
            }
        }
    };
    for at in &all {
        let mut changed = record.clone();
        remove(&mut changed, at);
        seen("without", at, told(&changed));
        let mut changed = record.clone();
        if change(changed.pointer_mut(at).unwrap()) {
            seen("changed", at, told(&changed));
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    // Which version of confirmd made the copy is nothing but its own word, and the keys a reader has from elsewhere.
    let words = [
        "without /checkpoint/verifier_keys/0",
        "changed /checkpoint/verifier_keys/0",
        "changed /stated/confirmd",
    ];
    assert_eq!(unseen, words);

    // Each part of the evidence is named, alone.
    for (i, event) in record["evidence"].as_array().unwrap().iter().enumerate() {
        for (j, part) in event["parts"].as_array().unwrap().iter().enumerate() {
            let (seq, part) = (&event["seq"], part["part"].as_str().unwrap());
            let mut changed = record.clone();
            remove(&mut changed, &format!("/evidence/{i}/parts/{j}"));
            let why = told(&changed).unwrap_err();
            assert_eq!(
                why,
                format!("record 1: event {seq}: evidence \"{part}\" is missing")
            );
            let mut changed = record.clone();
            change(&mut changed["evidence"][i]["parts"][j]["body"]);
            let why = told(&changed).unwrap_err();
            assert_eq!(
                why,
                format!(
                    "record 1: event {seq}: evidence \"{part}\" is not what the event is committed to"
                )
            );
        }
    }
});

both!(another_trail_is_seen, |db| {
    let (app, subscriber) = anna(db).await;
    let file = weekly(&app, &subscriber).await;
    let told = |change: &dyn Fn(&mut Value)| {
        let mut changed = file.clone();
        change(&mut changed["records"][0]);
        check(&changed.to_string()).unwrap_err()
    };
    let size = file["records"][0]["evidence"][0]["proof"]["size"].clone();
    // A checkpoint of the same length with another root.
    let origin = app.flows.origin(1);
    let signer = Signer::new(&origin, &app.flows.keys().trail[0].seed).expect("a key");
    let other = Checkpoint {
        origin,
        size: size.as_u64().expect("a size"),
        root: Hash::of(b"another trail"),
        time: app.clock.now(),
    };
    let why = told(&|record| record["checkpoint"]["note"] = other.sign(&signer).into());
    assert!(why.contains("do not lead to the root"), "{why}");
    // A later checkpoint than that of the proofs.
    app.sign_up("ben@example.org", &["weekly"]).await;
    checkpoint(&app).await;
    let later = weekly(&app, &subscriber).await["records"][0]["checkpoint"].clone();
    let why = told(&|record| record["checkpoint"] = later.clone());
    assert!(why.contains("its proof is for a trail of"), "{why}");
    // Proofs of another event.
    let why = told(&|record| {
        record["evidence"][0]["proof"] = record["evidence"][1]["proof"].clone();
    });
    let first = &file["records"][0]["evidence"][0]["seq"];
    let expected = format!("record 1: event {first}: leaf and proof");
    assert!(why.starts_with(&expected), "{why}");
    // No checkpoint, and proofs that say that there never was one.
    let why = told(&|record| {
        record["evidence"][0]["proof"] = "pending".into();
    });
    assert!(why.contains("its proof is missing"), "{why}");
    // A key that the reader does not trust.
    let refused = verify(&file.to_string(), |_| Err("no key".to_owned()));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "record 1: checkpoint: no key"
    );
});

/// Rewrites a part of the nth event of a kind and the commitment to it, as an installation could whose events no checkpoint covers yet.
fn forge(record: &mut Value, (kind, nth): (&str, usize), part: Part, at: &str, to: Value) {
    record["checkpoint"] = Value::Null;
    let events = record["evidence"].as_array_mut().unwrap();
    events
        .iter_mut()
        .for_each(|event| event["proof"] = "pending".into());
    let decode = |text: &Value| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
    let is_one = |event: &&mut Value| {
        let leaf = String::from_utf8(decode(&event["leaf"])).unwrap();
        leaf.contains(&format!("\"type\":\"{kind}\""))
    };
    let event = events.iter_mut().filter(is_one).nth(nth).unwrap();
    let leaf = String::from_utf8(decode(&event["leaf"])).unwrap();
    let mut parts = event["parts"].as_array_mut().unwrap().iter_mut();
    let kept = parts.find(|kept| kept["part"] == part.as_str()).unwrap();
    let old = Evidence {
        part,
        key: decode(&kept["key"]).try_into().unwrap(),
        body: kept["body"].as_str().unwrap().to_owned(),
    };
    let mut body: Value = serde_json::from_str(&old.body).unwrap();
    *body.pointer_mut(at).unwrap() = to;
    let new = Evidence::new(part, old.key, &body);
    let forged = leaf.replace(&old.commitment().to_string(), &new.commitment().to_string());
    assert_ne!(forged, leaf);
    kept["body"] = new.body.into();
    event["leaf"] = BASE64_STANDARD.encode(forged).into();
}

// The person asked once at the form, and later for another mail: neither time passes for the other.
both!(a_mail_that_was_asked_for_again_says_so, |db| {
    let app = TestApp::start(db).await;
    let [first, _] = fresh(&app, "anna@example.org", &["weekly"]).await;
    for _ in 0..2 {
        app.pass(A_LIFE);
        app.press(&format!("{first}/again"), "").await;
        app.deliver().await;
    }
    let mail = app.mailbox("anna@example.org").pop().unwrap();
    let text: Vec<_> = mail.text.split_whitespace().collect();
    let text = text.join(" ");
    let asked = "on 23 November 2026 at 09:00 (UTC), on acme.example. \
        You asked for this new mail on 9 December 2026 at 09:00 (UTC).";
    assert!(text.contains(asked), "{text}");
    let page = read(&app.open(&mail.confirm()).await);
    let asked = "23 November 2026 at 09:00 (UTC), on acme.example";
    assert!(page.contains(asked), "{page}");
    app.press(&mail.confirm(), "").await;
    checkpoint(&app).await;
    let file = weekly(&app, &subscriber(&app).await).await;
    validate(&file);
    check(&file.to_string()).unwrap();
    let record = &file["records"][0];
    assert_eq!(record["collection"]["at"], "2026-11-23T09:00:00.000000Z");
    let later = json!("2026-11-24T09:00:00.000000Z");
    for (kind, part, at, why) in [
        (
            "signup.accepted",
            Part::Form,
            "/first_at",
            "it names another time than the signup that it was made from",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/again_at",
            "the mail names another time than the signup has",
        ),
    ] {
        let mut changed = file.clone();
        let record = &mut changed["records"][0];
        forge(record, (kind, 1), part, at, later.clone());
        let seen = check(&changed.to_string()).unwrap_err();
        assert!(seen.contains(why), "{at}: {seen}");
    }
});

both!(facts_that_tell_different_stories_are_seen, |db| {
    let (app, subscriber) = anna(db).await;
    let file = weekly(&app, &subscriber).await;
    let other = "01a207d1-0eb9-7626-91fb-67e27633f308";
    let hash = Hash::of(b"another").to_string();
    let offers = serde_json::from_str::<Value>(
        file["records"][0]["evidence"][0]["parts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["part"] == "wording")
            .unwrap()["body"]
            .as_str()
            .unwrap(),
    );
    let offers = offers.unwrap()["lists"]
        .as_array()
        .unwrap()
        .iter()
        .find(|list| list["list"] == "offers")
        .unwrap()["facts"]
        .clone();
    for (kind, part, at, to, expected) in [
        (
            "signup.accepted",
            Part::Address,
            "/email",
            json!("ben@example.org"),
            "the mail went to another address",
        ),
        (
            "signup.accepted",
            Part::Wording,
            "/locale",
            json!("nl"),
            "the words are not those of list",
        ),
        (
            "signup.accepted",
            Part::Form,
            "/source",
            json!("https://other.example/"),
            "collection.source_url is not what",
        ),
        (
            "signup.accepted",
            Part::Form,
            "/action",
            json!("oral"),
            "collection.act is not what",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/to",
            json!("ben@example.org"),
            "the mail went to another address",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/locale",
            json!("nl"),
            "the mail is in another language",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/asked_at",
            json!("2026-11-23T09:00:01Z"),
            "the mail names another time",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/site",
            json!("acme.example"),
            "the mail names another site",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/kind",
            json!("welcome"),
            "is about another mail",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/pinned/message_id",
            json!("a@b"),
            "is about another mail",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/masked_sha256",
            json!(hash),
            "the mail made again is not the one",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/pinned/boundary",
            json!("=_b"),
            "the mail made again is not the one",
        ),
        (
            "message.sent",
            Part::Mail,
            "/mail/facts",
            json!([offers]),
            "does not concern list weekly",
        ),
        (
            "subscription.confirmed",
            Part::Request,
            "/signup",
            json!(other),
            "is about another signup",
        ),
        (
            "subscription.confirmed",
            Part::Request,
            "/facts",
            offers.clone(),
            "names other facts than the signup",
        ),
        (
            "subscription.confirmed",
            Part::Request,
            "/facts",
            json!(hash),
            "is missing",
        ),
        (
            "subscription.confirmed",
            Part::Request,
            "/signup",
            json!("nobody"),
            "cannot be read",
        ),
    ] {
        let mut changed = file.clone();
        forge(&mut changed["records"][0], (kind, 0), part, at, to);
        let told = check(&changed.to_string());
        let why = told.expect_err(at);
        assert!(why.contains(expected), "{at}: {why}");
    }
});

both!(what_no_checkpoint_covers_is_pending, |db| {
    let app = TestApp::start(db).await;
    app.subscribe("anna@example.org", &["weekly"]).await;
    let subscriber = subscriber(&app).await;
    app.sign_up("anna@example.org", &["weekly"]).await;
    let text = fetch(&app, &subscriber, "").await.body;
    let told = check(&text).unwrap();
    assert_eq!(
        (told[0].events, told[0].pending, told[0].checkpoint),
        (4, 4, None)
    );
    let file: Value = serde_json::from_str(&text).unwrap();
    validate(&file);
    let record = &file["records"][0];
    assert_eq!(record["checkpoint"], Value::Null);
    assert_eq!(record["evidence"][3]["seq"], Value::Null);
    assert_eq!(record["evidence"][0]["proof"], "pending");
    let verified = |text: &str, key: &str, more: &[&str]| {
        let file = app.dir.path().join("record.json");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let words = ["audit", "verify", "--record", file, "--key", key];
        let done = serve::command(&app, &[&words[..], more].concat());
        let said = [done.stdout, done.stderr].map(|said| String::from_utf8(said).unwrap());
        (done.status.code().unwrap(), said.concat())
    };
    // Nobody signed it: anybody may have written it, and any key says as much.
    let stranger = Signer::new("elsewhere.example/1", &[9; 32]).unwrap();
    let stranger = stranger.verifier().to_string();
    let (code, said) = verified(&text, &stranger, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("4 of 4 events are under no checkpoint of these keys yet"),
        "{said}"
    );
    assert!(!said.contains("intact"), "{said}");
    checkpoint(&app).await;
    app.deliver().await;
    let text = fetch(&app, &subscriber, "").await.body;
    let told = check(&text).unwrap();
    // The second signup asked for nothing new: one mail says so.
    assert_eq!((told[0].events, told[0].pending, told[0].mails), (5, 1, 2));
    validate(&serde_json::from_str(&text).unwrap());
    let ours = app.flows.verifiers(1).unwrap()[0].to_string();
    let (code, said) = verified(&text, &ours, &["--format", "json"]);
    assert_eq!(code, 2, "{said}");
    let told: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let record = &told["records"][0];
    assert_eq!(told["intact"], false);
    assert_eq!(
        (&record["events"], &record["pending"]),
        (&json!(5), &json!(1))
    );
    let size = checkpoint(&app).await;
    let text = fetch(&app, &subscriber, "").await.body;
    let (code, said) = verified(&text, &ours, &["--format", "json"]);
    assert_eq!(code, 0, "{said}");
    let told: Value = serde_json::from_str(&said).unwrap();
    let record = &told["records"][0];
    assert_eq!(told["intact"], true);
    assert_eq!(
        (&record["pending"], &record["checkpoint"]),
        (&json!(0), &json!(size))
    );
    let (code, said) = verified(&text, &ours, &[]);
    assert!(
        code == 0 && said.starts_with("record 1: intact: 5 events under"),
        "{said}"
    );
    assert_eq!(verified(&text, &stranger, &[]).0, 1);
    // What is no record says nothing of any.
    for none in ["<!DOCTYPE html>", "[]", "{}", "{\"records\":[]}"] {
        let (code, said) = verified(none, &ours, &[]);
        assert!(
            code == 2 && said.contains("record.json: no consent record"),
            "{said}"
        );
        assert!(!said.contains("intact"), "{said}");
    }
});

both!(
    erased_parts_are_named_with_the_event_that_erased_them,
    |db| {
        let (app, subscriber) = anna(db).await;
        let gone = app
            .execute("delete from evidence where part = 'network' and event in (select id from event where type = 'signup.accepted')")
            .await;
        assert_eq!(gone, Ok(1));
        checkpoint(&app).await;
        let text = fetch(&app, &subscriber, "?list=weekly").await.body;
        let why = check(&text).unwrap_err();
        assert!(why.ends_with("evidence \"network\" is missing"), "{why}");

        let events = app.events().await;
        let accepted = events
            .iter()
            .find(|event| event["type"] == "signup.accepted")
            .unwrap();
        let sender: SenderId = "acme".parse().unwrap();
        let erased = Event::of(
            [7; 26],
            EventKind::EvidenceErased,
            app.clock.now(),
            Some(&sender),
        )
        .subscriber(subscriber.parse().unwrap())
        .with("event", accepted["id"].clone())
        .with("part", "network")
        .with("reason", "retention");
        let mut tx = app.flows.pool.begin().await.unwrap();
        tx.append(&[erased]).await.unwrap();
        tx.commit().await.unwrap();
        checkpoint(&app).await;
        let file = weekly(&app, &subscriber).await;
        validate(&file);
        assert_eq!(check(&file.to_string()).unwrap()[0].events, 7);
        let erased = &file["records"][0]["evidence"][0]["erased"][0];
        assert_eq!(erased["part"], "network");
        assert_eq!(erased["reason"], "retention");
        // Another reason than the event's.
        let mut changed = file.clone();
        changed["records"][0]["evidence"][0]["erased"][0]["reason"] = "request".into();
        let why = check(&changed.to_string()).unwrap_err();
        assert!(why.contains("missing or says otherwise"), "{why}");
    }
);

both!(
    only_a_key_of_the_sender_that_may_read_opens_a_record,
    |db| {
        let (app, subscriber) = anna(db).await;
        let path = route(&subscriber, "");
        let other = app.make_key("other", &[Scope::Read]).await;
        let read = app.make_key("acme", &[Scope::Read]).await;
        let known = app.get(&path, &other).await;
        let never = "01a207d1-0eb9-7626-91fb-67e27633f308";
        let unknown = app.get(&route(never, ""), &other).await;
        assert_eq!((known.status, &known.body), (404, &unknown.body));
        assert_eq!(app.get(&path, &app.key).await.status, 403);
        assert_eq!(send(app.addr, "GET", &path, &[], b"").await.status, 401);
        assert_eq!(app.get(&route("nobody", ""), &read).await.status, 404);
        assert_eq!(
            app.get(&route(&subscriber, "?list=tips"), &read)
                .await
                .status,
            404
        );
        assert_eq!(
            app.get(&route(&subscriber, "?list=%20"), &read)
                .await
                .status,
            404
        );
        assert_eq!(
            app.get(&route(&subscriber, "?locale=%20"), &read)
                .await
                .status,
            422
        );
        // Looking changes nothing.
        let before = app.dump().await;
        let bearer = format!("Bearer {read}");
        let headers = [("authorization", bearer.as_str())];
        let head = send(app.addr, "HEAD", &path, &headers, b"").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(app.get(&path, &read).await.status, 200);
        assert_eq!(app.dump().await, before);
    }
);

both!(what_the_installation_held_back_is_not_told, |db| {
    let app = TestApp::with(db, LISTS, "[limits]\nper_installation_day = 1\n").await;
    app.mail_for("anna@example.org", &["weekly"]).await;
    app.pass(HOURS);
    app.sign_up("anna@example.org", &["weekly"]).await;
    app.deliver().await;
    checkpoint(&app).await;
    let events = app.events().await;
    let withheld = events
        .iter()
        .find(|event| event["type"] == "signup.withheld")
        .unwrap();
    assert!(withheld["sender"].is_null() && withheld["subscriber"].is_string());
    let file = weekly(&app, withheld["subscriber"].as_str().unwrap()).await;
    let told = check(&file.to_string()).unwrap();
    assert_eq!((told[0].events, told[0].pending), (3, 0));
    assert!(!file.to_string().contains(withheld["id"].as_str().unwrap()));
});

/// The page without its stylesheets, and without what is random.
fn readable(page: &str) -> String {
    let text = without_styles(page);
    let text: String = text.split_inclusive('\n').map(unsigned).collect();
    let mut shown = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let hexadecimal =
            !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        match bare.len() {
            36 if hexadecimal => shown.push_str(&word.replace(bare, "[id]")),
            64 if hexadecimal => shown.push_str(&word.replace(bare, "[hash]")),
            _ => shown.push_str(word),
        }
    }
    shown.replace(env!("CARGO_PKG_VERSION"), "[version]")
}

both!(a_record_can_be_read_and_printed, |db| {
    let (app, subscriber) = anna(db).await;
    let key = app.make_key("acme", &[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let get = async |query: &str, accept: &str| {
        let headers = [("authorization", bearer.as_str()), ("accept", accept)];
        send(app.addr, "GET", &route(&subscriber, query), &headers, b"").await
    };
    for language in ["en", "nl"] {
        let page = get(&format!("?list=weekly&locale={language}"), "text/html").await;
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("content-language"), Some(language));
        assert!(!page.body.contains("<script"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        for raw in [".000000Z<", ".000000Z. ", "6(1)", "(button)", "taal nl"] {
            let may = language == "en" && raw == "6(1)";
            assert!(may || !page.body.contains(raw), "{language}: {raw}");
        }
        insta::assert_snapshot!(format!("record_{language}"), readable(&page.body));
    }
    // Unasked, it speaks the language of the consent.
    let page = get("", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(page.header("content-language"), Some("en"));
    assert!(page.body.contains("Offers") && page.body.contains("Weekly news"));
    for accept in [
        "*/*",
        "application/json",
        "text/html;q=0.5, application/json",
        "",
    ] {
        let file = get("", accept).await;
        assert_eq!(
            file.header("content-type"),
            Some("application/json"),
            "{accept}"
        );
        assert_eq!(file.header("vary"), Some("Accept"));
    }
});

both!(a_printed_record_shows_names_as_people_read_them, |db| {
    let lists = LISTS.replace("\"Acme <confirm", "\"Café Acme <confirm");
    let app = TestApp::with(db, &lists, "").await;
    app.subscribe("anna@example.org", &["weekly"]).await;
    let key = app.make_key("acme", &[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("accept", "text/html")];
    let at = route(&subscriber(&app).await, "");
    let page = send(app.addr, "GET", &at, &headers, b"").await;
    let from = "<dd>Café Acme &lt;confirm@acme.example&gt;</dd>";
    assert!(page.body.contains(from), "{}", page.body);
});

both!(the_program_hands_a_record_out_and_says_so, |db| {
    let (app, _) = anna(db).await;
    let proof = |words: &[&str]| {
        let all = [&["subscriber", "proof", "--sender", "acme"], words].concat();
        serve::command(&app, &all)
    };
    let done = proof(&["Anna@example.org"]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text = String::from_utf8(done.stdout).unwrap();
    validate(&serde_json::from_str(&text).unwrap());
    assert_eq!(check(&text).unwrap().len(), 2);
    let events = app.events().await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "subscriber.exported");
    assert_eq!(last["lists"], json!(["offers", "weekly"]));
    let page = proof(&[
        "anna@example.org",
        "--list",
        "weekly",
        "--format",
        "html",
        "--locale",
        "nl",
    ]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("Toestemmingsdossier"));
    out::secret("nobody@example.org");
    assert_eq!(proof(&["nobody@example.org"]).status.code(), Some(1));
    assert_eq!(
        proof(&["anna@example.org", "--list", "tips"]).status.code(),
        Some(1)
    );
    assert_eq!(app.event_counts().await["subscriber.exported"], 2);
});

/// Small numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn somebody(app: &TestApp, n: usize, dice: &mut Dice) {
    let email = format!("person.{n}@example.org");
    let lists: &[&str] = match dice.roll(3) {
        0 => &["weekly"],
        1 => &["offers"],
        _ => &["weekly", "offers"],
    };
    let mut body = signup(&email, lists);
    body["locale"] = ["en", "nl", "nl-BE", "de"][dice.roll(4) as usize].into();
    let action = ["checkbox", "button", "form", "oral", "paper"][dice.roll(5) as usize];
    body["consent"]["action"] = action.into();
    if matches!(action, "oral" | "paper") {
        body["consent"]["source"] = "Counter 3, Vredenburg, Utrecht".into();
    }
    if dice.roll(2) == 0 {
        body["consent"]["ip"] = "2001:db8::7".into();
        body["consent"]["at"] = "2026-11-22T12:00:00+01:00".into();
    }
    for _ in 0..=dice.roll(2) {
        assert_eq!(app.post_signup(&body).await.status, 202);
        app.deliver().await;
        let Some(mail) = app
            .mailbox(&email)
            .into_iter()
            .find(|mail| mail.text.contains("/c/"))
        else {
            continue;
        };
        match dice.roll(4) {
            0 => {}
            1 => {
                let form = ["reason=no", "reason=not_me"][dice.roll(2) as usize];
                assert_eq!(app.press(&mail.decline(), form).await.status, 200);
            }
            roll => {
                let page = app.press(&mail.confirm(), "list=all").await;
                let links = app.unsubscribe_links(&page);
                if let (Some(link), 2) = (links.first(), roll) {
                    let form = ["", "List-Unsubscribe=One-Click"][dice.roll(2) as usize];
                    assert_eq!(app.press(link, form).await.status, 200);
                    app.deliver().await;
                }
            }
        }
    }
}

both!(
    a_hundred_people_have_valid_records_in_the_names_of_dpv,
    |db| {
        let app = TestApp::with(db, LISTS, EVIDENCE).await;
        let mut dice = Dice(20_261_123);
        for n in 0..100 {
            somebody(&app, n, &mut dice).await;
            app.pass(std::time::Duration::from_secs(601));
        }
        checkpoint(&app).await;
        let events = app.events().await;
        let people: BTreeSet<_> = events
            .iter()
            .filter_map(|event| event["subscriber"].as_str())
            .collect();
        assert_eq!(people.len(), 100);
        let key = app.make_key("acme", &[Scope::Read]).await;
        let (mut names, mut states) = (BTreeSet::new(), BTreeSet::new());
        let mut offline = 0;
        for (n, person) in people.iter().enumerate() {
            let answer = app.get(&route(person, ""), &key).await;
            let file = answer.json();
            validate(&file);
            for record in file["records"].as_array().unwrap() {
                terms(record, &mut names);
                states.insert(record["status"].as_str().unwrap().to_owned());
                // D-05: what was said at a counter fits.
                if record["collection"]["method"] == "oral" {
                    assert_eq!(
                        record["collection"]["place"],
                        "Counter 3, Vredenburg, Utrecht"
                    );
                    offline += 1;
                }
            }
            // Making mails again costs a while.
            if n % 10 == 0 {
                check(&answer.body).unwrap();
            }
        }
        assert!(states.len() >= 4 && offline > 5, "{states:?} {offline}");
        for published in [SCHEMA, CONTEXT] {
            terms(&serde_json::from_str(published).unwrap(), &mut names);
        }
        assert!(names.len() > 40, "{names:?}");
        let unknown: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "not in DPV 2.3: {unknown:?}");
    }
);

/// Collects every name with a prefix of DPV, in members and values, but not in what people wrote.
fn terms(value: &Value, found: &mut BTreeSet<String>) {
    let mut name = |text: &str| {
        if ["dpv:", "eu-gdpr:", "pd:"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            found.insert(text.to_owned());
        }
    };
    match value {
        Value::String(text) => name(text),
        Value::Array(items) => items.iter().for_each(|item| terms(item, found)),
        Value::Object(members) => {
            members.keys().for_each(|key| name(key));
            members.values().for_each(|value| terms(value, found));
        }
        _ => {}
    }
}

fn is_known(name: &str) -> bool {
    let (prefix, term) = name.split_once(':').unwrap();
    let known = match prefix {
        "dpv" => DPV,
        "eu-gdpr" => GDPR,
        _ => PD,
    };
    known.contains(&term)
}

#[test]
fn names_that_dpv_does_not_have_are_refused() {
    for name in [
        "hasExpiryTime",
        "hasWithdrawalTime",
        "isIndicationTime",
        "ConsentTerminated",
    ] {
        assert!(!is_known(&format!("dpv:{name}")));
    }
    assert!(is_known("dpv:ConsentGiven") && is_known("eu-gdpr:A7-3") && is_known("pd:Name"));
}

#[test]
fn the_schema_refuses_a_record_without_an_obligatory_field() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let required = schema["$defs"]["record"]["required"].as_array().unwrap();
    // D-02, in the order of the table.
    for field in [
        "schema",
        "record_id",
        "subject",
        "notice",
        "purposes",
        "personal_data",
        "controllers",
        "recipients",
        "collection",
        "storage",
        "jurisdiction",
        "withdrawal",
        "rights",
        "authority",
        "events",
    ] {
        assert!(required.contains(&field.into()), "{field}");
    }
}

/// A line of a checkpoint without root and signature.
fn unsigned(line: &str) -> String {
    match line.rsplit_once(' ') {
        None if line.len() == 45 && line.ends_with("=\n") => "[root]\n".to_owned(),
        Some((name, _)) if name.starts_with("— ") => format!("{name} [signature]\n"),
        _ => line.to_owned(),
    }
}

both!(
    a_record_prefers_the_checkpoint_that_was_time_stamped,
    |db| {
        let (app, subscriber) = anna(db).await;
        let stamp = |size: u64| {
            let pool = app.flows.pool.clone();
            async move {
                let mut tx = pool.begin().await.unwrap();
                let kept = tx.last_checkpoint().await.unwrap().unwrap();
                assert_eq!(kept.size, size);
                assert!(tx.keep_stamp(&kept, b"0\x01a").await.unwrap());
                tx.commit().await.unwrap();
                kept.note
            }
        };
        let first = stamp(checkpoint(&app).await).await;
        for name in ["ben", "cleo"] {
            app.sign_up(&format!("{name}@example.org"), &["weekly"])
                .await;
            checkpoint(&app).await;
        }
        stamp(checkpoint(&app).await).await;
        // Others came since; nothing of hers did.
        let answer = fetch(&app, &subscriber, "?list=weekly").await;
        let record = &answer.json()["records"][0];
        assert_eq!(record["checkpoint"]["note"], first);
        assert_eq!(record["checkpoint"]["stamp"], "MAFh");
        check(&answer.body).unwrap();
        // What is newer than every stamp rests on the newest checkpoint.
        app.sign_up("anna@example.org", &["weekly"]).await;
        checkpoint(&app).await;
        let newer = weekly(&app, &subscriber).await;
        let newer = &newer["records"][0]["checkpoint"];
        assert_eq!(newer["stamp"], Value::Null);
        assert_ne!(newer["note"], first);
    }
);
