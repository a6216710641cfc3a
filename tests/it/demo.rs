//! A newcomer's first minute: `confirmd demo`, started as a program, driven in a browser without JavaScript.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::support::http::Connection;
use crate::support::out;
use crate::support::patience::seen;
use crate::support::process::Supervised;
use crate::support::webdriver::{Browser, By};

/// Long enough for any machine; reached only by a failure.
const LONG: Duration = Duration::from_secs(60);

/// Says which process the program is, and at last how it ended.
const TELL: &str = r#""$0" "$@" & echo "pid $!"; wait $!; echo "exit $?""#;

/// The demo as a program; it ends with the value, however the test does.
struct Demo {
    url: String,
    pid: u32,
    said: BufReader<Box<dyn Read + Send>>,
    _program: Supervised,
}

impl Demo {
    fn start(folder: &Path) -> Demo {
        let scratch = tempfile::tempdir().expect("a folder").keep();
        let words = ["sh", "-c", TELL, env!("CARGO_BIN_EXE_confirmd"), "demo"];
        let folder = folder.to_str().expect("UTF-8");
        let at = "127.0.0.1:0";
        let options = ["--listen", at, "--http", at, "--dir", folder];
        let program = [&words[..], &options[..]].concat();
        let mut program = Supervised::start(&[], "TERM", &scratch, &program, &[]);
        let complaints = program.supervisor.stderr.take().expect("piped");
        std::thread::spawn(move || drain(complaints));
        let said: Box<dyn Read + Send> = Box::new(program.supervisor.stdout.take().expect("piped"));
        let mut demo = Demo {
            url: String::new(),
            pid: 0,
            said: BufReader::new(said),
            _program: program,
        };
        let pid = demo.line();
        let pid = pid.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        demo.pid = pid.expect("its process");
        demo.url = demo.line();
        assert!(demo.url.starts_with("http://127.0.0.1:"), "{}", demo.url);
        demo
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("UTF-8");
        if let Some(mut log) = out::log("demo") {
            log.write_all(line.as_bytes()).expect("the log is written");
        }
        line.trim_end().to_owned()
    }

