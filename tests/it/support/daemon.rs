//! The program itself as a process: a folder with its configuration, started, killed and started again on the same folder.
//!
//! Nothing here waits for a fixed time: a test waits for a line of the log, or asks again until a deadline.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::{Db, LISTS};
use super::http::{Response, send};
use super::patience::seen;
use super::{out, postgres, sql};

/// How long a test waits for a process.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Ends a program when the test process ends in whatever way: the kernel then closes the pipe that is its standard input.
/// A line on it says that the program has ended and its number may belong to another.
const GUARD: &str = "read -r _ || kill -9 $1";

/// SMTP timeouts and leases that suit loopback: a claim of a dead process is free again after ten seconds.
pub const QUICK: &str = r#"
[smtp.timeouts]
connect = "1 s"
greeting = "1 s"
hello = "1 s"
mail = "1 s"
rcpt = "1 s"
data = "2 s"
body = "2 s"
dot = "15 s"
[delivery]
lease_margin = "1 s"
poll = "200 ms"
"#;

/// A folder with a configuration and a database, on which confirmd runs as often as a test likes.
pub struct Home {
    pub dir: TempDir,
    pub db: Db,
    pub url: String,
    /// Words that are put before the program when it serves.
    pub wrapper: Vec<String>,
    env: Vec<(String, String)>,
    database: Option<postgres::Database<'static>>,
}

impl Home {
    /// Makes one with the usual lists, and more settings (whole TOML sections).
    pub fn new(db: Db, relay: SocketAddr, settings: &str) -> Home {
        Home::inside(&std::env::temp_dir(), db, relay, settings)
    }

    /// Makes one below this folder.
    pub fn inside(folder: &Path, db: Db, relay: SocketAddr, settings: &str) -> Home {
        let dir = tempfile::tempdir_in(folder).expect("a folder");
        let (database, url) = match db {
            Db::Sqlite => (None, format!("sqlite:{}/confirmd.db", dir.path().display())),
            Db::Postgres => {
                let database = postgres::database();
                let url = database.url.clone();
                (Some(database), url)
            }
        };
        let mut home = Home {
            db,
            wrapper: Vec::new(),
            env: Vec::new(),
            database,
            url,
            dir,
        };
        home.set("SERVER__LISTEN", "127.0.0.1:0");
        home.set("SERVER__PUBLIC_URL", "https://lists.acme.example");
        home.set("OPS__LISTEN", "127.0.0.1:0");
        home.set("DATABASE__URL", &home.url.clone());
        home.set("DATABASE__RESERVE", "1 MB");
        home.set("DATABASE__MIN_FREE", "1 MB");
        home.set("SMTP__HOST", &relay.ip().to_string());
        home.set("SMTP__PORT", &relay.port().to_string());
        home.set("SMTP__TLS", "none");
        home.set("KEYS__DIR", &home.keys().display().to_string());
        home.set("LOG__FORMAT", "json");
        home.write(LISTS, settings);
        home
    }

    /// Copies the database, which no process has open; returns where the copy is, and what keeps it there.
    pub fn back_up(&self) -> (String, Option<postgres::Database<'static>>) {
        match &self.database {
            None => {
                let copy = self.dir.path().join("backup.db");
                std::fs::copy(self.dir.path().join("confirmd.db"), &copy).expect("a copy");
                (format!("sqlite:{}", copy.display()), None)
            }
            Some(database) => {
                let copy = postgres::shared().database_from(database);
                (copy.url.clone(), Some(copy))
            }
        }
    }

    /// Returns where the first PostgreSQL database is.
    pub fn original(&self) -> &str {
        self.database
            .as_ref()
            .map_or(&self.url, |database| &database.url)
    }

    /// Runs on another database from now on.
    pub fn move_to(&mut self, url: &str) {
        self.url = url.to_owned();
        self.set("DATABASE__URL", url);
    }

