//! The receipt: what a person agreed to, for their own eyes, in every state, and never more than that.

use std::time::Duration;

use confirmd::domain::consent::{Action, Hash};
use confirmd::domain::frequency::{Frequency, Unit};
use confirmd::domain::list::{Authority, Class, ConfirmBy};
use confirmd::domain::time::Timestamp;
use confirmd::template::{AgreedList, ListFace, ReceiptPage, SenderFace, Templates};
use confirmd::token::Purpose;
use serde_json::{Value, json};

use crate::support::app::{LISTS, TestApp, both, path, signup};
use crate::support::http::{Response, send};
use crate::support::links::{
    A_LIFE, BY_LINK, MORE, asked, assert_page, erase, forged, fresh, leave_link, put_in_force,
    read, receipt_link, receipt_of, unknown, with,
};

const HOUR: Duration = Duration::from_secs(3600);
const WORDS: &str = "Yes, mail me the weekly news of Acme B.V.";

/// What a page says, without the number that is another in each run.
fn told(page: &Response) -> String {
    let text = read(page);
    let lines = text.lines().map(
        |line| match line.len() == 36 && line[8..].starts_with('-') {
            true => "(the id of the signup)",
            false => line,
        },
    );
    lines.collect::<Vec<_>>().join("\n")
}

/// The usual lists and these, of a sender that is not at Greenwich.
fn zoned(more: &[&str]) -> String {
    let zone = "time_zone = \"Europe/Amsterdam\"\nfrom = ";
    with(more).replacen("from = ", zone, 1)
}

/// Asserts that a page says something.
#[track_caller]
fn says(page: &Response, words: &str) {
    let text = read(page);
    assert!(text.contains(words), "no {words:?} in:\n{text}");
}

/// Asserts that it does not.
#[track_caller]
fn never_says(page: &Response, words: &str) {
    let text = read(page);
    assert!(!text.contains(words), "{words:?} in:\n{text}");
}

