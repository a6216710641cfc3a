//! The API for signup backends: what it refuses and how it says so, and that a repeat changes nothing.

use std::fmt::Write;
use std::time::Duration;

use confirmd::flow::api_key::Scope;
use serde_json::{Value, json};

use crate::support::app::{Db, LISTS, TestApp, both, signup};
use crate::support::http::{Response, send};
use crate::support::{out, serve};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A body that is wrong, and the pointers that say where.
struct Row {
    what: String,
    body: Value,
    pointers: Vec<&'static str>,
}

fn row(what: impl Into<String>, pointers: &[&'static str], edit: impl FnOnce(&mut Value)) -> Row {
    let mut body = signup("row.of.the.table@example.org", &["weekly"]);
    edit(&mut body);
    Row {
        what: what.into(),
        body,
        pointers: pointers.to_vec(),
    }
}

fn put(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).expect("a member to put it in");
    parent[name] = value;
}

/// The texts of a body: where they are put, where a problem points, and their longest in bytes.
const TEXTS: [(&str, &str, usize); 11] = [
    ("/email", "#/email", 254),
    ("/locale", "#/locale", 35),
    ("/ref", "#/ref", 64),
    ("/redirect", "#/redirect", 2000),
    ("/attributes/plan", "#/attributes/plan", 200),
    ("/consent/action", "#/consent/action", 32),
    ("/consent/source", "#/consent/source", 2000),
    ("/consent/text", "#/consent/text", 10_000),
    ("/consent/at", "#/consent/at", 64),
    ("/consent/user_agent", "#/consent/user_agent", 1000),
    ("/consent/challenge", "#/consent/challenge", 200),
];

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |row: Row| rows.push(row);

    for body in [
        json!([]),
        json!("a text that is none"),
        json!(null),
        json!(7),
    ] {
        add(Row {
            what: format!("not an object: {body}"),
            body,
            pointers: vec!["#"],
        });
    }
    for (name, pointer) in [
        ("email", "#/email"),
        ("lists", "#/lists"),
        ("consent", "#/consent"),
    ] {
        add(row(format!("{name} missing"), &[pointer], |body| {
            body.as_object_mut().unwrap().remove(name);
        }));
        add(row(format!("{name} null"), &[pointer], |body| {
            body[name] = Value::Null;
        }));
        add(row(format!("{name} a number"), &[pointer], |body| {
            body[name] = json!(7_654_321);
        }));
    }
    for (name, pointer) in [
        ("action", "#/consent/action"),
        ("source", "#/consent/source"),
    ] {
        add(row(format!("consent.{name} missing"), &[pointer], |body| {
            body["consent"].as_object_mut().unwrap().remove(name);
        }));
    }
    add(row(
        "consent empty",
        &["#/consent/action", "#/consent/source"],
        |body| {
            body["consent"] = json!({});
        },
    ));
    add(row("consent.source empty", &["#/consent/source"], |body| {
        body["consent"]["source"] = json!("");
    }));
    add(row(
        "everything missing",
        &["#/email", "#/lists", "#/consent"],
        |body| {
            *body = json!({});
        },
    ));

    add(row("an unknown member", &["#/name"], |body| {
        body["name"] = json!("Anna Jansen");
    }));
    add(row("an unknown member that is null", &["#/name"], |body| {
        body["name"] = Value::Null;
    }));
    add(row(
        "an unknown member of consent",
        &["#/consent/place"],
        |body| {
            body["consent"]["place"] = json!("Amsterdam");
        },
    ));
    add(row(
        "an unknown member with a name of all sorts",
        &["#/a%20b~1c~0d%25%C3%A9%0D%0A%22"],
        |body| {
            body["a b/c~d%é\r\n\""] = json!(1);
        },
    ));
    add(row(
        "wrong at each level at once",
        &[
            "#/email",
            "#/lists/0",
            "#/consent/action",
            "#/consent/place",
            "#/name",
            "#/surname",
        ],
        |body| {
            *body = json!({
                "email": "no address at all", "lists": ["nowhere-list"], "name": "Anna Jansen", "surname": 1,
                "consent": { "action": "mind reading", "source": "https://acme.example/", "place": "Amsterdam" },
            });
        },
    ));

    add(row("an unknown list", &["#/lists/0"], |body| {
        body["lists"] = json!(["nowhere-list"])
    }));
    add(row("another sender's list", &["#/lists/0"], |body| {
        body["lists"] = json!(["tips"])
    }));
    add(row("a list that is no name", &["#/lists/0"], |body| {
        body["lists"] = json!(["No Name!"])
    }));
    add(row("a list that is a number", &["#/lists/1"], |body| {
        body["lists"] = json!(["weekly", 7_654_321])
    }));
    add(row("a closed list", &["#/lists/1"], |body| {
        body["lists"] = json!(["weekly", "offers"])
    }));
    add(row("no list", &["#/lists"], |body| {
        body["lists"] = json!([])
    }));
    add(row("too many lists", &["#/lists"], |body| {
        body["lists"] = json!(vec!["weekly"; 21])
    }));
    add(row("lists a text", &["#/lists"], |body| {
        body["lists"] = json!("weekly")
    }));

    for (what, address) in [
        ("empty", String::new()),
        (
            "of 300 bytes",
            format!("{}@{}example.org", "l".repeat(60), "d.".repeat(114)),
        ),
        (
            "of 400 bytes",
            format!("{}@{}example.org", "l".repeat(60), "d.".repeat(164)),
        ),
        (
            "with a long local part",
            format!("{}@example.org", "l".repeat(65)),
        ),
        ("without an @", "bad.row.example.org".to_owned()),
        ("without a local part", "@bad-row.example.org".to_owned()),
        ("without a domain", "bad.row.without@".to_owned()),
        ("with a domain of one label", "bad.row@localhost".to_owned()),
        ("with an address literal", "bad.row@[192.0.2.1]".to_owned()),
        ("with quotes", "\"bad row\"@example.org".to_owned()),
        ("with a space", "bad row@example.org".to_owned()),
        ("with a comment", "bad.row(her)@example.org".to_owned()),
        ("with a name", "Bad Row <bad.row@example.org>".to_owned()),
        (
            "two of them",
            "bad.row@example.org,bad.row2@example.org".to_owned(),
        ),
        (
            "with letters outside ASCII",
            "bäd.röw@example.org".to_owned(),
        ),
        (
            "an encoded word",
            "=?utf-8?q?bad.row?=@example.org".to_owned(),
        ),
        (
            "with a second header",
            "bad.row@example.org\r\nBcc: bad.row2@example.org".to_owned(),
        ),
    ] {
        add(row(format!("an address {what}"), &["#/email"], |body| {
            body["email"] = json!(address)
        }));
    }

    for (member, pointer, longest) in TEXTS {
        for (what, control) in [("CR LF", "\r\n"), ("NUL", "\0"), ("DEL", "\x7f")] {
            add(row(format!("{member} with {what}"), &[pointer], |body| {
                body["attributes"] = json!({ "plan": "gold" });
                let text = format!("before{control}after");
                put(body, member, json!(text));
            }));
        }
        add(row(format!("{member} too long"), &[pointer], |body| {
            body["attributes"] = json!({ "plan": "gold" });
            put(body, member, json!("w".repeat(longest + 1)));
        }));
        add(row(format!("{member} no text"), &[pointer], |body| {
            body["attributes"] = json!({ "plan": "gold" });
            put(body, member, json!({ "inner": 7_654_321 }));
        }));
    }

    for (what, at) in [
        ("older than 14 days", "2026-11-09T08:59:59Z"),
        ("in the future", "2026-11-23T09:05:01Z"),
        ("without an offset", "2026-11-22T08:15:00"),
        ("a date alone", "2026-11-22"),
        ("without separators", "20261122T081500Z"),
        ("without seconds", "2026-11-22T08:15Z"),
        ("with a space", "2026-11-22 08:15:00Z"),
        ("with a comma", "2026-11-22T08:15:00,5Z"),
        ("with an offset of hours", "2026-11-22T09:15:00+01"),
        (
            "with a time zone",
            "2026-11-22T09:15:00+01:00[Europe/Amsterdam]",
        ),
        ("with a year of six digits", "+002026-11-22T08:15:00Z"),
    ] {
        add(row(
            format!("consent.at {what}"),
            &["#/consent/at"],
            |body| body["consent"]["at"] = json!(at),
        ));
    }
    let words = "Yes, mail me the weekly news of Acme B.V.";
    add(row(
        "consent.text and text_sha256",
        &["#/consent/text"],
        |body| {
            body["consent"]["text"] = json!(words);
            body["consent"]["text_sha256"] = json!(sha256(words));
        },
    ));
    add(row(
        "words that were never shown",
        &["#/consent/text"],
        |body| {
            body["consent"]["text"] = json!("Yes, sell my address to everybody.");
        },
    ));
    add(row("words of another list", &["#/consent/text"], |body| {
        body["consent"]["text"] = json!("Yes, mail me offers of Acme B.V.");
    }));
    add(row(
        "the hash of words that were never shown",
        &["#/consent/text_sha256"],
        |body| {
            body["consent"]["text_sha256"] = json!(sha256("Yes, sell my address to everybody."));
        },
    ));
    for (what, hash) in [
        ("in capitals", sha256(words).to_uppercase()),
        ("too short", "00ff00ff".to_owned()),
        ("too long", "0".repeat(65)),
    ] {
        add(row(
            format!("a hash {what}"),
            &["#/consent/text_sha256"],
            |body| {
                body["consent"]["text_sha256"] = json!(hash);
            },
        ));
    }
    add(row(
        "an action in capitals",
        &["#/consent/action"],
        |body| {
            body["consent"]["action"] = json!("CHECKBOX");
        },
    ));
    add(row(
        "an IP address that is none",
        &["#/consent/ip"],
        |body| {
            body["consent"]["ip"] = json!("256.1.1.1");
        },
    ));
    for locale in ["english", "n", "nl_NL", "nl-", "../../etc"] {
        add(row(
            format!("the locale {locale:?}"),
            &["#/locale"],
            |body| body["locale"] = json!(locale),
        ));
    }
    add(row(
        "an attribute that is not allowed",
        &["#/attributes/shoe"],
        |body| {
            body["attributes"] = json!({ "plan": "gold", "shoe": "forty-two" });
        },
    ));
    add(row("attributes a list", &["#/attributes"], |body| {
        body["attributes"] = json!(["plan"])
    }));
    add(row(
        "nine attributes",
        &["#/attributes", "#/attributes/a0", "#/attributes/a7"],
        |body| {
            let nine: serde_json::Map<_, _> =
                (0..9).map(|n| (format!("a{n}"), json!("gold"))).collect();
            body["attributes"] = Value::Object(nine);
        },
    ));
    for redirect in [
        "https://evil.example/thanks",
        "https://acme.example/thanks/",
        "https://acme.example/thanks?next=1",
        "javascript:alert(1)",
    ] {
        add(row(
            format!("the redirect {redirect}"),
            &["#/redirect"],
            |body| {
                body["redirect"] = json!(redirect);
            },
        ));
    }
    rows
}

