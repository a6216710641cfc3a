//! The pages behind links: every link in every state says what is the case and what to do.

use std::time::Duration;

use confirmd::flow::api_key::Scope;
use confirmd::token::Purpose;

use crate::support::app::{Db, TestApp, both, path, signup};
use crate::support::http::{Response, send};
use crate::support::links::{
    A_LIFE, BY_LINK, MORE, asked, assert_page, buttons, erase, every_link, forged, fresh,
    leave_link, press_button, put_in_force, read, receipt_of, subscribed, unknown, with,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Pages one after the other, as a person reads them; the sender's imprint at their end only once.
#[derive(Default)]
struct Book(String);

const IMPRINT: &str = "
Acme B.V.
Keizersgracht 1, 1015 CN Amsterdam, NL
Questions
[privacy@acme.example] -> mailto:privacy@acme.example
Privacy statement
[acme.example] -> https://acme.example/privacy
Complaints about your privacy
[Autoriteit Persoonsgegevens] -> https://autoriteitpersoonsgegevens.nl";

impl Book {
    fn add(&mut self, name: &str, page: &Response) {
        let text = read(page);
        let cut = text.strip_suffix(IMPRINT).filter(|_| !self.0.is_empty());
        self.0 += &format!("## {name}\n{}\n\n", cut.unwrap_or(&text));
    }
}

/// How often each thing happened, without what the start of confirmd brings.
async fn happened(app: &TestApp) -> Vec<String> {
    let counts = app.event_counts().await;
    let own = counts
        .iter()
        .filter(|(kind, _)| !kind.starts_with("key") && !kind.starts_with("list."));
    own.map(|(kind, n)| format!("{kind} {n}")).collect()
}

both!(confirm_pages_say_what_is_the_case, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    let mut book = Book::default();

    // Links that will have expired.
    let [expired, _] = fresh(&app, "expired@example.org", &["weekly"]).await;
    let [half, _] = fresh(&app, "half@example.org", &["weekly", "offers"]).await;
    app.press(&half, "list=weekly").await;
    app.pass(A_LIFE);
    book.add("expired", &app.open(&expired).await);
    assert_eq!(
        app.press(&expired, "").await.status,
        410,
        "a press comes too late"
    );
    let before_sweep = read(&app.open(&expired).await);
    app.sweep().await;
    assert_eq!(read(&app.open(&expired).await), before_sweep);
    book.add("partly confirmed, the rest expired", &app.open(&half).await);

    // A new mail, once, on its own budget.
    let page = app.open(&expired).await;
    let page = press_button(&app, &page, "Send me a new mail").await;
    book.add("new mail asked for", &page);
    let again = format!("{expired}/again");
    assert_eq!(
        read(&app.press(&again, "").await),
        read(&page),
        "pressed twice"
    );
    assert_eq!(app.deliver().await, 1);
    // Nothing more is sent, and nothing else is said.
    book.add("new mail asked for once more", &app.press(&again, "").await);
    assert_eq!(app.deliver().await, 0);
    let mails = app.mailbox("expired@example.org");
    assert_eq!(mails.len(), 2);
    let new = mails[1].confirm();
    book.add(
        "expired, while its new mail waits",
        &app.open(&expired).await,
    );
    assert_eq!(app.press(&new, "").await.status, 200);
    book.add(
        "expired, confirmed by its new mail",
        &app.open(&expired).await,
    );
    let page = app.press(&again, "").await;
    assert_eq!(
        read(&page),
        read(&app.open(&expired).await),
        "nothing to ask for again"
    );
    app.deliver().await;
    assert_eq!(app.mailbox("expired@example.org").len(), 2);

    let [one, _] = fresh(&app, "one@example.org", &["weekly"]).await;
    book.add("fresh, one list", &app.open(&one).await);
    let done = app.press(&one, "").await;
    book.add("fresh, one list, pressed", &done);
    book.add("used", &app.open(&one).await);
    assert_eq!(
        read(&app.press(&one, "").await),
        read(&app.open(&one).await),
        "pressed again"
    );
    let [several, _] = fresh(
        &app,
        "several@example.org",
        &["weekly", "offers", "greeted"],
    )
    .await;
    let page = app.open(&several).await;
    book.add("fresh, several lists", &page);
    let page = press_button(&app, &page, "Yes, I want “Offers”").await;
    book.add("fresh, several lists, one pressed", &page);
    book.add("partly confirmed", &app.open(&several).await);
    let page = press_button(&app, &page, "Yes, I want “Weekly news”").await;
    assert_eq!(page.status, 200);
    let page = app.open(&several).await;
    book.add("partly confirmed, one left", &page);
    // The last one's button, by what it says.
    let last = buttons(&page);
    assert_eq!(last.len(), 1, "{last:?}");
    let page = press_button(&app, &page, &last[0].text).await;
    book.add("partly confirmed, the last one pressed", &page);
    let states = app
        .sql(
            "select distinct l.state from signup_list l join signup s on s.id = l.signup
            where s.email = 'several@example.org'",
        )
        .await;
    assert_eq!(states, ["confirmed"]);
    let [all, _] = fresh(&app, "all@example.org", &["weekly", "offers"]).await;
    let page = app.open(&all).await;
    book.add(
        "several lists, all pressed",
        &press_button(&app, &page, "Confirm all").await,
    );

    let [declined, no] = fresh(&app, "no@example.org", &["weekly"]).await;
    app.press(&no, "reason=no").await;
    book.add("declined", &app.open(&declined).await);
    assert_eq!(
        read(&app.press(&declined, "").await),
        read(&app.open(&declined).await)
    );
    app.pass(HOUR);
    let [yes, _] = fresh(&app, "no@example.org", &["weekly"]).await;
    app.press(&yes, "").await;
    book.add(
        "declined, confirmed by a later one",
        &app.open(&declined).await,
    );

    // Two live links; the second confirms, the person leaves: neither subscribes again.
    let [first, _] = fresh(&app, "left@example.org", &["weekly"]).await;
    app.pass(HOUR);
    let [second, _] = fresh(&app, "left@example.org", &["weekly"]).await;
    app.press(&second, "").await;
    book.add("confirmed by another link", &app.open(&first).await);
    let leave = leave_link(&app, &second).await;
    app.press(&leave, "by=page").await;
    app.deliver().await;
    book.add("ineffective: left after asking", &app.open(&first).await);
    book.add(
        "ineffective: left after confirming",
        &app.open(&second).await,
    );
    for link in [&first, &second] {
        assert_eq!(
            read(&app.press(link, "").await),
            read(&app.open(link).await)
        );
    }
    app.pass(HOUR);
    let [third, _] = fresh(&app, "left@example.org", &["weekly"]).await;
    app.press(&third, "").await;
    book.add("ineffective, and subscribed anew", &app.open(&first).await);

    let [gone, _] = fresh(&app, "erased@example.org", &["weekly"]).await;
    erase(&app, "erased@example.org", false).await;
    book.add("erased", &app.open(&gone).await);
    assert_eq!(
        read(&app.press(&gone, "").await),
        read(&app.open(&gone).await)
    );
    let never = unknown(&app, Purpose::Confirm);
    assert_eq!(read(&app.open(&never).await), read(&app.open(&gone).await));
    assert_eq!(app.press(&format!("{gone}/again"), "").await.status, 404);
    book.add("malformed", &app.open(&forged("/c/")).await);

    let [closed, _] = fresh(&app, "closed@example.org", &["gone"]).await;
    let [partly, _] = fresh(&app, "partly@example.org", &["gone", "weekly"]).await;
    let [was, _] = fresh(&app, "was@example.org", &["gone"]).await;
    app.press(&was, "").await;
    put_in_force(&app, &with(&[])).await;
    book.add("closed", &app.open(&closed).await);
    assert_eq!(
        read(&app.press(&closed, "").await),
        read(&app.open(&closed).await)
    );
    book.add("closed, confirmed before", &app.open(&was).await);
    book.add("one of two closed", &app.open(&partly).await);
    app.press(&partly, "list=all").await;
    book.add(
        "one of two closed, the other confirmed",
        &app.open(&partly).await,
    );

    insta::assert_snapshot!("confirm_pages", book.0);
});

