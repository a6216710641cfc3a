//! Doing again what people did in the lost time: leaves, objections, refusals, holds, erasures.

use std::collections::{BTreeMap, BTreeSet};

use super::events::Told;
use super::unknown;
use crate::domain::address::Address;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{SignupId, SubscriberId};
use crate::domain::list::ListId;
use crate::domain::signup::{Decline, ListState};
use crate::domain::subscription::{Move, State};
use crate::domain::time::Timestamp;
use crate::flow::erase::erase_again;
use crate::flow::work::Work;
use crate::flow::{Flows, api_key};
use crate::store::Error;
use crate::store::subscriber::{Subscriber, Subscription};
use crate::store::window::Window;
use crate::trail::leaf::Leaf;

/// Events that one transaction does again.
const BATCH: usize = 100;

/// What was done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Subscriptions that ended.
    pub left: usize,
    /// Signups that were refused.
    pub declined: usize,
    /// Changes of how confirmation mails are held.
    pub holds: usize,
    /// Subscribers that were erased.
    pub erased: usize,
    /// API keys that were revoked.
    pub revoked: usize,
    /// People of whom the database does not know: they came after the backup, and there is nothing to end.
    pub strangers: usize,
}

/// Does again what the copy tells and was not done again yet, in its order.
///
/// # Errors
/// When the database refuses; then what was done so far stays, and the next replay goes on from there.
pub async fn replay(flows: &Flows, window: &Window, told: &Told) -> Result<Replayed, Error> {
    let mut done = Replayed::default();
    let mut strangers = BTreeSet::new();
    let open = told.leaves.iter().filter(|(seq, _)| *seq > window.reached);
    let open: Vec<_> = open.cloned().collect();
    let alone = |(_, leaf): &(u64, Leaf)| {
        matches!(
            leaf.kind,
            EventKind::SubscriberErased | EventKind::KeyRevoked
        )
    };
    for run in open.chunk_by(|a, b| !alone(a) && !alone(b)) {
        for some in run.chunks(BATCH) {
            let lost = unknown(&mut flows.pool.read().await?, some).await?;
            match lost.as_slice() {
                [] => {}
                [only] if alone(only) => {
                    by_itself(flows, &only.1, &mut done, &mut strangers).await?
                }
                lost => together(flows, window, lost, &mut done, &mut strangers).await?,
            }
            if let Some((seq, leaf)) = some.last() {
                reach(flows, window, *seq, leaf.time).await?;
            }
        }
    }
    if told.last > window.reached {
        reach(flows, window, told.last, told.until).await?;
    }
    done.strangers = strangers.len();
    Ok(done)
}

async fn reach(flows: &Flows, window: &Window, seq: u64, at: Timestamp) -> Result<(), Error> {
    let mut tx = flows.pool.begin().await?;
    tx.reach_in_window(window.epoch, seq, at).await?;
    tx.commit().await
}

/// Does again what has a transaction of its own.
async fn by_itself(
    flows: &Flows,
    leaf: &Leaf,
    done: &mut Replayed,
    strangers: &mut BTreeSet<SubscriberId>,
) -> Result<(), Error> {
    let (pool, now) = (&flows.pool, flows.clock.now());
    if leaf.kind == EventKind::KeyRevoked {
        let key = text(leaf, "key").and_then(|key| key.parse().ok());
        if let Some(key) = key {
            done.revoked += usize::from(api_key::revoke(pool, now, key).await?);
        }
        return Ok(());
    }
    let Some(id) = leaf.subscriber else {
        return Ok(());
    };
    let person = pool.read().await?.subscribers(&[id]).await?.pop();
    let Some(person) = person else {
        strangers.insert(id);
        return Ok(());
    };
    let address = Address::parse(&person.email);
    let address = address.map_err(|_| Error::corrupt("a subscriber's address cannot be read"))?;
    let erased = erase_again(pool, &flows.keys(), &person.sender, &address, now, leaf.id).await?;
    done.erased += usize::from(erased.is_some());
    Ok(())
}

/// Does again what moves states, in one transaction.
async fn together(
    flows: &Flows,
    window: &Window,
    lost: &[(u64, Leaf)],
    done: &mut Replayed,
    strangers: &mut BTreeSet<SubscriberId>,
) -> Result<(), Error> {
    let ids: BTreeSet<_> = lost
        .iter()
        .filter_map(|(_, leaf)| leaf.subscriber)
        .collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let signups: Vec<_> = lost.iter().filter_map(|(_, leaf)| leaf.signup).collect();
    let mut tx = flows.pool.begin().await?;
    let people = tx.subscribers(&ids).await?;
    let work = Work::lock_subscribers(flows, &mut tx, &people, &signups).await?;
    // Somebody may have been erased while this one waited for the lock.
    let people = tx.subscribers(&ids).await?;
    let people: BTreeMap<_, _> = people.into_iter().map(|p| (p.id, p)).collect();
    let now = flows.clock.now();
    let mut again = Again {
        flows,
        window,
        now,
        work,
        done,
    };
    for (_, leaf) in lost {
        match leaf.subscriber.and_then(|id| people.get(&id)) {
            Some(person) => again.happen(leaf, person),
            None => strangers.extend(leaf.subscriber),
        }
    }
    again.work.commit(flows, tx).await
}

struct Again<'a> {
    flows: &'a Flows,
    window: &'a Window,
    now: Timestamp,
    work: Work,
    done: &'a mut Replayed,
}

