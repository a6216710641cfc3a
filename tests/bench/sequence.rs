//! Does the trail keep up? `cargo bench --bench sequence [-- SIZE...]` prints what appending costs at these sizes (ten
//! thousand, a million and ten million events unless others are given), and then, on top of the largest, how many events
//! wait for their number after a minute of signups as fast as one generator makes them.
//!
//! On SQLite, or where `CONFIRMD_BENCH_POSTGRES` names an empty database on PostgreSQL.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints what the clock says"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use confirmd::background::sequence;
use confirmd::cli::serve::{Service, install_crypto};
use confirmd::clock::{Clock, random};
use confirmd::config::Config;
use confirmd::domain::event::{Event, EventKind};
use confirmd::domain::id::SubscriberId;
use confirmd::flow::Flows;

#[path = "../it/support/http.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod http;

const CONNECTIONS: usize = 64;
const SIZES: [u64; 3] = [10_000, 1_000_000, 10_000_000];
const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    install_crypto();
    let mut sizes: Vec<u64> = std::env::args()
        .filter_map(|word| word.parse().ok())
        .collect();
    if sizes.is_empty() {
        sizes.extend(SIZES);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let url = std::env::var("CONFIRMD_BENCH_POSTGRES");
    let url = url.unwrap_or_else(|_| format!("sqlite:{}/confirmd.db", dir.path().display()));
    runtime.block_on(all(&url, dir.path(), &sizes));
}

async fn all(url: &str, dir: &Path, sizes: &[u64]) {
    let file = dir.join("confirmd.toml");
    std::fs::write(&file, settings(url, dir)).expect("a file");
    let config = Config::load(Some(&file), std::iter::empty()).unwrap_or_else(|e| panic!("{e}"));
    let service = Service::open(&config, Clock::System)
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
    let flows = service.flows.clone();
    drain(&flows).await;
    println!("{}", flows.pool.system());
    for size in sizes {
        appending(&flows, *size).await;
    }
    flows.pool.close().await;
    drop((flows, service));
    keeping_up(&file, url, MINUTE).await;
}

fn settings(url: &str, dir: &Path) -> String {
    let dir = dir.display();
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
filter = "warn,confirmd::cli=info"
[smtp]
host = "127.0.0.1"
port = 9
tls = "none"
[roles]
deliver = false
[senders.acme]
name = "Acme B.V."
address = "Keizersgracht 1, 1015 CN Amsterdam, NL"
contact = "privacy@acme.example"
privacy_url = "https://acme.example/privacy"
authority = {{ name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }}
from = "Acme <confirm@acme.example>"
[lists.weekly]
sender = "acme"
title = {{ en = "Weekly news" }}
consent = {{ en = "Yes, mail me the weekly news of Acme B.V." }}
"#
    )
}

/// Ends with its handle.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program under the load of one generator, and counts what waits for its number at the end.
async fn keeping_up(file: &Path, url: &str, time: Duration) {
    let program = env!("CARGO_BIN_EXE_confirmd");
    let run = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).arg("--config").arg(file);
        command
    };
    let made = run(&["key", "create", "--sender", "acme", "--scope", "signup"]).output();
    let key = String::from_utf8(made.expect("the program").stdout).expect("text");
    let mut child = run(&["serve"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let stderr = child.stderr.take().expect("piped");
    let daemon = Daemon(child);
    let addr = address(stderr);
    let (done, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONNECTIONS {
        let (done, bearer) = (done.clone(), format!("Bearer {}", key.trim()));
        workers.spawn(async move {
            let mut connection = http::Connection::open(addr).await.expect("a connection");
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            let mut n = 0;
            while began.elapsed() < time {
                let tag = u64::from_be_bytes(random());
                let body = format!(
                    r#"{{"email":"{tag:x}.{worker}.{n}@example.org","lists":["weekly"],"consent":{{"action":"checkbox","source":"https://acme.example/news"}}}}"#
                );
                let answer = connection.send("POST", "/v1/signups", &headers, body.as_bytes()).await;
                match answer.expect("an answer").status {
                    202 => done.fetch_add(1, Ordering::Relaxed),
                    503 => continue,
                    other => panic!("{other}"),
                };
                n += 1;
            }
        });
    }
    while workers.join_next().await.is_some() {}
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let waiting = unsequenced(url).await;
    drop(daemon);
    println!(
        "  {rate:.0} signups/s for {} s over {CONNECTIONS} connections; {waiting} events wait for a number: {:.2} s of intake",
        time.as_secs(),
        waiting as f64 / rate
    );
}

fn address(stderr: std::process::ChildStderr) -> SocketAddr {
    use std::io::BufRead;
    let mut lines = std::io::BufReader::new(stderr).lines();
    let addr = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        line["http"].as_str()?.parse().ok()
    });
    // Whatever else it says must go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    addr.expect("it serves")
}

async fn unsequenced(url: &str) -> i64 {
    use sqlx::Connection as _;
    const SQL: &str = "select count(*) from unnumbered_event";
    let (count,): (i64,) = match url.strip_prefix("sqlite:") {
        Some(_) => {
            let mut conn = sqlx::SqliteConnection::connect(url)
                .await
                .expect("the database");
            sqlx::query_as(SQL)
                .fetch_one(&mut conn)
                .await
                .expect("a count")
        }
        None => {
            let mut conn = sqlx::PgConnection::connect(url)
                .await
                .expect("the database");
            sqlx::query_as(SQL)
                .fetch_one(&mut conn)
                .await
                .expect("a count")
        }
    };
    count
}

async fn drain(flows: &Flows) {
    while sequence::step(flows).await.expect("the database works") {}
}

/// Grows the trail to a size, then times numbering: a thousand events, and single ones.
async fn appending(flows: &Flows, size: u64) {
    loop {
        let head = flows.pool.read().await.expect("read").trail_head().await;
        let missing = size.saturating_sub(head.expect("a head").size);
        if missing == 0 {
            break;
        }
        append(flows, missing.min(5000)).await;
        drain(flows).await;
    }
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        append(flows, 1000).await;
        let began = Instant::now();
        drain(flows).await;
        many.push(began.elapsed());
        append(flows, 1).await;
        let began = Instant::now();
        sequence::step(flows).await.expect("numbered");
        one.push(began.elapsed());
    }
    println!(
        "  at {size} events: 1000 in {} ms, a single event in {} ms (median, least, most of 21)",
        spread(&mut many),
        spread(&mut one)
    );
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1000.0);
    let median = times[times.len() / 2];
    format!(
        "{} ({} to {})",
        ms(median),
        ms(times[0]),
        ms(times[times.len() - 1])
    )
}

async fn append(flows: &Flows, events: u64) {
    let now = flows.clock.now();
    let sender = "acme".parse().expect("a name");
    let event = |_| {
        Event::of(random(), EventKind::SignupAccepted, now, Some(&sender))
            .subscriber(SubscriberId::new(now, random()))
            .with("lists", vec!["weekly"])
            .with("locale", "en")
    };
    let events: Vec<_> = (0..events).map(event).collect();
    let mut tx = flows.pool.begin().await.expect("begun");
    tx.append(&events).await.expect("appended");
    tx.commit().await.expect("committed");
}