both!(decline_pages_say_what_is_the_case, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    let mut book = Book::default();
    let [_, expired] = fresh(&app, "expired@example.org", &["weekly"]).await;
    app.pass(A_LIFE);
    book.add("expired, not yet swept", &app.open(&expired).await);
    app.sweep().await;
    book.add("expired", &app.open(&expired).await);
    let page = app.press(&expired, "reason=no").await;
    book.add("expired, pressed", &page);
    book.add(
        "expired, not me",
        &press_button(&app, &page, "That was not me").await,
    );

    let [confirm, no] = fresh(&app, "no@example.org", &["weekly"]).await;
    let no_first = no.clone();
    let page = app.open(&no).await;
    book.add("fresh, one list", &page);
    let page = press_button(&app, &page, "No, I do not want this").await;
    book.add("no", &page);
    assert_eq!(buttons(&page).len(), 1, "that was not me");
    book.add("no, opened again", &app.open(&no).await);
    assert_eq!(
        read(&app.press(&no, "reason=no").await),
        read(&app.open(&no).await)
    );
    assert_eq!(app.press(&confirm, "").await.status, 200);

    let [confirm, no] = fresh(&app, "notme@example.org", &["weekly", "offers"]).await;
    let page = app.open(&no).await;
    book.add("fresh, several lists", &page);
    let page = press_button(&app, &page, "That was not me").await;
    book.add("not me", &page);
    book.add("not me, opened again", &app.open(&no).await);
    let page = app.open(&no).await;
    let page = press_button(&app, &page, "Stop them for every sender here").await;
    book.add("held for every sender", &page);
    let other = app.make_key("other", &[Scope::Signup]).await;
    let tips = signup("notme@example.org", &["tips"]).to_string();
    let answer = app.post_json("/v1/signups", &other, &[], &tips).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    app.sign_up("notme@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(
        app.mailbox("notme@example.org").len(),
        1,
        "nothing but the first"
    );
    book.add("held for every sender, opened again", &app.open(&no).await);
    let page = app.open(&no).await;
    let all = "Allow these mails again, from every sender here";
    let page = press_button(&app, &page, all).await;
    book.add("lifted", &page);
    book.add("lifted, opened again", &app.open(&no).await);
    assert_eq!(app.press(&confirm, "list=all").await.status, 200);
    app.pass(HOUR);
    app.sign_up("notme@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(app.mailbox("notme@example.org").len(), 2, "mailed again");

    let [_, header] = fresh(&app, "header@example.org", &["weekly"]).await;
    app.one_click(&header).await;
    book.add("one-click, opened", &app.open(&header).await);
    app.pass(31 * 24 * HOUR);
    book.add("one-click, opened after the hold", &app.open(&header).await);

    let [confirm, after] = fresh(&app, "after@example.org", &["weekly", "offers"]).await;
    app.press(&confirm, "list=weekly").await;
    let page = app.open(&after).await;
    book.add("one of two confirmed", &page);
    let page = press_button(&app, &page, "No, I do not want this").await;
    book.add("one of two confirmed, no", &page);
    book.add(
        "one of two confirmed, no, opened again",
        &app.open(&after).await,
    );
    let [confirm, whole] = fresh(&app, "whole@example.org", &["weekly"]).await;
    app.press(&confirm, "").await;
    let page = app.open(&whole).await;
    book.add("confirmed", &page);
    book.add(
        "confirmed, no",
        &press_button(&app, &page, "No, I do not want this").await,
    );
    book.add("confirmed, no, opened again", &app.open(&whole).await);
    // The page promises a hold to whom it was not, confirmed or not.
    let [confirm, other] = fresh(&app, "other@example.org", &["weekly"]).await;
    app.press(&confirm, "").await;
    let page = app.open(&other).await;
    book.add(
        "confirmed, not me",
        &press_button(&app, &page, "That was not me").await,
    );
    app.pass(HOUR);
    app.sign_up("other@example.org", &["weekly"]).await;
    app.deliver().await;
    assert_eq!(app.mailbox("other@example.org").len(), 1, "held");
    // Who said no and yes to a later mail is subscribed, whatever the first mail's link says.
    let [confirm, _] = fresh(&app, "no@example.org", &["weekly"]).await;
    app.press(&confirm, "").await;
    book.add(
        "declined, confirmed by a later one",
        &app.open(&no_first).await,
    );

    let [_, gone] = fresh(&app, "erased@example.org", &["weekly"]).await;
    erase(&app, "erased@example.org", false).await;
    book.add("erased", &app.open(&gone).await);
    for form in ["reason=no", "reason=not_me", "hold=lift", "hold=all"] {
        assert_eq!(
            read(&app.press(&gone, form).await),
            read(&app.open(&gone).await)
        );
    }
    let never = unknown(&app, Purpose::Decline);
    assert_eq!(read(&app.open(&never).await), read(&app.open(&gone).await));
    book.add("malformed", &app.open(&forged("/d/")).await);
    let [_, closed] = fresh(&app, "closed@example.org", &["gone"]).await;
    put_in_force(&app, &with(&[])).await;
    book.add("closed", &app.open(&closed).await);
    let page = app.open(&closed).await;
    assert!(!read(&page).contains("asked to confirm"));
    book.add(
        "closed, not me",
        &press_button(&app, &page, "That was not me").await,
    );

    insta::assert_snapshot!("decline_pages", book.0);
    assert_eq!(
        happened(&app).await,
        [
            "message.sent 11",
            "signup.accepted 14",
            "signup.declined 5",
            "signup.expired 1",
            "signup.withheld 3",
            "subscriber.changed 4",
            "subscription.confirmed 4",
            "subscription.unsubscribed 3",
        ]
    );
});