impl Again<'_> {
    fn happen(&mut self, leaf: &Leaf, person: &Subscriber) {
        let before = self.work.events.len();
        match leaf.kind {
            EventKind::SubscriptionUnsubscribed => self.leave(leaf, person, Move::Unsubscribe),
            EventKind::SubscriptionObjected => self.leave(leaf, person, Move::Object),
            EventKind::SubscriptionUndeliverable => self.leave(leaf, person, Move::HardBounce),
            EventKind::SubscriptionLapsed => self.leave(leaf, person, Move::Lapse),
            EventKind::SignupDeclined => self.decline(leaf, person),
            EventKind::SubscriberChanged => self.hold(leaf, person),
            _ => {}
        }
        for event in &mut self.work.events[before..] {
            event
                .data
                .insert("replayed".to_owned(), leaf.id.to_string().into());
            event
                .data
                .insert("at".to_owned(), leaf.time.to_string().into());
        }
    }

    fn leave(&mut self, leaf: &Leaf, person: &Subscriber, by: Move) {
        let Some(list) = &leaf.list else { return };
        let old = self.work.subscription(person.id, list).cloned();
        if old.as_ref().is_some_and(|old| self.is_newer(old)) {
            return;
        }
        // Who confirmed and left in the lost time must not be confirmed by the same link again.
        let subscription = old.unwrap_or_else(|| never(self.now, person, list, leaf.signup));
        let how = text(leaf, "how").map(str::to_owned);
        let (flows, now) = (self.flows, self.now);
        let moved = self
            .work
            .move_subscription(flows, now, by, subscription, |mut event| {
                event.sender = Some(person.sender.clone());
                event.signup = leaf.signup;
                match how {
                    Some(how) => event.with("how", how),
                    None => event,
                }
            });
        self.done.left += usize::from(moved);
    }

    fn decline(&mut self, leaf: &Leaf, person: &Subscriber) {
        let how = text(leaf, "how").and_then(Decline::from_name);
        let signup = leaf.signup.and_then(|id| self.work.signup(id)).cloned();
        let (Some(how), Some(signup)) = (how, signup) else {
            return;
        };
        let mut declined = Vec::new();
        for list in self.work.lists(signup.id).to_vec() {
            match list.state {
                ListState::Open | ListState::Undeliverable => {
                    let (state, now) = (ListState::Declined, self.now);
                    self.work
                        .end_list(signup.id, &list.list, state, Some(how), now);
                    declined.push(list.list.to_string());
                }
                // Confirmed since the restore, by the link that was refused.
                _ => self.leave_by(leaf, person, signup.id, &list.list),
            }
        }
        if !declined.is_empty() {
            let event = self.event(EventKind::SignupDeclined, person);
            let event = event.signup(signup.id).with("how", how.as_str());
            self.work.events.push(event.with("lists", declined));
            self.done.declined += 1;
        }
        if how.holds() {
            let until = self.now + self.flows.settings.limits.hold;
            self.work
                .change_ledger(person.mailbox)
                .hold(&person.sender, until);
        }
    }

    fn leave_by(&mut self, leaf: &Leaf, person: &Subscriber, signup: SignupId, list: &ListId) {
        let subscription = self.work.subscription(person.id, list);
        if subscription.is_some_and(|s| s.signup == Some(signup)) {
            let mut leaf = leaf.clone();
            leaf.list = Some(list.clone());
            self.leave(&leaf, person, Move::Unsubscribe);
        }
    }

    fn hold(&mut self, leaf: &Leaf, person: &Subscriber) {
        let Some(what) = text(leaf, "confirmation_mails") else {
            return;
        };
        let until = self.now + self.flows.settings.limits.hold;
        let ledger = self.work.change_ledger(person.mailbox);
        match what {
            "held" => drop(ledger.hold(&person.sender, until)),
            "held_everywhere" => ledger.hold_everywhere(until),
            "lifted" => ledger.lift(&person.sender),
            _ => return,
        }
        let event = self.event(EventKind::SubscriberChanged, person);
        let event = event.with("confirmation_mails", what);
        self.work.events.push(match leaf.signup {
            Some(signup) => event.signup(signup),
            None => event,
        });
        self.done.holds += 1;
    }

    fn event(&self, kind: EventKind, person: &Subscriber) -> Event {
        let event = self.flows.event(kind, self.now, Some(&person.sender));
        event.subscriber(person.id)
    }

    /// Tells whether somebody asked and confirmed after the restore: what they did before does not undo that.
    fn is_newer(&self, subscription: &Subscription) -> bool {
        let until = self.window.until;
        let asked = subscription.signup.map(|id| self.work.signup(id));
        let asked = asked.map(|signup| signup.is_some_and(|signup| signup.created_at >= until));
        subscription.since >= until && asked.unwrap_or(true)
    }
}

/// A subscription that was lost whole, in the state from which the table starts.
fn never(
    now: Timestamp,
    person: &Subscriber,
    list: &ListId,
    signup: Option<SignupId>,
) -> Subscription {
    Subscription {
        id: crate::domain::id::SubscriptionId::new(now, crate::clock::random()),
        subscriber: person.id,
        list: list.clone(),
        state: State::Unproven,
        basis: "none".to_owned(),
        since: now,
        counter: 0,
        signup,
        revision: 0,
        locale: person.locale.clone(),
        restricted_at: None,
    }
}

fn text<'l>(leaf: &'l Leaf, name: &str) -> Option<&'l str> {
    leaf.data.get(name).and_then(|value| value.as_str())
}
