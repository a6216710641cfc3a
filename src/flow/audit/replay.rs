//! Replay: the state tables hold what the events made of them, and nothing else.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::life::{Life, Offered};
use super::report::{At, Check, Report};
use crate::domain::delivery::MessageState;
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::list::ListId;
use crate::domain::signup::ListState;
use crate::store::audit::{ListRow, MessageRow, SignupRow, SubscriptionRow};
use crate::store::{Error, Tx};
use crate::trail::leaf::Leaf;

/// What the state tables hold of some subscribers.
#[derive(Default)]
struct Rows {
    sender: Option<String>,
    subscriptions: Vec<SubscriptionRow>,
    signups: Vec<SignupRow>,
    lists: BTreeMap<Uuid, Vec<ListRow>>,
    messages: Vec<MessageRow>,
}

/// Replays the events of some subscribers, and compares. All is read in one snapshot.
pub(super) async fn compare(
    tx: &mut Tx,
    ids: &[SubscriberId],
    report: &mut Report,
) -> Result<(), Error> {
    let mut lives: BTreeMap<SubscriberId, Life> = BTreeMap::new();
    for row in tx.event_rows_of(ids).await? {
        // What cannot be read, or is filed under somebody else, is told by the comparison of copies.
        let Ok(leaf) = Leaf::decode(&row.leaf) else {
            continue;
        };
        if let Some(id) = leaf.subscriber.filter(|id| Some(id.0) == row.subscriber) {
            lives.entry(id).or_default().happen(At::row(&row), &leaf);
        }
    }
    let mut rows = read(tx, ids, &lives).await?;
    for id in ids {
        let life = lives.remove(id).unwrap_or_default();
        let rows = rows.remove(&id.0).unwrap_or_default();
        let before = report.wrong;
        Compared {
            id: *id,
            life: &life,
            report,
        }
        .all(rows);
        report.subscribers += u64::from(report.wrong == before);
    }
    Ok(())
}

async fn read(
    tx: &mut Tx,
    ids: &[SubscriberId],
    lives: &BTreeMap<SubscriberId, Life>,
) -> Result<BTreeMap<Uuid, Rows>, Error> {
    let mut rows: BTreeMap<Uuid, Rows> = BTreeMap::new();
    for (id, sender) in tx.subscriber_rows(ids).await? {
        rows.entry(id).or_default().sender = Some(sender);
    }
    for row in tx.subscription_rows(ids).await? {
        rows.entry(row.subscriber)
            .or_default()
            .subscriptions
            .push(row);
    }
    let mut owners = BTreeMap::new();
    for (id, life) in lives {
        owners.extend(life.signups.keys().map(|signup| (signup.0, id.0)));
    }
    let named: Vec<Uuid> = owners.keys().copied().collect();
    for row in tx.signup_rows(ids, &named).await? {
        // A signup whose row names somebody else is compared where its event is.
        let owner = *owners.entry(row.id).or_insert(row.subscriber);
        rows.entry(owner).or_default().signups.push(row);
    }
    let signups: Vec<Uuid> = owners.keys().copied().collect();
    for row in tx.list_rows(&signups).await? {
        let owner = owners.get(&row.signup).copied().unwrap_or_default();
        let lists = &mut rows.entry(owner).or_default().lists;
        lists.entry(row.signup).or_default().push(row);
    }
    for row in tx.message_rows(ids).await? {
        rows.entry(row.subscriber).or_default().messages.push(row);
    }
    Ok(rows)
}

/// One subscriber.
struct Compared<'a> {
    id: SubscriberId,
    life: &'a Life,
    report: &'a mut Report,
}