both!(unsubscribe_pages_say_what_is_the_case, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    let mut book = Book::default();
    let leave = subscribed(&app, "anna@example.org", &["weekly"]).await;
    let page = app.open(&leave).await;
    book.add("fresh", &page);
    book.add("done", &press_button(&app, &page, "Unsubscribe me").await);
    book.add("opened again", &app.open(&leave).await);
    app.pass(47 * HOUR);
    book.add("pressed again", &app.press(&leave, "by=page").await);
    assert!(
        !app.event_counts()
            .await
            .contains_key("unsubscribe.repeated")
    );
    app.pass(2 * HOUR);
    book.add(
        "pressed again after 49 hours",
        &app.press(&leave, "by=page").await,
    );
    let counts = app.event_counts().await;
    assert_eq!(
        counts["unsubscribe.repeated"], 1,
        "somebody still mails them"
    );
    assert_eq!(counts["subscription.unsubscribed"], 1);
    // A link can be pressed without end, and an event is for ever.
    app.pass(47 * HOUR);
    app.press(&leave, "by=page").await;
    assert_eq!(app.event_counts().await["unsubscribe.repeated"], 1);
    app.pass(2 * HOUR);
    tokio::join!(
        app.press(&leave, "by=page"),
        app.press(&leave, "List-Unsubscribe=One-Click"),
    );
    assert_eq!(app.event_counts().await["unsubscribe.repeated"], 2);

    // Erased, with a tombstone; the address came back: the old link ends what it has now.
    let old = subscribed(&app, "back@example.org", &["weekly"]).await;
    erase(&app, "back@example.org", true).await;
    book.add("erased, with a tombstone", &app.open(&old).await);
    book.add(
        "erased, with a tombstone, pressed",
        &app.press(&old, "by=page").await,
    );
    app.pass(HOUR);
    let new = subscribed(&app, "back@example.org", &["weekly"]).await;
    assert_ne!(old, new);
    let page = app.open(&old).await;
    book.add("erased and subscribed anew", &page);
    book.add(
        "erased and subscribed anew, pressed",
        &press_button(&app, &page, "Unsubscribe me").await,
    );
    assert_eq!(read(&app.open(&old).await), read(&app.open(&new).await));
    let state = "select s.state from subscription s join subscriber p on p.id = s.subscriber where p.email = ";
    assert_eq!(
        app.sql(&format!("{state}'back@example.org'")).await,
        ["unsubscribed"]
    );

    // Erased, with none: nothing connects the link with anybody.
    let nowhere = subscribed(&app, "gone@example.org", &["weekly"]).await;
    erase(&app, "gone@example.org", false).await;
    book.add("erased, without a tombstone", &app.open(&nowhere).await);
    app.pass(HOUR);
    subscribed(&app, "gone@example.org", &["weekly"]).await;
    let page = app.press(&nowhere, "by=page").await;
    assert_eq!(read(&page), read(&app.open(&nowhere).await));
    assert_eq!(
        app.sql(&format!("{state}'gone@example.org'")).await,
        ["confirmed"]
    );
    let never = unknown(&app, Purpose::Unsubscribe);
    assert_eq!(read(&app.open(&never).await), read(&page));
    book.add("malformed", &app.open(&forged("/u/")).await);

    let closed = subscribed(&app, "closed@example.org", &["gone"]).await;
    put_in_force(&app, &with(&[])).await;
    let page = app.open(&closed).await;
    book.add("closed", &page);
    book.add(
        "closed, pressed",
        &press_button(&app, &page, "Unsubscribe me").await,
    );
    assert_eq!(
        app.sql(&format!("{state}'closed@example.org'")).await,
        ["unsubscribed"]
    );

    insta::assert_snapshot!("unsubscribe_pages", book.0);
});

