//! Requests that are not answered in time: what is said instead, and that it is counted.

use crate::support::app::{LISTS, TestApp, both, path, signup};
use crate::support::http::{Connection, Response, send};

const SHORT: &str = "[server]\nrequest_timeout = \"300 ms\"\n";

fn assert_sealed(answer: &Response, status: u16) {
    assert_eq!(answer.status, status);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{status}: {name}");
    }
    match status {
        503 => assert_eq!(answer.header("retry-after"), Some("5")),
        _ => assert_eq!(answer.header("connection"), Some("close")),
    }
}

fn assert_problem(answer: &Response, status: u16, kind: &str) {
    assert_sealed(answer, status);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:confirmd:problem:{kind}"));
}

fn assert_page(answer: &Response, status: u16) {
    assert_sealed(answer, status);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("content-language"), Some("nl"));
    assert!(
        answer.body.contains("Dit lukt nu even niet"),
        "{}",
        answer.body
    );
}

both!(what_takes_too_long_is_said_as_everything_else_is, |db| {
    let mut app = TestApp::start(db).await;
    let link = app
        .mail_for("late@example.org", &["weekly"])
        .await
        .confirm();
    app.restart_with(LISTS, SHORT).await;

    let held = app.hold_mailbox("late@example.org").await;
    let body = signup("late@example.org", &["weekly"]);
    assert_problem(&app.post_signup(&body).await, 503, "unavailable");
    let dutch = [("accept-language", "nl")];
    let page = send(app.addr, "POST", path(&link), &dutch, b"").await;
    assert_page(&page, 503);
    drop(held);

    let part = async |target: &str, headers: &str| {
        let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\n{headers}");
        let request = format!("{head}content-length: 100\r\n\r\n{{");
        let mut connection = Connection::open(app.addr).await.expect("a connection");
        let answer = connection.raw(request.as_bytes(), false).await;
        answer.expect("an answer")
    };
    let key = format!(
        "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
        app.key
    );
    assert_problem(&part("/v1/signups", &key).await, 408, "timeout");
    assert_page(&part(path(&link), "accept-language: nl\r\n").await, 408);

    let numbers = app.metrics().await;
    for (route, class) in [
        ("/v1/signups", "5xx"),
        ("/v1/signups", "4xx"),
        ("/c/{token}", "5xx"),
        ("/c/{token}", "4xx"),
    ] {
        let line = format!(
            "confirmd_http_requests_total{{route=\"{route}\",method=\"POST\",status_class=\"{class}\"}} 1\n"
        );
        assert!(numbers.contains(&line), "{line}{numbers}");
    }
});
