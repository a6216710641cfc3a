//! Network facts whose time is over are erased, which the trail says.

use std::sync::atomic::Ordering;

use super::Flows;
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::domain::time::Timestamp;
use crate::store::Error;

/// Parts that one transaction erases.
const BATCH: i64 = 500;

/// Erases network facts that were kept long enough at a time, at most one batch, and returns how many.
///
/// # Errors
/// When the database refuses; then none was erased.
pub async fn erase_network(flows: &Flows, now: Timestamp) -> Result<usize, Error> {
    let before = now - flows.settings.keep_network;
    if !flows.pool.read().await?.has_network(before).await? {
        return Ok(0);
    }
    let mut tx = flows.pool.begin().await?;
    let erased = tx.delete_network(before, BATCH).await?;
    let events: Vec<_> = erased
        .iter()
        .map(|(event, sender, subscriber)| {
            flows
                .event(EventKind::EvidenceErased, now, Some(sender))
                .subscriber(*subscriber)
                .with("event", event.to_string())
                .with("part", Part::Network.as_str())
                .with("reason", "retention")
        })
        .collect();
    tx.append(&events).await?;
    tx.commit().await?;
    flows.traces.store(true, Ordering::Relaxed);
    flows.happened(&events);
    Ok(erased.len())
}