/// The SHA-256 that a backend computes for itself.
fn sha256(text: &str) -> String {
    confirmd::domain::consent::Hash::of(text.as_bytes()).to_string()
}

/// Asserts that a problem is whole and says nothing of what was sent; returns its pointers.
fn problem(answer: &Response, status: u16, kind: &str) -> Vec<String> {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    assert_eq!(
        body["type"],
        format!("urn:confirmd:problem:{kind}"),
        "{body}"
    );
    assert_eq!(body["status"], status, "{body}");
    assert!(
        body["title"]
            .as_str()
            .is_some_and(|title| !title.is_empty()),
        "{body}"
    );
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let pointers = errors
        .iter()
        .map(|e| e["pointer"].as_str().expect("a pointer").to_owned());
    pointers.collect()
}

/// Every text and number of a body that could be repeated by mistake.
fn values(body: &Value, found: &mut Vec<String>) {
    match body {
        Value::Object(members) => members.values().for_each(|value| values(value, found)),
        Value::Array(items) => items.iter().for_each(|value| values(value, found)),
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        _ => {}
    }
}

both!(
    what_is_wrong_is_said_at_its_place_and_nothing_is_repeated,
    |db| {
        let app = TestApp::start(db).await;
        let (open, _) = LISTS.split_once("[lists.offers]").unwrap();
        let (_, tips) = LISTS.split_once("[lists.tips]").unwrap();
        app.reload(&format!("{open}[lists.tips]{tips}")).await;
        let before = app.dump().await;
        let mut said = String::new();
        let mut same = Vec::new();
        for Row {
            what,
            body,
            pointers,
        } in rows()
        {
            let mut sent = Vec::new();
            values(&body, &mut sent);
            for text in sent
                .iter()
                .filter(|t| t.contains("bad.row") && !t.contains(char::is_control))
            {
                out::secret(text);
            }
            let answer = app
                .post_json("/v1/signups", &app.key, &[], &body.to_string())
                .await;
            let told = problem(&answer, 422, "invalid-request");
            for pointer in pointers {
                assert!(
                    told.iter().any(|t| t == pointer),
                    "{what}: {pointer} is not in {told:?}"
                );
            }
            // Single words of the contract ("weekly" is none) stand in answers for another reason.
            for text in sent.iter().filter(|t| t.len() > 3 && *t != "checkbox") {
                assert!(
                    !answer.body.contains(text.as_str()),
                    "{what}: repeats {text:?}"
                );
            }
            let answer = answer.json();
            writeln!(said, "{what}").unwrap();
            for error in answer["errors"].as_array().unwrap() {
                let part = |name: &str| error[name].as_str().unwrap().to_owned();
                writeln!(said, "    {} {}", part("pointer"), part("detail")).unwrap();
            }
            if what == "an unknown list" || what == "another sender's list" {
                same.push(answer);
            }
        }
        assert_eq!(
            same[0], same[1],
            "another sender's list is told from an unknown one"
        );
        assert_eq!(before, app.dump().await, "a refused signup was written");
        insta::assert_snapshot!("bad_input", said);
    }
);

