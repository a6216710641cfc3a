//! What a restored database has lost: done again from the operator's own copy of the events, or accepted.
//!
//! Nobody who left in the lost time may be mailed again. So everybody is ineligible from the restore on, until either
//! every leave, objection and erasure of that time has been done again ([`replay()`]), or the loss is accepted ([`accept()`]):
//! then every consent from before it lapses, since nobody can tell whose was withdrawn.

mod accept;
mod events;
mod replay;

use std::collections::BTreeSet;

use crate::clock::random;
use crate::domain::event::{Event, EventKind};
use crate::domain::time::Timestamp;
use crate::store::window::Window;
use crate::store::{Error, Pool, Tx};
use crate::trail::leaf::Leaf;

pub use accept::{Accepted, Interval, accept};
pub use events::{Signed, Told, Unfit, read};
pub use replay::{Replayed, replay};

/// Returns the window that was opened last and is open; none where nothing is lost.
///
/// # Errors
/// When the database cannot be read.
pub async fn window(pool: &Pool) -> Result<Option<Window>, Error> {
    Ok(pool.read().await?.open_windows().await?.pop())
}

/// Ends a window because everything in it was done again, which is itself an event.
///
/// # Errors
/// When the database refuses; then it stays open.
pub async fn complete(pool: &Pool, window: &Window, now: Timestamp) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    tx.lock_trail().await?;
    if tx
        .open_windows()
        .await?
        .iter()
        .any(|w| w.epoch == window.epoch)
    {
        end(&mut tx, window, "replayed", now).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn end(tx: &mut Tx, window: &Window, how: &str, now: Timestamp) -> Result<(), Error> {
    tx.end_window(window.epoch, now).await?;
    let event = Event::of(random(), EventKind::TrailEpoch, now, None)
        .with("epoch", window.epoch)
        .with("window", how)
        .with("since", window.since.to_string())
        .with("until", window.until.to_string())
        .with("replayed", window.reached - window.size);
    tx.append(&[event]).await
}

/// Leaves out what the database has, as events that were written but not yet numbered when it was backed up.
async fn unknown(tx: &mut Tx, leaves: &[(u64, Leaf)]) -> Result<Vec<(u64, Leaf)>, Error> {
    let ids: Vec<_> = leaves.iter().map(|(_, leaf)| leaf.id).collect();
    let known: BTreeSet<_> = tx.known_events(&ids).await?.into_iter().collect();
    let lost = leaves.iter().filter(|(_, leaf)| !known.contains(&leaf.id));
    Ok(lost.cloned().collect())
}
