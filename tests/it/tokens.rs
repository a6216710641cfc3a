//! Tokens: the published vectors, and every way in which a link is not one of ours.

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD as BASE64};
use confirmd::domain::time::Timestamp;
use confirmd::flow::keyring;
use confirmd::store;
use confirmd::token::{CHARACTERS, Claims, KeyId, KeyState, LinkKeys, Purpose};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use crate::support::app::{TestApp, both, path};
use crate::support::http::{Connection, Response};
use crate::support::links::{
    assert_page, buttons, forged, fresh, leave_link, put_in_force, read, receipt_link, subscribed,
    unknown, with, without_styles,
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn the_published_vectors_hold() {
    let file = include_str!("../vectors/links.json");
    let file: Value = serde_json::from_str(file).expect("JSON");
    let vectors = file["vectors"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 54);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().expect("a text");
        let mut secret = [0; 32];
        for (byte, digits) in secret.iter_mut().zip(text("key").as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("ASCII");
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal");
        }
        let id: KeyId = text("key_id").parse().expect("an id");
        assert_eq!(id.to_string(), text("key_id"));
        let keys = LinkKeys::new([(id, KeyState::Sign, secret)]).expect("a key that signs");
        let purpose = Purpose::ALL
            .into_iter()
            .find(|p| p.path().contains(text("purpose")))
            .expect("a purpose");
        let subject: Uuid = text("subject").parse().expect("a UUID");
        let seconds = vector["expires"].as_i64().expect("seconds");
        let expires = (seconds != 0).then(|| Timestamp::from_seconds(seconds));

        let token = keys.sign(id, purpose, subject, expires);
        assert_eq!(token.as_deref(), Some(text("token")));
        assert_eq!(text("token").len(), CHARACTERS);
        let claims = Claims {
            key: id,
            subject,
            expires,
        };
        assert_eq!(keys.verify(purpose, text("token")), Ok(claims));
        for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
            assert!(keys.verify(other, text("token")).is_err());
        }
    }
}

/// The rule beside the vectors once more, to make tokens that confirmd would not make.
fn sealed(secret: &[u8; 32], info: &[u8], mut signed: Vec<u8>) -> String {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret)
        .expand(&[b"confirmd link v1 ", info].concat(), &mut key)
        .expect("32 bytes");
    let mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    let mac = mac.chain_update(&signed).finalize().into_bytes();
    signed.extend_from_slice(&mac[..16]);
    BASE64.encode(signed)
}

/// The link key that signs, as its file holds it.
fn secret(app: &TestApp) -> [u8; 32] {
    let id = app.flows.keys().links.signing();
    let file = app.dir.path().join(format!("keys/links-{id}.key"));
    let text = std::fs::read_to_string(file).expect("a key file");
    let bytes = BASE64.decode(text.trim_end()).expect("base64url");
    bytes.try_into().expect("32 bytes")
}

fn token(link: &str) -> &str {
    &path(link)[3..]
}

