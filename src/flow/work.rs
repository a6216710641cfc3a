//! The rows that a batch of decisions rests on: read once, changed in memory item by item, written once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Flows, InForce};
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::delivery::MessageKind;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{SignupId, SubscriberId, SubscriptionId};
use crate::domain::ledger::Ledger;
use crate::domain::list::{Facts, ListId};
use crate::domain::pepper::Keyed;
use crate::domain::signup::{Decline, ListState, Standing};
use crate::domain::subscription::{self, Move, State, Step};
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::signup::{Signup, SignupList, WithAll};
use crate::store::subscriber::{Subscriber, Subscription};
use crate::store::{Error, Tx};

/// Rows of one transaction and what is to become of them.
#[derive(Default)]
pub(super) struct Work {
    signups: BTreeMap<SignupId, Signup>,
    lists: BTreeMap<SignupId, Vec<SignupList>>,
    subscriptions: BTreeMap<(SubscriberId, ListId), Subscription>,
    ledgers: BTreeMap<Keyed, Ledger>,
    facts: BTreeMap<Hash, Arc<Facts>>,
    in_force: Arc<InForce>,
    changed: Changed,
    /// Events to append, in this order.
    pub events: Vec<Event>,
    /// Mails to queue.
    pub mails: Vec<Message>,
}

#[derive(Default)]
struct Changed {
    signups: BTreeSet<SignupId>,
    lists: BTreeSet<(SignupId, ListId)>,
    subscriptions: BTreeSet<(SubscriberId, ListId)>,
    /// As they were.
    ledgers: BTreeMap<Keyed, Ledger>,
}

impl Work {
    /// Locks the mailboxes of signups and reads what belongs to these signups.
    pub async fn lock_signups(flows: &Flows, tx: &mut Tx, ids: &[SignupId]) -> Result<Self, Error> {
        let (ledgers, all) = tx.lock_signups(ids).await?;
        let mut work = Self {
            ledgers,
            ..Self::default()
        };
        work.take(flows, tx, all).await?;
        Ok(work)
    }

    /// Locks the mailboxes of mails that answer signups, and reads what belongs to these and to whom the mails go.
    pub async fn lock_picked(
        flows: &Flows,
        tx: &mut Tx,
        picked: &[Message],
    ) -> Result<(Self, BTreeMap<SubscriberId, Subscriber>), Error> {
        let read = tx.lock_picked(picked).await?;
        let mut work = Self {
            ledgers: read.ledgers,
            ..Self::default()
        };
        work.take(flows, tx, read.signups).await?;
        // Who is told goodbye may be back.
        let left = picked.iter().filter(|m| m.kind == MessageKind::Goodbye);
        let left: Vec<_> = left.map(|message| message.subscriber).collect();
        for subscription in tx.subscriptions_of(&left).await? {
            work.put(subscription);
        }
        // Who says goodbye answers no signup.
        let lists = picked.iter().flat_map(|message| &message.lists);
        let lists = lists.map(|about| &about.list);
        let known = work.lists.values().flatten().map(|row| &row.list);
        work.in_force = flows.in_force_for(tx, lists.chain(known)).await?;
        let people = read.people.into_iter().map(|person| (person.id, person));
        Ok((work, people.collect()))
    }

    /// Locks the mailboxes of subscribers, then reads their subscriptions, the signups behind these, and others.
    pub async fn lock_subscribers(
        flows: &Flows,
        tx: &mut Tx,
        people: &[Subscriber],
        signups: &[SignupId],
    ) -> Result<Self, Error> {
        let mut work = Self {
            ledgers: tx.lock_mailboxes(people).await?,
            ..Self::default()
        };
        let ids: Vec<_> = people.iter().map(|person| person.id).collect();
        let mut signups: BTreeSet<_> = signups.iter().copied().collect();
        for subscription in tx.subscriptions_of(&ids).await? {
            signups.extend(subscription.signup);
            work.put(subscription);
        }
        let signups: Vec<_> = signups.into_iter().collect();
        work.read(flows, tx, &signups).await?;
        Ok(work)
    }

    /// Reads what belongs to signups, without locking their mailboxes and without ledgers.
    pub async fn read_signups(flows: &Flows, tx: &mut Tx, ids: &[SignupId]) -> Result<Self, Error> {
        let mut work = Self::default();
        work.read(flows, tx, ids).await?;
        Ok(work)
    }

    /// Reads what belongs to signups.
    pub async fn read(
        &mut self,
        flows: &Flows,
        tx: &mut Tx,
        ids: &[SignupId],
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let all = tx.signups_with_all(ids).await?;
        self.take(flows, tx, all).await
    }

