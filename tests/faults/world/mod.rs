//! One home under load, with its oracle outside: the driver's file of 202s and the peer's journal of mails.

mod count;
mod cut;

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, interval, timeout};

use self::cut::Cut;
use crate::line::name;
use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home};
use crate::support::driver::Driver;
use crate::support::patience::seen;
use crate::support::peer::{Peer, Point};

/// How long the harness waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The longest wait of a mail that was not taken twice.
const DEFERRED: Duration = Duration::from_secs(400);
const CONNECTIONS: usize = 8;

/// Timeouts for a relay on loopback that a rig holds: the phases before DATA may take long, the rest decides how long the
/// claim of a dead process lasts.
pub const SETTINGS: &str = r#"
[smtp.timeouts]
connect = "20 s"
greeting = "20 s"
hello = "20 s"
mail = "20 s"
rcpt = "20 s"
data = "2 s"
body = "2 s"
dot = "4 s"
[delivery]
lease_margin = "1 s"
poll = "200 ms"
"#;

/// The mails that wait for nothing but their turn: one whose answer was lost waits half an hour, and is accounted for.
const WAITING: &str =
    "select count(*) from message where state = 'claimed' or (state = 'queued' and ambiguous = 0)";
const UNNUMBERED: &str = "select count(*) from unnumbered_event";

/// A home, its peer and its driver.
pub struct World {
    pub home: Home,
    pub peer: Peer,
    pub driver: Arc<Driver>,
    driving: JoinHandle<()>,
    notes: TempDir,
    started: usize,
    /// Whether one daemon serves at a time, so that every claim is its.
    pub alone: bool,
    cuts: Vec<Cut>,
}

/// A daemon that serves, and the name by which the peer knows it.
pub struct Serving {
    pub daemon: Daemon,
    pub hello: String,
}

impl Serving {
    /// Ends it, unless it has ended by itself.
    pub fn end(&mut self) {
        self.daemon.child.kill().expect("it can be killed");
        self.daemon.child.wait().expect("it has ended");
    }

    /// Stops it. Each of its threads goes on until it takes notice, which on a busy machine may be after this returns.
    pub fn stop(&self) {
        let its = i32::try_from(self.daemon.child.id()).expect("a small number");
        #[expect(unsafe_code, reason = "the standard library only kills")]
        // SAFETY: kill touches no memory; the child was not waited for, so that the number is still its own.
        let stopped = unsafe { libc::kill(its, libc::SIGSTOP) };
        assert_eq!(stopped, 0, "it lives");
    }

    /// Stops it where it is. No thread of it runs when this returns.
    pub fn freeze(&self) {
        self.stop();
        let threads = format!("/proc/{}/task", self.daemon.child.id());
        let running = || {
            let threads = std::fs::read_dir(&threads).expect("it lives");
            let mut stats = threads.flatten().map(|thread| thread.path().join("stat"));
            stats.any(|stat| {
                // A thread that has ended meanwhile does not run.
                let stat = std::fs::read_to_string(stat).unwrap_or_default();
                let rest = stat.rsplit(") ").next().unwrap_or_default();
                !rest.is_empty() && !rest.starts_with('T')
            })
        };
        let end = Instant::now() + PATIENCE;
        while running() {
            assert!(Instant::now() < end, "some thread of it does not stop");
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon.signal("CONT");
    }
}

impl World {
    /// Makes a home below a folder, with a driver of so many people who may not sign up yet.
    pub async fn open(db: Db, folder: &Path, people: usize, settings: &str) -> World {
        let notes = tempfile::tempdir().expect("a folder");
        let peer = Peer::with_journal(&notes.path().join("journal")).await;
        let home = Home::inside(folder, db, peer.addr(), &format!("{SETTINGS}{settings}"));
        // A cut before the first signup must not take the configuration.
        for path in [
            home.dir.path().join("confirmd.toml"),
            home.dir.path().to_owned(),
        ] {
            let file = std::fs::File::open(path).expect("it is there");
            file.sync_all().expect("on stable storage");
        }
        let key = home.key("acme", "signup").await;
        let who = format!("{}-{}", name(db), home.dir.path().display());
        let who: String = who.chars().filter(char::is_ascii_alphanumeric).collect();
        let driver = Driver::new(&key, &who, people, Some(&notes.path().join("202")));
        driver.allowed.send_replace(0);
        let driving = tokio::spawn({
            let driver = driver.clone();
            async move { driver.run(CONNECTIONS).await }
        });
        World {
            home,
            peer,
            driver,
            driving,
            notes,
            started: 0,
            alone: true,
            cuts: Vec::new(),
        }
    }

    /// Starts a daemon under a new name, and sends the load there.
    pub async fn serve(&mut self) -> Serving {
        self.started += 1;
        let hello = format!("start-{}.acme.example", self.started);
        self.home.set("SMTP__HELLO", &hello);
        let daemon = self.home.start().await;
        self.driver.at.send_replace(Some(daemon.addr));
        Serving { daemon, hello }
    }

    /// Sees one signup through, so that there is a mail that was sent.
    pub async fn first(&mut self) {
        let mut serving = self.serve().await;
        self.allow(1);
        self.accepted(1).await;
        self.settled().await;
        serving.daemon.term();
        assert_eq!(serving.daemon.wait().await.code(), Some(0));
        self.driver.at.send_replace(None);
    }

    /// Lets so many people in all sign up.
    pub fn allow(&self, people: usize) {
        self.driver.allowed.send_replace(people);
    }

    /// Waits until the driver has so many 202s in all.
    pub async fn accepted(&self, n: usize) {
        let mut accepted = self.driver.accepted.subscribe();
        let enough = timeout(PATIENCE, accepted.wait_for(|accepted| *accepted >= n)).await;
        drop(enough.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {n} 202s")));
    }

    /// Waits until something that is looked at is as wanted.
    pub async fn until(&self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        seen(what, PATIENCE, async || {
            is(self).await.then_some(()).ok_or("that it is not so")
        })
        .await;
    }

    /// Waits until no more mails than these have not ended.
    pub async fn backlog(&self, most: usize) {
        let is_small = async |world: &Self| world.home.count(WAITING).await <= most;
        self.until("the queue is short", is_small).await;
    }

    /// Waits until every mail has ended, or waits for a lost answer, and every event has its number. A mail that the relay did
    /// not take waits for some minutes.
    pub async fn settled(&self) {
        let mut end = Instant::now() + DEFERRED;
        let mut least = usize::MAX;
        let mut again = interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            let left = self.home.count(WAITING).await + self.home.count(UNNUMBERED).await;
            if left == 0 {
                return;
            }
            if left < least {
                (least, end) = (left, Instant::now() + DEFERRED);
            }
            if Instant::now() > end {
                let states = "select state || ', ' || count(*) || ' with most attempts ' || max(attempts) from message group by state";
                panic!(
                    "{left} mails and events wait: {:?}",
                    self.home.sql(states).await
                );
            }
        }
    }

    /// Counts the connections of a daemon that stand at a point.
    pub fn stand_at(&self, serving: &Serving, point: Point) -> usize {
        self.peer.seen(|seen| {
            let hello = format!("EHLO {}", serving.hello);
            let its = seen.commands.iter().filter(|(_, line)| *line == hello);
            let at = its.filter(|(connection, _)| {
                let stand = seen.stands.get(connection);
                stand.is_some_and(|(there, _)| *there == point)
            });
            at.count()
        })
    }
}