/// Spellings and forgeries of a genuine token, with a name each.
fn not_ours(app: &TestApp, purpose: Purpose, genuine: &str) -> Vec<(String, String)> {
    let byte = purpose.path().as_bytes()[1];
    let bytes = BASE64.decode(genuine).expect("base64url");
    let signed = &bytes[..30];
    let key = secret(app);
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| {
        assert_ne!(token, genuine, "{name}");
        all.push((name.to_owned(), token));
    };

    for length in [1, 4, 40, 60, 61] {
        add("cut", genuine[..length].to_owned());
    }
    add("begins later", genuine[1..].to_owned());
    for more in ["A", "AA", "-", ".", genuine, &"A".repeat(2000)] {
        add("extended", format!("{genuine}{more}"));
        add("extended before", format!("{more}{genuine}"));
    }
    let longer = [&bytes[..], b"\0"].concat();
    add("a byte more", BASE64.encode(longer));
    add("a byte less", BASE64.encode(&bytes[..45]));

    add("padding", BASE64_URL_SAFE.encode(&bytes));
    add("one =", format!("{genuine}="));
    add("percent padding", format!("{genuine}%3D%3D"));
    let standard = BASE64_STANDARD_NO_PAD.encode(&bytes);
    assert!(
        standard.contains('+') && standard.contains('/'),
        "{standard}"
    );
    add("+ and /", standard.clone());
    add("+ and %2F", standard.replace('/', "%2F"));
    for space in ["%20", "%09", "%0A", "%0D%0A", "%00", "+", "%C2%A0", "%FF"] {
        add("space after", format!("{genuine}{space}"));
        add("space before", format!("{space}{genuine}"));
        add(
            "space within",
            format!("{}{space}{}", &genuine[..30], &genuine[30..]),
        );
        add("space instead", format!("{space}{}", &genuine[1..]));
    }
    for at in [0, 20, 61] {
        let (head, tail) = genuine.split_at(at);
        let code = tail.as_bytes()[0];
        for escape in [
            format!("%{code:02X}"),
            format!("%{code:02x}"),
            format!("%25{code:02X}"),
        ] {
            add("percent-encoded", format!("{head}{escape}{}", &tail[1..]));
        }
    }
    add("other case", genuine.to_ascii_lowercase());
    add("slash after", format!("{genuine}/"));
    add("slash before", format!("/{genuine}"));
    add("dot segments", format!("./{genuine}"));
    add("parameters", format!("{genuine};a=b"));

    // The alphabet's order is that of the values: 62 characters end in four bits that must be zero.
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for bit in 0..CHARACTERS * 6 {
        let mut changed = genuine.as_bytes().to_vec();
        let at = bit / 6;
        let value = ALPHABET
            .iter()
            .position(|c| *c == changed[at])
            .expect("base64url");
        changed[at] = ALPHABET[value ^ (1 << (5 - bit % 6))];
        add(
            &format!("bit {bit}"),
            String::from_utf8(changed).expect("ASCII"),
        );
    }

    let swapped = |from: std::ops::Range<usize>, to: usize| {
        let mut other = bytes.clone();
        let (len, from) = (from.len(), from.start);
        for n in 0..len {
            other.swap(from + n, to + n);
        }
        BASE64.encode(other)
    };
    add("subject and MAC swapped", swapped(6..22, 30));
    add("key id and subject swapped", swapped(1..5, 6));
    add("halves of the subject swapped", swapped(6..14, 14));
    add("expiry and MAC swapped", swapped(22..30, 30));
    let whole = sealed(&key, &[byte], signed.to_vec());
    assert_eq!(
        whole, genuine,
        "the rule of the vectors makes the same token"
    );

    let altered = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut signed = signed.to_vec();
        change(&mut signed);
        signed
    };
    for version in [0, 2, 255] {
        let signed = altered(&|s| s[0] = version);
        add("other version", sealed(&key, &[byte], signed));
    }
    add(
        "unknown key id",
        sealed(&key, &[byte], altered(&|s| s[1] ^= 1)),
    );
    add("key id of the pepper", {
        let keys = std::fs::read_dir(app.dir.path().join("keys")).expect("keys");
        let names = keys.map(|file| file.expect("a file").file_name().into_string());
        let pepper = names.flatten().find_map(|name| {
            let id = name.strip_prefix("pepper-")?.strip_suffix(".key")?;
            id.parse::<KeyId>().ok()
        });
        let id = pepper.expect("a pepper").0;
        sealed(&key, &[byte], altered(&|s| s[1..5].copy_from_slice(&id)))
    });
    add(
        "another installation's key",
        sealed(&[7; 32], &[byte], signed.to_vec()),
    );
    add("the key itself, not derived", {
        let mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
        let mac = mac.chain_update(signed).finalize().into_bytes();
        BASE64.encode([signed, &mac[..16]].concat())
    });
    add("the other half of the MAC", {
        let mut derived = [0; 32];
        let hkdf = Hkdf::<Sha256>::new(None, &key);
        let info = [b"confirmd link v1 ".as_slice(), &[byte]].concat();
        hkdf.expand(&info, &mut derived).expect("32 bytes");
        let mac = Hmac::<Sha256>::new_from_slice(&derived).expect("a key");
        let mac = mac.chain_update(signed).finalize().into_bytes();
        BASE64.encode([signed, &mac[16..]].concat())
    });
    for other in b"cdupr".iter().filter(|other| **other != byte) {
        let claims_other = altered(&|s| s[5] = *other);
        add(
            "other purpose",
            sealed(&key, &[*other], claims_other.clone()),
        );
        add(
            "other purpose, own key",
            sealed(&key, &[byte], claims_other),
        );
        add(
            "own purpose, other key",
            sealed(&key, &[*other], signed.to_vec()),
        );
    }
    all
}

