//! A person is erased: every row about them goes, and the evidence; the events stay, which say nothing any more.

use super::Keys;
use crate::clock::random;
use crate::domain::address::Address;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{EventId, SubscriberId};
use crate::domain::list::SenderId;
use crate::domain::time::Timestamp;
use crate::store::{Error, Pool};

/// Attempts, where delivery holds what is to be deleted.
const ATTEMPTS: usize = 3;

/// What went and what stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Who it was; only events still say this id.
    pub subscriber: SubscriberId,
    /// Parts of evidence that went.
    pub parts: u64,
    /// Subscriptions of which a keyed hash stays, so that their old links still work.
    pub tombstones: usize,
    /// Until when confirmation mails of this sender stay held, by keyed hash.
    pub held_until: Option<Timestamp>,
}

/// Erases an address at a sender, the proof of consent with it; none if it is not known.
///
/// # Errors
/// When the database refuses; then nothing is erased.
pub async fn erase(
    pool: &Pool,
    keys: &Keys,
    sender: &SenderId,
    address: &Address,
    now: Timestamp,
) -> Result<Option<Erased>, Error> {
    patiently(pool, keys, (sender, address), now, None).await
}

/// Erases an address whose erasure a restored database has lost; the events name the one that was lost.
///
/// # Errors
/// When the database refuses; then nothing is erased.
pub async fn erase_again(
    pool: &Pool,
    keys: &Keys,
    sender: &SenderId,
    address: &Address,
    now: Timestamp,
    lost: EventId,
) -> Result<Option<Erased>, Error> {
    patiently(pool, keys, (sender, address), now, Some(lost)).await
}

async fn patiently(
    pool: &Pool,
    keys: &Keys,
    whom: (&SenderId, &Address),
    now: Timestamp,
    lost: Option<EventId>,
) -> Result<Option<Erased>, Error> {
    let mut attempt = 1;
    loop {
        match once(pool, keys, whom, now, lost).await {
            Err(error) if error.is_unavailable() && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

async fn once(
    pool: &Pool,
    keys: &Keys,
    (sender, address): (&SenderId, &Address),
    now: Timestamp,
    lost: Option<EventId>,
) -> Result<Option<Erased>, Error> {
    let identity = keys.pepper.identity(sender, address);
    let mailbox = keys.pepper.mailbox(address);
    let mut tx = pool.begin().await?;
    let Some(known) = tx.subscriber_at(sender, identity).await? else {
        return Ok(None);
    };
    tx.lock_messages_to(known.id).await?;
    let mut ledgers = tx.lock_mailboxes(std::slice::from_ref(&known)).await?;
    // Somebody else may have erased them while this one waited for the lock.
    let Some(person) = tx.subscriber_at(sender, identity).await? else {
        return Ok(None);
    };
    let id = person.id;
    let tombstones = tx.subscriptions_of(&[id]).await?.len();
    let parts = tx.delete_subscriber(id, now).await?;
    let ledger = ledgers.entry(mailbox).or_default();
    ledger.erase(sender);
    let (held_until, empty) = (ledger.held_until(sender, now), ledger.is_empty(now));
    match empty {
        true => tx.forget_mailbox(mailbox).await?,
        false => tx.save_ledgers(&ledgers).await?,
    }
    let events = [
        evidence_erased(&person.sender, id, now),
        erased(&person.sender, id, now),
    ];
    let events = events.map(|event| match lost {
        Some(lost) => event.with("replayed", lost.to_string()),
        None => event,
    });
    tx.append(&events).await?;
    tx.commit().await?;
    Ok(Some(Erased {
        subscriber: id,
        parts,
        tombstones,
        held_until,
    }))
}

/// Says that all parts behind all earlier events of a subscriber are gone.
fn evidence_erased(sender: &SenderId, id: SubscriberId, now: Timestamp) -> Event {
    Event::of(random(), EventKind::EvidenceErased, now, Some(sender))
        .subscriber(id)
        .with("reason", "request")
}

fn erased(sender: &SenderId, id: SubscriberId, now: Timestamp) -> Event {
    Event::of(random(), EventKind::SubscriberErased, now, Some(sender))
        .subscriber(id)
        .with("destroyed_proof", true)
}