both!(pages_speak_the_language_of_the_signup, |db| {
    let app = TestApp::start(db).await;
    let mut book = Book::default();
    let [confirm, decline] = asked(&app, "anna@example.org", &["weekly"], "nl").await;
    let several = asked(&app, "bert@example.org", &["weekly", "offers"], "nl-BE").await;
    for (name, page) in [
        ("confirm, one list", app.open(&confirm).await),
        ("confirm, several lists", app.open(&several[0]).await),
        ("decline", app.open(&decline).await),
        ("decline, several lists", app.open(&several[1]).await),
    ] {
        assert_eq!(page.header("content-language"), Some("nl"));
        book.add(name, &page);
    }
    let done = app.press(&confirm, "").await;
    book.add("confirmed", &done);
    let leave = leave_link(&app, &confirm).await;
    book.add("unsubscribe", &app.open(&leave).await);
    book.add("unsubscribed", &app.press(&leave, "by=page").await);
    insta::assert_snapshot!("pages_nl", book.0);

    // Where no signup is known, the browser says which language.
    for (asked, spoken) in [
        ("nl-NL,nl;q=0.9", "nl"),
        ("en;q=0.1, nl;q=0.9", "nl"),
        ("fi, nl;q=0.5, *;q=0.1", "nl"),
        ("fi", "en"),
        ("!!", "en"),
    ] {
        let header = [("accept-language", asked)];
        let page = send(app.addr, "GET", &forged("/c/"), &header, b"").await;
        assert_eq!(page.header("content-language"), Some(spoken), "{asked}");
        let page = send(app.addr, "GET", path(&several[0]), &header, b"").await;
        assert_eq!(page.header("content-language"), Some("nl"), "{asked}");
    }
});

