//! confirmd as it is shipped: the release binary as a child, on a fresh database.

use std::cell::{Cell, OnceCell};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use confirmd::clock::random;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::people::People;
use crate::postgres;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_confirmd");

/// Which database a run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Postgres,
}

/// Where mails go when delivery is off: nowhere.
pub const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// SMTP connections as many as the default says.
pub const SESSIONS: usize = 8;

/// A folder with a configuration, keys and a database.
pub struct Home {
    pub db: Db,
    pub url: String,
    dir: PathBuf,
    key: OnceCell<String>,
    /// Who signs up here, and the number of the next of them.
    pub people: People,
    pub next: Cell<u64>,
    /// Ids that were made since are greater.
    since: Cell<Uuid>,
    /// Goes with it, unless the folder is kept.
    temporary: Option<TempDir>,
    database: Option<postgres::Database<'static>>,
}

impl Home {
    /// Makes one with a fresh database. Delivery is on if there is a relay to deliver to.
    pub fn new(db: Db, relay: Option<SocketAddr>) -> Self {
        let database = (db == Db::Postgres).then(postgres::database);
        let home = Self::temporary(db, database);
        home.deliver_to(relay, SESSIONS);
        home
    }

    /// Takes one on SQLite from a folder that was kept, without delivery. What is there does not count.
    pub fn kept(dir: &Path) -> Self {
        let mut home = Self::on(Db::Sqlite, dir.to_owned(), None);
        // Nobody who signed up in an earlier run signs up again.
        home.people = People::new(u64::from_ne_bytes(random()));
        home.deliver_to(None, SESSIONS);
        home.count_from_now();
        home
    }

    /// Keeps its folder under this name.
    pub fn keep(self, dir: &Path) -> Self {
        let temporary = self.temporary.expect("a temporary folder").keep();
        std::fs::rename(temporary, dir).expect("a folder on the same disk");
        Self::kept(dir)
    }

    /// Makes another one like it, without delivery. Nothing has this one open.
    pub fn copy(&self) -> Self {
        let database = self.database.as_ref();
        let database = database.map(|database| postgres::shared().database_from(database));
        let home = Self::temporary(self.db, database);
        let all = self.dir.join(".");
        let done = Command::new("cp")
            .arg("-a")
            .arg(all)
            .arg(&home.dir)
            .status();
        assert!(done.is_ok_and(|done| done.success()), "cp");
        home.since.set(self.since.get());
        home.deliver_to(None, SESSIONS);
        home.sync();
        home
    }

    fn temporary(db: Db, database: Option<postgres::Database<'static>>) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let dir = temporary.path().to_owned();
        Self {
            temporary: Some(temporary),
            ..Self::on(db, dir, database)
        }
    }

    fn on(db: Db, dir: PathBuf, database: Option<postgres::Database<'static>>) -> Self {
        let url = match &database {
            Some(database) => database.url.clone(),
            None => format!("sqlite:{}/confirmd.db", dir.display()),
        };
        Self {
            db,
            url,
            dir,
            key: OnceCell::new(),
            people: People::new(1),
            next: Cell::new(0),
            since: Cell::new(Uuid::nil()),
            temporary: None,
            database,
        }
    }

    /// Says where the next daemon delivers to, over how many connections; to nowhere when there is no relay.
    pub fn deliver_to(&self, relay: Option<SocketAddr>, sessions: usize) {
        let settings = self.settings(relay, sessions);
        std::fs::write(self.dir.join("confirmd.toml"), settings).expect("a file");
    }

    /// What is there by now counts no longer.
    pub fn count_from_now(&self) {
        let now = confirmd::clock::Clock::System.now().as_micros() / 1000;
        let now = u128::from(now.unsigned_abs()) << 80;
        self.since.set(Uuid::from_u128(now));
    }

    /// Waits until the disk has the file of the SQLite database: its writing would disturb what is measured.
    pub fn sync(&self) {
        if self.db == Db::Sqlite {
            let file = std::fs::File::open(self.file()).expect("the database");
            file.sync_all().expect("synced");
        }
    }

    /// Returns the file of the SQLite database.
    pub fn file(&self) -> PathBuf {
        self.dir.join("confirmd.db")
    }