    /// Does what Ctrl-C does; returns how the program ended, and nothing but that may have been said since its URL.
    fn interrupt(mut self) -> String {
        let sent = Command::new("kill")
            .args(["-INT", &self.pid.to_string()])
            .status();
        assert!(sent.expect("kill").success());
        self.line()
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn mails(&self) -> Vec<Value> {
        let page = Url::parse(&self.url).expect("a URL");
        let at = page.socket_addrs(|| None).expect("an address")[0];
        let mut connection = Connection::open(at).await.expect("the demo listens");
        let answer = connection.send("GET", "/mailbox.json", &[], b"").await;
        let mails: Vec<Value> =
            serde_json::from_value(answer.expect("it answers").json()).expect("a list");
        for link in mails.iter().flat_map(links) {
            out::secret(link.rsplit('/').next().expect("a token"));
        }
        mails
    }

    /// Waits for a mail to an address whose subject begins so.
    async fn mail(&self, to: &str, subject: &str) -> Value {
        let is_it = |mail: &Value| {
            mail["to"] == to
                && mail["subject"]
                    .as_str()
                    .is_some_and(|s| s.starts_with(subject))
        };
        seen(&format!("a mail {subject:?}"), LONG, async || {
            let mails = self.mails().await;
            let count = format!("{} others", mails.len());
            mails.into_iter().find(is_it).ok_or(count)
        })
        .await
    }

    /// Waits until the trail's page says all of this.
    async fn trail(&self, browser: &Browser, says: &[&str]) -> String {
        seen(&format!("a trail that says {says:?}"), LONG, async || {
            browser.goto(&self.at("live/trail")).await;
            let text = browser.text().await;
            match says.iter().all(|part| text.contains(part)) {
                true => Ok(text),
                false => Err(text),
            }
        })
        .await
    }

    async fn sign_up(&self, browser: &Browser, email: &str, locale: &str, lists: &[&str]) {
        out::secret(email);
        browser.goto(&self.url).await;
        browser.type_into(By::Css("input[name=email]"), email).await;
        browser
            .click(By::Css(&format!("option[value={locale}]")))
            .await;
        for list in lists {
            let ticked = format!("input[value={list}]");
            let already = browser.find(By::Css(&format!("{ticked}:checked"))).await;
            assert!(already.is_empty(), "{list} was ticked by itself");
            browser.click(By::Css(&ticked)).await;
        }
        browser.click(By::Css("form button")).await;
        arrive(browser, &self.at("signup")).await;
        sees(browser, "202: the signup is on stable storage").await;
    }

    /// Opens a mail in the mailbox and follows the link in its HTML that is named so.
    async fn follow(&self, browser: &Browser, mail: &Value, link: &str) {
        browser.goto(&self.at("mailbox")).await;
        let id = &mail["id"];
        browser
            .click(By::Css(&format!("a[href='/mailbox/{id}']")))
            .await;
        arrive(browser, &self.at(&format!("mailbox/{id}"))).await;
        browser.enter(By::Css("iframe.letter")).await;
        let link = format!("//a[text()='{link}']");
        seen(&link, LONG, async || {
            let links = browser.find(By::Xpath(&link)).await;
            links.into_iter().next().ok_or("no such link")
        })
        .await;
        browser.click(By::Xpath(&link)).await;
        browser.leave().await;
    }
}

fn links(mail: &Value) -> Vec<String> {
    let links = &mail["links"];
    let one = [&links["confirm"], &links["decline"]].into_iter();
    let all = one.chain(links["unsubscribe"].as_array().into_iter().flatten());
    all.filter_map(|link| link.as_str().map(str::to_owned))
        .collect()
}

fn drain(mut said: impl Read) {
    let log = out::log("demo").map(|log| Box::new(log) as Box<dyn Write>);
    let mut log = log.unwrap_or_else(|| Box::new(std::io::sink()));
    std::io::copy(&mut said, &mut log).expect("the log is written");
}

/// Waits until the page says something. A click may return before the page that it leads to is there.
async fn sees(browser: &Browser, words: &str) -> String {
    seen(words, LONG, async || {
        let text = browser.text().await;
        match text.contains(words) {
            true => Ok(text),
            false => Err(text),
        }
    })
    .await
}

/// Waits for a page by its URL.
async fn arrive(browser: &Browser, url: &str) {
    seen(url, LONG, async || match browser.url().await {
        there if there == url => Ok(()),
        elsewhere => Err(elsewhere),
    })
    .await;
}

#[tokio::test]
async fn the_whole_journey_works_in_a_browser_without_javascript_and_goes_on_after_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("demo");
    let demo = Demo::start(&folder);
    let browser = Browser::start().await;

    // The form shows the words of one language, those that are reported.
    browser.goto(&demo.url).await;
    browser.click(By::Css("option[value=nl]")).await;
    let form = sees(&browser, "Ja, mail mij het weekbericht van Acme B.V.").await;
    assert!(!form.contains("Yes, mail me"), "{form}");

    // Yes, and later no.
    let anna = "anna.demo@example.org";
    demo.sign_up(&browser, anna, "nl", &["weekly"]).await;
    sees(&browser, "\"text_sha256\": \"").await;
    let mail = demo.mail(anna, "Nog te bevestigen: Weekbericht").await;
    assert!(
        mail["text"]
            .as_str()
            .is_some_and(|text| text.contains("op 127.0.0.1")),
        "no site"
    );
    demo.follow(&browser, &mail, "Verder naar bevestigen").await;
    arrive(&browser, mail["links"]["confirm"].as_str().expect("a link")).await;
    sees(&browser, "Je bent nog niet ingeschreven").await;
    let trail = demo.trail(&browser, &["message.sent"]).await;
    assert!(
        !trail.contains("subscription.confirmed"),
        "opening the link confirmed"
    );
    assert!(trail.contains("weekly pending"), "{trail}");
    browser
        .goto(mail["links"]["confirm"].as_str().expect("a link"))
        .await;
    browser
        .click(By::Xpath("//button[text()='Ja, dit wil ik']"))
        .await;
    sees(&browser, "Gelukt. Je bent ingeschreven.").await;
    browser
        .click(By::Xpath("//a[starts-with(text(), 'Verder naar')]"))
        .await;
    arrive(&browser, &demo.at("thanks")).await;
    demo.trail(&browser, &["subscription.confirmed", "weekly confirmed"])
        .await;

