//! Debian's Chromium as a person's browser, over the W3C WebDriver protocol (<https://www.w3.org/TR/webdriver2/>).
//!
//! **JavaScript is off**: every page must work without it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::process::Supervised;

/// The key under which WebDriver passes an element's reference (section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What chromedriver says of an element whose page has gone, before and after it has noticed.
const GONE: [&str; 2] = ["stale element", "does not belong to the document"];

/// One browser window with a profile of its own; both go with the value.
#[derive(Debug)]
pub struct Browser {
    port: u16,
    session: String,
    _driver: Supervised,
}

/// How to find an element.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    Css(&'a str),
    Xpath(&'a str),
}

/// chromedriver takes a free port of IPv6 and wants the same of IPv4, which another test may have by then.
const TAKEN: &str = "IPv4 port not available";
const TRIES: usize = 10;

impl Browser {
    /// Starts chromedriver on a port that it chooses, and a headless Chromium behind it.
    pub async fn start() -> Browser {
        Browser::with(&json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn with(preferences: &Value) -> Browser {
        let found = std::env::var("PATH").unwrap_or_default();
        let (driver, chromium) = programs(&found).unwrap_or_else(|e| panic!("{e}"));
        let home = tempfile::Builder::new()
            .prefix("confirmd-browser.")
            .tempdir()
            .expect("a folder")
            .keep();
        let home_text = home.to_str().expect("a path in UTF-8");
        let env = [
            ("HOME", home_text),
            ("XDG_CONFIG_HOME", home_text),
            ("XDG_CACHE_HOME", home_text),
        ];
        let command = [driver.to_str().expect("UTF-8"), "--port=0"];
        let start = || {
            let mut process = Supervised::start(&[], "TERM", &home, &command, &env);
            let said = process.supervisor.stdout.take().expect("piped");
            chosen_port(said).map(|port| (process, port))
        };
        let mut started = start();
        for _ in 0..TRIES {
            match &started {
                Err(log) if log.contains(TAKEN) => started = start(),
                _ => break,
            }
        }
        let (process, port) =
            started.unwrap_or_else(|log| panic!("chromedriver did not start:\n{log}"));

        let profile = format!("--user-data-dir={home_text}/profile");
        #[rustfmt::skip]
        let arguments = [
            // A pipe instead of a port: Chromium ends when chromedriver does, also when that is killed.
            "--headless=new", "--remote-debugging-pipe", &profile,
            "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
        ];
        let options = json!({ "binary": chromium, "args": arguments, "prefs": preferences });
        let always = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "pageLoad": 30_000 },
        });
        let started = call(
            port,
            "POST",
            "/session",
            json!({ "capabilities": { "alwaysMatch": always } }),
        )
        .await;
        let session = started["sessionId"]
            .as_str()
            .expect("a session id")
            .to_owned();
        Browser {
            port,
            session,
            _driver: process,
        }
    }

    /// Opens a URL and waits until it is loaded.
    pub async fn goto(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    /// Reads the URL of the page shown.
    pub async fn url(&self) -> String {
        string(&self.get("url").await)
    }

    /// Reads the page's title.
    pub async fn title(&self) -> String {
        string(&self.get("title").await)
    }

    /// Reads the page as a person does: the text that is rendered.
    pub async fn text(&self) -> String {
        loop {
            let Some(body) = self.find(By::Css("body")).await.pop() else {
                // Between two pages there is nothing to read.
                return String::new();
            };
            let path = format!("/session/{}/element/{body}/text", self.session);
            match answer(self.port, "GET", &path, Value::Null).await {
                Ok(text) => return string(&text),
                // Another page came between the two commands.
                Err(said) if GONE.iter().any(|gone| said.contains(gone)) => {}
                Err(said) => panic!("{said}"),
            }
        }
    }

    /// Finds all elements that match, as references.
    pub async fn find(&self, by: By<'_>) -> Vec<String> {
        let (using, value) = match by {
            By::Css(selector) => ("css selector", selector),
            By::Xpath(path) => ("xpath", path),
        };
        let found = self
            .post("elements", json!({ "using": using, "value": value }))
            .await;
        found
            .as_array()
            .expect("a list")
            .iter()
            .map(|element| string(&element[ELEMENT]))
            .collect()
    }

    /// Clicks the one element that matches. The page that it leads to may come a moment later: wait for what it says.
    pub async fn click(&self, by: By<'_>) {
        let element = self.one(by).await;
        self.post(&format!("element/{element}/click"), json!({}))
            .await;
    }

    /// Types into the one element that matches.
    pub async fn type_into(&self, by: By<'_>, text: &str) {
        let element = self.one(by).await;
        self.post(&format!("element/{element}/value"), json!({ "text": text }))
            .await;
    }

    /// Goes into the one frame that matches; from then on everything is looked for in it.
    pub async fn enter(&self, by: By<'_>) {
        let frame = self.one(by).await;
        self.post("frame", json!({ "id": { ELEMENT: frame } }))
            .await;
    }

    /// Comes back from all frames.
    pub async fn leave(&self) {
        self.post("frame", json!({ "id": null })).await;
    }

    /// Writes what is shown to a PNG file.
    pub async fn screenshot(&self, path: &Path) {
        let png = STANDARD
            .decode(string(&self.get("screenshot").await))
            .expect("base64");
        std::fs::write(path, png).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Takes what the console has said since the last call: script errors, refused resources, violations of the CSP.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", json!({ "type": "browser" })).await;
        entries
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| string(&entry["message"]))
            .collect()
    }

    async fn one(&self, by: By<'_>) -> String {
        let mut found = self.find(by).await;
        assert_eq!(
            found.len(),
            1,
            "{by:?} matches {} elements of {}",
            found.len(),
            self.url().await
        );
        found.remove(0)
    }

    async fn get(&self, command: &str) -> Value {
        call(
            self.port,
            "GET",
            &format!("/session/{}/{command}", self.session),
            Value::Null,
        )
        .await
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        call(
            self.port,
            "POST",
            &format!("/session/{}/{command}", self.session),
            body,
        )
        .await
    }
}

