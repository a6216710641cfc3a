//! Links in every state, and the pages behind them as a person reads them.

use std::time::Duration;

use confirmd::domain::id::{SignupId, SubscriptionId};
use confirmd::flow::register::register;
use confirmd::token::Purpose;
use uuid::Uuid;

use super::app::{LISTS, TestApp, path, signup};
use super::http::Response;
use super::mail;

/// Lists for what the usual ones do not do: greet, be closed, have a hostile title.
pub const MORE: &str = r#"
[lists.greeted]
sender = "acme"
title = { en = "</p><script>alert(1)</script> & \"News\"" }
consent = { en = "Yes & <b>gladly</b>" }
welcome = true
[lists.gone]
sender = "acme"
title = { en = "Gone" }
consent = { en = "Yes, mail me what is gone." }
signup_url = "https://acme.example/gone"
[lists.gone_too]
sender = "acme"
title = { en = "Gone too" }
consent = { en = "Yes, mail me what is gone too." }
"#;

/// A list whose link confirms without a button.
pub const BY_LINK: &str = r#"
[lists.instant]
sender = "acme"
title = { en = "Instant" }
consent = { en = "Yes, mail me at once." }
confirm = "link"
"#;

/// Longer than any confirm link lives here.
pub const A_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);

/// Returns the usual lists and these.
pub fn with(more: &[&str]) -> String {
    format!("{LISTS}{}", more.concat())
}

/// Puts other lists in force, as a reload does; those that are missing are closed.
pub async fn put_in_force(app: &TestApp, lists: &str) {
    let catalog = app.config(lists, "").catalog();
    let in_force = register(&app.flows.pool, catalog, app.clock.now()).await;
    app.flows.set_in_force(in_force.expect("lists"));
}

/// Erases a person row by row, with or without a tombstone for the old links.
pub async fn erase(app: &TestApp, email: &str, tombstone: bool) {
    let of = format!("select id from subscriber where email = '{email}'");
    let keep = "insert into tombstone (subscription, sender, list, identity, erased_at)
        select s.id, p.sender, s.list, p.identity, s.since
        from subscription s join subscriber p on p.id = s.subscriber";
    if tombstone {
        let keep = format!("{keep} where p.email = '{email}'");
        assert_ne!(app.execute(&keep).await.expect("a tombstone"), 0);
    }
    for statement in [
        format!("delete from message where subscriber in ({of})"),
        format!("delete from subscription where subscriber in ({of})"),
        format!(
            "delete from signup_list where signup in (select id from signup where subscriber in ({of}))"
        ),
        format!("delete from signup where subscriber in ({of})"),
        format!("delete from subscriber where email = '{email}'"),
    ] {
        app.execute(&statement).await.expect("an erasure");
    }
}