impl Compared<'_> {
    fn wrong(&mut self, at: At, what: String) {
        let what = format!("of subscriber {}: {what}", self.id);
        self.report.add(Check::Replay, at, what);
    }

    /// Tells of a column that says something else than the events.
    fn differs(&mut self, at: At, row: &str, column: &str, found: &str, said: &str) {
        if found != said {
            self.wrong(
                at,
                format!("{row} has {column} {found}, and the events say {said}"),
            );
        }
    }

    fn all(mut self, rows: Rows) {
        self.subscriber(rows.sender.as_deref());
        self.subscriptions(&rows.subscriptions);
        self.signups(&rows.signups, &rows.lists);
        self.messages(&rows.messages);
    }

    fn subscriber(&mut self, sender: Option<&str>) {
        match (&self.life.known, sender) {
            (Some((at, said)), Some(found)) => {
                self.differs(*at, "its row", "sender", found, said);
            }
            (Some((at, _)), None) if self.life.erased.is_none() => {
                self.wrong(
                    *at,
                    "its row is gone, and no event says that it was erased".to_owned(),
                );
            }
            (None, Some(_)) => self.wrong(
                At::Nothing,
                "its row is there, and no event made it".to_owned(),
            ),
            _ => {}
        }
    }

    fn subscriptions(&mut self, rows: &[SubscriptionRow]) {
        for (list, moved) in &self.life.subscriptions {
            let name = format!("its subscription to {list}");
            let Some(row) = rows.iter().find(|row| row.list == list.as_str()) else {
                if !moved.gone {
                    self.wrong(
                        moved.at,
                        format!("{name} is gone, and no event says that it was erased"),
                    );
                }
                continue;
            };
            // What an erasure left is for proof alone.
            if moved.gone && row.restricted_at.is_none() {
                self.wrong(moved.at, format!("{name} is there, and was erased"));
                continue;
            }
            let names: Vec<_> = moved.states.iter().map(|state| state.as_str()).collect();
            if !names.contains(&row.state.as_str()) {
                let said = names.join(" or ");
                self.differs(moved.at, &name, "state", &row.state, &said);
            }
            self.differs(
                moved.at,
                &name,
                "since",
                &row.since.to_string(),
                &moved.since.to_string(),
            );
            self.differs(
                moved.at,
                &name,
                "counter",
                &row.counter.to_string(),
                &moved.counter.to_string(),
            );
            if let Some((signup, revision)) = moved.signup {
                let found = row.signup.map_or("none".to_owned(), |id| id.to_string());
                self.differs(moved.at, &name, "signup", &found, &signup.to_string());
                self.differs(
                    moved.at,
                    &name,
                    "revision",
                    &row.revision.to_string(),
                    &revision.to_string(),
                );
            }
        }
        let known = |row: &&SubscriptionRow| {
            self.life
                .subscriptions
                .keys()
                .any(|l| l.as_str() == row.list)
        };
        let unknown: Vec<_> = rows.iter().filter(|row| !known(row)).collect();
        for row in unknown {
            let what = format!(
                "its subscription to {} is {}, and no event says so",
                row.list, row.state
            );
            self.wrong(At::Nothing, what);
        }
    }

    fn signups(&mut self, rows: &[SignupRow], lists: &BTreeMap<Uuid, Vec<ListRow>>) {
        for (id, asked) in &self.life.signups {
            let name = format!("its signup {id}");
            let Some(row) = rows.iter().find(|row| row.id == id.0) else {
                if !asked.gone {
                    self.wrong(
                        asked.at,
                        format!("{name} is gone, and no event says that it was erased"),
                    );
                }
                continue;
            };
            self.differs(asked.at, &name, "sender", &row.sender, &asked.sender);
            let (found, said) = (row.subscriber.to_string(), self.id.to_string());
            self.differs(asked.at, &name, "subscriber", &found, &said);
            let found = lists.get(&id.0).map_or(&[][..], Vec::as_slice);
            for (list, offered) in &asked.lists {
                match found.iter().find(|row| row.list == list.as_str()) {
                    Some(row) => self.offered(id, list, offered, row, asked.gone),
                    None if asked.gone => {}
                    None => self.wrong(offered.at, format!("{name} lacks its list {list}")),
                }
            }
            for row in found
                .iter()
                .filter(|row| !asked.lists.keys().any(|l| l.as_str() == row.list))
            {
                self.wrong(
                    asked.at,
                    format!("{name} has the list {}, which was not asked for", row.list),
                );
            }
        }
        for row in rows
            .iter()
            .filter(|row| !self.life.signups.contains_key(&SignupId(row.id)))
        {
            self.wrong(
                At::Nothing,
                format!("its signup {} is there, and no event accepted it", row.id),
            );
        }
    }

    fn offered(
        &mut self,
        id: &SignupId,
        list: &ListId,
        offered: &Offered,
        row: &ListRow,
        gone: bool,
    ) {
        let name = format!("the list {list} of its signup {id}");
        let was_confirmed = || {
            row.decided_at
                .is_some_and(|at| self.life.was_confirmed(list, offered, at))
        };
        // No event says that there was nothing left to confirm; that the list was confirmed then, one does.
        let already = matches!(offered.state, ListState::Open | ListState::Undeliverable)
            && row.state == ListState::AlreadyConfirmed.as_str()
            && was_confirmed();
        let erased = gone && row.state == ListState::Erased.as_str();
        if !already && !erased {
            self.differs(
                offered.at,
                &name,
                "state",
                &row.state,
                offered.state.as_str(),
            );
            let none = || "none".to_owned();
            let found = row.reason.clone().unwrap_or_else(none);
            let said = offered.reason.clone().unwrap_or_else(none);
            self.differs(offered.at, &name, "reason", &found, &said);
        }
        self.differs(
            offered.at,
            &name,
            "counter",
            &row.counter.to_string(),
            &offered.counter.to_string(),
        );
    }

    fn messages(&mut self, rows: &[MessageRow]) {
        const TOLD: [MessageState; 3] = [
            MessageState::Sent,
            MessageState::Failed,
            MessageState::Unknown,
        ];
        for row in rows {
            let name = format!("its {} mail {}", row.kind, row.id);
            let mailed = self.life.mails.get(&MessageId(row.id));
            let asked = row.signup.map(|id| self.life.signups.get(&SignupId(id)));
            let asked = match asked {
                Some(None) => {
                    self.wrong(
                        At::Nothing,
                        format!("{name} is of a signup that no event accepted"),
                    );
                    continue;
                }
                Some(Some(asked)) => Some(asked.at),
                None => None,
            };
            let at = mailed
                .map(|mailed| mailed.at)
                .or(asked)
                .unwrap_or(At::Nothing);
            match mailed.and_then(|mailed| mailed.state) {
                Some(said) => self.differs(at, &name, "state", &row.state, said.as_str()),
                None if TOLD.iter().any(|state| state.as_str() == row.state) => {
                    self.wrong(at, format!("{name} is {}, and no event says so", row.state));
                }
                None => {}
            }
        }
        for (id, mailed) in self.life.mails.iter().filter(|(_, mailed)| !mailed.gone) {
            if !rows.iter().any(|row| row.id == id.0) {
                self.wrong(
                    mailed.at,
                    format!("its mail {id} is gone, and no event says that it was erased"),
                );
            }
        }
        // Whoever signs up is written to, or a row says why not.
        for (id, asked) in self.life.signups.iter().filter(|(_, asked)| !asked.gone) {
            let told = self.life.mails.values().any(|m| m.signup == Some(*id));
            if !told && !rows.iter().any(|row| row.signup == Some(id.0)) {
                self.wrong(asked.at, format!("the mail of its signup {id} is gone"));
            }
        }
    }
}