impl Drop for Browser {
    /// Ends the session, which answers when Chromium is gone: only then can its profile be removed for good.
    fn drop(&mut self) {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let request = request(
                "DELETE",
                &format!("/session/{}", self.session),
                self.port,
                "",
            );
            // What fails here is cleaned up by the supervisor.
            let _ = stream
                .write_all(request.as_bytes())
                .and_then(|()| stream.read(&mut [0]));
        }
    }
}

/// Sends one WebDriver command that must succeed.
async fn call(port: u16, method: &str, path: &str, body: Value) -> Value {
    let answer = answer(port, method, path, body).await;
    answer.unwrap_or_else(|said| panic!("{said}"))
}

/// Sends one WebDriver command; a connection each is fast enough on loopback. A refusal is returned with what was asked.
async fn answer(port: u16, method: &str, path: &str, body: Value) -> Result<Value, String> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = BufStream::new(stream.expect("chromedriver listens"));
    let request = request(method, path, port, &body);
    stream
        .write_all(request.as_bytes())
        .await
        .expect("chromedriver reads");
    stream.flush().await.expect("chromedriver reads");
    // It keeps the connection open, whatever it is asked: the length tells where the answer ends.
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        let read = stream
            .read_line(&mut head)
            .await
            .expect("chromedriver answers");
        assert_ne!(read, 0, "{method} {path}: {head}");
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut answer = vec![0; length];
    stream
        .read_exact(&mut answer)
        .await
        .expect("chromedriver answers");
    let said = String::from_utf8_lossy(&answer);
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("{method} {path}: {said}"));
    }
    Ok(serde_json::from_str::<Value>(&said).expect("JSON from chromedriver")["value"].take())
}