/// What an answer says, without the moment at which it was said and the style that its policy names by hash.
fn said(page: Response) -> String {
    let headers = page.headers.iter().filter(|(name, _)| name != "date");
    let headers: Vec<_> = headers.map(|(n, v)| format!("{n}: {v}")).collect();
    let body = without_styles(&page.body);
    format!("{}\n{}\n{body}", page.status, headers.join("\n"))
}

both!(whatever_is_wrong_with_a_link_the_page_is_the_same, |db| {
    let app = TestApp::start(db).await;
    // A token whose standard spelling differs in both characters; other times are other MACs.
    let purposes = {
        let [confirm, decline] = fresh(&app, "anna@example.org", &["weekly"]).await;
        let leave = subscribed(&app, "bert@example.org", &["weekly"]).await;
        let receipt = receipt_link(&app.press(&confirm, "").await);
        Purpose::ALL
            .into_iter()
            .zip([confirm, decline, leave, receipt])
    };
    let links = app.flows.keys().links.clone();
    let refused = said(app.open(&forged("/c/")).await);
    assert!(refused.starts_with("404\n") && refused.contains("This link does not work"));
    let before = app.dump().await;
    let mut connection = Connection::open(app.addr).await.expect("a connection");
    for (purpose, link) in purposes {
        assert_eq!(app.open(&link).await.status, 200);
        let claims = links.verify(purpose, token(&link)).expect("a genuine link");
        let spelled = |seconds: i64| {
            let expires = Some(Timestamp::from_seconds(1_900_000_000 + seconds));
            let token = links.sign(links.signing(), purpose, claims.subject, expires);
            token.expect("a key")
        };
        let genuine = (0..)
            .map(spelled)
            .find(|t| t.contains('-') && t.contains('_'));
        let genuine = genuine.expect("one of them");
        let answer = app.open(&format!("{}{genuine}", purpose.path())).await;
        assert_eq!(answer.status, 200);

        let mut wrong = not_ours(&app, purpose, &genuine);
        for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
            let made = links.sign(links.signing(), other, claims.subject, claims.expires);
            wrong.push(("made for another route".to_owned(), made.expect("a key")));
        }
        wrong.push(("nothing".to_owned(), String::new()));
        assert!(wrong.len() > 450, "{}", wrong.len());
        for (name, token) in wrong {
            let target = format!("{}{token}", purpose.path());
            // A receipt has nothing to press.
            let methods: &[&str] = match purpose {
                Purpose::Receipt => &["GET"],
                _ => &["GET", "POST"],
            };
            for method in methods {
                let answer = connection.send(method, &target, &[], b"").await;
                let answer = answer.unwrap_or_else(|e| panic!("{method} {name}: {e}"));
                assert_page(&answer);
                assert_eq!(said(answer), refused, "{method} {}: {name}", purpose.path());
            }
        }
        let head = connection
            .send("HEAD", &forged(purpose.path()), &[], b"")
            .await;
        assert_eq!(head.expect("an answer").status, 404);
    }
    assert_eq!(app.dump().await, before);
});