/// Signs up with these facts, has the mail sent and returns its confirm link.
async fn asked_with(app: &TestApp, body: &Value) -> String {
    let answer = app.post_signup(body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    app.deliver().await;
    let mails = app.mailbox(body["email"].as_str().expect("an address"));
    mails.last().expect("a mail arrived").confirm()
}

both!(a_receipt_says_what_was_agreed_to, |db| {
    let lists = zoned(&[]).replacen(
        "from = ",
        "imprint = [\"KvK 12345678\"]\ndpo = \"dpo@acme.example\"\nfrom = ",
        1,
    );
    let app = TestApp::with(db, &lists, "").await;
    for language in ["en", "nl"] {
        let email = format!("anna.{language}@example.org");
        let [confirm, _] = asked(&app, &email, &["weekly"], language).await;
        app.pass(Duration::from_secs(125));
        let done = app.press(&confirm, "").await;
        let receipt = receipt_link(&done);
        assert_eq!(path(&receipt), receipt_of(&app, &confirm));
        assert!(receipt.starts_with("https://lists.acme.example/r/"));
        app.pass(HOUR);
        let page = app.open(&receipt).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-language"), Some(language));
        insta::assert_snapshot!(format!("receipt_{language}"), told(&page));
        let signup = format!("select s.id from signup s where s.email = '{email}'");
        let id = match app.db {
            crate::support::app::Db::Sqlite => signup.replace("s.id", "lower(hex(s.id))"),
            crate::support::app::Db::Postgres => signup.replace("s.id", "s.id::text"),
        };
        let id = app.sql(&id).await.remove(0).replace('-', "");
        assert!(page.body.replace('-', "").contains(&id), "its number");
        // Numbered or not, the trail tells the same.
        app.sequence().await;
        assert_eq!(read(&app.open(&receipt).await), read(&page));
        let leave = app.unsubscribe_links(&page).remove(0);
        says(
            &app.open(&leave).await,
            match language {
                "en" => "Unsubscribe me",
                _ => "Schrijf me uit",
            },
        );
        app.pass(HOUR * 12);
    }
});

both!(a_receipt_names_nobody, |db| {
    let app = TestApp::with(
        db,
        LISTS,
        "[evidence]\nip = \"full\"\nuser_agent = \"full\"",
    )
    .await;
    let mut body = signup("quintessa.o@mailhost.example", &["weekly"]);
    body["ref"] = "opaque-reference".into();
    body["attributes"] = json!({ "plan": "platinum" });
    body["consent"] = json!({
        "action": "form",
        "source": "https://acme.example/news?who=Quintessa.O%40mailhost.example",
        "ip": "198.51.100.77",
        "user_agent": "Wanderer/7.3 (X11)",
        "challenge": "turnstile passed",
    });
    let confirm = asked_with(&app, &body).await;
    let kept = app.sql("select email from signup").await;
    assert_eq!(kept, ["quintessa.o@mailhost.example"]);
    let dump = app.dump().await;
    for kept in ["198.51.100.77", "Wanderer/7.3", "turnstile"] {
        assert!(dump.contains(kept), "{kept} is kept, and could be shown");
    }
    app.press(&confirm, "").await;
    app.sequence().await;
    let page = app.open(&receipt_of(&app, &confirm)).await;
    says(&page, "https://acme.example/news\n");
    says(&page, "you sent a form that serves nothing else");
    let mail = app.mailbox("quintessa.o@mailhost.example").remove(0);
    let message_id = mail.header("message-id").trim_matches(['<', '>']);
    let (local, _) = message_id.split_once('@').expect("a Message-ID");
    let key = app.flows.keys().links.signing().to_string();
    let boundary = mail.header("content-type").split('"').nth(1);
    let low = page.body.to_lowercase();
    for never in [
        "quintessa",
        "mailhost",
        "198.51",
        "wanderer",
        "x11",
        "turnstile",
        "opaque-reference",
        "platinum",
        local,
        &key,
        boundary.expect("a boundary"),
        "relay",
    ] {
        assert!(
            !low.contains(&never.to_lowercase()),
            "{never}: {}",
            read(&page)
        );
    }
    // What the relay answered. A hash may have these digits in it.
    let mut words = low.split(|c: char| !c.is_alphanumeric());
    assert!(words.all(|word| word != "250"), "{}", read(&page));
});

both!(a_receipt_says_what_became_of_it, |db| {
    let app = TestApp::with(db, &zoned(&[MORE]), "").await;
    let receipt = async |confirm: &str| app.open(&receipt_of(&app, confirm)).await;

    // Nothing is agreed to yet, or never was.
    let [open, _] = fresh(&app, "open@example.org", &["weekly", "offers"]).await;
    let page = receipt(&open).await;
    says(&page, "Nothing is agreed to yet");
    says(&page, "You have not confirmed “Offers” and “Weekly news”.");
    never_says(&page, WORDS);
    app.press(&open, "list=weekly").await;
    let page = receipt(&open).await;
    says(&page, "What you agreed to");
    says(&page, WORDS);
    says(&page, "Offers: not confirmed yet");
    never_says(&page, "Yes, mail me offers");
    app.pass(A_LIFE);
    says(&receipt(&open).await, "Offers: not confirmed in time");
    app.sweep().await;
    says(&receipt(&open).await, "Offers: not confirmed in time");

    let [expired, _] = fresh(&app, "expired@example.org", &["weekly"]).await;
    app.pass(A_LIFE);
    let unswept = receipt(&expired).await;
    says(&unswept, "Nothing was agreed to");
    says(&unswept, "“Weekly news”: not confirmed in time.");
    app.sweep().await;
    assert_eq!(read(&receipt(&expired).await), read(&unswept));

    let [declined, no] = fresh(&app, "no@example.org", &["weekly"]).await;
    app.press(&no, "reason=no").await;
    let page = receipt(&declined).await;
    says(&page, "Nothing was agreed to");
    says(&page, "You said no to “Weekly news”.");

    let body = signup("withheld@example.org", &["weekly"]);
    let first = asked_with(&app, &body).await;
    app.pass(Duration::from_secs(60));
    app.post_signup(&body).await;
    app.deliver().await;
    let again = receipts_of(&app, "withheld@example.org").await;
    let page = app.open(&again[1]).await;
    says(
        &page,
        "No mail that asks you to confirm “Weekly news” reached you.",
    );
    app.press(&first, "").await;
    says(&app.open(&again[0]).await, WORDS);

    // Agreed to before: the later signup changed nothing, and its page leads to the receipt of the one that did.
    app.pass(HOUR);
    let [one, _] = fresh(&app, "before@example.org", &["weekly"]).await;
    app.pass(HOUR);
    let [two, _] = fresh(&app, "before@example.org", &["weekly"]).await;
    app.press(&one, "").await;
    let done = app.press(&two, "").await;
    says(
        &receipt(&two).await,
        "“Weekly news”: you had agreed to this before",
    );
    assert_eq!(path(&receipt_link(&done)), receipt_of(&app, &one));

    // Ended, however it did.
    let [left, _] = fresh(&app, "left@example.org", &["weekly"]).await;
    app.press(&left, "").await;
    says(&receipt(&left).await, "you are subscribed, since");
    let leave = leave_link(&app, &left).await;
    app.pass(HOUR);
    app.one_click(&leave).await;
    let at = written(&app);
    let untold = receipt(&left).await;
    says(&untold, "It has ended");
    says(
        &untold,
        &format!("it held until {at}: then you unsubscribed"),
    );
    says(&untold, WORDS);
    assert!(app.unsubscribe_links(&untold).is_empty());
    app.sequence().await;
    assert_eq!(read(&receipt(&left).await), read(&untold));
    // A later objection does not lengthen it.
    app.pass(HOUR);
    let now = match app.db {
        crate::support::app::Db::Sqlite => app.clock.now().as_micros().to_string(),
        crate::support::app::Db::Postgres => format!("'{}'", app.clock.now()),
    };
    let objected = "update subscription set state = 'objected', since = ";
    let of = "where subscriber in (select id from subscriber where email = 'left@example.org')";
    app.execute(&format!("{objected}{now} {of}"))
        .await
        .expect("an update");
    assert_eq!(read(&receipt(&left).await), read(&untold));
    // Nor does a new consent: it has a receipt of its own.
    app.pass(HOUR);
    let [back, _] = fresh(&app, "left@example.org", &["weekly"]).await;
    app.press(&back, "").await;
    app.sequence().await;
    let page = receipt(&left).await;
    says(&page, &format!("it held until {at}: then you unsubscribed"));
    says(
        &page,
        &format!("you are subscribed again, since {}", written(&app)),
    );
    assert_eq!(app.unsubscribe_links(&page).len(), 1);
    says(&receipt(&back).await, "you are subscribed, since");
    never_says(&receipt(&back).await, "held until");

    for (state, words) in [
        ("objected", "then you objected to such mail"),
        (
            "undeliverable",
            "then mail to you could no longer be delivered",
        ),
        ("lapsed", "then its validity ended"),
    ] {
        let email = format!("{state}@example.org");
        let [confirm, _] = fresh(&app, &email, &["weekly"]).await;
        app.press(&confirm, "").await;
        let of = format!("subscriber in (select id from subscriber where email = '{email}')");
        let set = format!("update subscription set state = '{state}', since = {now} where {of}");
        app.execute(&set).await.expect("an update");
        app.sequence().await;
        says(&receipt(&confirm).await, words);
    }

    // Closed since: still agreed to, still to be left.
    let [closed, _] = fresh(&app, "closed@example.org", &["gone"]).await;
    app.press(&closed, "").await;
    let [waits, _] = fresh(&app, "waits@example.org", &["gone"]).await;
    put_in_force(&app, &zoned(&[])).await;
    let page = receipt(&closed).await;
    says(&page, "The sender has ended this since.");
    assert_eq!(app.unsubscribe_links(&page).len(), 1);
    says(&receipt(&waits).await, "The sender has ended “Gone”.");

    // Nothing is kept, or never was; and what is no link of ours.
    let [gone, _] = fresh(&app, "gone@example.org", &["weekly"]).await;
    app.press(&gone, "").await;
    let link = receipt_of(&app, &gone);
    says(&app.open(&link).await, WORDS);
    erase(&app, "gone@example.org", true).await;
    let page = app.open(&link).await;
    assert_eq!(page.status, 404);
    says(&page, "Nothing about you stands behind this link");
    let never = app.open(&unknown(&app, Purpose::Receipt)).await;
    assert_eq!(read(&never), read(&page));
    let bad = app.open(&forged("/r/")).await;
    assert_eq!(read(&bad), read(&app.open(&forged("/c/")).await));
    for wrong in [path(&gone).replace("/c/", "/r/"), format!("{link}/again")] {
        assert_eq!(read(&app.open(&wrong).await), read(&bad));
    }
});

/// The receipt links of an address's signups, oldest first.
async fn receipts_of(app: &TestApp, email: &str) -> Vec<String> {
    let mut tx = app.flows.pool.read().await.expect("a database");
    let sender = "acme".parse().expect("a name");
    let address = confirmd::domain::address::Address::parse(email).expect("an address");
    let keys = app.flows.keys();
    let identity = keys.pepper.identity(&sender, &address);
    let person = tx
        .subscriber_at(&sender, identity)
        .await
        .expect("a database");
    let signups = tx.signups_of(person.expect("somebody").id).await;
    let links = signups.expect("a database").into_iter().map(|signup| {
        let token = keys
            .links
            .sign(keys.links.signing(), Purpose::Receipt, signup.id.0, None);
        format!("/r/{}", token.expect("a key"))
    });
    links.collect()
}

/// Now, as a receipt writes it.
fn written(app: &TestApp) -> String {
    let now = app
        .clock
        .now()
        .to_jiff()
        .in_tz("Europe/Amsterdam")
        .expect("a zone");
    let now = now.strftime("%-d %B %Y at %H:%M:%S (Europe/Amsterdam, %:z)");
    now.to_string()
}

both!(a_receipt_knows_which_words_were_shown, |db| {
    let app = TestApp::start(db).await;
    let hash = |words: &str| Hash::of(words.as_bytes()).to_string();
    let dutch = "Ja, mail mij het weekbericht van Acme B.V.";
    let offers = "Yes, mail me offers of Acme B.V.";
    let shown = async |email: &str, named: Value| {
        let mut body = signup(email, &["weekly", "offers"]);
        for (name, value) in named.as_object().expect("an object") {
            body["consent"][name] = value.clone();
        }
        let confirm = asked_with(&app, &body).await;
        app.press(&confirm, "list=weekly").await;
        app.open(&receipt_of(&app, &confirm)).await
    };
    let page = shown("none@example.org", json!({})).await;
    says(
        &page,
        &format!("{WORDS}\nSHA-256 of the words\n{}", hash(WORDS)),
    );
    says(
        &page,
        "Words at signup\nnot reported; this record rests on the words of the mail",
    );
    for named in [
        json!({ "text": WORDS }),
        json!({ "text_sha256": hash(WORDS) }),
    ] {
        let email = format!("same.{}@example.org", named.to_string().len());
        let page = shown(&email, named).await;
        says(&page, "Words at signup\nthe same, as the form reported");
        never_says(&page, "The form showed you this");
    }
    let page = shown("dutch@example.org", json!({ "text": dutch })).await;
    says(
        &page,
        &format!("The form showed you this, as was reported to us\n{dutch}"),
    );
    says(
        &page,
        &format!("SHA-256 of the words of the form\n{}", hash(dutch)),
    );
    assert!(
        page.body
            .contains(&format!("<blockquote dir=\"auto\" lang=\"nl\">{dutch}"))
    );
    let page = shown("offers@example.org", json!({ "text": offers })).await;
    says(&page, "Words at signup\nnot reported");
    never_says(&page, offers);

    // Words, frequency and sender of the signup stay, whatever is in force now; whom to turn to is who it is now.
    let confirm = asked_with(&app, &signup("before@example.org", &["weekly"])).await;
    app.press(&confirm, "").await;
    let changed = LISTS
        .replace(WORDS, "Yes, mail me everything.")
        .replace(
            "frequency = \"P7D\"",
            "frequency = \"P1D\"\nrevision = 2\nchange = \"editorial\"",
        )
        .replace("Keizersgracht 1", "Herengracht 9")
        .replace("privacy@acme.example", "new@acme.example");
    put_in_force(&app, &changed).await;
    let page = app.open(&receipt_of(&app, &confirm)).await;
    says(&page, WORDS);
    says(&page, "every week");
    says(&page, "Keizersgracht 1");
    says(&page, "Questions\nprivacy@acme.example");
    says(
        &page,
        "turn to Acme B.V.:\n[new@acme.example] -> mailto:new@acme.example",
    );
    for later in ["everything", "every day", "Herengracht"] {
        never_says(&page, later);
    }
    // A form that still shows the old words.
    let body = signup("old@example.org", &["weekly"]);
    let mut body = body;
    body["consent"]["text"] = WORDS.into();
    let confirm = asked_with(&app, &body).await;
    app.press(&confirm, "").await;
    let page = app.open(&receipt_of(&app, &confirm)).await;
    says(&page, "You agreed to this\nYes, mail me everything.");
    says(&page, &format!("as was reported to us\n{WORDS}"));
});

both!(a_receipt_names_nobody_in_whichever_spelling, |db| {
    let app = TestApp::start(db).await;
    let mut body = signup("idn@bücher.example", &["weekly"]);
    for (n, (source, shown)) in [
        (
            "/news?email=idn@bücher.example",
            "https://acme.example/news",
        ),
        (
            "/news?email=idn%40b%C3%BCcher.example",
            "https://acme.example/news",
        ),
        ("/news#idn@BÜCHER.example", "https://acme.example/news"),
        ("/for/idn@bücher.example/news", "https://acme.example"),
        ("/for/idn%2540bu%CC%88cher.example", "https://acme.example"),
    ]
    .into_iter()
    .enumerate()
    {
        app.pass(HOUR * 24);
        body["consent"]["source"] = format!("https://acme.example{source}")
            .replace("idn", &format!("idn{n}"))
            .into();
        body["email"] = format!("idn{n}@bücher.example").into();
        let answer = app.post_signup(&body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        app.deliver().await;
        let to = format!("idn{n}@xn--bcher-kva.example");
        let confirm = app.mailbox(&to).remove(0).confirm();
        app.press(&confirm, "").await;
        let page = app.open(&receipt_of(&app, &confirm)).await;
        says(&page, &format!("Where\n{shown}\n"));
        never_says(&page, "idn");
    }
});

both!(a_receipt_says_when_and_how, |db| {
    let app = TestApp::with(db, &zoned(&[BY_LINK]), "").await;
    // The act, in words; the place, which is text and no link.
    for (action, words) in [
        ("checkbox", "you ticked a box that was empty before"),
        ("button", "you pressed a button that said what it does"),
        ("form", "you sent a form that serves nothing else"),
        ("oral", "you said so"),
        ("paper", "you wrote or signed it on paper"),
    ] {
        let mut body = signup(&format!("{action}@example.org"), &["weekly"]);
        body["consent"]["action"] = action.into();
        body["consent"]["source"] = "https://evil.example/<b>\"&\"</b>".into();
        let confirm = asked_with(&app, &body).await;
        app.press(&confirm, "").await;
        let page = app.open(&receipt_of(&app, &confirm)).await;
        says(&page, &format!("What you did\n{words}"));
        says(&page, "Where\nhttps://evil.example/<b>\"&\"</b>");
        assert!(!page.body.contains("href=\"https://evil.example") && !page.body.contains("/<b>"));
    }

    // Each time is told by itself.
    let mut body = signup("times@example.org", &["weekly"]);
    let given = app.clock.now() - HOUR * 30;
    body["consent"]["at"] = given.to_string().into();
    assert_eq!(app.post_signup(&body).await.status, 202);
    let reached = written(&app);
    app.pass(Duration::from_secs(61));
    app.deliver().await;
    let sent = written(&app);
    let confirm = app.mailbox("times@example.org").remove(0).confirm();
    app.pass(Duration::from_secs(62));
    app.press(&confirm, "").await;
    let pressed = written(&app);
    app.pass(HOUR);
    let page = app.open(&receipt_of(&app, &confirm)).await;
    says(
        &page,
        "Asked\n22 November 2026 at 04:00:00 (Europe/Amsterdam, +01:00)",
    );
    says(&page, &format!("Reached us\n{reached}"));
    says(&page, &format!("Confirmation mail\nsent on {sent}"));
    says(
        &page,
        &format!("Confirmed\n{pressed}, with the button on the page"),
    );
    says(&page, &format!("you are subscribed, since {pressed}"));
    let lost = "update message set state = 'unknown' where kind = 'confirmation'";
    app.execute(lost).await.expect("an update");
    let page = app.open(&receipt_of(&app, &confirm)).await;
    says(
        &page,
        &format!("made on {sent}; when it was sent is not recorded"),
    );

    // Asked for once more after the link had expired: the act was the first one.
    let [old, _] = fresh(&app, "again@example.org", &["weekly"]).await;
    let first = written(&app);
    app.pass(A_LIFE);
    app.sweep().await;
    assert_eq!(app.press(&format!("{old}/again"), "").await.status, 200);
    let once_more = written(&app);
    app.deliver().await;
    let new = app.mailbox("again@example.org").remove(1).confirm();
    app.press(&new, "").await;
    let page = app.open(&receipt_of(&app, &new)).await;
    says(&page, &format!("Asked\n{first}"));
    says(&page, &format!("New mail asked for\n{once_more}"));

    // A link that confirms by itself proves less, and until the trail tells which it was nothing is claimed.
    let [instant, _] = fresh(&app, "instant@example.org", &["instant"]).await;
    let page = app.open(&instant).await;
    let receipt = receipt_link(&page);
    says(&app.open(&receipt).await, ", with the link in your mail");
    app.sequence().await;
    let page = app.open(&receipt).await;
    says(
        &page,
        "by opening the link in your mail, which does not prove that a person did it",
    );
    let [pressed, _] = fresh(&app, "pressed@example.org", &["instant"]).await;
    app.press(&pressed, "").await;
    app.sequence().await;
    let page = app.open(&receipt_of(&app, &pressed)).await;
    says(&page, "with the button on the page behind the link");
});

both!(a_receipt_is_only_ever_read, |db| {
    let app = TestApp::start(db).await;
    let [confirm, _] = fresh(&app, "anna@example.org", &["weekly", "offers"]).await;
    let done = app.press(&confirm, "list=weekly").await;
    let receipt = receipt_link(&done);
    says(
        &done,
        "[Keep a receipt of what you agreed to] -> https://lists.acme.example/r/*",
    );
    app.press(&confirm, "list=offers").await;
    assert_eq!(
        receipt_link(&app.open(&confirm).await),
        receipt,
        "confirmed before"
    );
    let before = app.dump().await;
    let page = app.open(&receipt).await;
    assert_page(&page);
    let titles = page.body.matches("<h2 dir=\"auto\">Offers</h2>").count()
        + page
            .body
            .matches("<h2 dir=\"auto\">Weekly news</h2>")
            .count();
    assert_eq!(titles, 2);
    assert_eq!(app.unsubscribe_links(&page).len(), 2);
    assert!(!page.body.contains("<form"), "nothing to press");
    assert!(page.body.contains("@media print"));
    let head = send(app.addr, "HEAD", path(&receipt), &[], b"").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = send(
            app.addr,
            method,
            path(&receipt),
            &[],
            b"List-Unsubscribe=One-Click",
        )
        .await;
        assert_page(&answer);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method}");
    }
    assert_eq!(app.dump().await, before);
});