    /// Takes what was read of signups, and learns what their lists said.
    async fn take(&mut self, flows: &Flows, tx: &mut Tx, all: WithAll) -> Result<(), Error> {
        for signup in all.signups {
            self.signups.insert(signup.id, signup);
        }
        for list in all.lists {
            if let Entry::Vacant(unknown) = self.facts.entry(list.facts) {
                unknown.insert(flows.facts(tx, list.facts).await?);
            }
            self.lists.entry(list.signup).or_default().push(list);
        }
        for subscription in all.subscriptions {
            self.put(subscription);
        }
        let lists = self.lists.values().flatten().map(|row| &row.list);
        self.in_force = flows.in_force_for(tx, lists).await?;
        Ok(())
    }

    /// Reads ledgers without locking them, for a page.
    pub async fn read_ledgers(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let mailboxes = self.signups.values().map(|s| s.mailbox).collect();
        self.ledgers = tx.ledgers(&mailboxes).await?;
        Ok(())
    }

    /// Learns when the mails that count against these mailboxes were settled, other than those that are picked now: their
    /// settling says so, and a ledger is only told when it is asked again.
    pub async fn learn_what_left(&mut self, tx: &mut Tx, picked: &[Message]) -> Result<(), Error> {
        let mut unsettled: BTreeSet<_> =
            self.ledgers.values().flat_map(Ledger::unsettled).collect();
        for message in picked {
            unsettled.remove(&message.id);
        }
        let known = tx.settled_at(&unsettled).await?;
        for message in unsettled {
            for ledger in self.ledgers.values_mut() {
                match known.get(&message) {
                    Some(Some(at)) => ledger.settled(message, *at),
                    Some(None) => {}
                    // It was erased.
                    None => ledger.discount(message),
                }
            }
        }
        Ok(())
    }

    /// Adds a subscription that was read.
    pub fn put(&mut self, subscription: Subscription) {
        let key = (subscription.subscriber, subscription.list.clone());
        self.subscriptions.insert(key, subscription);
    }

    /// Returns a signup.
    pub fn signup(&self, id: SignupId) -> Option<&Signup> {
        self.signups.get(&id)
    }

    /// Returns a signup to change.
    pub fn change_signup(&mut self, id: SignupId) -> Option<&mut Signup> {
        self.changed.signups.insert(id);
        self.signups.get_mut(&id)
    }