    /// Sets a variable of the environment.
    pub fn set(&mut self, key: &str, value: &str) {
        let key = format!("CONFIRMD_{key}");
        self.env.retain(|(name, _)| *name != key);
        self.env.push((key, value.to_owned()));
    }

    /// Leaves a variable to the configuration file.
    pub fn unset(&mut self, key: &str) {
        let key = format!("CONFIRMD_{key}");
        self.env.retain(|(name, _)| *name != key);
    }

    /// Writes the configuration file.
    pub fn write(&self, lists: &str, settings: &str) {
        std::fs::write(self.file(), format!("{settings}\n{lists}")).expect("a file");
    }

    /// Returns the folder of the keys.
    pub fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("confirmd.toml")
    }

    /// Starts `serve` and waits until it serves.
    pub async fn start(&self) -> Daemon {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        let mut daemon = self.spawn_by(&wrapper, &["serve"]);
        let serves = daemon.line("serves", |line| line["http"].is_string()).await;
        let addr = |name: &str| serves[name].as_str().and_then(|text| text.parse().ok());
        daemon.addr = addr("http").expect("an address");
        daemon.ops = addr("ops").expect("an address");
        daemon
    }

    /// Runs a command, or a `serve` that must refuse, to its end.
    pub async fn run(&self, words: &[&str]) -> Done {
        Self::finish(self.spawn(words)).await
    }

    /// Runs a command as a user who owns nothing; only root can.
    pub async fn run_as_nobody(&self, words: &[&str]) -> Done {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.dir.path(), open).expect("ours");
        let nobody = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
        ];
        self.run_by(&nobody, words).await
    }

    /// Runs a command whose answers go elsewhere, to its end.
    pub async fn run_into(&self, stdout: impl Into<Stdio>, words: &[&str]) -> Done {
        Self::finish(self.spawn_into(stdout.into(), &[], words)).await
    }

    /// Runs a command by another one, to its end.
    pub async fn run_by(&self, wrapper: &[&str], words: &[&str]) -> Done {
        Self::finish(self.spawn_by(wrapper, words)).await
    }

    async fn finish(mut process: Daemon) -> Done {
        let status = process.wait().await;
        Done {
            code: status.code(),
            stdout: process.stdout.borrow().join("\n"),
            stderr: process.stderr.borrow().join("\n"),
        }
    }

    /// Has `serve` make the database and the first keys.
    pub async fn first_start(&self) {
        let mut first = self.start().await;
        first.term();
        assert!(first.wait().await.success());
    }

    /// Makes an API key with the command, on a database that `serve` has made.
    pub async fn key(&self, sender: &str, scope: &str) -> String {
        if !self.keys().exists() {
            self.first_start().await;
        }
        let made = self
            .run(&["key", "create", "--sender", sender, "--scope", scope])
            .await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        out::secret(&made.stdout);
        made.stdout
    }

    /// Starts the program with these words.
    pub fn spawn(&self, words: &[&str]) -> Daemon {
        self.spawn_by(&[], words)
    }

    fn spawn_by(&self, wrapper: &[&str], words: &[&str]) -> Daemon {
        self.spawn_into(Stdio::piped(), wrapper, words)
    }

    fn spawn_into(&self, stdout: Stdio, wrapper: &[&str], words: &[&str]) -> Daemon {
        let program = env!("CARGO_BIN_EXE_confirmd");
        let all: Vec<&str> = [wrapper, &[program], words].concat();
        let mut child = Command::new(all[0])
            .args(&all[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("CONFIRMD_CONFIG", self.file())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the program starts");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh");
        // What these two commands answer holds an address or a key: that is what they are for.
        let answers = !matches!(words[0], "key" | "subscriber");
        let stdout = match child.stdout.take() {
            Some(piped) => listen(piped, answers),
            None => listen(std::io::empty(), false),
        };
        let stderr = listen(child.stderr.take().expect("piped"), true);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Daemon {
            child,
            guard,
            stdout,
            stderr,
            addr: nowhere,
            ops: nowhere,
        }
    }

    /// Runs a query and returns its rows as texts.
    pub async fn sql(&self, query: &str) -> Vec<String> {
        sql::rows(&self.url, query).await
    }

    /// Runs a query that answers one number.
    pub async fn count(&self, query: &str) -> usize {
        let texted = match self.db {
            Db::Sqlite => format!("select cast(({query}) as text)"),
            Db::Postgres => format!("select ({query})::text"),
        };
        self.sql(&texted).await[0].parse().expect("a number")
    }

    /// Asks until a query answers this number.
    pub async fn until(&self, what: &str, query: &str, wanted: usize) {
        seen(
            &format!("{wanted} {what}"),
            PATIENCE * 3,
            async || match self.count(query).await {
                found if found == wanted => Ok(()),
                found => Err(found),
            },
        )
        .await;
    }

    /// Returns every row of every table, in an order of its own.
    pub async fn dump(&self) -> String {
        sql::dump(&self.url).await
    }

    /// Waits until every mail has ended and every event has its number.
    pub async fn idle(&self) {
        self.until("mails that wait", WAITING, 0).await;
        self.until("events without a number", UNNUMBERED, 0).await;
    }

    /// Fails unless the trail is numbered from 1 without a gap, and as long as its head says; returns how often each type
    /// of event happened.
    pub async fn trail(&self) -> std::collections::BTreeMap<String, usize> {
        let text = match self.db {
            Db::Sqlite => "cast(seq as text)",
            Db::Postgres => "seq::text",
        };
        let rows = format!("select {text} || ' ' || type from numbered_event order by seq");
        let mut counts = std::collections::BTreeMap::new();
        let rows = self.sql(&rows).await;
        for (i, row) in rows.iter().enumerate() {
            let (seq, kind) = row.split_once(' ').expect("two words");
            assert_eq!(seq, (i + 1).to_string(), "a gap in the trail");
            *counts.entry(kind.to_owned()).or_insert(0) += 1;
        }
        for all in ["select size from trail_head", "select count(*) from event"] {
            assert_eq!(self.count(all).await, rows.len(), "{all}");
        }
        counts
    }
}

