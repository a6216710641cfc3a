//! One-click (RFC 8058), for the mails of a list (`/u/`) and for the confirmation mail itself (`/d/`).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use confirmd::token::Purpose;

use crate::support::app::{TestApp, both, path};
use crate::support::http::{Connection, Response, send};
use crate::support::links::{MORE, erase, forged, fresh, put_in_force, subscribed, unknown, with};

type Headers<'a> = &'a [(&'a str, &'a str)];

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const PRESS: &[u8] = b"List-Unsubscribe=One-Click";

/// The example of RFC 8058, section 8.2, as it stands there: its delimiters are not those of its boundary.
const RFC_EXAMPLE: &[u8] = b"---FormBoundaryjWmhtjORrn\r\n\
    Content-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\n\
    One-Click\r\n---FormBoundaryjWmhtjORrn--\r\n";
const RIGHT_EXAMPLE: &[u8] = b"-----FormBoundaryjWmhtjORrn\r\n\
    Content-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\n\
    One-Click\r\n-----FormBoundaryjWmhtjORrn--\r\n";
const MULTIPART: (&str, &str) = (
    "content-type",
    "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn",
);

/// What there is to leave: a list, or the request of a confirmation mail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Unsubscribe,
    Decline,
}
use Way::{Decline, Unsubscribe};

impl Way {
    /// Returns a link that can be pressed.
    async fn link(self, app: &TestApp, email: &str) -> String {
        match self {
            Unsubscribe => subscribed(app, email, &["weekly"]).await,
            Decline => {
                let [_, decline] = fresh(app, email, &["weekly"]).await;
                decline
            }
        }
    }

    /// Returns what the database says of this person.
    async fn state(self, app: &TestApp, email: &str) -> Vec<String> {
        let query = match self {
            Unsubscribe => {
                "select s.state from subscription s join subscriber p on p.id = s.subscriber where p.email = "
            }
            Decline => {
                "select l.state || coalesce(' ' || l.reason, '') from signup_list l
                join signup s on s.id = l.signup where s.email = "
            }
        };
        app.sql(&format!("{query}'{email}'")).await
    }

    fn before(self) -> &'static str {
        match self {
            Unsubscribe => "confirmed",
            Decline => "open",
        }
    }

    fn after(self) -> &'static str {
        match self {
            Unsubscribe => "unsubscribed",
            Decline => "declined one_click",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Unsubscribe => "subscription.unsubscribed",
            Decline => "signup.declined",
        }
    }
}

/// The answer to a mail program: 200, nothing to follow, nothing to keep.
fn assert_done(answer: &Response, name: &str) {
    assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    for header in [
        "location",
        "refresh",
        "set-cookie",
        "www-authenticate",
        "link",
    ] {
        assert_eq!(answer.header(header), None, "{name}");
    }
    assert!(
        answer.body.len() < 64,
        "{name}: small and fixed: {}",
        answer.body
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
}

/// Presses in one way; the state is read right after the answer, from outside.
async fn presses(app: &TestApp, name: &str, headers: Headers<'_>, body: &[u8]) {
    for way in [Unsubscribe, Decline] {
        let email = format!("{}.{way:?}@example.org", name.replace(' ', ".")).to_lowercase();
        let link = way.link(app, &email).await;
        assert_eq!(way.state(app, &email).await, [way.before()]);
        let answer = send(app.addr, "POST", path(&link), headers, body).await;
        assert_eq!(way.state(app, &email).await, [way.after()], "{name}");
        assert_done(&answer, name);

        // Again: the same answer, and nothing more happens.
        let before = app.dump().await;
        let again = send(app.addr, "POST", path(&link), headers, body).await;
        assert_eq!((again.status, &again.body), (200, &answer.body), "{name}");
        assert_eq!(app.dump().await, before, "{name}");
    }
}

both!(the_headers_of_a_mail_are_exactly_the_pair, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    let confirmation = app.mail_for("anna@example.org", &["greeted"]).await;
    let kept = confirmation.clone();
    app.press(&confirmation.confirm(), "").await;
    app.deliver().await;
    let welcome = app.mailbox("anna@example.org").pop().expect("a welcome");
    assert_ne!(welcome.raw, confirmation.raw);
    for (mail, kind) in [(kept, "/d/"), (welcome, "/u/")] {
        let (head, _) = mail.raw.split_once("\r\n\r\n").expect("headers end");
        let of_lists = |line: &&str| line.to_ascii_lowercase().starts_with("list-");
        let lines: Vec<&str> = head.split("\r\n").filter(of_lists).collect();
        let link = mail.list_unsubscribe();
        assert!(
            link.starts_with(&format!("https://lists.acme.example{kind}")),
            "{link}"
        );
        assert_eq!(link.len(), "https://lists.acme.example/d/".len() + 62);
        let pair = [
            format!("List-Unsubscribe: <{link}>"),
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click".to_owned(),
        ];
        assert_eq!(
            lines, pair,
            "these two, once each, on a line each, and none other"
        );
        assert!(
            mail.text.contains(&link) && mail.html.contains(&link),
            "the link to press"
        );
        // The page is the same URI, and opening it does nothing.
        let before = app.dump().await;
        assert_eq!(app.open(&link).await.status, 200);
        assert_eq!(app.dump().await, before);
    }
});

