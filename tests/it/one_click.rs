//! One-click unsubscribe by RFC 8058, for `/u/` and for the confirmation mail's own `/d/`.

use crate::support::app::{TestApp, both, path};
use crate::support::http::{Connection, send};

/// A name, headers and a body.
type Sent = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>);

/// Bodies that mail programs send, or might. Each acts.
fn bodies() -> Vec<Sent> {
    let form = "application/x-www-form-urlencoded";
    let one_click = b"List-Unsubscribe=One-Click".to_vec();
    let multipart = b"--------------------------abc\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--------------------------abc--\r\n";
    vec![
        ("urlencoded", vec![("content-type", form)], one_click.clone()),
        (
            "with a charset",
            vec![("content-type", "application/x-www-form-urlencoded; charset=UTF-8")],
            one_click.clone(),
        ),
        (
            "multipart",
            vec![("content-type", "multipart/form-data; boundary=------------------------abc")],
            multipart.to_vec(),
        ),
        // The boundary of RFC 8058, section 8.3, does not match its own delimiter lines.
        (
            "multipart that cannot be parsed",
            vec![("content-type", "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn")],
            b"--FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--FormBoundaryjWmhtjORrn--\r\n".to_vec(),
        ),
        ("no body", vec![], vec![]),
        ("another type", vec![("content-type", "text/plain")], b"bye".to_vec()),
        ("no UTF-8", vec![("content-type", form)], vec![0xff, 0xfe, 0x00, 0x80]),
        ("one MiB", vec![("content-type", form)], vec![b'x'; 1024 * 1024]),
        (
            "hostile headers",
            vec![
                ("content-type", form),
                ("origin", "https://evil.example"),
                ("referer", "https://evil.example/"),
                ("cookie", "session=1"),
                ("authorization", "Bearer x"),
                ("accept-language", "xx"),
            ],
            one_click.clone(),
        ),
        (
            "chunked",
            vec![("content-type", form), ("transfer-encoding", "chunked")],
            b"1a\r\nList-Unsubscribe=One-Click\r\n0\r\n\r\n".to_vec(),
        ),
    ]
}

both!(every_body_leaves_the_list, |db| {
    let mut app = TestApp::start(db).await;
    let mut links = Vec::new();
    for (n, (name, ..)) in bodies().iter().enumerate() {
        let mail = app
            .subscribe(&format!("leaves{n}@example.org"), &["weekly"])
            .await;
        let page = app.open(&mail.confirm()).await;
        links.push((*name, app.unsubscribe_links(&page).remove(0)));
    }
    // It works while no mail can be sent.
    app.peer.down().await;
    for (n, ((name, link), (_, headers, body))) in links.iter().zip(bodies()).enumerate() {
        let answer = send(app.addr, "POST", path(link), &headers, &body).await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.header("location"), None, "{name}");
        assert_eq!(answer.header("set-cookie"), None, "{name}");
        // In force before the answer.
        let left = "select state from subscription where state = 'unsubscribed'";
        assert_eq!(app.sql(left).await.len(), n + 1, "{name}");
        let again = send(app.addr, "POST", path(link), &headers, &body).await;
        assert_eq!(again.status, 200, "{name}");
    }
    let counts = app.event_counts().await;
    assert_eq!(
        counts["subscription.unsubscribed"],
        bodies().len(),
        "one event each"
    );
    assert!(!counts.contains_key("unsubscribe.repeated"));
});

both!(every_body_declines_the_signup, |db| {
    let app = TestApp::start(db).await;
    for (n, (name, headers, body)) in bodies().into_iter().enumerate() {
        let email = format!("declines{n}@example.org");
        let mail = app.mail_for(&email, &["weekly"]).await;
        let link = mail.list_unsubscribe();
        assert_eq!(
            mail.header("list-unsubscribe"),
            format!("<{link}>"),
            "{name}"
        );
        assert!(link.starts_with("https://lists.acme.example/d/"));
        assert_eq!(
            mail.header("list-unsubscribe-post"),
            "List-Unsubscribe=One-Click"
        );
        for _ in 0..2 {
            let answer = send(app.addr, "POST", path(&link), &headers, &body).await;
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(answer.header("location"), None, "{name}");
        }
        let declined =
            "select state from signup_list where state = 'declined' and reason = 'one_click'";
        assert_eq!(app.sql(declined).await.len(), n + 1, "{name}");
    }
    assert_eq!(app.event_counts().await["signup.declined"], bodies().len());
});

both!(a_body_that_breaks_off_leaves_all_the_same, |db| {
    let app = TestApp::start(db).await;
    let mail = app.subscribe("breaks@example.org", &["weekly"]).await;
    let page = app.open(&mail.confirm()).await;
    let link = app.unsubscribe_links(&page).remove(0);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nList-Unsub",
        path(&link)
    );
    let mut connection = Connection::open(app.addr).await.expect("a connection");
    let answer = connection
        .raw(head.as_bytes(), false)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(
        app.sql("select state from subscription").await,
        ["unsubscribed"]
    );
});

both!(
    without_the_database_nothing_is_claimed_to_have_happened,
    |db| {
        let app = TestApp::start(db).await;
        let mail = app.subscribe("down@example.org", &["weekly"]).await;
        let page = app.open(&mail.confirm()).await;
        let link = app.unsubscribe_links(&page).remove(0);
        app.flows.pool.close().await;
        for link in [link, mail.decline()] {
            let answer = app.one_click(&link).await;
            assert_eq!(answer.status, 503);
            assert!(answer.header("retry-after").is_some());
        }
        assert_eq!(
            app.sql("select state from subscription").await,
            ["confirmed"]
        );
        // A forged link costs no look at the database.
        let forged = mail.confirm().replace("/c/A", "/c/B");
        assert_eq!(app.open(&forged).await.status, 404);
    }
);

both!(an_old_link_also_ends_what_came_after_an_erasure, |db| {
    let app = TestApp::start(db).await;
    let mail = app.subscribe("erased@example.org", &["weekly"]).await;
    let page = app.open(&mail.confirm()).await;
    let old = app.unsubscribe_links(&page).remove(0);
    // As an erasure leaves it: a tombstone under the keyed hash, and no more.
    let erase = "insert into tombstone (subscription, sender, list, identity, erased_at)
          select s.id, p.sender, s.list, p.identity, s.since from subscription s join subscriber p on p.id = s.subscriber;
        delete from signup_list; delete from signup; delete from message;
        delete from subscription; delete from subscriber;";
    app.execute(erase).await.expect("erased");
    let gone = app.one_click(&old).await;
    assert_eq!(gone.status, 200, "neutral");
    app.pass(std::time::Duration::from_secs(3600));
    app.subscribe("erased@example.org", &["weekly"]).await;
    assert_eq!(app.one_click(&old).await.status, 200);
    assert_eq!(
        app.sql("select state from subscription").await,
        ["unsubscribed"]
    );
});