const WAITING: &str = "select count(*) from message where state in ('queued', 'claimed')";
const UNNUMBERED: &str = "select count(*) from unnumbered_event";

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A process of confirmd; killed when dropped, and when the test process ends.
pub struct Daemon {
    pub child: Child,
    guard: Child,
    pub stdout: watch::Receiver<Vec<String>>,
    pub stderr: watch::Receiver<Vec<String>>,
    pub addr: SocketAddr,
    pub ops: SocketAddr,
}

impl Daemon {
    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.child.kill().expect("it can be killed");
        let status = self.child.wait().expect("it has ended");
        assert_eq!(status.signal(), Some(9), "it had ended before");
    }

    /// Returns the number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub fn term(&self) {
        self.signal("TERM");
    }

    /// Asks it to reload.
    pub fn hup(&self) {
        self.signal("HUP");
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn int(&self) {
        self.signal("INT");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        // Not yet waited for, so that the number is still its own.
        let line = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &line]).status();
        assert!(sent.expect("sh").success(), "{line}");
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        seen("its end", within, async || {
            let ended = self.child.try_wait().expect("it can be asked");
            ended.ok_or("it runs")
        })
        .await
    }

    /// Waits until it has ended and everything that it said was read.
    pub async fn wait(&mut self) -> ExitStatus {
        let status = self.ended(PATIENCE).await;
        for said in [&mut self.stdout, &mut self.stderr] {
            // The reading thread drops its end at the end of the pipe.
            while said.changed().await.is_ok() {}
        }
        status
    }

    /// Waits for a line of the log and returns it.
    pub async fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = |lines: &Vec<String>| {
            let mut lines = lines
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line: &Value| wanted(line))
        };
        let lines = until(&mut self.stderr, what, |lines| found(lines).is_some()).await;
        found(&lines).expect("it was there")
    }

    /// Waits for a log line with this message.
    pub async fn message(&mut self, message: &str) -> Value {
        self.line(message, |line| line["message"] == message).await
    }

    /// Returns the log lines so far.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.stderr.borrow();
        let json = |line: &String| serde_json::from_str(line).unwrap_or(Value::Null);
        lines.iter().map(json).collect()
    }

    /// Counts the log lines with this message.
    pub fn count(&self, message: &str) -> usize {
        let log = self.log();
        log.iter().filter(|l| l["message"] == message).count()
    }

    /// Asks the operator's listener.
    pub async fn ops(&self, path: &str) -> Response {
        let answer = send(self.ops, "GET", path, &[], b"").await;
        if path == "/metrics" {
            out::metrics(&answer.body);
        }
        answer
    }

    /// Posts a form to a link, as a button does.
    pub async fn press(&self, link: &str, form: &str) -> Response {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let path = super::app::path(link);
        send(self.addr, "POST", path, &[kind], form.as_bytes()).await
    }

    /// Opens a link.
    pub async fn open(&self, link: &str) -> Response {
        send(self.addr, "GET", super::app::path(link), &[], b"").await
    }

    /// Signs up in English.
    pub async fn sign_up(&self, key: &str, email: &str, lists: &[&str]) -> Response {
        out::secret(email);
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = super::app::signup(email, lists).to_string();
        send(self.addr, "POST", "/v1/signups", &headers, body.as_bytes()).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(mut guard) = self.guard.stdin.take() {
            let _ = guard.write_all(b"ended\n");
        }
        let _ = self.guard.wait();
    }
}