both!(a_page_leads_on_only_where_the_signup_said_so, |db| {
    let app = TestApp::start(db).await;
    for redirect in [true, false] {
        let email = format!("redirect.{redirect}@example.org");
        let mut body = signup(&email, &["weekly"]);
        if redirect {
            body["redirect"] = "https://acme.example/thanks".into();
        }
        assert_eq!(app.post_signup(&body).await.status, 202);
        app.deliver().await;
        let confirm = app.mailbox(&email).pop().expect("a mail").confirm();
        assert!(
            !app.open(&confirm).await.body.contains("/thanks"),
            "not before the yes"
        );
        for page in [app.press(&confirm, "").await, app.open(&confirm).await] {
            assert_page(&page);
            assert_eq!(page.status, 200);
            let link = "[Continue to acme.example] -> https://acme.example/thanks";
            assert_eq!(read(&page).contains(link), redirect);
        }
    }
});

both!(
    a_link_confirms_by_itself_only_where_its_one_list_chose_so,
    |db| {
        let app = TestApp::with(db, &with(&[BY_LINK]), "").await;
        let [confirm, _] = fresh(&app, "anna@example.org", &["instant"]).await;
        let before = app.dump().await;
        let head = send(app.addr, "HEAD", path(&confirm), &[], b"").await;
        assert_eq!(head.status, 200);
        assert_eq!(app.dump().await, before, "HEAD does nothing");
        let page = app.open(&confirm).await;
        assert!(
            read(&page).contains("Done. You are subscribed."),
            "{}",
            read(&page)
        );
        let after = app.dump().await;
        assert!(read(&app.open(&confirm).await).contains("You are already subscribed"));
        assert_eq!(app.dump().await, after, "once");
        let events = app.events().await;
        let confirmed: Vec<_> = events
            .iter()
            .filter(|e| e["type"] == "subscription.confirmed")
            .collect();
        assert_eq!(confirmed.len(), 1);
        assert_eq!(confirmed[0]["by"], "link opened; not proof of a human act");
        let leave = leave_link(&app, &confirm).await;
        app.one_click(&leave).await;
        let page = app.open(&confirm).await;
        assert!(
            read(&page).contains("This link no longer works"),
            "{}",
            read(&page)
        );
        assert_eq!(app.event_counts().await["subscription.confirmed"], 1);

        // With the button it is a human act there, too.
        let [pressed, _] = fresh(&app, "bert@example.org", &["instant"]).await;
        app.press(&pressed, "").await;
        let [several, _] = fresh(&app, "clara@example.org", &["instant", "weekly"]).await;
        let page = app.open(&several).await;
        assert_eq!(buttons(&page).len(), 3, "two lists: {}", read(&page));
        let mail = app.mailbox("clara@example.org").pop().expect("a mail");
        assert!(
            mail.text.contains("press the button there"),
            "{}",
            mail.text
        );
        app.press(&several, "list=weekly").await;
        let page = app.open(&several).await;
        let left = buttons(&page);
        assert_eq!(
            left.len(),
            1,
            "one is left, and it was one of two: {}",
            read(&page)
        );
        press_button(&app, &page, &left[0].text).await;
        let events = app.events().await;
        let by: Vec<_> = events
            .iter()
            .filter(|e| e["type"] == "subscription.confirmed")
            .skip(1)
            .collect();
        assert_eq!(by.len(), 3);
        assert!(by.iter().all(|e| e["by"] == "button"), "{by:?}");

        // A list was kept out of the mail: then the mail is about one, and its link does what the mail says.
        let [_, _] = fresh(&app, "doris@example.org", &["weekly"]).await;
        let [alone, _] = fresh(&app, "doris@example.org", &["instant", "weekly"]).await;
        let mail = app.mailbox("doris@example.org").pop().expect("a mail");
        assert!(
            mail.text.contains("That confirms your signup at once"),
            "{}",
            mail.text
        );
        let page = app.open(&alone).await;
        assert!(
            read(&page).contains("Done. You are subscribed."),
            "{}",
            read(&page)
        );
    }
);

