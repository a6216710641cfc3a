//! Mails and pages: what they say, in which words, and what an operator may change about them.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use confirmd::domain::address::Address;
use confirmd::domain::consent::Hash;
use confirmd::domain::delivery::{MessageKind, Pinned};
use confirmd::domain::list::{Authority, Class, ConfirmBy, Facts, List, Sender};
use confirmd::domain::locale::Locale;
use confirmd::domain::mailbox::Mailbox;
use confirmd::domain::time::Timestamp;
use confirmd::message::{ComposeError, Composed, Composer, Draft, Letter, Links, compose};
use confirmd::template::{
    ConfirmPage, Ended, EndedPage, ListFace, MailTemplate, Preview, TemplateError, Templates,
};
use confirmd::token::{KeyId, KeyState, LinkKeys, Purpose};
use uuid::Uuid;

use crate::support::links::without_styles;

const KINDS: [MessageKind; 4] = [
    MessageKind::Confirmation,
    MessageKind::AlreadySubscribed,
    MessageKind::Welcome,
    MessageKind::Goodbye,
];

fn locale(tag: &str) -> Locale {
    tag.parse().unwrap()
}

fn templates() -> &'static Templates {
    static BUILT_IN: LazyLock<Templates> = LazyLock::new(|| Templates::load(None).unwrap());
    &BUILT_IN
}

/// Loads with these files in the override folder.
fn load(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Templates::load(Some(dir.path()))
}

/// Loads with one file, which must be refused, and returns why.
fn refusal(file: &str, text: &str) -> String {
    load(&[(file, text)]).map(|_| ()).unwrap_err().to_string()
}

