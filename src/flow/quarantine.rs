//! Claims that ended without an outcome: their mails are tried again, and set aside when that goes on.
//!
//! A process that dies with a mail says nothing of it. Twice may be bad luck; then the mail is tried alone, so that only a
//! mail that is itself the reason is lost a third time.

use std::sync::Arc;

use super::Flows;
use crate::clock::random;
use crate::domain::delivery::MessageState;
use crate::domain::delivery::retry::LOST_CLAIMS;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::{Error, Pool, Tx};

/// Mails that are released at once.
const FEW: i64 = 50;

/// Appends an event for each freed mail that is set aside; returns these.
pub(super) async fn set_aside(
    tx: &mut Tx,
    freed: &[Message],
    now: Timestamp,
) -> Result<Vec<Event>, Error> {
    let lost_too_often = |message: &&Message| message.state == MessageState::Quarantined;
    let events: Vec<Event> = freed
        .iter()
        .filter(lost_too_often)
        .map(|message| {
            about(EventKind::MessageQuarantined, message, now).with("claims", LOST_CLAIMS)
        })
        .collect();
    tx.append(&events).await?;
    Ok(events)
}

/// Frees every claim; only a daemon that knows itself alone may do so.
///
/// # Errors
/// When the database refuses; then none is free.
pub async fn free_all(flows: &Arc<Flows>) -> Result<(), Error> {
    let mut tx = flows.pool.begin().await?;
    let freed = tx.free_all_claims().await?;
    let events = set_aside(&mut tx, &freed, flows.clock.now()).await?;
    tx.commit().await?;
    flows.happened(&events);
    Ok(())
}

/// Tells whether a mail must be tried alone.
pub(super) fn is_suspect(message: &Message) -> bool {
    message.lost + 1 >= LOST_CLAIMS
}

/// Queues a mail that is set aside; returns whether it was.
///
/// # Errors
/// When the database refuses; then it stays where it was.
pub async fn release(pool: &Pool, id: MessageId, now: Timestamp) -> Result<bool, Error> {
    let mut tx = pool.begin().await?;
    let Some(message) = tx.requeue(id).await? else {
        return Ok(false);
    };
    tx.append(&[about(EventKind::MessageReleased, &message, now)])
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// Queues mails that are set aside though they were answered, at most a few, and returns how many.
///
/// None of them is sent: the next claim writes down what was confirmed, which is its proof, and ends the others, which would
/// keep their lists from the mailbox.
///
/// # Errors
/// When the database refuses; then some stay where they were.
pub async fn release_answered(flows: &Flows) -> Result<usize, Error> {
    let answered = flows.pool.read().await?.answered_aside(FEW).await?;
    for id in &answered {
        release(&flows.pool, *id, flows.clock.now()).await?;
    }
    Ok(answered.len())
}

/// Begins an event about a mail.
pub(super) fn about(kind: EventKind, message: &Message, now: Timestamp) -> Event {
    let mut event = Event::of(random(), kind, now, Some(&message.sender))
        .subscriber(message.subscriber)
        .message(message.id)
        .with("kind", message.kind.as_str());
    event.signup = message.signup;
    event
}