both!(a_forged_token_is_refused_without_the_database, |db| {
    let app = TestApp::start(db).await;
    let [confirm, decline] = fresh(&app, "anna@example.org", &["weekly"]).await;
    let leave = subscribed(&app, "bert@example.org", &["weekly"]).await;
    let receipt = receipt_link(&app.press(&confirm, "").await);
    let refused = said(app.open(&forged("/c/")).await);
    app.flows.pool.close().await;
    for link in [&confirm, &decline, &leave, &receipt] {
        let kind = &path(link)[..3];
        for wrong in [forged(kind), format!("{link}A"), link.replace(kind, "/x/")] {
            if path(&wrong).starts_with("/x/") {
                continue;
            }
            assert_eq!(said(app.open(&wrong).await), refused);
            if kind != "/r/" {
                assert_eq!(said(app.press(&wrong, "").await), refused);
            }
        }
        let mut answers = vec![app.open(link).await];
        if kind != "/r/" {
            answers.push(app.press(link, "").await);
        }
        for answer in answers {
            assert_page(&answer);
            assert_eq!(answer.status, 503);
            assert!(answer.header("retry-after").is_some());
        }
    }
    let again = format!("{}/again", forged("/c/"));
    assert_eq!(said(app.press(&again, "").await), refused);
});

/// The id of the key that signed a link.
fn key_of(link: &str) -> String {
    let bytes = BASE64.decode(token(link)).expect("base64url");
    KeyId(bytes[1..5].try_into().expect("four bytes")).to_string()
}

both!(links_outlive_their_key, |db| {
    let app = TestApp::start(db).await;
    let (pool, dir) = (&app.flows.pool, app.dir.path().join("keys"));
    let first = app.flows.keys().links.signing().to_string();
    let anna = fresh(&app, "anna@example.org", &["weekly"]).await;
    let bert = fresh(&app, "bert@example.org", &["weekly"]).await;
    let clara = fresh(&app, "clara@example.org", &["weekly"]).await;
    let doris = subscribed(&app, "doris@example.org", &["weekly"]).await;
    let emma = subscribed(&app, "emma@example.org", &["weekly"]).await;
    let frida = fresh(&app, "frida@example.org", &["weekly"]).await;
    let receipt = receipt_link(&app.press(&frida[0], "").await);
    assert_eq!(key_of(&receipt), first);
    assert_eq!(key_of(&anna[0]), first);

    let now = app.clock.now();
    let second = keyring::add(pool, &dir, store::keyring::Purpose::Links, now)
        .await
        .expect("a key")
        .id;
    app.reload_keys().await;
    let between = fresh(&app, "between@example.org", &["weekly"]).await;
    assert_eq!(
        key_of(&between[0]),
        first,
        "a key that was added does not sign yet"
    );
    app.activate_key(&second).await;

    // New links carry the new key; the old ones go on working.
    let new = fresh(&app, "new@example.org", &["weekly"]).await;
    assert_eq!([key_of(&new[0]), key_of(&new[1])], [second.as_str(); 2]);
    let page = app.press(&new[0], "").await;
    assert_eq!(key_of(&app.unsubscribe_links(&page)[0]), second);
    assert_eq!(app.press(&anna[0], "").await.status, 200);
    assert_eq!(app.open(&receipt).await.status, 200);
    let leave = leave_link(&app, &anna[0]).await;
    assert_eq!(
        key_of(&leave),
        second,
        "a page makes its links with the key in force"
    );

    // A compromised key may still leave, and do nothing else.
    assert!(
        keyring::compromise(pool, &dir, &second, now).await.is_err(),
        "it signs"
    );
    keyring::compromise(pool, &dir, &first, now)
        .await
        .expect("another one signs");
    app.reload_keys().await;
    assert!(
        keyring::activate(pool, &dir, &first, now).await.is_err(),
        "never again"
    );
    let refused = said(app.open(&forged("/c/")).await);
    for link in [&anna[0], &bert[0], &between[0]] {
        assert_eq!(said(app.open(link).await), refused);
        assert_eq!(said(app.press(link, "").await), refused);
        let again = format!("{link}/again");
        assert_eq!(said(app.press(&again, "").await), refused);
    }
    // A receipt only ever shows, and whoever has the key could have made it.
    assert_eq!(said(app.open(&receipt).await), refused);
    let state = "select l.state || coalesce(' ' || l.reason, '') from signup_list l
        join signup s on s.id = l.signup where s.email = ";
    let of = async |who: &str| app.sql(&format!("{state} '{who}@example.org'")).await;
    assert_eq!(of("bert").await, ["open"]);
    assert_eq!(app.press(&bert[1], "reason=no").await.status, 200);
    assert_eq!(of("bert").await, ["declined no"]);
    assert_eq!(app.one_click(&clara[1]).await.status, 200);
    assert_eq!(of("clara").await, ["declined one_click"]);
    assert_eq!(app.press(&doris, "by=page").await.status, 200);
    assert_eq!(app.open(&doris).await.status, 200);

    // Years later, too.
    app.pass(5 * YEAR);
    assert_eq!(app.open(&emma).await.status, 200);
    assert_eq!(app.one_click(&emma).await.status, 200);
    let left = app
        .sql(
            "select p.email from subscription s join subscriber p on p.id = s.subscriber
            where s.state = 'unsubscribed' order by 1",
        )
        .await;
    assert_eq!(left, ["doris@example.org", "emma@example.org"]);

    // The trail tells what happened to the keys.
    let events = app.events().await;
    let keys = events.iter().filter(|e| e["type"] == "keyring.changed");
    let keys: Vec<_> = keys
        .filter(|e| e["purpose"] == "links")
        .map(|e| format!("{} {}", e["key"], e["state"]).replace('"', ""))
        .collect();
    let [a, b] = [&first, &second];
    let told = [
        format!("{a} sign"),
        format!("{b} verify"),
        format!("{a} verify"),
        format!("{b} sign"),
        format!("{a} unsubscribe-only"),
    ];
    assert_eq!(keys, told);
});