    /// Returns the folder of the keys.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    fn settings(&self, relay: Option<SocketAddr>, sessions: usize) -> String {
        let (url, dir) = (&self.url, self.dir.display());
        let (deliver, relay) = (relay.is_some(), relay.unwrap_or(NOWHERE));
        let (host, port) = (relay.ip(), relay.port());
        format!(
            r#"
[server]
listen = "127.0.0.1:0"
public_url = "https://lists.acme.example"
[ops]
listen = "127.0.0.1:0"
[database]
url = "{url}"
[keys]
dir = "{dir}/keys"
[log]
format = "json"
filter = "info"
[smtp]
host = "{host}"
port = {port}
tls = "none"
sessions = {sessions}
[roles]
deliver = {deliver}
[senders.acme]
name = "Acme B.V."
address = "Keizersgracht 1, 1015 CN Amsterdam, NL"
contact = "privacy@acme.example"
privacy_url = "https://acme.example/privacy"
authority = {{ name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }}
from = "Acme <confirm@acme.example>"
[lists.weekly]
sender = "acme"
title = {{ en = "Weekly news", nl = "Weekbericht" }}
consent = {{ en = "Yes, mail me the weekly news of Acme B.V.", nl = "Ja, mail mij het weekbericht van Acme B.V." }}
frequency = "P7D"
origins = ["https://acme.example"]
"#
        )
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CONFIRMD_CONFIG", self.dir.join("confirmd.toml"));
        command
    }

    /// Runs a command to its end and returns what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        let done = self.command(words).output().expect("the program");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success(),
            "confirmd {}: {said}",
            words.join(" ")
        );
        String::from_utf8(done.stdout)
            .expect("text")
            .trim()
            .to_owned()
    }

    /// Starts a daemon and waits until it says that it serves.
    pub fn serve(&self) -> Daemon {
        let mut child = self
            .command(&["serve"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let stderr = child.stderr.take().expect("piped");
        let mut daemon = Daemon {
            child,
            http: NOWHERE,
            ops: NOWHERE,
        };
        (daemon.http, daemon.ops) = addresses(stderr);
        daemon
    }

    /// Starts a daemon, and returns how long it took until `/readyz` said so.
    pub fn serve_until_ready(&self) -> (Daemon, Duration) {
        const ASK: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let began = Instant::now();
        let daemon = self.serve();
        loop {
            let mut stream = TcpStream::connect(daemon.ops).expect("it listens");
            stream.write_all(ASK).expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            if answer.starts_with("HTTP/1.1 200") {
                return (daemon, began.elapsed());
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "not ready: {answer}"
            );
        }
    }

    /// Returns an API key, made when it is first asked for. A command's write makes a daemon empty its log.
    pub fn key(&self) -> String {
        let words = ["key", "create", "--sender", "acme", "--scope", "signup"];
        self.key.get_or_init(|| self.run(&words)).clone()
    }

    /// Returns a count from the database; `$1` stands for the id after which rows count.
    pub async fn count(&self, sql: &'static str) -> usize {
        let (count,): (i64,) = self.rows(sql).await.remove(0);
        usize::try_from(count).expect("a count")
    }

    /// Returns ids from the database; `$1` stands for the same.
    pub async fn ids(&self, sql: &'static str) -> Vec<Uuid> {
        let rows: Vec<(Uuid,)> = self.rows(sql).await;
        rows.into_iter().map(|(id,)| id).collect()
    }

    async fn rows<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>,
    {
        let since = match self.db {
            Db::Sqlite => format!("x'{}'", self.since.get().simple()),
            Db::Postgres => format!("'{}'", self.since.get()),
        };
        let sql = AssertSqlSafe(sql.replace("$1", &since));
        let url = &self.url;
        let rows = match self.db {
            Db::Sqlite => {
                let database = SqliteConnection::connect(url).await;
                sqlx::query_as(sql)
                    .fetch_all(&mut database.expect("the database"))
                    .await
            }
            Db::Postgres => {
                let database = PgConnection::connect(url).await;
                sqlx::query_as(sql)
                    .fetch_all(&mut database.expect("the database"))
                    .await
            }
        };
        rows.expect("rows")
    }

    /// Panics unless there are as many signups, and events that accepted them, as 202s.
    pub async fn assert_signups(&self, accepted: usize) {
        let rows = self
            .count("select count(*) from signup where id > $1")
            .await;
        let events = self
            .count("select count(*) from event where id > $1 and type = 'signup.accepted'")
            .await;
        assert_eq!(
            (rows, events),
            (accepted, accepted),
            "rows and events beside 202s"
        );
    }

    /// Refuses to measure unless the database promises that what it says is stored is stored.
    pub fn assert_durable(&self) {
        let said = self.run(&["check", "--offline", "--format", "text"]);
        let needed: &[&str] = match self.db {
            Db::Sqlite => &["journal_mode wal", "synchronous 2"],
            Db::Postgres => &["fsync on", "synchronous_commit on"],
        };
        for setting in needed {
            assert!(
                said.contains(setting),
                "durability is not on: no {setting:?} in\n{said}"
            );
        }
    }
}

/// A running daemon; killed with its handle.
pub struct Daemon {
    child: Child,
    pub http: SocketAddr,
    pub ops: SocketAddr,
}

impl Daemon {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a line of `/proc/PID/status` that counts kilobytes, in megabytes.
    pub fn memory(&self, name: &str) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kilobytes.unwrap_or_else(|| panic!("no {name}")) / 1024.0
    }

    /// Returns the processor time that it took so far, in seconds: unlike a rate it hardly moves with what else runs.
    pub fn cpu(&self) -> f64 {
        /// Of `times(2)`, on every Linux that there is.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        // After the name, which may hold anything, come the state and then numbers; 14 and 15 of all are the times.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let times = rest.split_whitespace().skip(11).take(2);
        times.flat_map(str::parse::<f64>).sum::<f64>() / TICKS
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addresses(stderr: ChildStderr) -> (SocketAddr, SocketAddr) {
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let found = lines.by_ref().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        said.push(line);
        let address = |name: &str| value[name].as_str()?.parse().ok();
        Some((address("http")?, address("ops")?))
    });
    // It logs as it comes; of that, what it complains of belongs to the measurement.
    let is_complaint = |line: &String| !line.contains(r#""level":"INFO""#);
    std::thread::spawn(move || {
        let complaints = lines.filter(is_complaint);
        complaints.for_each(|line| println!("    confirmd says: {line}"));
    });
    found.unwrap_or_else(|| panic!("confirmd does not serve:\n{}", said.join("\n")))
}