both!(any_body_or_none_is_a_press, |db| {
    let app = TestApp::start(db).await;
    let large = [PRESS, &vec![b'x'; 1 << 20]].concat();
    let late = [&vec![b'x'; 1 << 20], PRESS].concat();
    let chunked = b"7\r\nList-Un\r\n13\r\nsubscribe=One-Click\r\n0\r\n\r\n";
    let charset = (
        "content-type",
        "application/x-www-form-urlencoded; charset=UTF-8",
    );
    let latin = (
        "content-type",
        "application/x-www-form-urlencoded;charset=iso-8859-1",
    );
    let json = ("content-type", "application/json");
    let cases: &[(&str, Headers, &[u8])] = &[
        ("urlencoded", &[FORM], PRESS),
        ("charset", &[charset], PRESS),
        ("other charset", &[latin], PRESS),
        ("multipart", &[MULTIPART], RIGHT_EXAMPLE),
        ("rfc example", &[MULTIPART], RFC_EXAMPLE),
        (
            "no boundary",
            &[("content-type", "multipart/form-data")],
            RFC_EXAMPLE,
        ),
        (
            "chunked",
            &[FORM, ("transfer-encoding", "chunked")],
            chunked,
        ),
        (
            "empty chunks",
            &[FORM, ("transfer-encoding", "chunked")],
            b"0\r\n\r\n",
        ),
        ("empty", &[FORM], b""),
        ("no type", &[], PRESS),
        ("no type and empty", &[], b""),
        ("large", &[FORM], &large),
        ("large and late", &[FORM], &late),
        (
            "not utf8",
            &[FORM],
            b"List-Unsubscribe=\xff\xfe%ff%zz&\xc3\x28",
        ),
        ("nul", &[FORM], b"\0\0\0"),
        ("json", &[json], b"{\"List-Unsubscribe\":"),
        ("broken type", &[("content-type", ";;/=\"")], PRESS),
        (
            "gzip",
            &[FORM, ("content-encoding", "gzip")],
            b"\x1f\x8b\x08garbage",
        ),
        ("other value", &[FORM], b"List-Unsubscribe=No"),
        (
            "other name",
            &[FORM],
            b"unsubscribe=1&reason=&hold=&list=other",
        ),
        ("expect", &[FORM, ("expect", "200-ok")], PRESS),
    ];
    for (name, headers, body) in cases {
        presses(&app, name, headers, body).await;
    }
    let counts = app.event_counts().await;
    for way in [Unsubscribe, Decline] {
        assert_eq!(counts[way.event()], cases.len(), "one event each");
    }
});