#[test]
fn a_receipt_for_fifty_lists_has_a_page() {
    let at = Timestamp::from_seconds(1_795_424_700);
    let sender = SenderFace {
        name: "Acme B.V.".to_owned(),
        address: "Keizersgracht 1".to_owned(),
        contact: "privacy@acme.example".to_owned(),
        contact_url: None,
        privacy_url: "https://acme.example/privacy".to_owned(),
        authority: Authority {
            name: "AP".to_owned(),
            url: "https://ap.example".to_owned(),
        },
        imprint: vec!["KvK".to_owned(); 9],
        dpo: Some("dpo@acme.example".to_owned()),
        time_zone: "Europe/Amsterdam".to_owned(),
    };
    let one = AgreedList {
        list: ListFace {
            id: "weekly".to_owned(),
            title: "Weekly news".to_owned(),
            words: WORDS.to_owned(),
            lang: "en".parse().expect("a language"),
            frequency: Some(Frequency {
                count: 1,
                unit: Unit::Week,
            }),
        },
        sha256: Hash::of(WORDS.as_bytes()),
        other_words: None,
        reported: true,
        purpose: Class::Marketing,
        confirmed_at: at,
        by: Some(ConfirmBy::Button),
        ended: None,
        subscribed_since: Some(at),
        eligible: true,
        restricted_at: Some(at),
        closed: true,
        unsubscribe_url: Some("https://lists.acme.example/u/*".to_owned()),
    };
    let page = ReceiptPage {
        sender: sender.clone(),
        asked_by: sender,
        id: "019364a0-8a3f-7000-8000-000000000001".to_owned(),
        asked_at: at,
        received_at: Some(at),
        again_at: Some(at),
        action: Action::Checkbox,
        source: "https://acme.example/news".to_owned(),
        mailed: None,
        agreed: vec![one; 50],
        other: Vec::new(),
    };
    let templates = Templates::load(None).expect("templates");
    for language in ["en", "nl"] {
        let html = templates.page(&language.parse().expect("a language"), &page);
        assert_eq!(html.expect("a page").matches(WORDS).count(), 50);
    }
}