    browser
        .goto(mail["links"]["confirm"].as_str().expect("a link"))
        .await;
    browser.click(By::Xpath("//a[text()='Uitschrijven']")).await;
    sees(&browser, "Schrijf me uit").await;
    out::secret(browser.url().await.rsplit('/').next().expect("a token"));
    browser.click(By::Css("button.main")).await;
    let shown = sees(&browser, "Je bent uitgeschreven").await;
    let rejoin = browser
        .find(By::Css(&format!("a[href='{}']", demo.url)))
        .await;
    assert_eq!(rejoin.len(), 1, "no way back to the form: {shown}");
    demo.trail(
        &browser,
        &["subscription.unsubscribed", "weekly unsubscribed"],
    )
    .await;
    demo.mail(anna, "Je bent uitgeschreven").await;

    // No, from somebody who was signed up for everything by somebody else.
    let bo = "bo.demo@example.org";
    demo.sign_up(&browser, bo, "en", &["weekly", "offers"])
        .await;
    let mail = demo.mail(bo, "Still to confirm").await;
    demo.follow(&browser, &mail, "No, not me").await;
    arrive(&browser, mail["links"]["decline"].as_str().expect("a link")).await;
    browser.click(By::Css("button[value=not_me]")).await;
    sees(&browser, "Noted: you do not want this").await;
    demo.trail(
        &browser,
        &["signup.declined", "weekly declined", "offers declined"],
    )
    .await;

    // What is wrong is said so.
    browser.goto(&demo.url).await;
    browser
        .type_into(By::Css("input[name=email]"), "nobody@localhost")
        .await;
    browser.click(By::Css("form button")).await;
    arrive(&browser, &demo.at("signup")).await;
    let shown = sees(&browser, "422:").await;
    assert!(
        shown.contains("#/email") && shown.contains("#/lists"),
        "{shown}"
    );

    let refused = browser.console().await;
    let refused: Vec<_> = refused
        .iter()
        .filter(|said| said.contains("Security Policy"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    let key = std::fs::metadata(folder.join("api-key")).expect("the key is kept");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    // A stop and a second start.
    let before: Vec<Value> = demo
        .mails()
        .await
        .iter()
        .map(|mail| mail["id"].clone())
        .collect();
    assert_eq!(before.len(), 3);
    assert_eq!(demo.interrupt(), "exit 0");
    let demo = Demo::start(&folder);
    let after: Vec<Value> = demo
        .mails()
        .await
        .iter()
        .map(|mail| mail["id"].clone())
        .collect();
    assert_eq!(before, after);
    demo.trail(
        &browser,
        &[
            "weekly unsubscribed",
            "signup.declined",
            "subscription.confirmed",
        ],
    )
    .await;
    let kim = "kim.demo@example.org";
    demo.sign_up(&browser, kim, "en", &["offers"]).await;
    let mail = demo.mail(kim, "Still to confirm").await;
    assert_eq!(mail["id"], 4, "the new mail took the place of an old one");
    assert_eq!(demo.interrupt(), "exit 0");
}

#[test]
fn a_demo_that_runs_keeps_its_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path());
    let file = folder.path().join("confirmd.toml");
    let kept = std::fs::read_to_string(&file).expect("a configuration");
    let at = "127.0.0.1:0";
    let second = Command::new(env!("CARGO_BIN_EXE_confirmd"))
        .args(["demo", "--listen", at, "--http", at, "--dir"])
        .arg(folder.path())
        .output();
    let second = second.expect("the program starts");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains("in use"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), kept);
    assert_eq!(demo.interrupt(), "exit 0");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_option_that_chooses_another() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let demo = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confirmd"));
        command.args(["demo", "--dir"]).arg(folder.path());
        let ended = command.args(options).output().expect("it runs");
        let said = String::from_utf8(ended.stderr).expect("UTF-8");
        if let Some(mut log) = out::log("demo") {
            File::write_all(&mut log, said.as_bytes()).expect("the log is written");
        }
        (ended.status.code(), said)
    };
    let (code, said) = demo(&["--listen", "127.0.0.1:0", "--http", &taken]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(&taken) && said.contains("--http 127.0.0.1:0"),
        "{said}"
    );
    let (code, said) = demo(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("127.0.0.1:0"), "{said}");
}
