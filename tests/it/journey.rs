//! The main job: from a signup to a proven yes or no.

use crate::support::app::{LISTS, TestApp, both, signup};

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

both!(a_site_that_no_mail_can_name_keeps_no_mail_back, |db| {
    // Both are hosts by the rules of browsers.
    let origins = "origins = [\"https://news_letter.acme.example\", \"https://it's.acme.example\"]";
    let lists = LISTS.replace("origins = [\"https://acme.example\"]", origins);
    let app = TestApp::with(db, &lists, "").await;
    for (host, named) in [
        ("news_letter.acme.example", true),
        ("it's.acme.example", false),
    ] {
        let email = format!("{}@example.org", &host[..2]);
        let mut body = signup(&email, &["weekly"]);
        body["consent"]["source"] = format!("https://{host}/news").into();
        assert_eq!(app.post_signup(&body).await.status, 202);
        app.deliver().await;
        let mail = app.mailbox(&email).pop().expect("a mail arrived");
        assert_eq!(mail.text.contains(host), named, "{}", mail.text);
        let page = app.open(&mail.confirm()).await;
        assert_eq!((page.status, page.body.contains(host)), (200, named));
    }
});