both!(a_link_does_what_its_mail_said_it_does, |db| {
    let app = TestApp::with(db, &with(&[BY_LINK]), "").await;
    // On one of two lists already: the mail asks for the other alone.
    subscribed(&app, "anna@example.org", &["weekly"]).await;
    let [link, _] = fresh(&app, "anna@example.org", &["weekly", "instant"]).await;
    let mail = app.mailbox("anna@example.org").pop().expect("a mail");
    assert!(mail.text.contains("at once"), "{}", mail.text);
    let before = app.dump().await;
    let head = send(app.addr, "HEAD", path(&link), &[], b"").await;
    assert_eq!((head.status, app.dump().await == before), (200, true));
    let page = read(&app.open(&link).await);
    assert!(page.contains("Done. You are subscribed."), "{page}");
    let counts = app.event_counts().await;
    assert_eq!(counts["subscription.confirmed"], 2);

    // On one of two since the mail: it spoke of a button.
    let [link, _] = fresh(&app, "bert@example.org", &["weekly", "instant"]).await;
    let mail = app.mailbox("bert@example.org").pop().expect("a mail");
    assert!(mail.text.contains("press the button"), "{}", mail.text);
    app.pass(HOUR);
    subscribed(&app, "bert@example.org", &["weekly"]).await;
    app.press(&link, "list=weekly").await;
    let states = app
        .sql("select state from signup_list order by state")
        .await;
    assert!(
        states.contains(&"already_confirmed".to_owned()),
        "{states:?}"
    );
    let before = app.dump().await;
    let page = app.open(&link).await;
    assert_eq!(buttons(&page).len(), 1, "{}", read(&page));
    assert_eq!(app.dump().await, before);
});

both!(what_an_old_link_says_does_not_wait_for_the_sweep, |db| {
    let app = TestApp::start(db).await;
    let email = "left@example.org";
    let [old, _] = fresh(&app, email, &["weekly"]).await;
    app.pass(HOUR);
    let leave = subscribed(&app, email, &["weekly"]).await;
    app.press(&leave, "by=page").await;
    let receipt = receipt_of(&app, &old);
    let open = [read(&app.open(&old).await), read(&app.open(&receipt).await)];
    assert!(open[0].contains("This link no longer works"), "{}", open[0]);
    app.pass(A_LIFE);
    assert_eq!(read(&app.open(&old).await), open[0]);
    app.sweep().await;
    assert_eq!(read(&app.open(&old).await), open[0]);
    assert_eq!(read(&app.open(&receipt).await), open[1]);
    assert_eq!(read(&app.press(&format!("{old}/again"), "").await), open[0]);
});

