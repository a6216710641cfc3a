//! Many signups at once, over connections that are kept and that survive a daemon's death.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::app::signup;
use super::http::Connection;
use super::out;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a driver was told: the id of every signup that was answered with 202, by address.
#[derive(Default)]
pub struct Told {
    acknowledged: Mutex<BTreeMap<String, String>>,
    /// Grows with every 202.
    pub count: watch::Sender<usize>,
    file: Option<Mutex<File>>,
}

impl Told {
    /// Writes every 202 to a file, and to the disk, before it counts.
    pub fn in_file(path: &Path) -> Told {
        Told {
            file: Some(Mutex::new(File::create(path).expect("a file"))),
            ..Told::default()
        }
    }

    /// Returns every acknowledged signup.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.acknowledged.lock().expect("no panic").clone()
    }

    fn note(&self, email: &str, id: &str) {
        if let Some(file) = &self.file {
            let mut file = file.lock().expect("no panic");
            writeln!(file, "{id}").expect("written");
            file.sync_data().expect("on the disk");
        }
        let mut all = self.acknowledged.lock().expect("no panic");
        all.insert(email.to_owned(), id.to_owned());
        self.count.send_replace(all.len());
    }
}

/// The addresses of a run, of real length.
pub fn addresses(run: &str, count: usize) -> Vec<String> {
    let of = |n: usize| {
        format!(
            "{run}.{:06x}@mail{}.example.org",
            n.wrapping_mul(2_654_435_761) & 0xff_ffff,
            n % 97
        )
    };
    let all: Vec<String> = (0..count).map(of).collect();
    all.iter().for_each(|address| out::secret(address));
    all
}

/// Signs up every address for `weekly` over `connections`, each with its own Idempotency-Key, until it is answered 202.
///
/// `service` says where the service is; while a request fails, its next try waits for another service there.
pub async fn sign_up_all(
    addresses: Arc<Vec<String>>,
    key: &str,
    connections: usize,
    service: watch::Receiver<SocketAddr>,
    told: Arc<Told>,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (addresses, next, told) = (addresses.clone(), next.clone(), told.clone());
        let (mut service, bearer) = (service.clone(), format!("Bearer {key}"));
        workers.spawn(async move {
            let mut connection = None;
            while let Some(email) = addresses.get(next.fetch_add(1, Ordering::Relaxed)) {
                let body = signup(email, &["weekly"]).to_string();
                loop {
                    match once(&mut connection, &mut service, &bearer, email, &body).await {
                        Some(id) => break told.note(email, &id),
                        None => {
                            connection = None;
                            let changed = timeout(PATIENCE, service.changed()).await;
                            changed.expect("a service comes back").expect("a service");
                        }
                    }
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.expect("a worker ends well");
    }
}

/// Sends one signup; none if the connection broke.
async fn once(
    connection: &mut Option<Connection>,
    service: &mut watch::Receiver<SocketAddr>,
    bearer: &str,
    email: &str,
    body: &str,
) -> Option<String> {
    if connection.is_none() {
        let addr = *service.borrow_and_update();
        *connection = Some(Connection::open(addr).await.ok()?);
    }
    let headers = [
        ("authorization", bearer),
        ("content-type", "application/json"),
        ("idempotency-key", email),
    ];
    let sent = connection.as_mut()?;
    let answer = sent
        .send("POST", "/v1/signups", &headers, body.as_bytes())
        .await
        .ok()?;
    assert_eq!(answer.status, 202, "{}", answer.body);
    Some(answer.json()["id"].as_str()?.to_owned())
}
