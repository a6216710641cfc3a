//! One home under load, with its oracle outside: the driver's file of 202s and the peer's journal of mails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, interval, timeout};

use crate::line::{Line, Phase, name};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home};
use crate::support::driver::{Accepted, Driver, signups};
use crate::support::peer::{Peer, Point};
use crate::support::sql;

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
const UNNUMBERED: &str = "select count(*) from event where seq is null";

/// What must be nought when all is over.
const GAPS: [&str; 6] = [
    UNNUMBERED,
    "select coalesce(max(seq), 0) - count(seq) from event",
    "select abs(size - (select count(seq) from event)) from trail_head",
    "select count(*) from signup where not exists
        (select 1 from event where type = 'signup.accepted' and event.signup = signup.id)",
    "select count(*) from message where state = 'sent' and not exists
        (select 1 from event where type = 'message.sent' and event.message = message.id)",
    "select count(*) from event where type = 'message.sent' and not exists
        (select 1 from message where message.id = event.message and message.state = 'sent')",
];

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

    /// Stops it where it is: none of its threads comes back from the system call that it is in.
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
        while running() {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon.signal("CONT");
    }
}

/// One fault: what was in flight, and what had been answered.
struct Cut {
    fault: String,
    accepted: usize,
    in_flight: BTreeMap<String, Phase>,
    integrity: String,
    /// Whether every mail in flight may come twice, wherever it stood.
    all: bool,
    seen: Vec<String>,
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
        let end = Instant::now() + PATIENCE;
        let mut again = interval(Duration::from_millis(10));
        while !is(self).await {
            assert!(Instant::now() < end, "waited {PATIENCE:?} until {what}");
            again.tick().await;
        }
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

    /// Notes a fault that has ended a daemon: what it had in hand, by the database and by the peer. Whatever was held at
    /// the peer is let go: it answers to nobody.
    pub async fn cut(&mut self, fault: &str, dead: &Serving) {
        let (of_dead, at_dot) = self.peer.seen(|seen| {
            let hello = format!("EHLO {}", dead.hello);
            let commands = seen.commands.iter();
            let of_dead = commands.filter(|(_, line)| *line == hello);
            let of_dead: BTreeSet<usize> = of_dead.map(|(connection, _)| *connection).collect();
            let stands = seen.stands.iter();
            let at_dot = stands.filter(|(connection, (point, _))| {
                of_dead.contains(connection) && matches!(point, Point::Body | Point::Dot)
            });
            let at_dot = at_dot.filter_map(|(_, (_, recipient))| recipient.clone());
            (of_dead.clone(), at_dot.collect::<BTreeSet<String>>())
        });
        let mails_then = self.peer.seen(|seen| seen.answered.clone());
        self.peer.release();
        let over = self
            .peer
            .until("the end of the dead one's connections", |seen| {
                seen.waiting == 0 && seen.stands.keys().all(|open| !of_dead.contains(open))
            });
        over.await;
        let heard = self.peer.seen(|seen| {
            let mut heard = BTreeMap::new();
            for (connection, line) in &seen.commands {
                let to = line.strip_prefix("RCPT TO:<");
                let to = to.and_then(|rest| rest.split_once('>'));
                if let Some((to, _)) = to.filter(|_| of_dead.contains(connection)) {
                    heard.insert(to.to_owned(), Phase::BeforeDot);
                }
            }
            heard.extend(at_dot.into_iter().map(|to| (to, Phase::Dot)));
            let kept = seen.mails.iter();
            for mail in kept.filter(|mail| of_dead.contains(&mail.connection)) {
                let phase = match mails_then.contains(&mail.index) {
                    true => Phase::Replied,
                    false => Phase::Dot,
                };
                heard.insert(mail.envelope_to.concat(), phase);
            }
            heard
        });
        let (claims, integrity) = self.left().await;
        let tokens = claims.iter().filter(|(_, email)| heard.contains_key(email));
        let tokens: BTreeSet<&String> = tokens.map(|(token, _)| token).collect();
        let alone = self.alone;
        let its = claims
            .iter()
            .filter(|(token, _)| alone || tokens.contains(token));
        let in_flight = its.map(|(_, email)| {
            let phase = heard.get(email).copied().unwrap_or(Phase::Claimed);
            (email.clone(), phase)
        });
        self.note(fault, in_flight.collect());
        self.cuts.last_mut().expect("noted").integrity = integrity;
    }