both!(a_form_confirms_what_it_names, |db| {
    let app = TestApp::start(db).await;
    let state = async |email: &str| {
        let query = format!(
            "select l.list || ' ' || l.state from signup_list l join signup s on s.id = l.signup
            where s.email = '{email}' order by l.list"
        );
        app.sql(&query).await.join(", ")
    };
    let post = async |link: &str, kind: &str, body: &[u8]| {
        let kind = [("content-type", kind)];
        let page = send(app.addr, "POST", path(link), &kind, body).await;
        assert_eq!(page.status, 200);
        page
    };
    const FORM: &str = "application/x-www-form-urlencoded";
    const OPEN: &str = "offers open, weekly open";
    let [one, _] = fresh(&app, "one@example.org", &["weekly"]).await;
    let [two, _] = fresh(&app, "two@example.org", &["weekly", "offers"]).await;
    let multipart = "multipart/form-data; boundary=b";
    let part = |name: &str, value: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--b--\r\n"
        )
    };
    let long = format!("{}&list=all", "x=y&".repeat(4096));
    let hidden = format!(
        "list=all&{}&List-Unsubscribe=One-Click",
        "x=y&".repeat(4096)
    );
    let one_click = part("List-Unsubscribe", "One-Click");
    let of_list = part("list", "all");
    let nothing: &[(&str, &[u8])] = &[
        (FORM, b"List-Unsubscribe=One-Click"),
        (FORM, b"list-unsubscribe=one-click"),
        (FORM, b"List-Unsubscribe=One-Click&list=all"),
        (FORM, b"list=all&List-Unsubscribe=One-Click"),
        (multipart, one_click.as_bytes()),
        (multipart, of_list.as_bytes()),
        (FORM, b"list=unknown"),
        (FORM, b"list=tips"),
        (FORM, b"list="),
        (FORM, b"list"),
        (FORM, b"LIST=all"),
        (FORM, b"lists=all"),
        (FORM, b"list=ALL"),
        (FORM, b"list=weekly%00"),
        (FORM, b"list=Weekly"),
        (FORM, b"list=all%20"),
        (FORM, b"garbage"),
        (FORM, b"\xff\xfe\0\x01"),
        (FORM, b" "),
        (FORM, b"="),
        (FORM, b"&"),
        ("application/json", b"{\"list\":\"all\"}"),
        (FORM, long.as_bytes()),
        (FORM, hidden.as_bytes()),
    ];
    let before = app.dump().await;
    for (kind, body) in nothing {
        for link in [&one, &two] {
            let page = post(link, kind, body).await;
            let name = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(read(&page), read(&app.open(link).await), "{name}");
            assert_eq!(app.dump().await, before, "{name}");
        }
    }
    // Several lists and nothing said: the page again.
    assert_eq!(
        read(&post(&two, FORM, b"").await),
        read(&app.open(&two).await)
    );
    assert_eq!(state("two@example.org").await, OPEN);

    post(&one, FORM, b"").await;
    assert_eq!(state("one@example.org").await, "weekly confirmed");
    post(&two, FORM, b"list=weekly&list=unknown").await;
    assert_eq!(
        state("two@example.org").await,
        "offers open, weekly confirmed"
    );
    assert_eq!(
        read(&post(&two, FORM, b"").await),
        read(&app.open(&two).await)
    );
    assert_eq!(
        state("two@example.org").await,
        "offers open, weekly confirmed"
    );
    post(&two, FORM, b"list=weekly&list=offers").await;
    assert_eq!(
        state("two@example.org").await,
        "offers confirmed, weekly confirmed"
    );
    let [three, _] = fresh(&app, "three@example.org", &["weekly", "offers"]).await;
    post(&three, FORM, b"list=offers&x=y&list=weekly").await;
    assert_eq!(
        state("three@example.org").await,
        "offers confirmed, weekly confirmed"
    );
    let [four, _] = fresh(&app, "four@example.org", &["weekly", "offers"]).await;
    post(&four, FORM, b"list=all").await;
    assert_eq!(
        state("four@example.org").await,
        "offers confirmed, weekly confirmed"
    );

    // Repeats, also at once: one event each.
    let before = app.dump().await;
    for body in [&b""[..], b"list=all", b"list=weekly"] {
        for link in [&one, &two, &three, &four] {
            post(link, FORM, body).await;
        }
    }
    assert_eq!(app.dump().await, before);
    let [five, _] = fresh(&app, "five@example.org", &["weekly", "offers"]).await;
    let mut presses = tokio::task::JoinSet::new();
    for form in ["list=all", "list=weekly", "list=offers", "list=all"].repeat(6) {
        let (addr, target) = (app.addr, path(&five).to_owned());
        presses.spawn(async move {
            send(addr, "POST", &target, &[], form.as_bytes())
                .await
                .status
        });
    }
    assert!(presses.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(app.event_counts().await["subscription.confirmed"], 9);
});

both!(a_body_that_breaks_off_confirms_nothing, |db| {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let app = TestApp::start(db).await;
    let [one, _] = fresh(&app, "one@example.org", &["weekly"]).await;
    let before = app.dump().await;
    for body in ["", "list=weekly", "list=weekly&List-Unsub"] {
        let mut stream = tokio::net::TcpStream::connect(app.addr)
            .await
            .expect("a connection");
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: lists.acme.example\r\ncontent-length: 26\r\n\r\n{body}",
            path(&one)
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("closed");
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(app.dump().await, before, "{body}");
    }
});