both!(what_comes_along_makes_no_difference, |db| {
    let app = TestApp::start(db).await;
    let cases: &[(&str, Headers)] = &[
        ("origin", &[FORM, ("origin", "https://evil.example")]),
        (
            "null origin",
            &[FORM, ("origin", "null"), ("sec-fetch-site", "cross-site")],
        ),
        ("referer", &[FORM, ("referer", "https://evil.example/?a=b")]),
        (
            "cookies",
            &[FORM, ("cookie", "session=stolen; csrf=wrong; a=\"; b")],
        ),
        (
            "authorization",
            &[FORM, ("authorization", "Bearer nonsense")],
        ),
        ("basic", &[FORM, ("authorization", "Basic !!!!")]),
        (
            "languages",
            &[
                FORM,
                ("accept-language", "xx-!!;q=9"),
                ("accept", "image/png"),
            ],
        ),
        (
            "forwarded",
            &[
                FORM,
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "evil.example"),
            ],
        ),
        ("override", &[FORM, ("x-http-method-override", "GET")]),
    ];
    for (name, headers) in cases {
        presses(&app, name, headers, PRESS).await;
    }
});

/// Sends exact bytes, hears what comes until the other end closes.
async fn raw(app: &TestApp, bytes: &[u8], then_close: bool) -> String {
    let mut stream = TcpStream::connect(app.addr).await.expect("a connection");
    stream.write_all(bytes).await.expect("written");
    if then_close {
        stream.shutdown().await.expect("closed");
    }
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

both!(a_body_that_never_ends_is_a_press, |db| {
    let app = TestApp::start(db).await;
    for way in [Unsubscribe, Decline] {
        let head = async |name: &str, more: &str| {
            let email = format!("{name}.{way:?}@example.org").to_lowercase();
            let link = way.link(&app, &email).await;
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: lists.acme.example\r\n{more}",
                path(&link)
            );
            (email, head)
        };
        let (email, bytes) = head("none", "\r\n").await;
        let mut connection = Connection::open(app.addr).await.expect("a connection");
        let answer = connection.raw(bytes.as_bytes(), false).await;
        assert_done(&answer.expect("an answer"), "neither length nor body");
        assert_eq!(way.state(&app, &email).await, [way.after()]);

        let (email, bytes) = head("old", "\r\n").await;
        let answer = raw(
            &app,
            bytes.replace("HTTP/1.1", "HTTP/1.0").as_bytes(),
            false,
        )
        .await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert_eq!(way.state(&app, &email).await, [way.after()]);

        // It stalls: what came within some seconds is looked at.
        let (email, bytes) = head("stalls", "content-length: 26\r\n\r\nList-Unsub").await;
        let mut connection = Connection::open(app.addr).await.expect("a connection");
        let answer = connection.raw(bytes.as_bytes(), false).await;
        assert_done(&answer.expect("an answer"), "a body that stalls");
        assert_eq!(way.state(&app, &email).await, [way.after()]);

        let (email, bytes) = head(
            "chunks",
            "transfer-encoding: chunked\r\n\r\nzz\r\nnot a chunk",
        )
        .await;
        raw(&app, bytes.as_bytes(), false).await;
        assert_eq!(
            way.state(&app, &email).await,
            [way.after()],
            "chunks that are none"
        );

        // The other end is gone in the middle.
        let (email, bytes) = head("breaks", "content-length: 26\r\n\r\nList-Unsub").await;
        raw(&app, bytes.as_bytes(), true).await;
        assert_eq!(
            way.state(&app, &email).await,
            [way.after()],
            "a body that breaks off"
        );
    }
});