    /// Returns the lists of a signup.
    pub fn lists(&self, id: SignupId) -> &[SignupList] {
        self.lists.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Returns what is in force for the lists of the signups.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Returns what a list said at its signup.
    pub fn facts(&self, list: &SignupList) -> Result<&Arc<Facts>, Error> {
        let facts = self.facts.get(&list.facts);
        facts.ok_or_else(|| Error::corrupt("facts of a list are missing"))
    }

    /// Returns a subscription.
    pub fn subscription(&self, subscriber: SubscriberId, list: &ListId) -> Option<&Subscription> {
        self.subscriptions.get(&(subscriber, list.clone()))
    }

    /// Returns the subscriptions of a subscriber.
    pub fn subscriptions_of(&self, id: SubscriberId) -> Vec<Subscription> {
        let all = self.subscriptions.values();
        all.filter(|s| s.subscriber == id).cloned().collect()
    }

    /// Returns what is remembered of a mailbox.
    pub fn ledger(&self, mailbox: Keyed) -> Ledger {
        self.ledgers.get(&mailbox).cloned().unwrap_or_default()
    }

    /// Returns what is remembered of a mailbox, to change it.
    pub fn change_ledger(&mut self, mailbox: Keyed) -> &mut Ledger {
        let ledger = self.ledgers.entry(mailbox).or_default();
        let was = self.changed.ledgers.entry(mailbox);
        was.or_insert_with(|| ledger.clone());
        ledger
    }

    /// Returns what a decision about one list of a signup rests on.
    pub fn standing(&self, signup: &Signup, list: &SignupList) -> Standing {
        let subscription = self.subscription(signup.subscriber, &list.list);
        Standing {
            list: list.state,
            expires: signup.expires_at,
            counter_then: list.counter,
            counter_now: subscription.map_or(0, |s| s.counter),
            subscription: subscription.map(|s| s.state),
            renews: subscription.is_some_and(|s| self.renews(list, s)),
        }
    }

    fn renews(&self, list: &SignupList, subscription: &Subscription) -> bool {
        let asked = self.facts.get(&list.facts).map(|f| f.list.revision);
        asked.is_some_and(|asked| {
            self.in_force
                .renews(&list.list, asked, subscription.revision)
        })
    }

    /// Ends one list of a signup, and the signup with its last.
    pub fn end_list(
        &mut self,
        id: SignupId,
        list: &ListId,
        state: ListState,
        reason: Option<Decline>,
        now: Timestamp,
    ) {
        let rows = self.lists.entry(id).or_default();
        for row in rows.iter_mut().filter(|row| row.list == *list) {
            row.state = state;
            row.reason = reason;
            row.decided_at = Some(now);
            self.changed.lists.insert((id, list.clone()));
        }
        if rows.iter().all(|row| row.state != ListState::Open)
            && let Some(signup) = self.signups.get_mut(&id)
            && signup.ended_at.is_none()
        {
            signup.ended_at = Some(now);
            self.changed.signups.insert(id);
        }
    }

    /// Ends one list of a signup that the person is on already: not before they joined, though the clock may have been set
    /// back since, or be another machine's.
    pub fn end_as_confirmed(&mut self, signup: &Signup, list: &ListId, now: Timestamp) {
        let joined = self.subscription(signup.subscriber, list);
        let at = joined.map_or(now, |subscription| now.max(subscription.since));
        self.end_list(signup.id, list, ListState::AlreadyConfirmed, None, at);
    }

    /// Moves a subscription by the state table and appends its one event; returns whether it moved. A confirm where it is
    /// confirmed renews it.
    pub fn move_subscription(
        &mut self,
        flows: &Flows,
        now: Timestamp,
        by: Move,
        template: Subscription,
        event: impl FnOnce(Event) -> Event,
    ) -> bool {
        let key = (template.subscriber, template.list.clone());
        let old = self.subscriptions.get(&key);
        let step = subscription::step(old.map(|s| s.state), by);
        let state = match step {
            Step::To(state) => state,
            Step::Same if by == Move::Confirm => State::Confirmed,
            _ => return false,
        };
        let raised = i64::from(subscription::makes_older_signups_ineffective(state));
        let moved = Subscription {
            id: old.map_or(template.id, |s| s.id),
            state,
            since: now,
            counter: old.map_or(0, |s| s.counter) + raised,
            ..template
        };
        let kind = match state {
            State::Confirmed if step == Step::Same => EventKind::SubscriptionRenewed,
            State::Confirmed => EventKind::SubscriptionConfirmed,
            State::Attested => EventKind::SubscriptionAttested,
            State::Unsubscribed => EventKind::SubscriptionUnsubscribed,
            State::Objected => EventKind::SubscriptionObjected,
            State::Undeliverable => EventKind::SubscriptionUndeliverable,
            State::Lapsed => EventKind::SubscriptionLapsed,
            State::Unproven => EventKind::SubscriptionAttested,
        };
        let happened = flows
            .event(kind, now, None)
            .list(&moved.list)
            .subscriber(moved.subscriber);
        self.events.push(event(happened));
        self.changed.subscriptions.insert(key.clone());
        self.subscriptions.insert(key, moved);
        true
    }

    /// Writes everything that changed, one statement a table.
    pub async fn save(&self, tx: &mut Tx) -> Result<(), Error> {
        let ledgers = self.changed.ledgers.iter().filter_map(|(mailbox, was)| {
            let is = self.ledgers.get(mailbox).filter(|is| *is != was)?;
            Some((*mailbox, is.clone()))
        });
        tx.save_ledgers(&ledgers.collect()).await?;
        let subscriptions = self.changed.subscriptions.iter();
        let subscriptions: Vec<_> = subscriptions
            .filter_map(|key| self.subscriptions.get(key).cloned())
            .collect();
        tx.save_subscriptions(&subscriptions).await?;
        let lists = self.lists.values().flatten();
        let lists: Vec<_> = lists
            .filter(|l| self.changed.lists.contains(&(l.signup, l.list.clone())))
            .cloned()
            .collect();
        tx.save_signup_lists(&lists).await?;
        let signups = self.changed.signups.iter();
        let signups: Vec<_> = signups
            .filter_map(|id| self.signups.get(id).cloned())
            .collect();
        tx.save_signups(&signups).await?;
        tx.queue(&self.mails).await?;
        tx.append(&self.events).await
    }

    /// Writes everything that changed, commits, and wakes whoever waits for it.
    pub async fn commit(self, flows: &Flows, mut tx: Tx) -> Result<(), Error> {
        self.save(&mut tx).await?;
        tx.commit().await?;
        flows.happened(&self.events);
        Ok(())
    }
}

/// A subscription that is not yet written, in the state from which the table starts.
pub(super) fn blank(
    now: Timestamp,
    subscriber: SubscriberId,
    list: &ListId,
    signup: &Signup,
    revision: u32,
) -> Subscription {
    Subscription {
        id: SubscriptionId::new(now, random()),
        subscriber,
        list: list.clone(),
        state: State::Unproven,
        basis: "consent".to_owned(),
        since: now,
        counter: 0,
        signup: Some(signup.id),
        revision: i64::from(revision),
        locale: signup.locale.clone(),
        restricted_at: None,
    }
}