fn request(method: &str, path: &str, port: u16, body: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}");
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Finds chromedriver and Chromium in the folders of a PATH.
fn programs(path: &str) -> Result<(PathBuf, PathBuf), String> {
    let find = |name: &str, package: &str| {
        std::env::split_paths(path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
            .ok_or_else(|| format!("no {name} in PATH: apt-get install {package}"))
    };
    Ok((
        find("chromedriver", "chromium-driver")?,
        find("chromium", "chromium")?,
    ))
}

/// Reads the port from "ChromeDriver was started successfully on port 41233.", and drains what comes later.
/// What it says instead is the error.
fn chosen_port(said: std::process::ChildStdout) -> Result<u16, String> {
    let mut said = BufReader::new(said);
    let mut log = String::new();
    while said.read_line(&mut log).expect("chromedriver writes UTF-8") > 0 {
        let port = log
            .rsplit_once("successfully on port ")
            .and_then(|(_, rest)| rest.trim_end_matches(['.', '\n']).parse().ok());
        if let Some(port) = port {
            std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
            return Ok(port);
        }
    }
    Err(log)
}

fn string(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string, not {value}"))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::patience::seen;
    use std::time::Duration;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(60);

    const PAGE: &str = "<!doctype html><title>before</title><script>document.title = 'script ran'</script>\
        <p style='color:red'>Anna &amp; Bo</p>\
        <form action=/sent><input name=who><button>Send</button></form>";

    /// Answers every request with the page and its path, until the runtime ends.
    async fn page(policy: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let read = stream.read(&mut request).await.expect("a request");
                    let path = String::from_utf8_lossy(&request[..read])
                        .split(' ')
                        .nth(1)
                        .unwrap_or_default()
                        .to_owned();
                    let body = format!("{PAGE}<p id=path>{path}</p>");
                    let head = format!(
                        "content-type: text/html\r\ncontent-security-policy: {policy}\r\nconnection: close"
                    );
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream
                        .write_all(answer.as_bytes())
                        .await
                        .expect("the browser reads");
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn the_browser_reads_types_clicks_and_runs_no_script() {
        let url = page("default-src 'none'; script-src 'unsafe-inline'; form-action 'self'").await;
        let browser = Browser::start().await;
        browser.goto(&url).await;
        assert_eq!(browser.title().await, "before", "a script ran");
        assert_eq!(browser.text().await, "Anna & Bo\nSend\n/");
        let console = browser.console().await.concat();
        assert!(console.contains("Content Security Policy"), "{console}");

        browser.type_into(By::Css("input[name=who]"), "Chris").await;
        browser.click(By::Xpath("//button[text()='Send']")).await;
        seen(
            "the page to which the form leads",
            PATIENCE,
            async || match browser.text().await {
                text if text.ends_with("/sent?who=Chris") => Ok(()),
                text => Err(text),
            },
        )
        .await;
        assert_eq!(browser.url().await, format!("{url}sent?who=Chris"));
        assert!(browser.find(By::Css("table")).await.is_empty());

        let folder = tempfile::tempdir().expect("a folder");
        let png = folder.path().join("page.png");
        browser.screenshot(&png).await;
        assert!(std::fs::read(&png).expect("a file").starts_with(b"\x89PNG"));
    }

    #[tokio::test]
    async fn the_same_page_runs_its_script_where_script_is_allowed() {
        let url = page("script-src 'unsafe-inline'").await;
        let browser = Browser::with(&json!({})).await;
        browser.goto(&url).await;
        assert_eq!(
            browser.title().await,
            "script ran",
            "the test above could not see a script"
        );
    }

    #[test]
    fn a_missing_browser_names_the_package() {
        let empty = tempfile::tempdir().expect("a folder");
        let path = empty.path().to_str().expect("UTF-8");
        assert!(
            programs(path)
                .expect_err("nothing is there")
                .ends_with("apt-get install chromium-driver")
        );
        std::fs::write(empty.path().join("chromedriver"), "").expect("a file");
        assert!(
            programs(path)
                .expect_err("half is there")
                .ends_with("apt-get install chromium")
        );
    }
}