both!(nothing_about_it_ever_redirects, |db| {
    let app = TestApp::start(db).await;
    for way in [Unsubscribe, Decline] {
        let email = format!("{way:?}@example.org").to_lowercase();
        let link = way.link(&app, &email).await;
        let before = app.dump().await;
        let plain = path(&link);
        let other_case = plain.replacen(&plain[..3], &plain[..3].to_uppercase(), 1);
        for target in [
            format!("{plain}/"),
            format!("{plain}//"),
            format!("/{plain}"),
            format!("/en{plain}"),
            format!("{plain}/index.html"),
            format!("{plain}.html"),
            plain.trim_end_matches(|c: char| c != '/').to_owned(),
            other_case,
        ] {
            for method in ["GET", "POST", "HEAD"] {
                let answer = send(app.addr, method, &target, &[FORM], PRESS).await;
                assert_eq!(answer.status, 404, "{method} {way:?}");
                assert_eq!(answer.header("location"), None);
            }
        }
        for method in ["GET", "HEAD"] {
            for target in [plain.to_owned(), format!("{plain}?lang=nl"), link.clone()] {
                let answer = send(app.addr, method, &target, &[], b"").await;
                assert_eq!(answer.status, 200, "{method}");
                assert_eq!(answer.header("location"), None);
            }
        }
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = send(app.addr, method, plain, &[FORM], PRESS).await;
            assert_eq!(answer.status, 405, "{method}");
            let allowed = answer.header("allow").expect("what is allowed");
            assert!(allowed.contains("POST"), "{allowed}");
        }
        assert_eq!(app.dump().await, before);
        // A query that some program adds, and a URL in full, are the same link.
        let answer = app.one_click(&format!("{plain}?utm_source=mail")).await;
        assert_done(&answer, "with a query");
        assert_eq!(way.state(&app, &email).await, [way.after()]);
        let email = format!("full.{way:?}@example.org").to_lowercase();
        let link = way.link(&app, &email).await;
        assert_done(
            &send(app.addr, "POST", &link, &[FORM], PRESS).await,
            "in full",
        );
        assert_eq!(way.state(&app, &email).await, [way.after()]);
    }
});

both!(many_presses_at_once_are_one, |db| {
    let app = TestApp::start(db).await;
    for way in [Unsubscribe, Decline] {
        let email = format!("{way:?}@example.org").to_lowercase();
        let link = way.link(&app, &email).await;
        let mut presses = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let (addr, target) = (app.addr, path(&link).to_owned());
            presses.spawn(async move { send(addr, "POST", &target, &[FORM], PRESS).await });
        }
        for answer in presses.join_all().await {
            assert_done(&answer, "at once");
        }
        assert_eq!(way.state(&app, &email).await, [way.after()]);
        assert_eq!(app.event_counts().await[way.event()], 1);
    }
});

both!(it_works_while_mail_does_not, |db| {
    let mut app = TestApp::start(db).await;
    let links = [
        Unsubscribe.link(&app, "unsubscribe@example.org").await,
        Decline.link(&app, "decline@example.org").await,
    ];
    app.peer.down().await;
    for (way, link) in [Unsubscribe, Decline].into_iter().zip(links) {
        let email = format!("{way:?}@example.org").to_lowercase();
        assert_done(&app.one_click(&link).await, "without SMTP");
        assert_eq!(way.state(&app, &email).await, [way.after()]);
    }
});

both!(without_the_database_nothing_is_promised, |db| {
    let app = TestApp::start(db).await;
    let links = [
        Unsubscribe.link(&app, "unsubscribe@example.org").await,
        Decline.link(&app, "decline@example.org").await,
    ];
    let before = app.dump().await;
    app.flows.pool.close().await;
    for link in &links {
        for body in [PRESS, b"", b"by=page", b"reason=no"] {
            let answer = send(app.addr, "POST", path(link), &[FORM], body).await;
            assert_eq!(answer.status, 503);
            let wait = answer.header("retry-after").expect("when to try again");
            assert!(
                wait.parse::<u32>().is_ok_and(|seconds| seconds > 0),
                "{wait}"
            );
            let again = "it may not have been recorded: please open the link again";
            assert!(answer.body.contains(again), "{}", answer.body);
        }
    }
    assert_eq!(app.dump().await, before);
});