both!(
    mails_follow_a_yes_and_a_goodbye_where_the_list_wants_them,
    |db| {
        let app = TestApp::with(db, &with(&[MORE]), "").await;
        let subjects = async |email: &str| {
            app.deliver().await;
            let mails = app.mailbox(email);
            let subjects = mails
                .iter()
                .skip(1)
                .map(|mail| mail.header("subject").to_owned());
            subjects.collect::<Vec<_>>()
        };
        // A welcome for the list that greets, once; none for the other.
        let [confirm, _] = fresh(&app, "greeted@example.org", &["greeted", "weekly"]).await;
        app.press(&confirm, "list=all").await;
        app.press(&confirm, "list=all").await;
        let text = match app.db {
            Db::Sqlite => "lists",
            Db::Postgres => "lists::text",
        };
        let greeted = format!("select {text} from message where kind = 'welcome'");
        let greeted = app.sql(&greeted).await;
        assert_eq!(greeted.len(), 1, "{greeted:?}");
        assert!(
            greeted[0].contains("greeted") && !greeted[0].contains("weekly"),
            "{greeted:?}"
        );
        assert_eq!(subjects("greeted@example.org").await.len(), 1);

        // A goodbye after the page, once.
        let page = subscribed(&app, "page@example.org", &["weekly"]).await;
        let done = app.press(&page, "by=page").await;
        assert!(read(&done).contains("We send one last mail that confirms it."));
        app.press(&page, "by=page").await;
        assert_eq!(
            subjects("page@example.org").await,
            ["You are unsubscribed: Weekly news (Acme B.V.)"]
        );
        app.pass(49 * HOUR);
        app.press(&page, "by=page").await;
        assert_eq!(subjects("page@example.org").await.len(), 1, "not twice");

        // None after one-click, none from the "no" link, none where the list wants none.
        let click = subscribed(&app, "click@example.org", &["weekly"]).await;
        app.one_click(&click).await;
        app.press(&click, "by=page").await;
        assert!(subjects("click@example.org").await.is_empty());
        let [confirm, decline] = fresh(&app, "decline@example.org", &["weekly"]).await;
        app.press(&confirm, "").await;
        app.press(&decline, "reason=no").await;
        assert!(subjects("decline@example.org").await.is_empty());
        let none = subscribed(&app, "none@example.org", &["offers"]).await;
        let done = app.press(&none, "by=page").await;
        assert!(read(&done).contains("We send no mail about it."));
        assert!(subjects("none@example.org").await.is_empty());
    }
);

both!(
    every_page_has_its_headers_and_nothing_from_elsewhere,
    |db| {
        let app = TestApp::with(db, &with(&[MORE]), "").await;
        let links = every_link(&app).await;
        let mut hostile = 0;
        for (name, link) in &links {
            for method in ["GET", "HEAD"] {
                let page = send(app.addr, method, path(link), &[], b"").await;
                assert_page(&page);
                let wanted: &[u16] = match *name {
                    "c again" => &[405],
                    name if name.ends_with("forged") || name.ends_with("cut") => &[404],
                    "c erased" | "c unknown" | "r erased" | "r unknown" => &[404],
                    "c swept" | "c expired" => &[410],
                    "c renewed" => &[410],
                    _ => &[200],
                };
                assert!(
                    wanted.contains(&page.status),
                    "{method} {name}: {}",
                    page.status
                );
                // The title is words, not markup, wherever it stands: in text and in attributes.
                hostile += usize::from(page.body.contains("&lt;script&gt;alert(1)"));
                for raw in ["alert(1)</", "& \"News", "<b>gladly"] {
                    assert!(!page.body.contains(raw), "{name}: {raw}");
                }
            }
        }
        assert!(hostile >= 2, "the hostile title was shown");
        for target in [
            "/",
            "/c",
            "/c/",
            "/nothing",
            "/u",
            "/p",
            "/r",
            "/r/",
            "/favicon.ico",
        ] {
            let page = send(app.addr, "GET", target, &[], b"").await;
            assert_page(&page);
            assert_eq!(page.status, 404, "{target}");
        }
        let put = send(app.addr, "PUT", &forged("/u/"), &[], b"").await;
        assert_page(&put);
        assert_eq!(put.status, 405);
        // Confirming on it shows words of consent, escaped.
        let [confirm, _] = fresh(&app, "words@example.org", &["greeted"]).await;
        let page = app.open(&confirm).await;
        assert!(
            page.body.contains("Yes &amp; &lt;b&gt;gladly&lt;"),
            "{}",
            page.body
        );
        assert!(read(&page).contains("</p><script>alert(1)</script> & \"News\""));
    }
);
