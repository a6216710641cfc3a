//! Reading changes nothing: 1,000 requests over links in every state, and every row of every table is as before.

use crate::support::app::{LISTS, TestApp, both, path};
use crate::support::http::Connection;

/// Makes links of every kind in many states.
async fn links(app: &TestApp) -> Vec<String> {
    let mut links = Vec::new();
    let mut keep = |mail: &crate::support::mail::Mail| {
        links.extend([mail.confirm(), mail.decline(), mail.list_unsubscribe()]);
    };
    keep(&app.mail_for("fresh@example.org", &["weekly"]).await);
    keep(
        &app.mail_for("several@example.org", &["weekly", "offers"])
            .await,
    );
    let confirmed = app.subscribe("confirmed@example.org", &["weekly"]).await;
    keep(&confirmed);
    let declined = app.mail_for("declined@example.org", &["weekly"]).await;
    app.press(&declined.decline(), "reason=not_me").await;
    keep(&declined);
    let left = app.subscribe("left@example.org", &["offers"]).await;
    keep(&left);
    let page = app.open(&left.confirm()).await;
    let leave = app.unsubscribe_links(&page).remove(0);
    app.one_click(&leave).await;
    let page = app.open(&confirmed.confirm()).await;
    links.extend([leave, app.unsubscribe_links(&page).remove(0)]);
    let unknown = links[0].replace("/c/A", "/c/B");
    links.extend([unknown, "/c/short".to_owned(), "/u/%00".to_owned()]);
    links
}

/// Reads every link in every way until `count` requests were sent; returns whether any row changed.
async fn changes_anything(app: &TestApp, links: &[String], count: usize) -> bool {
    app.sequence().await;
    let before = app.dump().await;
    let headers: [&[(&str, &str)]; 3] = [
        &[],
        &[("sec-purpose", "prefetch"), ("purpose", "prefetch")],
        &[("user-agent", "Mozilla/5.0 (compatible; LinkScanner/1.0)")],
    ];
    let mut connection = Connection::open(app.addr).await.expect("a connection");
    for n in 0..count {
        let link = path(&links[n % links.len()]);
        let method = ["GET", "HEAD", "OPTIONS"][n / links.len() % 3];
        let sent = connection.send(method, link, headers[n % 3], b"").await;
        let answer = sent.expect("an answer");
        assert!(answer.status < 500, "{method}: {}", answer.status);
    }
    app.dump().await != before
}

both!(a_thousand_readings_change_no_row, |db| {
    let app = TestApp::start(db).await;
    let links = links(&app).await;
    assert!(links.len() > 15);
    assert!(!changes_anything(&app, &links, 1000).await);
});

// The same comparison where a GET does write, because its list chose so.
both!(the_comparison_sees_a_get_that_writes, |db| {
    let lists = LISTS.replace("[lists.offers]\n", "[lists.offers]\nconfirm = \"link\"\n");
    let app = TestApp::with(db, &lists, "").await;
    let mail = app.mail_for("link@example.org", &["offers"]).await;
    let head = [mail.confirm()];
    let mut connection = Connection::open(app.addr).await.expect("a connection");
    let sent = connection.send("HEAD", path(&head[0]), &[], b"").await;
    assert_eq!(sent.expect("an answer").status, 200);
    assert_eq!(
        app.sql("select state from signup_list").await,
        ["open"],
        "HEAD confirms nothing"
    );
    assert!(
        changes_anything(&app, &head, 1).await,
        "{db:?}: the control run must see the write"
    );
    assert_eq!(
        app.sql("select state from subscription").await,
        ["confirmed"]
    );
});
