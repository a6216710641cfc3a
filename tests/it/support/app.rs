//! confirmd in this process, with verbs: a fixed clock, a scripted SMTP peer, one of the two databases.
//!
//! Everything is done through the outside: HTTP, SMTP and SQL. Background roles stand still until a test steps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use confirmd::background::outlets::Outlets;
use confirmd::background::{sequence, sweep};
use confirmd::cli::serve::{Parts, Service, install_crypto};
use confirmd::clock::Clock;
use confirmd::config::Config;
use confirmd::domain::address::Address;
use confirmd::domain::time::Timestamp;
use confirmd::flow::Flows;
use confirmd::flow::api_key::{self, Scope};
use confirmd::flow::checkpoint::{Outcome, checkpoint_now};
use confirmd::flow::keyring;
use confirmd::lifecycle::Stop;
use confirmd::store::Tx;
use confirmd::telemetry::logs;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Response, send};
use super::mail::Mail;
use super::patience::seen;
use super::peer::Peer;
use super::{out, postgres, sql};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Postgres,
}

impl Db {
    /// Returns the column that holds the number of an event once it has one.
    pub fn seq(self) -> &'static str {
        match self {
            Db::Sqlite => "ord",
            Db::Postgres => "seq",
        }
    }
}

/// Writes a test once and runs it on both databases.
///
/// `both!(name, |db| { ... })` makes the tests `name::sqlite` and `name::postgres`.
macro_rules! both {
    ($(#[$meta:meta])* $name:ident, |$db:ident| $body:block) => {
        mod $name {
            use super::*;
            #[allow(clippy::allow_attributes, unused_variables)]
            async fn body($db: $crate::support::app::Db) $body
            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() { body($crate::support::app::Db::Sqlite).await }
            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() { body($crate::support::app::Db::Postgres).await }
        }
    };
}
pub(crate) use both;

/// The instant at which every test begins.
pub const BEGIN: &str = "2026-11-23T09:00:00Z";

/// The senders and lists that tests have, unless they bring their own.
pub const LISTS: &str = r#"
[senders.acme]
name = "Acme B.V."
address = "Keizersgracht 1, 1015 CN Amsterdam, NL"
contact = "privacy@acme.example"
privacy_url = "https://acme.example/privacy"
authority = { name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }
from = "Acme <confirm@acme.example>"
[senders.other]
name = "Other N.V."
address = "Damrak 2, 1012 LG Amsterdam, NL"
contact = "privacy@other.example"
privacy_url = "https://other.example/privacy"
authority = { name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }
from = "Other <confirm@other.example>"
[lists.weekly]
sender = "acme"
title = { en = "Weekly news", nl = "Weekbericht" }
consent = { en = "Yes, mail me the weekly news of Acme B.V.", nl = "Ja, mail mij het weekbericht van Acme B.V." }
frequency = "P7D"
origins = ["https://acme.example"]
redirects = ["https://acme.example/thanks"]
signup_url = "https://acme.example/news"
attributes = ["plan"]
[lists.offers]
sender = "acme"
title = { en = "Offers", nl = "Aanbiedingen" }
consent = { en = "Yes, mail me offers of Acme B.V.", nl = "Ja, mail mij aanbiedingen van Acme B.V." }
goodbye = false
[lists.tips]
sender = "other"
title = { en = "Tips" }
consent = { en = "Yes, mail me tips of Other N.V." }
"#;

/// One running confirmd.
pub struct TestApp {
    pub db: Db,
    pub dir: TempDir,
    pub clock: Clock,
    pub flows: Arc<Flows>,
    pub peer: Peer,
    /// The address of the API and the pages.
    pub addr: SocketAddr,
    pub ops: SocketAddr,
    /// An API key of `acme` with the scope `signup`.
    pub key: String,
    pub url: String,
    pub deliver: Arc<confirmd::background::deliver::Deliver>,
    pub outlets: Arc<Outlets>,
    parts: Parts,
    stop: Stop,
    running: tokio::task::JoinHandle<()>,
    _database: Option<postgres::Database<'static>>,
}

impl TestApp {
    /// Starts with the usual lists.
    pub async fn start(db: Db) -> TestApp {
        Self::with(db, LISTS, "").await
    }

    /// Starts with other lists, or with more settings (whole TOML sections).
    pub async fn with(db: Db, lists: &str, settings: &str) -> TestApp {
        install_crypto();
        log_inside();
        let dir = tempfile::tempdir().expect("a folder");
        let peer = Peer::start().await;
        let (database, url) = match db {
            Db::Sqlite => (None, format!("sqlite:{}/confirmd.db", dir.path().display())),
            Db::Postgres => {
                let database = postgres::database();
                let url = database.url.clone();
                (Some(database), url)
            }
        };
        let config = config(&dir, &url, peer.addr(), lists, settings);
        let clock = Clock::fixed(Timestamp::parse(BEGIN).expect("an instant"));
        let service = Service::open(&config, clock.clone()).await;
        let service = service.unwrap_or_else(|e| panic!("{e:#}"));
        let (addr, ops) = (service.http_address(), service.ops_address());
        let (flows, deliver) = (service.flows.clone(), service.deliver.clone());
        let (outlets, parts) = (service.outlets.clone(), service.parts());
        let key = make_key(&flows, "acme", &[Scope::Signup]).await;
        let stop = Stop::new();
        let running = {
            let stop = stop.clone();
            tokio::spawn(async move {
                service.run(&stop).await;
            })
        };
        TestApp {
            db,
            dir,
            clock,
            flows,
            peer,
            addr: addr.expect("an address"),
            ops: ops.expect("an address"),
            key,
            url,
            deliver,
            outlets,
            parts,
            stop,
            running,
            _database: database,
        }
    }

    /// Makes an API key.
    pub async fn make_key(&self, sender: &str, scopes: &[Scope]) -> String {
        make_key(&self.flows, sender, scopes).await
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Sets the clock back.
    pub fn set_back(&self, time: Duration) {
        let Clock::Fixed(at) = &self.clock else {
            panic!("it stands still");
        };
        let micros = i64::try_from(time.as_micros()).expect("not that far");
        at.fetch_sub(micros, Ordering::SeqCst);
    }

    /// Signs up and returns the answer.
    pub async fn post_signup(&self, body: &Value) -> Response {
        if let Some(email) = body["email"].as_str() {
            // A leak of less than a whole address could not be told from other words.
            if email.contains('@') && !email.contains(char::is_control) {
                out::secret(email);
            }
        }
        self.post_json("/v1/signups", &self.key, &[], &body.to_string())
            .await
    }

    /// Posts JSON with an API key.
    pub async fn post_json(
        &self,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let bearer = format!("Bearer {key}");
        let mut all = vec![
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        all.extend_from_slice(headers);
        send(self.addr, "POST", path, &all, body.as_bytes()).await
    }

    /// Signs up in English and returns the id.
    pub async fn sign_up(&self, email: &str, lists: &[&str]) -> String {
        let answer = self.post_signup(&signup(email, lists)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Sends every mail that is due now; returns how many were dealt with.
    pub async fn deliver(&self) -> usize {
        let mut dealt = 0;
        loop {
            match self.deliver.step().await.expect("the database works") {
                0 => return dealt,
                n => dealt += n,
            }
        }
    }

    /// Takes the keyring anew, as a reload does.
    pub async fn reload_keys(&self) {
        let dir = self.dir.path().join("keys");
        let keys = keyring::open_existing(&self.flows.pool, &dir).await;
        self.flows.set_keys(keys.expect("a keyring").expect("keys"));
    }

    /// Lets a key sign, as soon as everybody sees that it is here.
    pub async fn activate_key(&self, id: &str) {
        self.reload_keys().await;
        let dir = self.dir.path().join("keys");
        seen("the key", Duration::from_secs(20), async || {
            keyring::activate(&self.flows.pool, &dir, id, self.clock.now()).await
        })
        .await;
        self.reload_keys().await;
    }

    /// Numbers every event.
    pub async fn sequence(&self) {
        while sequence::step(&self.flows)
            .await
            .expect("the database works")
        {}
    }

    /// Signs a checkpoint over every event and returns its note.
    pub async fn checkpoint(&self) -> String {
        self.sequence().await;
        let signed = checkpoint_now(&self.flows).await;
        match signed.expect("the database works") {
            Outcome::Signed(kept) => kept.note,
            other => panic!("nothing was signed: {other:?}"),
        }
    }

    /// Gives the newest checkpoint to every place outside.
    pub async fn give(&self) {
        while self.outlets.step().await.expect("the database works") {}
    }

    /// Ends everything that is over, by a clock that may have jumped.
    pub async fn sweep(&self) {
        let mut tx = self.flows.pool.begin().await.expect("the database works");
        let now = self.clock.now();
        tx.set_clock(now).await.expect("the database works");
        tx.commit().await.expect("the database works");
        while sweep::step(&self.flows).await.expect("the database works") {}
    }

    /// Returns the mails that arrived for an address, oldest first, and notes their links as secrets.
    pub fn mailbox(&self, email: &str) -> Vec<Mail> {
        let mails = self.peer.mails();
        let to = |mail: &&super::peer::Mail| mail.envelope_to == [email];
        mails
            .iter()
            .filter(to)
            .map(|mail| Mail::read(&mail.bytes))
            .collect()
    }

    /// Signs up, has the mail sent and returns it.
    pub async fn mail_for(&self, email: &str, lists: &[&str]) -> Mail {
        self.sign_up(email, lists).await;
        self.deliver().await;
        self.mailbox(email).pop().expect("a mail arrived")
    }

    /// Signs up, has the mail sent and confirms every list; returns the mail.
    pub async fn subscribe(&self, email: &str, lists: &[&str]) -> Mail {
        let mail = self.mail_for(email, lists).await;
        let page = self.press(&mail.confirm(), "list=all").await;
        assert_eq!(page.status, 200, "{}", page.body);
        mail
    }

    /// Opens a link.
    pub async fn open(&self, link: &str) -> Response {
        send(self.addr, "GET", path(link), &[], b"").await
    }

    /// Presses a button: posts a form to a link.
    pub async fn press(&self, link: &str, form: &str) -> Response {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        send(self.addr, "POST", path(link), &[kind], form.as_bytes()).await
    }

    /// Presses the mail program's own button (RFC 8058).
    pub async fn one_click(&self, link: &str) -> Response {
        self.press(link, "List-Unsubscribe=One-Click").await
    }

    /// Returns the unsubscribe links of a page, and notes them as secrets.
    pub fn unsubscribe_links(&self, page: &Response) -> Vec<String> {
        super::mail::links(&page.body, "/u/")
    }

    /// Numbers what happened and returns it, oldest first.
    pub async fn events(&self) -> Vec<Value> {
        self.sequence().await;
        let mut tx = self.flows.pool.read().await.expect("the database works");
        let events = tx.events_after(0, i64::MAX, None).await;
        let events = events.expect("the database works");
        let json = |event| serde_json::to_value(event).expect("an event has a JSON form");
        events.iter().map(json).collect()
    }

    /// Returns how often each type of event happened.
    pub async fn event_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in self.events().await {
            let kind = event["type"].as_str().expect("a type").to_owned();
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts
    }

    /// Runs a query and returns its rows as texts, columns joined with `|`.
    pub async fn sql(&self, query: &str) -> Vec<String> {
        sql::rows(&self.url, query).await
    }

    /// Locks the mailbox of an address, as flows do: whoever else decides about it waits for the transaction's end.
    pub async fn hold_mailbox(&self, email: &str) -> Tx {
        let address = Address::parse(email).expect("an address");
        let mailbox = self.flows.keys().pepper.mailbox(&address);
        let mut tx = self.flows.pool.begin().await.expect("begun");
        tx.hold_mailboxes(&[mailbox].into()).await.expect("locked");
        tx
    }

    /// Waits until one transaction on PostgreSQL waits for another.
    pub async fn until_one_waits(&self) {
        const WAITING: &str = "select count(*)::text from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        seen(
            "one that waits",
            Duration::from_secs(60),
            async || match self.sql(WAITING).await.concat() {
                one if one == "1" => Ok(()),
                other => Err(other),
            },
        )
        .await;
    }

    /// Runs a statement.
    pub async fn execute(&self, statement: &str) -> Result<u64, String> {
        sql::execute(&self.url, statement).await
    }

    /// Returns every row of every table, in an order of its own.
    pub async fn dump(&self) -> String {
        sql::dump(&self.url).await
    }

    /// Reads another configuration of this confirmd.
    pub fn config(&self, lists: &str, settings: &str) -> Config {
        config(&self.dir, &self.url, self.peer.addr(), lists, settings)
    }

    /// Puts other lists in force, as SIGHUP does.
    pub async fn reload(&self, lists: &str) {
        let config = self.config(lists, "");
        let reloaded = self.parts.reload(&config).await;
        reloaded.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Puts another configuration in force, as SIGHUP does.
    pub async fn reload_with(&self, lists: &str, settings: &str) -> anyhow::Result<()> {
        self.parts.reload(&self.config(lists, settings)).await
    }

    /// Stops the service and starts it with another configuration on the same database, at the same time.
    pub async fn restart_with(&mut self, lists: &str, settings: &str) {
        self.end().await;
        let config = self.config(lists, settings);
        let service = Service::open(&config, self.clock.clone()).await;
        let service = service.unwrap_or_else(|e| panic!("{e:#}"));
        self.addr = service.http_address().expect("an address");
        self.ops = service.ops_address().expect("an address");
        self.flows = service.flows.clone();
        self.deliver = service.deliver.clone();
        self.outlets = service.outlets.clone();
        self.parts = service.parts();
        self.stop = Stop::new();
        let stop = self.stop.clone();
        self.running = tokio::spawn(async move {
            service.run(&stop).await;
        });
    }

    /// Stops the service; its database, its folder and its peer stay.
    pub async fn end(&mut self) {
        self.stop.trigger_soft();
        (&mut self.running).await.expect("the service ends");
    }

    /// Returns the numbers for the operator.
    pub async fn metrics(&self) -> String {
        let answer = send(self.ops, "GET", "/metrics", &[], b"").await;
        out::metrics(&answer.body);
        answer.body
    }

    /// Fetches with an API key.
    pub async fn get(&self, path: &str, key: &str) -> Response {
        let bearer = format!("Bearer {key}");
        send(self.addr, "GET", path, &[("authorization", &bearer)], b"").await
    }

    /// Says what became of a signup, as in `sent offers=confirmed weekly=withheld`.
    pub async fn outcome(&self, signup: &str) -> String {
        let id = match self.db {
            Db::Sqlite => format!("x'{}'", signup.replace('-', "")),
            Db::Postgres => format!("'{signup}'"),
        };
        let state = format!("select state from signup where id = {id}");
        let lists = format!(
            "select list || '=' || state from signup_list where signup = {id} order by list"
        );
        let mut words = self.sql(&state).await;
        words.extend(self.sql(&lists).await);
        words.join(" ")
    }

    /// Counts rows.
    pub async fn count(&self, table: &str) -> usize {
        let query = match self.db {
            Db::Sqlite => format!("select cast(count(*) as text) from {table}"),
            Db::Postgres => format!("select count(*)::text from {table}"),
        };
        let rows = self.sql(&query).await;
        rows[0].parse().expect("a number")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.trigger_hard();
        self.running.abort();
    }
}

/// A signup in English.
pub fn signup(email: &str, lists: &[&str]) -> Value {
    json!({
        "email": email,
        "lists": lists,
        "locale": "en",
        "consent": { "action": "checkbox", "source": "https://acme.example/news" },
    })
}

/// The part of a link that this machine answers: links name the public host.
pub fn path(link: &str) -> &str {
    link.strip_prefix("https://lists.acme.example")
        .unwrap_or(link)
}

/// Keeps what the services inside this process say where the search for leaks reads, if anything is kept.
fn log_inside() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(file) = out::log("confirmd-inside") {
            let lines = logs::subscriber(logs::Format::Json, "info", file);
            tracing::subscriber::set_global_default(lines.expect("a filter")).expect("the first");
        }
    });
}

async fn make_key(flows: &Flows, sender: &str, scopes: &[Scope]) -> String {
    let sender = sender.parse().expect("a name");
    let made = api_key::create(&flows.pool, flows.clock.now(), &sender, scopes).await;
    let (_, secret) = made.expect("the database works");
    out::secret(&secret);
    secret
}

/// The configuration of a test: background roles off, short SMTP timeouts.
pub fn config(dir: &TempDir, url: &str, relay: SocketAddr, lists: &str, settings: &str) -> Config {
    let file = dir.path().join("confirmd.toml");
    let text = format!(
        r#"
{settings}
{lists}
"#
    );
    std::fs::write(&file, text).expect("a file");
    let env = environment(dir, url, relay);
    let config = Config::load(Some(&file), env.into_iter());
    config.unwrap_or_else(|e| panic!("{e}"))
}

/// What a test sets in the environment, whether confirmd runs in this process or in another.
pub fn environment(dir: &TempDir, url: &str, relay: SocketAddr) -> Vec<(String, String)> {
    let set = |key: &str, value: String| (format!("CONFIRMD_{key}"), value);
    vec![
        set("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        set(
            "SERVER__PUBLIC_URL",
            "https://lists.acme.example".to_owned(),
        ),
        set("OPS__LISTEN", "127.0.0.1:0".to_owned()),
        set("DATABASE__URL", url.to_owned()),
        set("DATABASE__RESERVE", "1 MB".to_owned()),
        set("DATABASE__MIN_FREE", "1 MB".to_owned()),
        set("SMTP__HOST", relay.ip().to_string()),
        set("SMTP__PORT", relay.port().to_string()),
        set("SMTP__TLS", "none".to_owned()),
        set("KEYS__DIR", dir.path().join("keys").display().to_string()),
        set("ROLES__DELIVER", "false".to_owned()),
        set("ROLES__SEQUENCE", "false".to_owned()),
        set("ROLES__SWEEP", "false".to_owned()),
    ]
}
