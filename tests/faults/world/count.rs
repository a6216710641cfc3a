//! When all is over it is counted: what was promised, what is there, what arrived.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::timeout;

use super::{PATIENCE, UNNUMBERED, World};
use crate::line::{Line, name};
use crate::plan::Plan;
use crate::support::driver::{Accepted, signups};

/// What must be nought when all is over.
const GAPS: [&str; 6] = [
    UNNUMBERED,
    "select coalesce(max(seq), 0) - count(*) from numbered_event",
    "select abs(size - (select count(*) from numbered_event)) from trail_head",
    "select count(*) from signup where not exists
        (select 1 from event where type = 'signup.accepted' and event.signup = signup.id)",
    "select count(*) from message where state = 'sent' and not exists
        (select 1 from event where type = 'message.sent' and event.message = message.id)",
    "select count(*) from event where type = 'message.sent' and not exists
        (select 1 from message where message.id = event.message and message.state = 'sent')",
];

impl World {
    /// Lets the driver finish, waits until every mail has ended, and counts. A daemon serves meanwhile.
    pub async fn close(mut self, plan: &Plan, control: Option<&str>) -> Vec<Line> {
        self.allow(usize::MAX);
        let drove = timeout(PATIENCE, &mut self.driving).await;
        drove.expect("in time").expect("every signup has its 202");
        self.settled().await;
        self.count(plan, control).await
    }

    /// Says that the last fault has left a broken file, if it has: on that no daemon serves, and nothing can be counted.
    pub fn broken(&self, plan: &Plan, control: Option<&str>) -> Option<Line> {
        let cut = self.cuts.last().filter(|cut| cut.integrity != "ok")?;
        Some(Line {
            fault: cut.fault.clone(),
            in_flight: cut.phases(),
            accepted: cut.accepted,
            integrity: cut.integrity.clone(),
            ..plan.line(name(self.home.db), control)
        })
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
        let mails = async |which: &str| -> BTreeSet<String> {
            let of = "select s.email from message m join signup s on s.id = m.signup where";
            home.sql(&format!("{of} {which}"))
                .await
                .into_iter()
                .collect()
        };
        // Ends that are written down and are not "sent".
        let ended = mails("m.state in ('withheld', 'cancelled', 'failed', 'unknown')").await;
        let waits =
            mails("m.state = 'quarantined' or (m.state = 'queued' and m.ambiguous > 0)").await;
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
            let is_waiting = |a: &&Accepted| kept(a) && !is_mailed(a) && waits.contains(&a.email);
            let accounted = |a: &&Accepted| {
                kept(a) && (is_mailed(a) || is_waiting(a) || ended.contains(&a.email))
            };
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
                waits: Some(part.iter().filter(is_waiting).count()),
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