fn built_in(file: &str) -> String {
    fs::read_to_string(format!("{}/templates/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn sender() -> Sender {
    Sender {
        id: "acme".parse().unwrap(),
        name: "Acmé B.V.".to_owned(),
        address: "Keizersgracht 1, 1015 CN Amsterdam, NL".to_owned(),
        contact: "privacy@acme.example".to_owned(),
        privacy_url: "https://acme.example/privacy".to_owned(),
        authority: Authority {
            name: "Autoriteit Persoonsgegevens".to_owned(),
            url: "https://autoriteitpersoonsgegevens.nl".to_owned(),
        },
        from: "Acmé <confirm@acme.example>".to_owned().try_into().unwrap(),
        reply_to: Some("Acmé <help@acme.example>".to_owned().try_into().unwrap()),
        imprint: vec!["KvK 12345678".to_owned()],
        dpo: Some("dpo@acme.example".to_owned()),
        time_zone: "Europe/Amsterdam".to_owned(),
        public_url: None,
    }
}

fn list(id: &str, en: (&str, &str), nl: (&str, &str)) -> List {
    let texts =
        |en: &str, nl: &str| [(locale("en"), en.to_owned()), (locale("nl"), nl.to_owned())].into();
    List {
        id: id.parse().unwrap(),
        sender: "acme".parse().unwrap(),
        title: texts(en.0, nl.0),
        consent: texts(en.1, nl.1),
        label: Default::default(),
        default_locale: locale("en"),
        frequency: Some("P7D".to_owned()),
        class: Class::Marketing,
        from: None,
        confirm: ConfirmBy::Button,
        link_life: Duration::from_secs(7 * 86_400),
        origins: Vec::new(),
        redirects: Vec::new(),
        signup_url: Some("https://acme.example/news".to_owned()),
        attributes: Vec::new(),
        welcome: true,
        goodbye: true,
        revision: 1,
        change: None,
    }
}

fn facts(list: List) -> Arc<Facts> {
    let sender = sender();
    Arc::new(Facts { sender, list })
}

fn weekly() -> Arc<Facts> {
    facts(list(
        "weekly",
        ("Weekly news", "Yes, mail me the weekly news of Acmé B.V."),
        ("Weekbericht", "Ja, mail mij het weekbericht van Acmé B.V."),
    ))
}

fn offers() -> Arc<Facts> {
    facts(list(
        "offers",
        ("Offers", "Yes, mail me offers of Acmé B.V."),
        ("Aanbiedingen", "Ja, mail mij aanbiedingen van Acmé B.V."),
    ))
}

fn link(path: &str) -> String {
    format!("https://lists.acme.example/{path}/AUw3Zr1kTzJq0yVb5sXh8Qm2Ng6Pf4Ld7Rc9")
}

fn draft(kind: MessageKind, tag: &str) -> Draft {
    let date = Timestamp::parse("2026-11-23T09:06:07Z").unwrap();
    Draft {
        kind,
        locale: locale(tag),
        facts: vec![weekly()],
        to: Address::parse("Anna@example.org").unwrap(),
        message_id: "019364a0-8a3f-7000-8000-000000000001@acme.example".to_owned(),
        date,
        boundary: "=_019364a08a3f7000".to_owned(),
        links: Links {
            confirm: Some(link("c")),
            decline: Some(link("d")),
            unsubscribe: vec![link("u")],
        },
        asked_at: Timestamp::parse("2026-11-23T09:05:00Z").unwrap(),
        again_at: None,
        site: Some("acme.example".to_owned()),
        expires: Some(date + Duration::from_secs(7 * 86_400)),
    }
}

fn composed(draft: &Draft) -> Result<Composed, ComposeError> {
    compose(draft, templates().mail(draft.kind, &draft.locale))
}

fn mail(draft: &Draft) -> String {
    String::from_utf8(composed(draft).unwrap().bytes).unwrap()
}

const KEY: KeyId = KeyId([7; 4]);
const ORIGIN: &str = "https://lists.acme.example";
const MINUTE: Duration = Duration::from_secs(60);

fn letter(composer: &Composer, draft: Draft, subject: u128) -> Letter {
    Letter {
        kind: draft.kind,
        pinned: Pinned {
            link_key: KEY.to_string(),
            template: composer.hash(draft.kind, &draft.locale),
            message_id: draft.message_id,
            date: draft.date,
            boundary: draft.boundary,
        },
        to: draft.to,
        locale: draft.locale,
        facts: draft.facts,
        signup: Some(Uuid::from_u128(subject)),
        subscriptions: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
        asked_at: draft.asked_at,
        again_at: draft.again_at,
        site: draft.site,
        expires: draft.expires,
    }
}

fn keys() -> LinkKeys {
    LinkKeys::new([(KEY, KeyState::Sign, [7; 32])]).unwrap()
}

/// The links that a composer makes for a letter.
fn links_of(letter: &Letter, origin: &str) -> Links {
    let keys = keys();
    let link = |purpose: Purpose, subject: Uuid, expires| {
        let token = keys.sign(KEY, purpose, subject, expires).unwrap();
        format!("{origin}{}{token}", purpose.path())
    };
    let signup = letter.signup.unwrap();
    let leave = |id: &Uuid| link(Purpose::Unsubscribe, *id, None);
    Links {
        confirm: Some(link(Purpose::Confirm, signup, letter.expires)),
        decline: Some(link(Purpose::Decline, signup, None)),
        unsubscribe: letter.subscriptions.iter().map(leave).collect(),
    }
}

#[test]
fn a_name_in_quotes_is_what_stands_between_them() {
    let read = |name: &str| {
        let mailbox: Mailbox = format!("{name} <a@acme.example>").try_into().unwrap();
        // As it is kept with the facts, and read again.
        let kept = String::from(mailbox.clone());
        assert_eq!(Mailbox::try_from(kept.clone()).unwrap(), mailbox, "{kept}");
        mailbox
    };
    for (written, name, header) in [
        ("Acme", "Acme", "Acme"),
        ("Acme.example", "Acme.example", r#""Acme.example""#),
        ("Acme B.V.", "Acme B.V.", r#""Acme B.V.""#),
        (r#""Acme News""#, "Acme News", r#""Acme News""#),
        (r#"" Acme ""#, " Acme ", r#"" Acme ""#),
        (
            r#""\"Die\" Zeitung""#,
            r#""Die" Zeitung"#,
            r#""\"Die\" Zeitung""#,
        ),
        (r#""\"Die\"""#, r#""Die""#, r#""\"Die\"""#),
        (r#""a\\b""#, r"a\b", r#""a\\b""#),
        (
            r#""Die" Zeitung"#,
            r#""Die" Zeitung"#,
            r#""\"Die\" Zeitung""#,
        ),
        (r#""A" und "B""#, r#""A" und "B""#, r#""\"A\" und \"B\"""#),
    ] {
        let mailbox = read(written);
        assert_eq!(mailbox.name.as_deref(), Some(name), "{written}");
        let mut draft = draft(MessageKind::Confirmation, "en");
        let mut facts = Facts::clone(&weekly());
        facts.sender.reply_to = Some(mailbox.clone());
        facts.sender.from = mailbox;
        draft.facts = vec![Arc::new(facts)];
        let mail = mail(&draft);
        for field in ["From: ", "Reply-To: "] {
            let said = mail.lines().find_map(|line| line.strip_prefix(field));
            assert_eq!(said, Some(&*format!("{header} <a@acme.example>")));
        }
    }
    // Facts kept when quotes were only trimmed say the same as then: their mails are made again as they were.
    for kept in [r#"\"Die\" Zeitung"#, r#"\"Die\"#, r#"Die" Zeitung"#] {
        assert_eq!(read(kept).name.as_deref(), Some(kept));
    }
}

#[test]
fn a_mail_is_the_one_that_its_draft_makes_and_masked_the_same_wherever_a_line_breaks() {
    let templates = Arc::new(Templates::load(None).unwrap());
    // Each origin moves the places at which quoted-printable breaks the links.
    for length in 1..80 {
        let origin = format!("https://{}.example", "x".repeat(length));
        let composer = Composer::new(templates.clone(), &origin);
        for (kind, tag) in KINDS
            .into_iter()
            .flat_map(|kind| [(kind, "en"), (kind, "nl")])
        {
            let mut draft = draft(kind, tag);
            draft.facts = vec![weekly(), offers()];
            let letter = letter(&composer, draft.clone(), length as u128);
            let (mail, proof) = composer
                .compose_proven(&letter, Vec::new(), &keys())
                .unwrap();
            draft.links = links_of(&letter, &origin);
            let alone = compose(&draft, templates.mail(kind, &draft.locale)).unwrap();
            assert!(mail.bytes == alone.bytes, "{kind:?} {tag} {origin}");
            let masked = composer.compose_masked(&letter).unwrap();
            assert_eq!(proof.masked_sha256, Hash::of(&masked.bytes), "{origin}");
            assert_eq!(proof.sha256, Hash::of(&mail.bytes));
            let links = usize::from(kind != MessageKind::Goodbye);
            assert_eq!(usize::from(proof.sha256 != proof.masked_sha256), links);
        }
    }
}

#[test]
fn what_was_made_for_one_mail_stands_in_no_mail_that_says_something_else() {
    let composer = Composer::new(Arc::new(Templates::load(None).unwrap()), ORIGIN);
    let first = || draft(MessageKind::Confirmation, "en");
    let others: [fn(&mut Draft); 8] = [
        |_| (),
        |other| other.locale = locale("nl"),
        |other| other.facts = vec![offers()],
        |other| other.asked_at = other.asked_at + MINUTE,
        |other| other.expires = other.expires.map(|end| end + MINUTE),
        |other| other.date = other.date + MINUTE,
        |other| other.site = None,
        |other| other.to = Address::parse("bo@example.org").unwrap(),
    ];
    for (number, change) in others.into_iter().enumerate() {
        let mut draft = first();
        change(&mut draft);
        let letter = letter(&composer, draft.clone(), number as u128);
        draft.links = links_of(&letter, ORIGIN);
        // Twice: as it is made, and as it is remembered.
        for _ in 0..2 {
            let made = composer.compose(&letter, &keys()).unwrap();
            let alone = composed(&draft).unwrap();
            assert!(made.bytes == alone.bytes, "{number}");
        }
    }
}

/// What a reader of a page sees: its title, then its text, a line for each element.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    for piece in without_styles(html).split('<').skip(1) {
        let (_, words) = piece.split_once('>').unwrap();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.is_empty() {
            text.push_str(&plain(&words));
            text.push('\n');
        }
    }
    text
}

fn plain(html: &str) -> String {
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[test]
fn every_kind_of_mail_reads_so() {
    for kind in KINDS {
        for tag in ["en", "nl"] {
            let name = format!("{}_{tag}", kind.as_str());
            insta::assert_snapshot!(name, mail(&draft(kind, tag)).replace("\r\n", "\n"));
        }
    }
}

#[test]
fn every_page_reads_so() {
    let templates = templates();
    for tag in ["en", "nl"] {
        let previews = templates.previews(&locale(tag)).unwrap();
        let pages = previews
            .iter()
            .filter(|page| page.file.starts_with("page/"));
        let texts = pages
            .map(|Preview { file, sample, text }| format!("# {file}, {sample}\n{}", text_of(text)));
        let all: Vec<String> = texts.collect();
        insta::assert_snapshot!(format!("pages_{tag}"), all.join("\n"));
    }
}

fn confirm_page(list: &List, tag: &str) -> ConfirmPage {
    ConfirmPage {
        sender: (&sender()).into(),
        open: vec![ListFace::new(list, &locale(tag)).unwrap()],
        other: Vec::new(),
        asked_at: Timestamp::parse("2026-11-23T09:05:00Z").unwrap(),
        site: Some("acme.example".to_owned()),
        expires: Timestamp::parse("2026-11-30T09:06:07Z").unwrap(),
        confirm_action: link("c"),
        decline_url: link("d"),
    }
}

#[test]
fn the_confirm_page_is_this_html() {
    let page = confirm_page(&weekly().list, "en");
    let html = templates().page(&locale("en"), &page).unwrap();
    insta::assert_snapshot!("confirm_page", html);
}

#[test]
fn a_signup_for_fifty_lists_has_a_page() {
    let list = &weekly().list;
    let mut page = confirm_page(list, "en");
    page.open = vec![page.open.remove(0); 50];
    let html = templates().page(&locale("en"), &page).unwrap();
    assert_eq!(html.matches("name=\"list\"").count(), 51);
}

#[test]
fn values_are_escaped_in_html_and_nowhere_else() {
    let title = "<script>\"O'Hara\" & co</script>";
    let odd = list("weekly", (title, title), (title, title));
    let html = templates()
        .page(&locale("en"), &confirm_page(&odd, "en"))
        .unwrap();
    assert!(!html.contains("<script"));
    assert!(html.contains("&lt;script&gt;&quot;O&#39;Hara&quot; &amp; co&lt;/script&gt;"));

    let mut draft = draft(MessageKind::Confirmation, "en");
    draft.facts = vec![facts(odd)];
    let mail = mail(&draft).replace("=\r\n", "").replace("=3D", "=");
    let (text, html) = mail.split_once("Content-Type: text/html").unwrap();
    assert!(text.contains(&format!("* {title}")));
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
}

#[test]
fn pages_and_mails_are_plain() {
    let templates = templates();
    for language in templates.languages() {
        for Preview { file, sample, text } in templates.previews(language).unwrap() {
            if !file.ends_with(".html") {
                continue;
            }
            let at = format!("{language} {file}, {sample}");
            assert!(
                text.contains(&format!("<html lang=\"{language}\" dir=\"ltr\">")),
                "{at}"
            );
            assert_eq!(text.matches("<h1").count(), 1, "{at}");
            for never in [
                "<img", "<script", "<link", "<iframe", "src=", "url(", "@import", " on",
            ] {
                let in_tag = text.split('<').any(|tag| {
                    let tag = tag.split('>').next().unwrap();
                    format!("<{tag}").contains(never)
                        && !tag.starts_with("/")
                        && !tag.contains('\n')
                });
                assert!(!in_tag, "{at}: {never}");
            }
            // Whatever is fetched or sent elsewhere stands behind a link or a button.
            for (start, _) in text.match_indices("http") {
                let before = &text[..start];
                let linked = before.ends_with("href=\"") || before.ends_with("action=\"");
                let shown = before.ends_with('>') || before.ends_with(' ');
                assert!(linked || shown, "{at}: {}", &text[start..start + 20]);
            }
            if file.starts_with("page/") {
                assert!(
                    !text.contains(" style=\""),
                    "{at}: the content policy allows none"
                );
            }
        }
    }
}

#[test]
fn every_stylesheet_has_a_hash_that_the_content_policy_names() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let templates = templates();
    let allowed: Vec<&str> = templates.style_src().split(' ').collect();
    for page in templates.previews(&locale("nl")).unwrap() {
        let styles = page.text.split("<style>").skip(1);
        for (n, style) in styles.enumerate() {
            let (style, _) = style.split_once("</style>").unwrap();
            let hash = confirmd::domain::consent::Hash::of(style.as_bytes());
            let expected = format!("'sha256-{}'", BASE64_STANDARD.encode(hash.0));
            assert_eq!(allowed[n], expected, "{}", page.file);
        }
    }
}

#[test]
fn both_parts_of_a_mail_say_the_same() {
    let templates = templates();
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
            .filter(|word| !word.is_empty() && !word.starts_with("http"))
            .collect()
    };
    let links = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| c.is_whitespace() || "\"<>".contains(c))
            .filter(|word| word.starts_with("http"))
            .map(str::to_owned)
            .collect()
    };
    for language in templates.languages() {
        let previews = templates.previews(language).unwrap();
        let mails: Vec<_> = previews
            .iter()
            .filter(|p| p.file.starts_with("mail/"))
            .collect();
        for pair in mails.chunks(2) {
            let [text, html] = pair else {
                panic!("no pair")
            };
            assert_eq!(
                (text.sample, html.sample.len()),
                (html.sample, text.sample.len())
            );
            let (_, text) = text.text.split_once("\n\n").unwrap();
            let (_, body) = html.text.split_once("<body").unwrap();
            let body: String = format!("<{body}")
                .split('<')
                .filter_map(|piece| piece.split_once('>'))
                .map(|(_, words)| format!("{words} "))
                .collect();
            assert_eq!(
                words(text),
                words(&plain(&body)),
                "{language} {}",
                html.file
            );
            assert_eq!(links(text), links(&html.text), "{language} {}", html.file);
        }
    }
}

#[test]
fn a_confirmation_mail_is_small_and_says_all_it_must() {
    let mut draft = draft(MessageKind::Confirmation, "nl");
    draft.facts = vec![weekly(), offers(), weekly(), offers(), weekly()];
    let composed = composed(&draft).unwrap();
    assert!(composed.bytes.len() < 12_000, "{}", composed.bytes.len());
    assert!(composed.bytes.is_ascii());
    assert_eq!(composed.envelope_from.to_string(), "confirm@acme.example");
    assert_eq!(composed.envelope_to.to_string(), "Anna@example.org");

    for Preview { file, text, .. } in templates().previews(&locale("en")).unwrap() {
        if file == "mail/confirmation.txt" {
            for needed in [
                "Acme B.V.",
                "Keizersgracht 1, 1015 CN Amsterdam, NL",
                "https://acme.example/privacy",
                "https://autoriteitpersoonsgegevens.nl",
                "Weekly news",
                "“Yes, mail me the weekly news of Acme B.V.”",
                "every week",
                "23 November 2026 at 10:05 (Europe/Amsterdam)",
                "until 30 November 2026 at 10:05 (Europe/Amsterdam)",
                "https://lists.acme.example/c/",
                "https://lists.acme.example/d/",
            ] {
                assert!(text.contains(needed), "{needed}");
            }
            let by_link = text.contains("Confirm my signup");
            assert_ne!(text.contains("this signup comes to nothing"), by_link);
        }
    }
}

#[test]
fn the_same_draft_is_the_same_mail_also_from_kept_templates() {
    let templates = templates();
    for kind in KINDS {
        let draft = draft(kind, "nl");
        let now = compose(&draft, templates.mail(kind, &draft.locale)).unwrap();
        let reloaded = Templates::load(None).unwrap();
        let again = compose(&draft, reloaded.mail(kind, &draft.locale)).unwrap();
        assert_eq!(now.bytes, again.bytes);

        let kept = templates.kept(kind, &draft.locale);
        let old = MailTemplate::from_kept(&kept.source).unwrap();
        assert_eq!(old.kept(), kept);
        assert_eq!(compose(&draft, &old).unwrap().bytes, now.bytes);
    }
    assert!(MailTemplate::from_kept("{}").is_err());
}

#[test]
fn what_is_kept_changes_with_what_the_mail_says_and_with_nothing_else() {
    let hash = |templates: &Templates, kind| templates.kept(kind, &locale("nl")).hash;
    let plain = templates();
    let all: BTreeSet<_> = KINDS.iter().map(|kind| hash(plain, *kind)).collect();
    assert_eq!(all.len(), 4);
    let page = load(&[("locales/nl.toml", "page.confirm.yes = \"Ja, graag\"")]).unwrap();
    let text = load(&[("locales/nl.toml", "goodbye.heading = \"Tot ziens\"")]).unwrap();
    for kind in KINDS {
        assert_eq!(hash(&page, kind), hash(plain, kind));
        let changed = hash(&text, kind) != hash(plain, kind);
        assert_eq!(changed, kind == MessageKind::Goodbye);
    }
}

#[test]
fn the_mail_programs_own_button_gets_one_exact_line() {
    let header = |kind, name: &str| -> Vec<String> {
        let mail = mail(&draft(kind, "en"));
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        let lines = head.split("\r\n").filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect()
    };
    let decline = format!("List-Unsubscribe: <{}>", link("d"));
    let leave = format!("List-Unsubscribe: <{}>", link("u"));
    let post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click".to_owned();
    let both = |first: &str| vec![first.to_owned(), post.clone()];
    assert_eq!(header(MessageKind::Confirmation, "List-"), both(&decline));
    assert_eq!(
        header(MessageKind::AlreadySubscribed, "List-"),
        both(&leave)
    );
    assert_eq!(header(MessageKind::Welcome, "List-"), both(&leave));
    assert!(header(MessageKind::Goodbye, "List-").is_empty());
    for kind in KINDS {
        for never in [
            "List-Id",
            "Precedence",
            "User-Agent",
            "X-Mailer",
            "Cc",
            "Bcc",
        ] {
            assert!(header(kind, never).is_empty());
        }
    }
    let mut several = draft(MessageKind::Welcome, "en");
    several.facts.push(offers());
    several.links.unsubscribe.push(link("u"));
    assert!(!mail(&several).contains("List-Unsubscribe"));
    let mut long = draft(MessageKind::Confirmation, "en");
    let url = format!("https://lists.acme.example/d/{:a<400}", "");
    long.links.decline = Some(url.clone());
    assert!(mail(&long).contains(&format!("\r\nList-Unsubscribe: <{url}>\r\n")));
    let mut local = draft(MessageKind::Confirmation, "en");
    local.links.decline = Some("http://127.0.0.1:8080/d/x".to_owned());
    assert!(!mail(&local).contains("List-Unsubscribe"));
}

#[test]
fn a_mail_that_cannot_be_right_is_not_made() {
    let refused = |change: &dyn Fn(&mut Draft), kind| {
        let mut draft = draft(kind, "en");
        change(&mut draft);
        composed(&draft).unwrap_err().to_string()
    };
    let confirmation = |change: &dyn Fn(&mut Draft)| refused(change, MessageKind::Confirmation);
    for (why, reason) in [
        (
            confirmation(&|d| d.links.confirm = None),
            "the draft has no confirm link",
        ),
        (
            confirmation(&|d| d.links.decline = None),
            "the draft has no decline link",
        ),
        (
            confirmation(&|d| d.expires = None),
            "the draft has no expiry",
        ),
        (confirmation(&|d| d.facts.clear()), "the draft has no list"),
        (
            confirmation(&|d| d.locale = locale("fr")),
            "list weekly has no words of consent in the language of this mail",
        ),
        (
            refused(&|d| d.links.unsubscribe.clear(), MessageKind::Welcome),
            "the draft has no unsubscribe link for each list",
        ),
        (
            confirmation(&|d| d.site = Some("acme.example\r\nBcc: x".to_owned())),
            "the site cannot stand in a mail header",
        ),
        (
            confirmation(&|d| d.message_id.push_str(">\r\nX: y")),
            "the Message-ID cannot stand in a mail header",
        ),
        (
            confirmation(&|d| d.boundary = "plain".to_owned()),
            "the MIME boundary cannot stand in a mail header",
        ),
        (
            confirmation(&|d| d.links.decline = Some("https://a.example/>,<x".to_owned())),
            "the link cannot stand in a mail header",
        ),
        (
            confirmation(&|d| d.links.decline = Some(format!("https://a.example/{:a<990}", ""))),
            "line 9 of the mail is longer than 998 octets",
        ),
    ] {
        assert_eq!(why, reason);
    }
    let templates = templates();
    let other = templates.mail(MessageKind::Goodbye, &locale("en"));
    assert!(compose(&draft(MessageKind::Welcome, "en"), other).is_err());
    let mut mixed = draft(MessageKind::Goodbye, "en");
    let mut foreign = Facts::clone(&offers());
    foreign.sender.id = "other".parse().unwrap();
    mixed.facts.push(Arc::new(foreign));
    assert!(matches!(composed(&mixed), Err(ComposeError::Senders)));
}

#[test]
fn a_link_that_confirms_by_itself_says_so() {
    let mut list = weekly().list.clone();
    list.confirm = ConfirmBy::Link;
    list.frequency = None;
    let mut draft = draft(MessageKind::Confirmation, "en");
    draft.facts = vec![facts(list)];
    draft.site = None;
    let mail = mail(&draft);
    assert!(mail.contains("Open this link. That confirms your signup at once."));
    assert!(!mail.contains("press the button") && !mail.contains("How often"));
    // Whatever visits the link confirms: "do nothing" would promise too much.
    assert!(!mail.contains("do nothing"));
    draft.facts.push(offers());
    assert!(self::mail(&draft).contains("press the button"));
}

#[test]
fn a_life_of_hours_and_minutes_is_told_so() {
    for (minutes, en, nl) in [
        (1590, "26 hours and 30 minutes", "26 uur en 30 minuten"),
        (60, "1 hour", "1 uur"),
        (2880, "2 days", "2 dagen"),
    ] {
        for (tag, says) in [("en", en), ("nl", nl)] {
            let mut draft = draft(MessageKind::Confirmation, tag);
            draft.expires = Some(draft.date + MINUTE * minutes);
            let mail = mail(&draft).replace("=\r\n", "");
            assert!(mail.contains(&format!(" {says}, ")), "{says}: {mail}");
        }
    }
}

#[test]
fn what_a_list_is_called_stands_in_quotes_within_a_sentence() {
    let page = EndedPage {
        titles: ["Offers, news and more", "Third"]
            .map(str::to_owned)
            .to_vec(),
        sender: Some((&sender()).into()),
        reason: Ended::Declined,
        other: Vec::new(),
        again_action: None,
        signup_url: None,
    };
    let told = text_of(&templates().page(&locale("en"), &page).unwrap());
    assert!(
        told.contains("do not want “Offers, news and more” and “Third”."),
        "{told}"
    );
}

#[test]
fn the_lists_own_from_is_used_where_they_agree() {
    let with_from = |from: &str| {
        let mut list = weekly().list.clone();
        list.from = Some(from.to_owned().try_into().unwrap());
        facts(list)
    };
    let from = |lists: Vec<Arc<Facts>>| {
        let mut draft = draft(MessageKind::Confirmation, "en");
        draft.facts = lists;
        composed(&draft).unwrap().envelope_from.to_string()
    };
    let own = with_from("news@acme.example");
    assert_eq!(from(vec![own.clone(), own.clone()]), "news@acme.example");
    assert_eq!(from(vec![own.clone(), offers()]), "confirm@acme.example");
    let mut draft = draft(MessageKind::Confirmation, "en");
    draft.facts = vec![own];
    assert!(
        mail(&draft).starts_with("From: =?utf-8?b?"),
        "the sender's name stands in"
    );
}

#[test]
fn languages_fall_back_to_their_base_and_to_english() {
    let templates = templates();
    let language = |tag| templates.language(&locale(tag)).to_string();
    assert_eq!(
        ["en", "nl", "nl-BE", "de"].map(language),
        ["en", "nl", "nl", "en"]
    );
}

#[test]
fn one_file_of_the_folder_overrides_one_template() {
    let problem = "{% extends \"page/layout.html\" %}{% block title %}Oops{% endblock %}";
    let css = "body{color:red}";
    let ours = load(&[
        ("page/problem.html", problem),
        ("style.css", css),
        (".git", "x"),
    ])
    .unwrap();
    let pages = ours.previews(&locale("en")).unwrap();
    let page = pages
        .iter()
        .find(|p| p.file == "page/problem.html")
        .unwrap();
    assert!(page.text.contains("<h1>Oops</h1>") && page.text.contains(css));
    assert_ne!(ours.style_src(), templates().style_src());
}

#[test]
fn a_broken_override_is_refused_with_file_line_and_reason() {
    let mail = built_in("mail/confirmation.txt");
    for (file, text, reason) in [
        (
            "page/problem.html",
            "a\n\n{% if %}",
            "page/problem.html, line 3: syntax error",
        ),
        (
            "page/confirm.html",
            "\n{{ nobody }}",
            "page/confirm.html, line 2: undefined value",
        ),
        (
            "page/confirm.html",
            "{{ t(\"nope\") }}",
            "no text has the key nope",
        ),
        (
            "page/confirm.html",
            "{{ t(\"page.confirm.yes\", x=1) }}",
            "text page.confirm.yes has no placeholder {x}",
        ),
        (
            "page/confirm.html",
            "{{ t(\"page.confirm.all\"",
            "page/confirm.html, line 1: syntax",
        ),
        (
            "page/confirm.html",
            "{% include \"/etc/passwd\" %}",
            "page/confirm.html, line 1: template not found",
        ),
        (
            "page/confirm.html",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "page/confirm.html, line 1: engine ran out of fuel",
        ),
        (
            "mail/lists.txt",
            "{% for list in lists %}\n{{ x }}{% endfor %}",
            "mail/lists.txt, line 2",
        ),
        (
            "locales/nl.toml",
            "a = \"b\"\nc = [",
            "locales/nl.toml, line 2",
        ),
        (
            "mail/subject.txt",
            "a\nb",
            "makes a subject that is not one line",
        ),
        (
            "mail/confirmation.txt",
            &mail.replace("{{ confirm_url }}", ""),
            "mail/confirmation.txt: does not show \"https://lists.acme.example/c/",
        ),
        (
            "mail/subject.txt",
            "{{ confirm_url if kind == 'confirmation' else 'x' }}",
            "mail/subject.txt: shows a link of sample \"one\"",
        ),
        (
            "mail/confirmation.txt",
            &format!("{mail}{{{{ confirm_url | upper }}}}"),
            "mail/confirmation.txt: changes a link of sample \"one\"",
        ),
        (
            "mail/leave.html",
            "{% for list in lists %}<img src=\"{{ list.unsubscribe_url }}\">{% endfor %}",
            "holds \"<img\", which no mail may",
        ),
    ] {
        let error = refusal(file, text);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_file_that_overrides_nothing_is_refused_by_name() {
    for file in [
        "page/confrim.html",
        "notes.txt",
        "locales/nederlands.toml",
        "other/x.html",
    ] {
        let error = refusal(file, "x");
        let named = file.split('/').next().unwrap();
        assert!(
            error.starts_with(named) && error.contains("is no template"),
            "{error}"
        );
    }
}

#[test]
fn a_catalog_replaces_single_texts_of_a_known_language() {
    let ours = load(&[
        ("locales/nl.toml", "[page.confirm]\nyes = \"Ja, graag\""),
        ("locales/nl-BE.toml", "[page.confirm]\nno = \"Neen\""),
    ])
    .unwrap();
    let page = |tag: &str| {
        let page = confirm_page(&weekly().list, "nl");
        ours.page(&locale(tag), &page).unwrap()
    };
    assert!(page("nl").contains("Ja, graag") && page("nl").contains("Nee, dit wil ik niet"));
    assert!(page("nl-BE").contains("Ja, graag") && page("nl-BE").contains("Neen"));
    assert!(page("nl-BE").contains("<html lang=\"nl-BE\""));
    // The words of consent keep the language in which they were agreed to.
    assert!(page("nl-BE").contains("<blockquote dir=\"auto\" lang=\"nl\">"));
    assert!(page("nl").contains("<blockquote dir=\"auto\">"));
}

#[test]
fn a_new_language_is_one_complete_file() {
    let english = built_in("locales/en.toml");
    let german = english.replace("Yes, I want this", "Ja, das will ich");
    let ours = load(&[("locales/de.toml", &german)]).unwrap();
    let page = confirm_page(&weekly().list, "en");
    assert!(
        ours.page(&locale("de-AT"), &page)
            .unwrap()
            .contains("Ja, das will ich")
    );

    let without = |line: &str| {
        let kept = english.lines().filter(|text| !text.starts_with(line));
        kept.collect::<Vec<_>>().join("\n")
    };
    for (text, reason) in [
        (
            without("heading_one"),
            "locales/de.toml, text page.confirm.heading_one: is missing",
        ),
        (
            english.replace("“{title}”?", "?"),
            "locales/de.toml, text page.confirm.heading_one: lacks the placeholder {title}",
        ),
        (
            english.replace("Yes, I want this", "Yes, {name}"),
            "text page.confirm.yes: has a placeholder {name} that this text does not get",
        ),
        (
            format!("extra = \"x\"\n{english}"),
            "locales/de.toml, text extra: is unknown: no template asks for it in English",
        ),
        (
            english.replace("Yes, I want this", "Yes, {title"),
            "text page.confirm.yes: has a { that is never closed",
        ),
        (
            english.replace("\"Yes, I want this\"", "1"),
            "text page.confirm.yes: is no text",
        ),
    ] {
        let error = refusal("locales/de.toml", &text);
        assert!(error.contains(reason), "{error}");
    }
}

/// Returns a catalog in which every text is its own key with its placeholders.
fn keys_as_texts(prefix: &str, table: &toml::Table, keys: &mut Vec<String>) -> String {
    let mut toml = String::new();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let Some(inner) = value.as_table() {
            toml += &keys_as_texts(&format!("{key}."), inner, keys);
        } else {
            let slots = value.as_str().unwrap().split('{').skip(1);
            let slots = slots.map(|rest| format!("{{{}}}", rest.split('}').next().unwrap()));
            toml += &format!("{key} = \"[{key}] {}\"\n", slots.collect::<String>());
            keys.push(key);
        }
    }
    toml
}

#[test]
fn every_text_is_shown_by_some_sample() {
    let english: toml::Table = built_in("locales/en.toml").parse().unwrap();
    let mut keys = Vec::new();
    let catalog = keys_as_texts("", &english, &mut keys);
    let ours = load(&[("locales/en.toml", &catalog)]).unwrap();
    let previews = ours.previews(&locale("en")).unwrap();
    let shown: String = previews.into_iter().map(|preview| preview.text).collect();
    let counted = |key: &String| {
        ["month.", "span.", "every."]
            .iter()
            .any(|s| key.starts_with(s))
    };
    keys.retain(|key| !counted(key) && !shown.contains(&format!("[{key}]")));
    assert_eq!(keys, [""; 0]);
}
