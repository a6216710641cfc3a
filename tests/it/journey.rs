//! The main job: from a signup to a proven yes or no.

use crate::support::app::{TestApp, both};

both!(a_signup_becomes_a_subscription_and_ends, |db| {
    let app = TestApp::start(db).await;
    let mail = app.subscribe("anna@example.org", &["weekly"]).await;
    assert_eq!(mail.header("to"), "anna@example.org");
    assert!(mail.html.contains(&mail.confirm()), "both parts lead on");
    let page = app.open(&mail.confirm()).await;
    let leave = app.unsubscribe_links(&page).pop().expect("a way out");
    assert_eq!(app.one_click(&leave).await.status, 200);
    let kinds: Vec<_> = app
        .events()
        .await
        .iter()
        .map(|event| event["type"].as_str().unwrap_or_default().to_owned())
        .filter(|kind| !kind.starts_with("key") && !kind.starts_with("list."))
        .collect();
    assert_eq!(
        kinds,
        [
            "signup.accepted",
            "message.sent",
            "subscription.confirmed",
            "subscription.unsubscribed",
        ]
    );
});