/// Signs up in a language and returns the mail's links: confirm and "no".
pub async fn asked(app: &TestApp, email: &str, lists: &[&str], locale: &str) -> [String; 2] {
    let mut body = signup(email, lists);
    body["locale"] = locale.into();
    let answer = app.post_signup(&body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    app.deliver().await;
    let mail = app.mailbox(email).pop().expect("a mail arrived");
    [mail.confirm(), mail.decline()]
}

/// Signs up in English and returns the mail's links: confirm and "no".
pub async fn fresh(app: &TestApp, email: &str, lists: &[&str]) -> [String; 2] {
    asked(app, email, lists, "en").await
}

/// Subscribes and returns the unsubscribe link of the first list on the result page.
pub async fn subscribed(app: &TestApp, email: &str, lists: &[&str]) -> String {
    let [confirm, _] = fresh(app, email, lists).await;
    app.press(&confirm, "list=all").await;
    leave_link(app, &confirm).await
}

/// Returns the first unsubscribe link of the page behind a used confirm link.
pub async fn leave_link(app: &TestApp, confirm: &str) -> String {
    let page = app.open(confirm).await;
    let links = app.unsubscribe_links(&page);
    links.into_iter().next().expect("a way out")
}

/// Returns the receipt that a page leads to, and notes it as a secret.
pub fn receipt_link(page: &Response) -> String {
    let mut links = mail::links(&page.body, "/r/");
    assert_eq!(links.len(), 1, "one receipt: {}", read(page));
    links.remove(0)
}

/// Makes the receipt link of a signup, confirmed or not, from its confirm link.
pub fn receipt_of(app: &TestApp, confirm: &str) -> String {
    let links = &app.flows.keys().links;
    let claims = links.verify(Purpose::Confirm, &path(confirm)[3..]);
    let signup = claims.expect("a confirm link").subject;
    let token = links.sign(links.signing(), Purpose::Receipt, signup, None);
    let link = format!("/r/{}", token.expect("a key"));
    mail::links(&link, "/r/");
    link
}

/// Makes a genuine link to something that never was.
pub fn unknown(app: &TestApp, purpose: Purpose) -> String {
    let id = Uuid::from_u128(0x0192_0000_7000_7abc_8def_0123_4567_89ab);
    let subject = match purpose {
        Purpose::Unsubscribe => SubscriptionId(id).0,
        _ => SignupId(id).0,
    };
    let links = &app.flows.keys().links;
    let token = links.sign(links.signing(), purpose, subject, None);
    let link = format!("{}{}", purpose.path(), token.expect("a key"));
    mail::links(&link, purpose.path());
    link
}

/// Returns a link with another token.
pub fn forged(kind: &str) -> String {
    format!("{kind}{}", "A".repeat(62))
}

/// Returns links of every kind in every state, with a name each. Needs [`MORE`]; no GET of them may write.
pub async fn every_link(app: &TestApp) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut both = |names: [&'static str; 2], [confirm, decline]: [String; 2]| {
        let receipt: &'static str = names[0].replacen('c', "r", 1).leak();
        all.push((receipt, receipt_of(app, &confirm)));
        all.extend([(names[0], confirm), (names[1], decline)]);
    };

    let swept = fresh(app, "swept@example.org", &["weekly"]).await;
    let half = fresh(app, "half@example.org", &["weekly", "offers"]).await;
    app.press(&half[0], "list=weekly").await;
    let renewed = fresh(app, "renewed@example.org", &["weekly"]).await;
    app.pass(A_LIFE);
    app.sweep().await;
    let again = format!("{}/again", renewed[0]);
    assert_eq!(app.press(&again, "").await.status, 200);
    app.deliver().await;
    both(["c swept", "d swept"], swept);
    both(["c partly expired", "d partly expired"], half);
    both(["c renewed", "d renewed"], renewed);
    let expired = fresh(app, "expired@example.org", &["weekly"]).await;
    app.pass(A_LIFE);
    both(["c expired", "d expired"], expired);

    let one = fresh(app, "one@example.org", &["weekly"]).await;
    both(["c fresh", "d fresh"], one);
    let several = fresh(app, "several@example.org", &["weekly", "offers"]).await;
    both(["c fresh, several", "d fresh, several"], several);
    let partly = fresh(app, "partly@example.org", &["weekly", "offers"]).await;
    app.press(&partly[0], "list=weekly").await;
    both(["c partly confirmed", "d partly confirmed"], partly);
    let declined = fresh(app, "no@example.org", &["weekly"]).await;
    app.press(&declined[1], "reason=no").await;
    both(["c declined", "d declined"], declined);
    let not_me = fresh(app, "notme@example.org", &["weekly"]).await;
    app.press(&not_me[1], "reason=not_me").await;
    both(["c not me", "d not me"], not_me);
    let everywhere = fresh(app, "everywhere@example.org", &["weekly"]).await;
    app.one_click(&everywhere[1]).await;
    app.press(&everywhere[1], "hold=all").await;
    both(["c held", "d held"], everywhere);
    let lifted = fresh(app, "lifted@example.org", &["weekly"]).await;
    app.one_click(&lifted[1]).await;
    app.press(&lifted[1], "hold=lift").await;
    both(["c lifted", "d lifted"], lifted);
    let closed = fresh(app, "closed@example.org", &["gone"]).await;
    both(["c closed", "d closed"], closed);
    let part_closed = fresh(app, "part.closed@example.org", &["gone", "weekly"]).await;
    both(["c partly closed", "d partly closed"], part_closed);

    let used = fresh(app, "used@example.org", &["weekly", "greeted"]).await;
    app.press(&used[0], "list=all").await;
    let leave = leave_link(app, &used[0]).await;
    both(["c used", "d used"], used);
    let left = fresh(app, "left@example.org", &["weekly"]).await;
    app.press(&left[0], "").await;
    let done = leave_link(app, &left[0]).await;
    app.one_click(&done).await;
    both(["c left", "d left"], left);
    let erased = fresh(app, "erased@example.org", &["weekly"]).await;
    app.press(&erased[0], "").await;
    let nowhere = leave_link(app, &erased[0]).await;
    erase(app, "erased@example.org", false).await;
    both(["c erased", "d erased"], erased);
    let buried = subscribed(app, "buried@example.org", &["weekly"]).await;
    erase(app, "buried@example.org", true).await;
    let back = subscribed(app, "back@example.org", &["weekly"]).await;
    erase(app, "back@example.org", true).await;
    subscribed(app, "back@example.org", &["offers"]).await;
    let ended = subscribed(app, "ended@example.org", &["gone_too"]).await;
    put_in_force(
        app,
        &with(&[&MORE[..MORE.find("[lists.gone]").expect("it is there")]]),
    )
    .await;
    all.extend([
        ("u fresh", leave),
        ("u done", done),
        ("u erased", nowhere),
        ("u buried", buried),
        ("u back", back),
        ("u closed", ended),
        ("c unknown", unknown(app, Purpose::Confirm)),
        ("d unknown", unknown(app, Purpose::Decline)),
        ("u unknown", unknown(app, Purpose::Unsubscribe)),
        ("r unknown", unknown(app, Purpose::Receipt)),
        ("c forged", forged("/c/")),
        ("d forged", forged("/d/")),
        ("u forged", forged("/u/")),
        ("r forged", forged("/r/")),
        ("c cut", "/c/AQ".to_owned()),
        ("c again", again),
    ]);
    all
}