both!(a_link_of_somebody_erased_is_answered_in_peace, |db| {
    let app = TestApp::start(db).await;
    for (tombstone, name) in [(true, "buried"), (false, "erased")] {
        for way in [Unsubscribe, Decline] {
            let email = format!("{name}.{way:?}@example.org").to_lowercase();
            let link = way.link(&app, &email).await;
            erase(&app, &email, tombstone && way == Unsubscribe).await;
            let before = app.dump().await;
            assert_done(&app.one_click(&link).await, "erased");
            let page = app.open(&link).await;
            assert_eq!(page.status, 200);
            assert!(!page.body.contains("Acme"), "neutral: {}", page.body);
            assert_eq!(app.dump().await, before);
        }
    }
    for (kind, purpose) in [("/u/", Purpose::Unsubscribe), ("/d/", Purpose::Decline)] {
        // A signature of ours over something that is not known could be one of somebody erased.
        assert_done(&app.one_click(&unknown(&app, purpose)).await, "unknown");
        let answer = app.one_click(&forged(kind)).await;
        assert_eq!(answer.status, 404, "not of ours");
    }
});

both!(what_the_press_means_is_in_force_and_recorded, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    // A closed list can still be left.
    let gone = subscribed(&app, "gone@example.org", &["gone"]).await;
    put_in_force(&app, &with(&[])).await;
    assert_done(&app.one_click(&gone).await, "closed");

    // Leaving by header makes no mail; and further mails to who declined are held.
    let left = subscribed(&app, "left@example.org", &["weekly"]).await;
    assert_done(&app.one_click(&left).await, "left");
    let [confirm, decline] = fresh(&app, "no@example.org", &["weekly", "offers"]).await;
    assert_done(&app.one_click(&decline).await, "declined");
    assert_eq!(app.press(&confirm, "list=all").await.status, 200);
    app.sign_up("no@example.org", &["weekly"]).await;
    assert_eq!(app.deliver().await, 1, "the mail that is held");
    assert_eq!(app.mailbox("no@example.org").len(), 1);
    assert_eq!(app.mailbox("left@example.org").len(), 1, "no goodbye");

    let events = app.events().await;
    let told: Vec<String> = events
        .iter()
        .filter(|e| e["type"] == "subscription.unsubscribed" || e["type"] == "signup.declined")
        .map(|e| format!("{} {} {} {}", e["type"], e["how"], e["list"], e["lists"]))
        .map(|line| line.replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [
            "subscription.unsubscribed one_click gone null",
            "subscription.unsubscribed one_click weekly null",
            "signup.declined one_click null [offers,weekly]",
        ]
    );
    let counts = app.event_counts().await;
    assert_eq!(counts["signup.withheld"], 1);
    assert_eq!(
        counts["subscription.confirmed"], 2,
        "the declined ones stay declined"
    );

    // A press on a confirmation that was confirmed leaves what it confirmed.
    let [confirm, decline] = fresh(&app, "late@example.org", &["weekly"]).await;
    app.press(&confirm, "").await;
    assert_done(&app.one_click(&decline).await, "after the confirm");
    assert_eq!(
        Unsubscribe.state(&app, "late@example.org").await,
        ["unsubscribed"]
    );
});

both!(a_press_on_an_old_confirmation_holds_further_ones, |db| {
    let app = TestApp::start(db).await;
    for sweep in [false, true] {
        let email = format!("swept.{sweep}@example.org");
        let [_, decline] = fresh(&app, &email, &["weekly"]).await;
        app.pass(crate::support::links::A_LIFE);
        if sweep {
            app.sweep().await;
        }
        assert_done(&app.one_click(&decline).await, "late");
        app.sign_up(&email, &["weekly"]).await;
        app.deliver().await;
        assert_eq!(
            app.mailbox(&email).len(),
            1,
            "swept {sweep}: further mails are held"
        );
        let before = app.dump().await;
        assert_done(&app.one_click(&decline).await, "again");
        assert_eq!(app.dump().await, before);
    }
});
