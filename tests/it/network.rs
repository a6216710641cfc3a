//! Where a request came from: kept only as far as the policy says, and no longer.

use std::time::Duration;

use crate::support::app::{Db, LISTS, TestApp, both, path, signup};
use crate::support::daemon::{Home, QUICK};
use crate::support::http::send;
use crate::support::mail::Mail;
use crate::support::peer::Peer;

const KEPT: &str = "select event.type || ' ' || evidence.body from evidence join event on event.id = evidence.event
    where evidence.part = 'network' order by event.ord";
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn confirm(app: &TestApp, email: &str) {
    let mut body = signup(email, &["weekly"]);
    body["consent"]["ip"] = "198.51.100.7".into();
    body["consent"]["user_agent"] = "Mozilla/5.0 (X11)".into();
    assert_eq!(app.post_signup(&body).await.status, 202);
    app.deliver().await;
    let mail = app.mailbox(email).pop().expect("a mail");
    let headers = [
        ("user-agent", "Lynx/2.9"),
        ("x-forwarded-for", "203.0.113.9"),
    ];
    let link = mail.confirm();
    let page = send(app.addr, "POST", path(&link), &headers, b"").await;
    assert_eq!(page.status, 200);
}

both!(
    network_facts_follow_the_policy_and_go_after_thirty_days,
    |db| {
        let none = TestApp::start(db).await;
        confirm(&none, "none@example.org").await;
        assert_eq!(none.sql(KEPT).await, [""; 0]);

        let settings = "[evidence]\nip = \"prefix\"\nuser_agent = \"full\"\n";
        let app = TestApp::with(db, LISTS, settings).await;
        confirm(&app, "kept@example.org").await;
        assert_eq!(
            app.sql(KEPT).await,
            [
                r#"signup.accepted {"ip":"198.51.100.0/24","user_agent":"Mozilla/5.0 (X11)"}"#,
                // Nobody is a trusted proxy: it came from this machine, whatever it says.
                r#"subscription.confirmed {"ip":"127.0.0.0/24","user_agent":"Lynx/2.9"}"#,
            ]
        );
        let signup = app
            .sql("select cast(consent as text) from signup")
            .await
            .concat();
        assert!(
            !signup.contains("198.51") && !signup.contains("Mozilla"),
            "{signup}"
        );

        app.pass(30 * DAY);
        app.sweep().await;
        assert_eq!(app.sql(KEPT).await.len(), 2, "not before its time");
        app.pass(Duration::from_secs(1));
        app.sweep().await;
        assert_eq!(app.sql(KEPT).await, [""; 0]);
        let events = app.events().await;
        let id = |kind: &str| {
            let event = events.iter().find(|event| event["type"] == kind);
            event.expect("it happened")["id"].clone()
        };
        let erased: Vec<_> = events
            .iter()
            .filter(|e| e["type"] == "evidence.erased")
            .collect();
        assert_eq!(erased.len(), 2);
        for (event, behind) in erased
            .iter()
            .zip(["signup.accepted", "subscription.confirmed"])
        {
            assert_eq!(event["event"], id(behind));
            assert_eq!(
                (&event["part"], &event["reason"]),
                (&"network".into(), &"retention".into())
            );
            assert_eq!(event["sender"], "acme");
        }
        app.sweep().await;
        assert_eq!(app.events().await.len(), events.len(), "once");
    }
);

both!(
    what_a_proxy_wrote_is_read_with_its_port_or_not_kept_at_all,
    |db| {
        let settings = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[evidence]\nip = \"full\"\n";
        let app = TestApp::with(db, LISTS, settings).await;
        for (forwarded, ip) in [
            ("198.51.100.7:51234", Some("198.51.100.7")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("caf\u{e9}, 198.51.100.8", Some("198.51.100.8")),
            ("198.51.100.9, caf\u{e9}", None),
            ("198.51.100.9, unknown", None),
            ("198.51.100.9, ", None),
        ] {
            let before = app.sql(KEPT).await.len();
            let mail = app.mail_for("proxy@example.org", &["weekly"]).await;
            let link = mail.confirm();
            let headers = [("x-forwarded-for", forwarded)];
            let page = send(app.addr, "POST", path(&link), &headers, b"").await;
            assert_eq!(page.status, 200);
            let kept = ip.map(|ip| format!(r#"subscription.confirmed {{"ip":"{ip}"}}"#));
            assert_eq!(
                app.sql(KEPT).await[before..],
                Vec::from_iter(kept),
                "{forwarded}"
            );
            app.one_click(&app.unsubscribe_links(&page)[0]).await;
            app.pass(DAY);
        }
    }
);

both!(a_user_agent_is_kept_to_the_bound_of_the_api, |db| {
    let settings = "[evidence]\nuser_agent = \"full\"\n";
    let app = TestApp::with(db, LISTS, settings).await;
    let mail = app.mail_for("agent@example.org", &["weekly"]).await;
    let link = mail.confirm();
    let agent = "U".repeat(20_000);
    let headers = [("user-agent", agent.as_str())];
    let page = send(app.addr, "POST", path(&link), &headers, b"").await;
    assert_eq!(page.status, 200);
    let kept = format!(
        r#"subscription.confirmed {{"user_agent":"{}"}}"#,
        &agent[..1000]
    );
    assert_eq!(app.sql(KEPT).await, [kept]);
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_named_is_believed() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Sqlite, peer.addr(), QUICK);
    home.set("EVIDENCE__IP", "full");
    home.set("SERVER__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8");
    let key = home.key("acme", "signup").await;
    let daemon = home.start().await;
    assert_eq!(
        daemon
            .sign_up(&key, "proxy@example.org", &["weekly"])
            .await
            .status,
        202
    );
    home.idle().await;
    let mail = Mail::read(&peer.mails()[0].bytes);
    let headers = [("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.3")];
    let link = mail.confirm();
    let page = send(daemon.addr, "POST", path(&link), &headers, b"").await;
    assert_eq!(page.status, 200);
    let kept = [r#"subscription.confirmed {"ip":"203.0.113.9"}"#];
    assert_eq!(home.sql(KEPT).await, kept);
    home.set("SERVER__TRUSTED_PROXIES", "localhost");
    let refused = home.run(&["check", "--offline"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("server.trusted_proxies"),
        "{}",
        refused.stderr
    );
}