    /// Notes a fault, with what was in flight.
    pub fn note(&mut self, fault: impl Into<String>, in_flight: BTreeMap<String, Phase>) {
        self.cuts.push(Cut {
            fault: fault.into(),
            accepted: *self.driver.accepted.borrow(),
            in_flight,
            integrity: "ok".to_owned(),
            all: false,
            seen: Vec::new(),
        });
    }

    /// Notes a fault that ends no daemon: each mail that was claimed may come once more, if its claim ends meanwhile.
    pub fn note_claims(&mut self, fault: &str, claims: Vec<(String, String)>) {
        let claimed = claims.into_iter().map(|(_, email)| (email, Phase::Claimed));
        self.note(fault, claimed.collect());
        self.cuts.last_mut().expect("noted").all = true;
    }

    /// Waits until a daemon has ended by itself.
    pub async fn gone(&self, serving: &mut Serving) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let mut again = interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            if let Some(status) = serving.daemon.child.try_wait().expect("it can be asked") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "waited {PATIENCE:?} until it ends by itself"
            );
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

    /// Returns how often each phase was in flight at the last fault.
    pub fn in_flight(&self) -> BTreeMap<Phase, usize> {
        self.cuts.last().map(Cut::phases).unwrap_or_default()
    }

    /// Adds to the last fault something that must not be.
    pub fn blame(&mut self, what: impl Into<String>) {
        let last = self.cuts.last_mut().expect("there was a fault");
        last.seen.push(what.into());
    }

    /// Renames the last fault by what it turned out to have hit.
    pub fn rename(&mut self, fault: &str) {
        let last = self.cuts.last_mut().expect("there was a fault");
        fault.clone_into(&mut last.fault);
    }

    /// Breaks what the daemon wrote, as one would that settles before it sends and forgets what it sent: a mail of the
    /// dead one is called sent, and one that was sent waits again.
    pub async fn plant(&self) {
        let cut = self.cuts.last().expect("there was a fault");
        let unsent = |(email, phase): (&String, &Phase)| {
            (!phase.may_duplicate()).then(|| format!("'{email}'"))
        };
        let unsent: Vec<String> = cut.in_flight.iter().filter_map(unsent).collect();
        let again = "update message set state = 'queued' where id in
            (select id from message where state = 'sent' and attempts > 0 order by id limit 1)";
        let mut statements = vec![again.to_owned()];
        if !unsent.is_empty() {
            statements.push(format!(
                "update message set state = 'sent', claim = null, lease_until = null
                 where signup in (select id from signup where email in ({}))",
                unsent.join(", ")
            ));
        }
        for statement in statements {
            let done = sql::execute(&self.home.url, &statement).await;
            done.expect("it runs");
        }
    }

    /// Returns the claims that are left with their recipients, and what the database's own check says.
    pub async fn left(&self) -> (Vec<(String, String)>, String) {
        let token = match self.home.db {
            Db::Sqlite => "hex(m.claim)",
            Db::Postgres => "m.claim::text",
        };
        let claims = format!(
            "select {token} || ' ' || s.email from message m join signup s on s.id = m.signup
             where m.state = 'claimed'"
        );
        let rows = self.left_rows(&claims).await;
        let pairs = rows.iter().filter_map(|row| row.split_once(' '));
        let pairs = pairs.map(|(token, email)| (token.to_owned(), email.to_owned()));
        let integrity = match self.home.db {
            Db::Sqlite => {
                let check = "select integrity_check from pragma_integrity_check";
                self.left_rows(check).await.join("; ")
            }
            Db::Postgres => "ok".to_owned(),
        };
        (pairs.collect(), integrity)
    }

    /// Runs a query on what a dead daemon left. A SQLite file is copied first: opening it would recover it before the next
    /// daemon does.
    pub async fn left_rows(&self, query: &str) -> Vec<String> {
        if self.home.db == Db::Postgres {
            return self.home.sql(query).await;
        }
        let copy = tempfile::tempdir().expect("a folder");
        for file in ["confirmd.db", "confirmd.db-wal"] {
            let from = self.home.dir.path().join(file);
            if from.exists() {
                std::fs::copy(from, copy.path().join(file)).expect("a copy");
            }
        }
        let url = format!("sqlite:{}", copy.path().join("confirmd.db").display());
        sql::rows(&url, query).await
    }

    /// Lets the driver finish, waits until every mail has ended, and counts. A daemon serves meanwhile.
    pub async fn close(mut self, plan: &Plan, control: Option<&str>) -> Vec<Line> {
        self.allow(usize::MAX);
        let drove = timeout(PATIENCE, &mut self.driving).await;
        drove.expect("in time").expect("every signup has its 202");
        self.settled().await;
        self.count(plan, control).await
    }

    /// Counts what is there, for each fault.
    pub async fn count(self, plan: &Plan, control: Option<&str>) -> Vec<Line> {
        let World {
            home, notes, cuts, ..
        } = self;
        let read = |file: &str| std::fs::read_to_string(notes.path().join(file)).expect("written");
        let promised: Vec<Accepted> = read("202")
            .lines()
            .map(|line| {
                let (id, email) = line.split_once(' ').expect("two words");
                let (id, email) = (id.to_owned(), email.to_owned());
                Accepted { email, id }
            })
            .collect();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for line in read("journal").lines() {
            let (_, to) = line.split_once(' ').expect("two words");
            *copies.entry(to.to_owned()).or_default() += 1;
        }
        let rows: BTreeSet<Accepted> = signups(&home.url).await.into_iter().collect();
        // Ends that are written down and are not "sent"; and mails that wait because their answer was lost.
        let ended = "select s.email from message m join signup s on s.id = m.signup
            where m.state not in ('queued', 'claimed', 'sent') or (m.state = 'queued' and m.ambiguous > 0)";
        let ended: BTreeSet<String> = home.sql(ended).await.into_iter().collect();
        let mut gaps = 0;
        for question in GAPS {
            gaps += home.count(question).await;
        }
        let verified = home.run(&["audit", "verify"]).await;
        let verified = match verified.code {
            Some(0) => "ok".to_owned(),
            code => format!("audit verify: exit {code:?}: {}", verified.stdout),
        };

        let mut extra = copies.clone();
        for copies in extra.values_mut() {
            *copies -= 1;
        }
        let mut lines = Vec::new();
        let mut from = 0;
        for (cycle, cut) in cuts.iter().enumerate() {
            let last = cycle + 1 == cuts.len();
            let to = if last { promised.len() } else { cut.accepted };
            let part = &promised[from..to.max(from)];
            from = to.max(from);
            let kept = |a: &&Accepted| rows.contains(*a);
            let is_mailed = |a: &&Accepted| copies.contains_key(&a.email);
            let accounted = |a: &&Accepted| kept(a) && (is_mailed(a) || ended.contains(&a.email));
            let mut duplicates = 0;
            for (email, phase) in &cut.in_flight {
                let more = extra.get_mut(email).filter(|more| **more > 0);
                if let Some(more) = more.filter(|_| cut.all || phase.may_duplicate()) {
                    *more -= 1;
                    duplicates += 1;
                }
            }
            let integrity = match &*cut.integrity {
                "ok" => verified.clone(),
                wrong => wrong.to_owned(),
            };
            lines.push(Line {
                fault: cut.fault.clone(),
                in_flight: cut.phases(),
                accepted: part.len(),
                rows: part.iter().filter(kept).count(),
                mailed: part.iter().filter(is_mailed).count(),
                lost: part.iter().filter(|a| !accounted(a)).count(),
                duplicates,
                gaps,
                integrity,
                faults_seen: cut.seen.clone(),
                ..plan.line(name(home.db), control)
            });
        }
        if let Some(last) = lines.last_mut() {
            last.unexplained = extra.values().sum();
            let unknown = rows.len().saturating_sub(promised.len());
            if unknown > 0 {
                let what = format!("{unknown} signups that were never answered");
                last.faults_seen.push(what);
            }
        }
        lines
    }
}

impl Cut {
    fn phases(&self) -> BTreeMap<Phase, usize> {
        let mut phases = BTreeMap::new();
        for phase in self.in_flight.values() {
            *phases.entry(*phase).or_default() += 1;
        }
        phases
    }
}
