//! The operator declares that a part of the trail is lost, and that it goes on from what is left.

use crate::clock::random;
use crate::domain::event::{Event, EventKind};
use crate::domain::time::Timestamp;
use crate::store::trail::Head;
use crate::store::{Error, Pool};

/// Begins a new epoch, which is itself an event, and returns where the trail goes on.
///
/// Numbers after the one returned may have been given to other events before; checkpoints name the epoch, so that the two
/// are never taken for one another.
///
/// # Errors
/// When the database refuses; then nothing is declared.
pub async fn begin(pool: &Pool, reason: &str, now: Timestamp) -> Result<Head, Error> {
    let mut tx = pool.begin().await?;
    let head = tx.lock_trail().await?;
    let next = Head {
        epoch: head.epoch + 1,
        ..head
    };
    let event = Event::of(random(), EventKind::TrailEpoch, now, None)
        .with("epoch", next.epoch)
        .with("size", next.size)
        .with("reason", reason);
    tx.append(&[event]).await?;
    tx.set_trail_head(next).await?;
    tx.commit().await?;
    Ok(next)
}
