//! Somebody leaves a list: in force before they are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::view::SubscriptionView;
use super::work::Work;
use super::{Flows, mail};
use crate::domain::delivery::{About, MessageKind};
use crate::domain::event::EventKind;
use crate::domain::id::{SubscriberId, SubscriptionId};
use crate::domain::list::ListId;
use crate::domain::pepper::Keyed;
use crate::domain::subscription::{Move, State};
use crate::domain::time::Timestamp;
use crate::store::subscriber::Subscription;
use crate::store::{Error, Tx};

/// After this time a further press says that somebody still mails a person who left; it is said once in such a time.
const REPEATED_AFTER: Duration = Duration::from_secs(48 * 3600);

/// How somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By the button on the page.
    Page,
    /// By the mail program's own button (RFC 8058).
    OneClick,
}

impl How {
    /// Returns the name used in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            How::Page => "page",
            How::OneClick => "one_click",
        }
    }
}

/// One press.
#[derive(Clone, Copy, Debug)]
pub struct Press {
    /// On the link of this subscription.
    pub subscription: SubscriptionId,
    /// How.
    pub how: How,
}

/// What a press did.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The person has left now.
    Left {
        /// What was left.
        view: SubscriptionView,
        /// Whether a mail will say so too.
        goodbye: bool,
    },
    /// The person had left before.
    Already {
        /// What was left.
        view: SubscriptionView,
        /// Whether that was so long ago that somebody still mails them.
        repeated: bool,
    },
    /// Nothing is known: the record was erased, and the address has no subscription to this list.
    Unknown,
}

/// Unsubscribes in one transaction, in the order of the presses.
///
/// # Errors
/// When the database refuses; then nobody has left.
pub async fn unsubscribe(
    flows: Arc<Flows>,
    mut tx: Tx,
    batch: Arc<[Press]>,
) -> Result<Vec<Outcome>, Error> {
    let targets = targets(&mut tx, &batch).await?;
    let now = flows.clock.now();
    let mut work = Work::default();
    for subscription in targets.values() {
        work.put(subscription.clone());
    }
    let mailboxes = mailboxes(&mut tx, &batch, &targets).await?;
    let mut told = told(&mut tx, &targets, now).await?;

    let lists = targets.values().map(|target| &target.list);
    let in_force = flows.in_force_for(&mut tx, lists).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for press in batch.iter() {
        let target = targets.get(&press.subscription);
        let current = target.and_then(|t| work.subscription(t.subscriber, &t.list).cloned());
        let Some(current) = current else {
            outcomes.push(Outcome::Unknown);
            continue;
        };
        let Some(entry) = in_force.catalog.list(&current.list) else {
            return Err(Error::corrupt("a subscription's list was never registered"));
        };
        let sender = &entry.facts.list.sender;
        let was = current.state;
        let left = work.move_subscription(
            &flows,
            now,
            Move::Unsubscribe,
            current.clone(),
            |mut event| {
                event.sender = Some(sender.clone());
                event.with("how", press.how.as_str())
            },
        );
        let subscription = work
            .subscription(current.subscriber, &current.list)
            .cloned();
        let view = SubscriptionView {
            subscription: subscription.unwrap_or_else(|| current.clone()),
            facts: entry.facts.clone(),
            closed: entry.closed,
        };
        if left {
            let wanted = press.how == How::Page
                && entry.facts.list.goodbye
                && matches!(was, State::Confirmed | State::Attested);
            let mailbox = mailboxes.get(&current.subscriber).filter(|_| wanted);
            if let Some(mailbox) = mailbox {
                work.mails.push(mail(
                    MessageKind::Goodbye,
                    now,
                    sender,
                    current.subscriber,
                    *mailbox,
                    None,
                    vec![About {
                        list: current.list,
                        facts: entry.hash,
                    }],
                ));
            }
            let goodbye = mailbox.is_some();
            outcomes.push(Outcome::Left { view, goodbye });
        } else {
            let repeated = now.since(current.since) > REPEATED_AFTER;
            if repeated && told.insert((current.subscriber, current.list.clone())) {
                let event = flows
                    .event(EventKind::UnsubscribeRepeated, now, Some(sender))
                    .list(&current.list)
                    .subscriber(current.subscriber)
                    .with("how", press.how.as_str());
                work.events.push(event);
            }
            outcomes.push(Outcome::Already { view, repeated });
        }
    }
    work.commit(&flows, tx).await?;
    Ok(outcomes)
}

/// Locks and finds the subscription that each link means now: its own, or that of the same address after an erasure.
async fn targets(
    tx: &mut Tx,
    batch: &[Press],
) -> Result<BTreeMap<SubscriptionId, Subscription>, Error> {
    let ids: Vec<SubscriptionId> = batch.iter().map(|press| press.subscription).collect();
    tx.lock_mailboxes_of_subscriptions(&ids).await?;
    let found = tx.subscriptions(&ids).await?;
    let mut targets: BTreeMap<_, _> = found.into_iter().map(|s| (s.id, s)).collect();
    let missing = ids.into_iter().filter(|id| !targets.contains_key(id));
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        let heirs = tx.subscriptions_after_erasure(&missing).await?;
        let ids: Vec<_> = heirs.iter().filter_map(|(_, heir)| *heir).collect();
        // They are locked already, but for those that came since the first lock was asked for.
        tx.lock_mailboxes_of_subscriptions(&ids).await?;
        let found = tx.subscriptions(&ids).await?;
        for (old, heir) in heirs {
            if let Some(subscription) = found.iter().find(|s| Some(s.id) == heir) {
                targets.insert(old, subscription.clone());
            }
        }
    }
    Ok(targets)
}

/// Finds of whom it was said already that they press again long after they left: an event is for ever, and a link can be pressed
/// without end.
async fn told(
    tx: &mut Tx,
    targets: &BTreeMap<SubscriptionId, Subscription>,
    now: Timestamp,
) -> Result<BTreeSet<(SubscriberId, ListId)>, Error> {
    let again = |target: &&Subscription| {
        !target.state.is_subscribed() && now.since(target.since) > REPEATED_AFTER
    };
    let left = targets.values().filter(again);
    let left = left.map(|target| target.subscriber).collect();
    let (kind, since) = (EventKind::UnsubscribeRepeated, now - REPEATED_AFTER);
    let told = tx.told_since(kind, &left, since).await?.into_iter();
    Ok(told
        .filter_map(|(whose, list)| Some((whose, list?)))
        .collect())
}

/// Finds the mailboxes to which a goodbye may go: only who pressed on the page gets one.
async fn mailboxes(
    tx: &mut Tx,
    batch: &[Press],
    targets: &BTreeMap<SubscriptionId, Subscription>,
) -> Result<BTreeMap<SubscriberId, Keyed>, Error> {
    let by_page = batch.iter().filter(|press| press.how == How::Page);
    let owners = by_page.filter_map(|press| targets.get(&press.subscription));
    let owners: Vec<SubscriberId> = owners.map(|target| target.subscriber).collect();
    if owners.is_empty() {
        return Ok(BTreeMap::new());
    }
    let people = tx.subscribers(&owners).await?.into_iter();
    Ok(people.map(|person| (person.id, person.mailbox)).collect())
}
