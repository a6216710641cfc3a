//! A fault is noted: what was in flight when it hit, by the database and by the peer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Serving, World};
use crate::line::Phase;
use crate::support::app::Db;
use crate::support::peer::Point;
use crate::support::sql;

/// One fault: what was in flight, and what had been answered.
pub(super) struct Cut {
    pub(super) fault: String,
    pub(super) accepted: usize,
    pub(super) in_flight: BTreeMap<String, Phase>,
    pub(super) integrity: String,
    /// Whether every mail in flight may come twice, wherever it stood.
    pub(super) all: bool,
    pub(super) seen: Vec<String>,
}

impl World {
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
        let integrity = match self.home.db {
            Db::Sqlite => {
                let check = "select integrity_check from pragma_integrity_check";
                let said = self.left_or_why(check).await;
                said.map_or_else(|why| why, |said| said.join("; "))
            }
            Db::Postgres => "ok".to_owned(),
        };
        let rows = match &*integrity {
            "ok" => self.left_rows(&claims).await,
            _ => Vec::new(),
        };
        let pairs = rows.iter().filter_map(|row| row.split_once(' '));
        let pairs = pairs.map(|(token, email)| (token.to_owned(), email.to_owned()));
        (pairs.collect(), integrity)
    }

    /// Runs a query on what a dead daemon left. A SQLite file is copied first: opening it would recover it before the next
    /// daemon does.
    pub async fn left_rows(&self, query: &str) -> Vec<String> {
        let rows = self.left_or_why(query).await;
        rows.unwrap_or_else(|why| panic!("{query}: {why}"))
    }

    async fn left_or_why(&self, query: &str) -> Result<Vec<String>, String> {
        if self.home.db == Db::Postgres {
            return sql::try_rows(&self.home.url, query).await;
        }
        let copy = tempfile::tempdir().expect("a folder");
        for file in ["confirmd.db", "confirmd.db-wal"] {
            let from = self.home.dir.path().join(file);
            if from.exists() {
                std::fs::copy(from, copy.path().join(file)).expect("a copy");
            }
        }
        let url = format!("sqlite:{}", copy.path().join("confirmd.db").display());
        sql::try_rows(&url, query).await
    }
}

impl Cut {
    pub(super) fn phases(&self) -> BTreeMap<Phase, usize> {
        let mut phases = BTreeMap::new();
        for phase in self.in_flight.values() {
            *phases.entry(*phase).or_default() += 1;
        }
        phases
    }
}