/// A page without its stylesheets.
pub fn without_styles(page: &str) -> String {
    let mut pieces = page.split("<style>");
    let before = pieces.next().unwrap_or_default();
    let after = pieces.filter_map(|piece| Some(piece.split_once("</style>")?.1));
    after.fold(before.to_owned(), |text, after| text + after)
}

/// Asserts what holds for every page: its headers, and what its HTML never has.
pub fn assert_page(page: &Response) {
    let style = page.header("content-security-policy").expect("a policy");
    let hashes = style
        .strip_prefix("default-src 'none'; style-src ")
        .and_then(|rest| {
            rest.strip_suffix("; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
        });
    for hash in hashes.unwrap_or_else(|| panic!("{style}")).split(' ') {
        let hash = hash
            .strip_prefix("'sha256-")
            .and_then(|hash| hash.strip_suffix("='"));
        assert_eq!(hash.map(str::len), Some(43), "{style}");
    }
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    for name in ["set-cookie", "location", "refresh", "link"] {
        assert_eq!(page.header(name), None);
    }
    assert!(!(300..400).contains(&page.status), "{}", page.status);
    let lang = page.header("content-language").expect("a language");
    if page.body.is_empty() {
        return;
    }
    assert!(page.body.contains(&format!("<html lang=\"{lang}\"")));
    let low = page.body.to_ascii_lowercase();
    for never in [
        "<script",
        "<img",
        "<link",
        "<iframe",
        "<object",
        "<base",
        "src=",
        "srcset",
        "url(",
        "@import",
        "http-equiv",
        "onload",
        "onclick",
        "javascript:",
        "http://",
        " autofocus",
    ] {
        assert!(!low.contains(never), "{never}");
    }
    for form in page.body.split("<form ").skip(1) {
        let path = form
            .strip_prefix("method=\"post\" action=\"")
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("{form}"));
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
    }
}

/// Returns what a person reads on a page: a line for each piece of text, buttons with what they send, links with where
/// they lead. Tokens become `*`.
pub fn read(page: &Response) -> String {
    assert_page(page);
    let mut lines = vec![format!("status {}", page.status)];
    let (mut form, mut goal) = (String::new(), None);
    for piece in without_styles(&page.body).split('<').skip(1) {
        let (tag, words) = piece.split_once('>').expect("an end of the tag");
        let value = |name: &str| {
            let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
            Some(plain(rest.split('"').next()?))
        };
        match tag.split_whitespace().next() {
            Some("form") => form = hidden(&value("action").unwrap_or_default()),
            Some("button") => {
                let (name, value) = (value("name"), value("value"));
                let sent = name
                    .zip(value)
                    .map(|(name, value)| format!(" {name}={value}"));
                goal = Some(format!("POST {form}{}", sent.unwrap_or_default()));
            }
            Some("a") => goal = value("href").map(|link| hidden(&link)),
            _ => {}
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.is_empty() {
            lines.push(match goal.take() {
                Some(goal) => format!("[{}] -> {goal}", plain(&words)),
                None => plain(&words),
            });
        }
    }
    lines.join("\n")
}

fn plain(html: &str) -> String {
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&#39;", "'")
        .replace("&#x2f;", "/")
        .replace("&amp;", "&")
}

fn hidden(link: &str) -> String {
    let mut link = link.to_owned();
    for kind in ["/c/", "/d/", "/u/", "/r/"] {
        for found in mail::links(&link.clone(), kind) {
            let (_, token) = found.split_once(kind).expect("a token");
            link = link.replace(token, "*");
        }
    }
    link
}

/// A button of a page: what it says, where it goes, what it sends.
#[derive(Clone, Debug)]
pub struct Button {
    pub text: String,
    pub action: String,
    pub form: String,
}

/// Returns the buttons of a page.
pub fn buttons(page: &Response) -> Vec<Button> {
    let forms = page.body.split("<form ").skip(1);
    let forms = forms.map(|form| {
        let form = form.split("</form>").next().unwrap_or_default();
        let (tag, button) = form.split_once("<button").expect("a button in each form");
        let (attributes, text) = button.split_once('>').expect("an end of the tag");
        let value = |of: &str, name: &str| {
            let (_, rest) = of.split_once(&format!(" {name}=\""))?;
            Some(plain(rest.split('"').next()?))
        };
        let pair = value(attributes, "name").zip(value(attributes, "value"));
        Button {
            text: plain(text.split('<').next().unwrap_or_default()),
            action: value(tag, "action").expect("an action"),
            form: pair.map_or(String::new(), |(name, value)| format!("{name}={value}")),
        }
    });
    forms.collect()
}

/// Presses the button that says this.
pub async fn press_button(app: &TestApp, page: &Response, text: &str) -> Response {
    let all = buttons(page);
    let button = all.iter().find(|button| button.text == text);
    let button = button.unwrap_or_else(|| panic!("no button {text}: {}", read(page)));
    app.press(&button.action, &button.form).await
}