/// Returns a pipe that nobody reads.
pub fn unread() -> PipeWriter {
    let (_, unread) = std::io::pipe().expect("a pipe");
    unread
}

/// Reads lines until the pipe ends, and keeps them for the leak search.
fn listen(pipe: impl Read + Send + 'static, keep: bool) -> watch::Receiver<Vec<String>> {
    let (said, lines) = watch::channel(Vec::new());
    std::thread::spawn(move || {
        let mut log = out::log("confirmd").filter(|_| keep);
        for line in BufReader::new(pipe).lines() {
            let line = line.expect("UTF-8");
            if let Some(log) = &mut log {
                // One write a line: those of several processes do not mix.
                log.write_all(format!("{line}\n").as_bytes())
                    .expect("a log");
            }
            said.send_modify(|lines| lines.push(line));
        }
    });
    lines
}

/// Waits until lines are as wanted, and returns them.
pub async fn until(
    said: &mut watch::Receiver<Vec<String>>,
    what: &str,
    mut wanted: impl FnMut(&Vec<String>) -> bool,
) -> Vec<String> {
    let waited = timeout(PATIENCE, said.wait_for(|lines| wanted(lines))).await;
    match waited.map(|found| found.map(|lines| lines.clone())) {
        Ok(Ok(lines)) => lines,
        _ => panic!("waited for {what}; it said:\n{}", said.borrow().join("\n")),
    }
}

#[tokio::test]
async fn a_daemon_goes_with_its_handle_or_with_the_test_process() {
    let relay = SocketAddr::from(([127, 0, 0, 1], 9));
    let home = Home::new(Db::Sqlite, relay, "");
    let daemon = home.start().await;
    let folder = PathBuf::from(format!("/proc/{}", daemon.child.id()));
    assert!(folder.exists());
    drop(daemon);
    assert!(!folder.exists());

    let mut daemon = home.start().await;
    // What the kernel does when this process dies.
    drop(daemon.guard.stdin.take());
    assert_eq!(daemon.wait().await.signal(), Some(9));
}
