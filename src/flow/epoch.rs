//! The operator declares that a part of the trail is lost, and that it goes on from what is left.

use crate::clock::random;
use crate::domain::event::{Event, EventKind};
use crate::domain::time::Timestamp;
use crate::store::window::Window;
use crate::store::{Error, Pool};

/// Begins a new epoch, which is itself an event, and returns what was lost before it: until that window is closed, nobody
/// is eligible, for whoever left in it is not known.
///
/// Numbers after the last one left may have been given to other events before; checkpoints name the epoch, so that the
/// two are never taken for one another. `signed` is the newest epoch of which somebody else holds a checkpoint: the new
/// one comes after it, however old the database is.
///
/// # Errors
/// When the database refuses; then nothing is declared.
pub async fn begin(
    pool: &Pool,
    reason: &str,
    signed: u64,
    now: Timestamp,
) -> Result<Window, Error> {
    let mut tx = pool.begin().await?;
    let mut head = tx.lock_trail().await?;
    let since = tx.last_event_time().await?.unwrap_or(now);
    let (first, last) = (head.epoch + 1, head.epoch.max(signed) + 1);
    let declare = |epoch| {
        Event::of(random(), EventKind::TrailEpoch, now, None)
            .with("epoch", epoch)
            .with("size", head.size)
            .with("reason", reason)
            .with("since", since.to_string())
            .with("until", now.to_string())
    };
    // One event for each: that an epoch was skipped must not look as if its event were missing.
    let events: Vec<_> = (first..=last).map(declare).collect();
    let window = Window {
        epoch: last,
        size: head.size,
        since,
        until: now,
        reached: head.size,
    };
    tx.append(&events).await?;
    tx.open_window(&window).await?;
    head.epoch = last;
    tx.set_trail_head(head).await?;
    tx.commit().await?;
    Ok(window)
}
