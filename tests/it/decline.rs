//! The "no" of a confirmation mail, pressed by somebody whom another signup subscribed.

use std::time::Duration;

use confirmd::domain::id::SignupId;
use confirmd::token::Purpose;

use crate::audit::fixture;
use crate::support::app::{TestApp, both};
use crate::support::links::{A_LIFE, buttons, read};
use crate::support::mail;
use crate::support::peer::{Act, Point};

/// How the list of an older signup has ended when the person is subscribed by another; the last is not yet swept.
const STATES: [&str; 8] = [
    "open",
    "undeliverable",
    "declined",
    "withheld",
    "already_confirmed",
    "confirmed",
    "expired",
    "over",
];

/// Makes the "no" link of a signup, mailed or not.
pub(crate) fn no_of(app: &TestApp, signup: &str) -> String {
    let id: SignupId = signup.parse().expect("an id");
    let links = &app.flows.keys().links;
    let token = links.sign(links.signing(), Purpose::Decline, id.0, None);
    let link = format!("/d/{}", token.expect("a key"));
    mail::links(&link, "/d/");
    link
}

/// Subscribes, beside an older signup in this state; returns that one.
async fn beside(app: &TestApp, state: &str, email: &str) -> String {
    let deaf = state == "undeliverable";
    app.peer.script(move |moment| {
        (deaf && moment.point == Point::Rcpt).then(|| Act::reply("550 5.1.1 no"))
    });
    let first = app.sign_up(email, &["weekly"]).await;
    app.deliver().await;
    app.peer.script(|_| None);
    let confirm = app.mailbox(email).pop().map(|mail| mail.confirm());
    match state {
        "declined" => {
            app.press(&no_of(app, &first), "reason=no").await;
        }
        "withheld" => {
            let second = app.sign_up(email, &["weekly"]).await;
            app.deliver().await;
            app.press(&confirm.expect("a mail"), "").await;
            return second;
        }
        "confirmed" => {
            app.press(&confirm.expect("a mail"), "").await;
            return first;
        }
        "expired" | "over" => {
            app.pass(A_LIFE);
            if state == "expired" {
                app.sweep().await;
            }
        }
        _ => {}
    }
    app.pass(Duration::from_secs(601));
    app.subscribe(email, &["weekly"]).await;
    if state == "already_confirmed" {
        app.press(&confirm.expect("a mail"), "").await;
    }
    first
}

both!(no_to_whichever_mail_ends_what_another_confirmed, |db| {
    let app = TestApp::start(db).await;
    let happened = async |kind: &str| {
        let counts = app.event_counts().await;
        counts.get(kind).copied().unwrap_or_default()
    };
    for (how, form) in [
        ("no", "reason=no"),
        ("not_me", "reason=not_me"),
        ("one_click", "List-Unsubscribe=One-Click"),
    ] {
        for state in STATES {
            let what = format!("{state}, {how}");
            let email = format!("{state}.{how}@example.org");
            let signup = beside(&app, state, &email).await;
            let no = no_of(&app, &signup);
            let row = if state == "over" { "open" } else { state };
            let was = app.outcome(&signup).await;
            assert!(was.ends_with(&format!(" weekly={row}")), "{what}: {was}");

            let before = app.dump().await;
            let page = read(&app.open(&no).await);
            let leaves = "You are subscribed to “Weekly news”, from Acme B.V. Either button unsubscribes you at once.";
            assert!(page.contains(leaves), "{what}: {page}");
            assert!(!page.contains("you are not subscribed"), "{what}: {page}");
            assert_eq!(app.dump().await, before, "{what}: nothing yet");

            let (left, declined) = (
                happened("subscription.unsubscribed").await,
                happened("signup.declined").await,
            );
            let page = app.press(&no, form).await;
            assert_eq!(page.status, 200, "{what}");
            let state_now = format!(
                "select s.state from subscription s join subscriber p on p.id = s.subscriber where p.email = '{email}'"
            );
            assert_eq!(app.sql(&state_now).await, ["unsubscribed"], "{what}");
            let declines = ["open", "undeliverable"].contains(&row);
            let is = app.outcome(&signup).await;
            match declines {
                true => assert!(is.ends_with(" weekly=declined"), "{what}: {is}"),
                false => assert_eq!(is, was, "{what}"),
            }
            assert_eq!(
                happened("subscription.unsubscribed").await,
                left + 1,
                "{what}"
            );
            let declined = declined + usize::from(declines);
            assert_eq!(happened("signup.declined").await, declined, "{what}");
            if how != "one_click" {
                let page = read(&page);
                assert!(page.contains("You are unsubscribed"), "{what}: {page}");
                assert!(
                    !page.contains("You are not subscribed"),
                    "said once: {page}"
                );
            }
            let page = app.open(&no).await;
            let unwanted = declines || ["declined", "expired"].contains(&row);
            let holds = how == "not_me" || (how == "one_click" && unwanted);
            let lift = buttons(&page).iter().any(|b| b.form == "hold=lift");
            assert_eq!(lift, holds, "{what}: {}", read(&page));

            let before = app.dump().await;
            app.press(&no, form).await;
            assert_eq!(app.dump().await, before, "{what}: again");
        }
    }
    fixture::sign(&app).await;
    assert_eq!(fixture::verified(&app).await.findings, []);
});

both!(no_to_several_lists_does_to_each_what_it_can, |db| {
    let app = TestApp::start(db).await;
    let email = "several@example.org";
    let first = app.sign_up(email, &["weekly", "offers"]).await;
    app.deliver().await;
    app.pass(Duration::from_secs(601));
    app.subscribe(email, &["weekly"]).await;
    let no = no_of(&app, &first);
    let page = read(&app.open(&no).await);
    for says in ["asked to confirm “Offers”,", "subscribed to “Weekly news”,"] {
        assert!(page.contains(says), "{page}");
    }
    let page = read(&app.press(&no, "reason=no").await);
    for says in [
        "not subscribed to “Offers”.",
        "no longer get “Weekly news” from Acme B.V.",
    ] {
        assert!(page.contains(says), "{page}");
    }
    assert_eq!(
        app.outcome(&first).await,
        "sent offers=declined weekly=declined"
    );
    let counts = app.event_counts().await;
    let once = ["signup.declined", "subscription.unsubscribed"].map(|kind| counts[kind]);
    assert_eq!(once, [1, 1]);
});

both!(a_link_that_is_pressed_for_ever_fills_nothing, |db| {
    let app = TestApp::start(db).await;
    let signup = app.sign_up("on.and.off@example.org", &["weekly"]).await;
    app.deliver().await;
    let no = no_of(&app, &signup);
    let toggle = async || {
        app.press(&no, "reason=not_me").await;
        app.press(&no, "hold=lift").await.body
    };
    let changes = async || app.event_counts().await["subscriber.changed"];
    for _ in 0..10 {
        toggle().await;
    }
    let (page, before) = (toggle().await, changes().await);
    assert!(page.contains("Try again tomorrow"), "{page}");
    assert!(page.contains("sends no mail that asks"), "{page}");
    for _ in 0..10 {
        toggle().await;
    }
    assert_eq!(changes().await, before, "the hold stays");
    app.pass(Duration::from_secs(25 * 3600));
    assert!(!toggle().await.contains("Try again tomorrow"));
    assert_eq!(changes().await, before + 1);
});
