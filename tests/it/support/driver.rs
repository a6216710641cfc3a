//! A signup backend under load: keep-alive connections, several at once, and its own list of what was answered 202.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::app::signup;
use super::http::{Connection, Response};
use super::{out, sql};

/// What the driver remembers of one 202: the id, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted {
    pub email: String,
    pub id: String,
}

/// Signups that several connections work off.
pub struct Driver {
    /// Where confirmd is; none while it is down.
    pub at: watch::Sender<Option<SocketAddr>>,
    /// How many people may have been signed up by now; all, unless somebody says less.
    pub allowed: watch::Sender<usize>,
    /// How many 202s are written down.
    pub accepted: watch::Sender<usize>,
    /// Requests that had no answer, or 503, and were made again.
    pub repeated: AtomicUsize,
    key: String,
    list: &'static str,
    emails: Vec<String>,
    next: AtomicUsize,
    answers: Mutex<(Option<File>, Vec<Accepted>)>,
}

impl Driver {
    /// Makes one for `n` people. With a file, each 202 is on stable storage before it counts.
    pub fn new(key: &str, name: &str, n: usize, file: Option<&Path>) -> Arc<Driver> {
        let emails: Vec<_> = (0..n)
            .map(|i| format!("{name}-{i:05}@example.org"))
            .collect();
        emails.iter().for_each(|email| out::secret(email));
        let file = file.map(|path| File::create_new(path).expect("a new file"));
        Arc::new(Driver {
            at: watch::Sender::new(None),
            allowed: watch::Sender::new(usize::MAX),
            accepted: watch::Sender::new(0),
            repeated: AtomicUsize::new(0),
            key: key.to_owned(),
            list: "weekly",
            emails,
            next: AtomicUsize::new(0),
            answers: Mutex::new((file, Vec::new())),
        })
    }

    /// Posts every signup over this many connections and returns when each has its 202.
    pub async fn run(self: &Arc<Self>, connections: usize) {
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let driver = self.clone();
            workers.spawn(async move { driver.work().await });
        }
        workers.join_all().await;
    }

    /// Returns every 202 so far.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.answers.lock().expect("no panic").1.clone()
    }

    async fn work(&self) {
        let mut at = self.at.subscribe();
        let mut allowed = self.allowed.subscribe();
        let mut open: Option<Connection> = None;
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(email) = self.emails.get(i) else {
                return;
            };
            drop(allowed.wait_for(|n| *n > i).await.expect("a sender"));
            let answer = loop {
                let mut connection = match open.take() {
                    Some(connection) => connection,
                    None => {
                        let up = at.wait_for(Option::is_some).await;
                        let addr = up.map(|up| up.expect("it is up")).expect("a sender");
                        match Connection::open(addr).await {
                            Ok(connection) => connection,
                            // Killed a moment ago; whoever killed it is about to say so.
                            Err(_) => {
                                tokio::task::yield_now().await;
                                continue;
                            }
                        }
                    }
                };
                match self.post(&mut connection, email).await {
                    Ok(answer) if answer.status == 202 => {
                        open = Some(connection);
                        break answer;
                    }
                    Ok(answer) if answer.status == 503 => {}
                    Ok(answer) => panic!("{}: {}", answer.status, answer.body),
                    Err(_) => {}
                }
                self.repeated.fetch_add(1, Ordering::Relaxed);
            };
            self.note(email, &answer);
        }
    }

    /// Posts one signup, under a key that stays the same for every repeat.
    pub async fn post(&self, to: &mut Connection, email: &str) -> std::io::Result<Response> {
        let bearer = format!("Bearer {}", self.key);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", email.split('@').next().unwrap_or(email)),
        ];
        let body = signup(email, &[self.list]).to_string();
        to.send("POST", "/v1/signups", &headers, body.as_bytes())
            .await
    }

    fn note(&self, email: &str, answer: &Response) {
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let mut answers = self.answers.lock().expect("no panic");
        if let Some(file) = &mut answers.0 {
            let line = format!("{id} {email}\n");
            file.write_all(line.as_bytes()).expect("written");
            file.sync_data().expect("on stable storage");
        }
        let email = email.to_owned();
        answers.1.push(Accepted { email, id });
        self.accepted.send_replace(answers.1.len());
    }
}

/// Returns the id and the address of every signup in the database.
pub async fn signups(url: &str) -> Vec<Accepted> {
    let id = match url.starts_with("sqlite:") {
        true => "lower(hex(id))",
        false => "replace(id::text, '-', '')",
    };
    let rows = sql::rows(url, &format!("select {id} || ' ' || email from signup")).await;
    let accepted = |row: &String| {
        let (id, email) = row.split_once(' ').expect("two words");
        let dashed = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
        Accepted {
            email: email.to_owned(),
            id: dashed,
        }
    };
    rows.iter().map(accepted).collect()
}