/// Requests that are refused before their members are looked at: method, path, headers, body, and the answer.
type Envelope<'a> = (
    &'a str,
    &'a str,
    &'a str,
    Vec<(&'a str, &'a str)>,
    Vec<u8>,
    u16,
    &'a str,
);

both!(what_is_no_signup_at_all_is_refused_with_a_problem, |db| {
    let app = TestApp::start(db).await;
    let before = app.dump().await;
    let good = signup("envelope@example.org", &["weekly"]).to_string();
    let good = good.as_bytes();
    out::secret("envelope@example.org");
    let bearer = format!("Bearer {}", app.key);
    let json = vec![
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut headers = json.clone();
        headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        headers.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        headers
    };
    let keyed = format!("/v1/signups?key={}&api_key={0}&access_token={0}", app.key);
    let (deep, far) = ("[".repeat(8000), "{\"a\":".repeat(2000));
    let twice =
        String::from_utf8_lossy(good).replacen('{', "{\"email\":\"twice.named@example.org\",", 1);
    let inner =
        String::from_utf8_lossy(good).replacen("\"action\"", "\"action\":\"oral\",\"action\"", 1);
    let table: Vec<Envelope<'_>> = vec![
        (
            "no JSON",
            "POST",
            "/v1/signups",
            json.clone(),
            b"email=envelope@example.org".to_vec(),
            400,
            "malformed-json",
        ),
        (
            "nothing",
            "POST",
            "/v1/signups",
            json.clone(),
            vec![],
            400,
            "malformed-json",
        ),
        (
            "half of it",
            "POST",
            "/v1/signups",
            json.clone(),
            good[..good.len() / 2].to_vec(),
            400,
            "malformed-json",
        ),
        (
            "more behind it",
            "POST",
            "/v1/signups",
            json.clone(),
            [good, b"{}"].concat(),
            400,
            "malformed-json",
        ),
        (
            "no UTF-8",
            "POST",
            "/v1/signups",
            json.clone(),
            b"{\"email\":\"\xff\xfe\"}".to_vec(),
            400,
            "malformed-json",
        ),
        (
            "half a surrogate",
            "POST",
            "/v1/signups",
            json.clone(),
            b"{\"email\":\"\\ud800\"}".to_vec(),
            400,
            "malformed-json",
        ),
        (
            "a raw NUL",
            "POST",
            "/v1/signups",
            json.clone(),
            b"{\"email\":\"\0\"}".to_vec(),
            400,
            "malformed-json",
        ),
        (
            "nested arrays",
            "POST",
            "/v1/signups",
            json.clone(),
            deep.into_bytes(),
            400,
            "malformed-json",
        ),
        (
            "nested objects",
            "POST",
            "/v1/signups",
            json.clone(),
            far.into_bytes(),
            400,
            "malformed-json",
        ),
        (
            "a member twice",
            "POST",
            "/v1/signups",
            json.clone(),
            twice.into_bytes(),
            400,
            "malformed-json",
        ),
        (
            "an inner member twice",
            "POST",
            "/v1/signups",
            json.clone(),
            inner.into_bytes(),
            400,
            "malformed-json",
        ),
        (
            "one byte more than 16 KiB",
            "POST",
            "/v1/signups",
            json.clone(),
            padded(good, 16 * 1024 + 1),
            413,
            "too-large",
        ),
        (
            "much more than 16 KiB",
            "POST",
            "/v1/signups",
            json.clone(),
            padded(good, 300 * 1024),
            413,
            "too-large",
        ),
        (
            "a form",
            "POST",
            "/v1/signups",
            with(&[("content-type", "application/x-www-form-urlencoded")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "plain text",
            "POST",
            "/v1/signups",
            with(&[("content-type", "text/plain")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "no type",
            "POST",
            "/v1/signups",
            with(&[("content-type", "")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "another JSON",
            "POST",
            "/v1/signups",
            with(&[("content-type", "application/json-seq")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "gzip",
            "POST",
            "/v1/signups",
            with(&[("content-encoding", "gzip")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "identity",
            "POST",
            "/v1/signups",
            with(&[("content-encoding", "identity")]),
            good.to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "GET",
            "GET",
            "/v1/signups",
            json.clone(),
            vec![],
            405,
            "method-not-allowed",
        ),
        (
            "PUT",
            "PUT",
            "/v1/signups",
            json.clone(),
            good.to_vec(),
            405,
            "method-not-allowed",
        ),
        (
            "DELETE",
            "DELETE",
            "/v1/signups",
            json.clone(),
            vec![],
            405,
            "method-not-allowed",
        ),
        (
            "OPTIONS",
            "OPTIONS",
            "/v1/signups",
            json.clone(),
            vec![],
            405,
            "method-not-allowed",
        ),
        (
            "POST to lists",
            "POST",
            "/v1/lists",
            json.clone(),
            good.to_vec(),
            405,
            "method-not-allowed",
        ),
        (
            "an unknown path",
            "POST",
            "/v1/signup",
            json.clone(),
            good.to_vec(),
            404,
            "not-found",
        ),
        (
            "a path with a slash more",
            "POST",
            "/v1/signups/",
            json.clone(),
            good.to_vec(),
            404,
            "not-found",
        ),
        (
            "an unknown version",
            "GET",
            "/v1/",
            json.clone(),
            vec![],
            404,
            "not-found",
        ),
        (
            "no key",
            "POST",
            "/v1/signups",
            with(&[("authorization", "")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "a key in the query",
            "POST",
            &keyed,
            with(&[("authorization", "")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "another scheme",
            "POST",
            "/v1/signups",
            with(&[("authorization", "Basic YWNtZTphY21l")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "no word after the scheme",
            "POST",
            "/v1/signups",
            with(&[("authorization", "Bearer")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "an empty key",
            "POST",
            "/v1/signups",
            with(&[("authorization", "Bearer  ")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "a key of another form",
            "POST",
            "/v1/signups",
            with(&[("authorization", "Bearer secret")]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
        (
            "a key that nobody made",
            "POST",
            "/v1/signups",
            with(&[(
                "authorization",
                "Bearer confirmd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            )]),
            good.to_vec(),
            401,
            "unauthorized",
        ),
    ];
    let mut said = String::new();
    for (what, method, path, headers, body, status, kind) in &table {
        let answer = send(app.addr, method, path, headers, body).await;
        assert_eq!(answer.status, *status, "{what}: {}", answer.body);
        assert!(problem(&answer, *status, kind).is_empty(), "{what}");
        for sent in [
            "@example.org",
            app.key.as_str(),
            "secret",
            "confirmd_",
            "/v1/",
            "YWNt",
        ] {
            assert!(!answer.body.contains(sent), "{what}: repeats {sent:?}");
        }
        match status {
            405 => assert_eq!(
                answer.header("allow"),
                Some(if path.ends_with("lists") {
                    "GET,HEAD"
                } else {
                    "POST"
                }),
                "{what}"
            ),
            401 => assert!(answer.header("www-authenticate").is_some(), "{what}"),
            _ => {}
        }
        writeln!(said, "{what}: {}", answer.body).unwrap();
    }
    assert_eq!(before, app.dump().await, "a refused request was written");
    insta::assert_snapshot!("no_signup_at_all", said);
});

/// A body with spaces behind it, up to a length.
fn padded(body: &[u8], length: usize) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(length, b' ');
    body
}

both!(a_body_may_have_16_kib_and_come_in_chunks, |db| {
    let app = TestApp::start(db).await;
    out::secret("sixteen@example.org");
    let good = padded(
        signup("sixteen@example.org", &["weekly"])
            .to_string()
            .as_bytes(),
        16 * 1024,
    );
    let bearer = format!("Bearer {}", app.key);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "Application/JSON; charset=utf-8"),
    ];
    let answer = send(app.addr, "POST", "/v1/signups", &headers, &good).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let chunked = [headers[0], headers[1], ("transfer-encoding", "chunked")];
    for (length, status) in [(16 * 1024, 202), (16 * 1024 + 1, 413)] {
        let body = padded(&good, length);
        let mut chunks = Vec::new();
        for chunk in body.chunks(5000) {
            chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
            chunks.extend(chunk);
            chunks.extend(b"\r\n");
        }
        chunks.extend(b"0\r\n\r\n");
        let answer = send(app.addr, "POST", "/v1/signups", &chunked, &chunks).await;
        assert_eq!(answer.status, status, "{length}: {}", answer.body);
    }
    assert_eq!(app.count("signup").await, 2);
});

both!(a_key_opens_its_scope_of_its_sender_alone, |db| {
    let app = TestApp::start(db).await;
    let body = signup("scoped@example.org", &["weekly"]).to_string();
    out::secret("scoped@example.org");
    let narrow = app.make_key("acme", &[Scope::Read, Scope::Manage]).await;
    let answer = app.post_json("/v1/signups", &narrow, &[], &body).await;
    problem(&answer, 403, "forbidden");
    problem(&app.get("/v1/lists", &narrow).await, 403, "forbidden");
    let other = app.make_key("other", &[Scope::Signup]).await;
    let answer = app.post_json("/v1/signups", &other, &[], &body).await;
    assert_eq!(problem(&answer, 422, "invalid-request"), ["#/lists/0"]);
    let wide = app.make_key("acme", &Scope::ALL).await;
    let answer = app.post_json("/v1/signups", &wide, &[], &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    // One letter of a key is another key.
    let last = if wide.ends_with('A') { 'B' } else { 'A' };
    let near = format!("{}{last}", &wide[..wide.len() - 1]);
    let answer = app.post_json("/v1/signups", &near, &[], &body).await;
    problem(&answer, 401, "unauthorized");
});

/// A revoked key opens nothing a second later. The memory of keys lives on tokio's clock, which one thread can move.
async fn revoked(db: Db) {
    let app = TestApp::start(db).await;
    let ids = || -> Vec<String> {
        let listed = serve::command(&app, &["key", "list", "--format", "json"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|key| key["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = ids();
    let key = app.make_key("acme", &[Scope::Signup]).await;
    assert_eq!(app.get("/v1/lists", &key).await.status, 200);
    let id = ids().into_iter().find(|id| !before.contains(id)).unwrap();
    let revoke = serve::command(&app, &["key", "revoke", &id]);
    assert!(revoke.status.success());

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    problem(&app.get("/v1/lists", &key).await, 401, "unauthorized");
    let answer = app.get("/v1/lists", &app.key).await;
    assert_eq!(answer.status, 200, "another key was revoked");

    let again = serve::command(&app, &["key", "revoke", &id]);
    assert_eq!(again.status.code(), Some(1), "it is revoked already");
    let revokes = app.event_counts().await.remove("key.revoked");
    assert_eq!(revokes, Some(1));
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_after_a_second_sqlite() {
    revoked(Db::Sqlite).await;
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_after_a_second_postgres() {
    revoked(Db::Postgres).await;
}

both!(what_is_right_is_kept_as_it_was_sent, |db| {
    let app = TestApp::start(db).await;
    let words = "Yes, mail me the weekly news of Acme B.V.";
    let kept = async |id: &str| {
        let row = match db {
            Db::Sqlite => format!(
                "select coalesce(consent,'') || '|' || coalesce(ref,'') || '|' || coalesce(attributes,'') || '|' || coalesce(redirect,'') || '|' || locale || '|' || email from signup where id = x'{}'",
                id.replace('-', "")
            ),
            Db::Postgres => format!(
                "select coalesce(consent::text,'') || '|' || coalesce(ref,'') || '|' || coalesce(attributes::text,'') || '|' || coalesce(redirect,'') || '|' || locale || '|' || email from signup where id = '{id}'"
            ),
        };
        // jsonb is printed with spaces, and in an order of its own.
        app.sql(&row).await[0].replace("\": \"", "\":\"")
    };
    let mut body = signup("Kept.Spelling@Example.org", &["weekly", "weekly"]);
    body["consent"] = json!({ "action": "button", "source": "the fair in Utrecht", "text": words, "at": "2026-11-09T10:00:00+01:00",
        "ip": "198.51.100.7", "user_agent": "Mozilla/5.0 (X11)", "challenge": "passed" });
    body["ref"] = json!("order 17 ✓");
    body["attributes"] = json!({ "plan": "gold" });
    body["redirect"] = json!("https://acme.example/thanks");
    let answer = app.post_signup(&body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let row = kept(&id).await;
    for part in [
        "the fair in Utrecht",
        "button",
        &sha256(words),
        "2026-11-09T09:00:00",
        "passed",
        "|order 17 ✓|",
        "\"plan\":\"gold\"",
        "|https://acme.example/thanks|en|Kept.Spelling@example.org",
    ] {
        assert!(row.contains(part), "{part} is not in {row}");
    }
    // Network facts are kept by policy, and the policy is none.
    assert!(!row.contains("198.51") && !row.contains("Mozilla"), "{row}");
    assert_eq!(
        app.outcome(&id).await,
        "accepted weekly=open",
        "named twice, joined once"
    );

    // By their hash, and in another language than the signup's.
    let mut body = signup("by.hash@example.org", &["offers", "weekly"]);
    body["consent"]["text_sha256"] = json!(sha256("Ja, mail mij het weekbericht van Acme B.V."));
    assert_eq!(app.post_signup(&body).await.status, 202);

    for (email, locale, lists, becomes) in [
        ("nl-be@example.org", json!("nl-BE"), vec!["weekly"], "nl"),
        (
            "nl-upper@example.org",
            json!("NL"),
            vec!["weekly", "offers"],
            "nl",
        ),
        ("fr@example.org", json!("fr"), vec!["weekly"], "en"),
        ("none@example.org", Value::Null, vec!["weekly"], "en"),
    ] {
        let mut body = signup(email, &lists);
        body["locale"] = locale;
        let answer = app.post_signup(&body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let row = kept(answer.json()["id"].as_str().unwrap()).await;
        assert!(row.ends_with(&format!("|{becomes}|{email}")), "{row}");
    }

    // The oldest consent, and the furthest of clocks that run ahead.
    for (email, at) in [
        ("oldest@example.org", "2026-11-09T09:00:00Z"),
        ("ahead@example.org", "2026-11-23T09:05:00Z"),
        // RFC 3339, section 5.6: letters of either case, any fraction, an offset that may be unknown.
        ("small@example.org", "2026-11-22t08:15:00z"),
        ("exact@example.org", "2026-11-22T09:15:00.123456789+01:00"),
        ("unknown@example.org", "2026-11-22T08:15:00-00:00"),
    ] {
        let mut body = signup(email, &["weekly"]);
        body["consent"]["at"] = json!(at);
        assert_eq!(app.post_signup(&body).await.status, 202, "{at}");
    }
});

both!(an_answer_to_a_signup_is_one_id_in_fixed_bytes, |db| {
    let app = TestApp::start(db).await;
    let answer = app
        .post_signup(&signup("bytes@example.org", &["weekly"]))
        .await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.body, format!("{{\"id\":\"{id}\"}}"));
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUIDv7");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
});

both!(lists_are_told_in_the_language_asked_for, |db| {
    let app = TestApp::start(db).await;
    let get = async |path: &str| app.get(path, &app.key).await;
    for (path, name) in [
        ("/v1/lists", "lists_en"),
        ("/v1/lists?locale=nl-BE", "lists_nl"),
        ("/v1/lists?locale=fr", "lists_en"),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200);
        let pretty = serde_json::to_string_pretty(&answer.json()).unwrap();
        insta::assert_snapshot!(name, pretty);
        for list in answer.json()["lists"].as_array().unwrap() {
            let words = list["text"].as_str().unwrap();
            assert_eq!(list["text_sha256"], sha256(words), "{words}");
        }
    }
    problem(
        &get("/v1/lists?locale=not%20one").await,
        422,
        "invalid-request",
    );
    let other = app.make_key("other", &[Scope::Signup]).await;
    let answer = app.get("/v1/lists", &other).await.json();
    let names: Vec<_> = answer["lists"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["list"])
        .collect();
    assert_eq!(names, ["tips"]);

    let (open, _) = LISTS.split_once("[lists.offers]").unwrap();
    app.reload(open).await;
    let answer = get("/v1/lists").await.json();
    let names: Vec<_> = answer["lists"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["list"])
        .collect();
    assert_eq!(names, ["weekly"], "a closed list is not offered");
});

both!(a_repeat_with_its_idempotency_key_changes_nothing, |db| {
    let app = TestApp::start(db).await;
    out::secret("repeat@example.org");
    let body = signup("repeat@example.org", &["weekly"]).to_string();
    let post = async |key: &str, idempotency: &str, body: &str| {
        let header = [("idempotency-key", idempotency)];
        app.post_json("/v1/signups", key, &header, body).await
    };
    let first = post(&app.key, "order-17", &body).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let rows = app.dump().await;
    // Quoted and unquoted are one key (the draft's form, and everybody's).
    for key in ["order-17", "\"order-17\"", "order-17"] {
        let again = post(&app.key, key, &body).await;
        assert_eq!((again.status, &again.body), (202, &first.body));
    }
    assert_eq!(app.dump().await, rows, "a repeat was written");
    // Case counts, and another body under the same key is a mistake.
    let changed = signup("repeat@example.org", &["offers"]).to_string();
    let answer = post(&app.key, "order-17", &changed).await;
    problem(&answer, 422, "idempotency-key-reused");
    insta::assert_snapshot!("key_reused", answer.body);
    assert_eq!(app.dump().await, rows);
    let upper = post(&app.key, "Order-17", &body).await;
    assert_eq!(upper.status, 202);
    assert_ne!(upper.body, first.body);
    // What was refused is not remembered.
    let answer = post(&app.key, "order-18", "{}").await;
    problem(&answer, 422, "invalid-request");
    assert_eq!(post(&app.key, "order-18", &body).await.status, 202);
    // Another API key of the same sender, and one of another: their keys are their own.
    let second = app.make_key("acme", &[Scope::Signup]).await;
    let answer = post(&second, "order-17", &body).await;
    assert_eq!(answer.status, 202);
    assert_ne!(answer.body, first.body);
    let other = app.make_key("other", &[Scope::Signup]).await;
    let tips = signup("repeat@example.org", &["tips"]).to_string();
    assert_eq!(post(&other, "order-17", &tips).await.status, 202);
    assert_eq!(app.count("signup").await, 5);
    assert_eq!(app.count("message").await, 5);
    assert_eq!(app.event_counts().await["signup.accepted"], 5);
    // Neither the key nor the body of a request can be read in the database.
    assert!(!app.dump().await.contains("order-17"));
});

both!(
    a_repeat_is_answered_though_it_would_be_refused_by_now,
    |db| {
        let app = TestApp::start(db).await;
        let post = async |key: &str, body: &str| {
            let header = [("idempotency-key", key)];
            app.post_json("/v1/signups", &app.key, &header, body).await
        };
        let mut aged = signup("aged@example.org", &["weekly"]);
        let at = app.clock.now() - 14 * DAY;
        aged["consent"]["at"] = at.to_string().into();
        let closes = signup("closes@example.org", &["offers"]);
        let bodies = [("aged", aged.to_string()), ("closes", closes.to_string())];
        let mut first = Vec::new();
        for (key, body) in &bodies {
            out::secret(&format!("{key}@example.org"));
            let answer = post(key, body).await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            first.push(answer.body);
        }
        app.pass(Duration::from_secs(60));
        app.reload(&LISTS.replace("[lists.offers]", "[lists.bargains]"))
            .await;
        let rows = app.dump().await;
        for ((key, body), first) in bodies.iter().zip(&first) {
            let again = post(key, body).await;
            assert_eq!((again.status, &again.body), (202, first), "{key}");
            // Nothing else passes with it: not under another key or none, not another body.
            for (key, body) in [("new", body.clone()), (*key, format!("{body} "))] {
                problem(&post(key, &body).await, 422, "invalid-request");
            }
            let answer = app.post_json("/v1/signups", &app.key, &[], body).await;
            problem(&answer, 422, "invalid-request");
        }
        assert_eq!(app.dump().await, rows);
    }
);

both!(an_idempotency_key_is_remembered_for_48_hours, |db| {
    let app = TestApp::start(db).await;
    out::secret("remembered@example.org");
    let body = signup("remembered@example.org", &["weekly"]).to_string();
    let post = async || {
        let header = [("idempotency-key", "once")];
        let answer = app.post_json("/v1/signups", &app.key, &header, &body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body
    };
    let first = post().await;
    app.pass(2 * DAY);
    app.sweep().await;
    assert_eq!(post().await, first, "forgotten too early");
    app.pass(Duration::from_secs(1));
    app.sweep().await;
    assert_eq!(app.count("idempotency").await, 0);
    assert_ne!(post().await, first, "remembered too long");
    assert_eq!(app.count("signup").await, 2);
});

both!(an_idempotency_key_that_is_none_is_refused, |db| {
    let app = TestApp::start(db).await;
    out::secret("keyless@example.org");
    let body = signup("keyless@example.org", &["weekly"]).to_string();
    let (long, longest) = ("k".repeat(256), "k".repeat(255));
    for key in [
        "",
        "\"\"",
        "\"",
        "two words",
        "half\"quoted",
        "\"open",
        "caf\u{e9}",
        &long,
    ] {
        let header = [("idempotency-key", key)];
        let answer = app.post_json("/v1/signups", &app.key, &header, &body).await;
        problem(&answer, 400, "bad-idempotency-key");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
    let answer = app.post_json("/v1/signups", &app.key, &twice, &body).await;
    problem(&answer, 400, "bad-idempotency-key");
    assert_eq!(app.count("signup").await, 0);
    let header = [("idempotency-key", longest.as_str())];
    let answer = app.post_json("/v1/signups", &app.key, &header, &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
});

both!(two_hundred_signups_at_once_are_two_hundred_rows, |db| {
    let app = TestApp::start(db).await;
    // Half for addresses of their own, a quarter for one address, a quarter that repeats under one key.
    let (shared, repeated) = ("shared@example.org", "repeated@example.org");
    let bodies: Vec<(Value, Option<&str>)> = (0..200)
        .map(|n| match n % 4 {
            0 => (signup(shared, &["weekly"]), None),
            1 => (signup(repeated, &["offers"]), Some("the-same-for-fifty")),
            _ => (
                signup(&format!("crowd{n}@example.org"), &["weekly", "offers"]),
                None,
            ),
        })
        .collect();
    let mut sending = tokio::task::JoinSet::new();
    for (body, key) in bodies {
        out::secret(body["email"].as_str().unwrap());
        let (addr, bearer) = (app.addr, format!("Bearer {}", app.key));
        sending.spawn(async move {
            let mut headers = vec![
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            headers.extend(key.map(|key| ("idempotency-key", key)));
            let body = body.to_string();
            send(addr, "POST", "/v1/signups", &headers, body.as_bytes()).await
        });
    }
    let answers = sending.join_all().await;
    let mut ids: Vec<String> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 202, "{}", answer.body);
            answer.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    ids.dedup();
    // 100 of the crowd, 50 of the shared address, one for the fifty that repeat.
    assert_eq!(ids.len(), 151);
    let counts = [
        "signup",
        "signup_list",
        "message",
        "subscriber",
        "address",
        "idempotency",
    ];
    let mut found = Vec::new();
    for table in counts {
        found.push(app.count(table).await);
    }
    assert_eq!(found, [151, 251, 151, 102, 102, 1]);
    assert_eq!(app.event_counts().await["signup.accepted"], 151);
    let id = match db {
        Db::Sqlite => "lower(hex(id))",
        Db::Postgres => "replace(id::text, '-', '')",
    };
    let stored = app
        .sql(&format!("select {id} from signup order by 1"))
        .await;
    let told: Vec<String> = ids.iter().map(|id| id.replace('-', "")).collect();
    assert_eq!(stored, told);
});