both!(a_link_of_a_compromised_key_moves_no_hold, |db| {
    let app = TestApp::start(db).await;
    let (pool, dir) = (&app.flows.pool, app.dir.path().join("keys"));
    let first = app.flows.keys().links.signing().to_string();
    let [_, held] = fresh(&app, "held@example.org", &["weekly"]).await;
    app.press(&held, "reason=not_me").await;
    let [_, open] = fresh(&app, "open@example.org", &["weekly"]).await;
    let now = app.clock.now();
    let second = keyring::add(pool, &dir, store::keyring::Purpose::Links, now).await;
    let second = second.expect("a key").id;
    app.activate_key(&second).await;
    let done = keyring::compromise(pool, &dir, &first, now).await;
    done.expect("another one signs");
    app.reload_keys().await;

    let before = app.dump().await;
    for link in [&held, &open] {
        let page = app.open(link).await;
        for form in ["hold=lift", "hold=all"] {
            assert_eq!(read(&app.press(link, form).await), read(&page), "{form}");
            assert_eq!(app.dump().await, before, "{form}");
        }
    }
    // What it cannot do, it does not offer; that mails are held is said.
    let page = app.open(&held).await;
    assert!(read(&page).contains("Until "), "{}", read(&page));
    assert!(buttons(&page).is_empty(), "{}", read(&page));
    // Leaving is what it still does.
    assert_eq!(app.press(&open, "reason=not_me").await.status, 200);
    assert_eq!(app.event_counts().await["signup.declined"], 2);
});

both!(an_unsubscribe_link_of_a_rotated_key_works_for_years, |db| {
    let app = TestApp::start(db).await;
    let (pool, dir) = (&app.flows.pool, app.dir.path().join("keys"));
    let anna = subscribed(&app, "anna@example.org", &["weekly"]).await;
    let bert = subscribed(&app, "bert@example.org", &["weekly"]).await;
    for _ in 0..3 {
        app.pass(YEAR);
        let key = keyring::add(pool, &dir, store::keyring::Purpose::Links, app.clock.now())
            .await
            .expect("a key");
        app.activate_key(&key.id).await;
    }
    app.pass(2 * YEAR);
    // The list was closed in the meantime: its links work all the same.
    put_in_force(
        &app,
        &with(&[]).replace("[lists.weekly]", "[lists.other_weekly]"),
    )
    .await;
    assert_eq!(app.open(&anna).await.status, 200);
    assert_eq!(app.one_click(&anna).await.status, 200);
    assert_eq!(app.press(&bert, "by=page").await.status, 200);
    assert_eq!(app.event_counts().await["subscription.unsubscribed"], 2);
    assert_eq!(
        app.open(&unknown(&app, Purpose::Unsubscribe)).await.status,
        200
    );
});
