//! Events get their place in the trail: a number, and a leaf in the tree.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::repeat;
use crate::flow::Flows;
use crate::store::Error;
use crate::store::trail::Head;
use crate::trail::tree::{append, edge, leaf_hash};

/// Events that one transaction numbers.
const BATCH: i64 = 1000;
const POLL: Duration = Duration::from_secs(1);

/// Numbers events that have no number yet, at most one batch; returns whether there were any.
///
/// # Errors
/// When the database refuses; then none was numbered.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    // Looking is free; locking the head of the trail is a write.
    if !flows.pool.read().await?.has_unsequenced().await? {
        flows.metrics.unsequenced_events(0);
        return Ok(false);
    }
    let mut tx = flows.pool.begin().await?;
    let head = tx.lock_trail().await?;
    let leaves = tx.number(head.size, BATCH).await?;
    if leaves.is_empty() {
        return Ok(false);
    }
    let tiles = tx.tiles(edge(head.size)).await?;
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let grown = append(head.size, &tiles, &hashes);
    tx.save_tiles(&grown.map_err(|error| Error::corrupt(error.to_string()))?)
        .await?;
    tx.set_trail_head(Head {
        size: head.size + leaves.len() as u64,
        ..head
    })
    .await?;
    tx.commit().await?;
    Ok(true)
}

/// Numbers events until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let next = || step(&flows);
    repeat(&flows, "sequence", &flows.event_waits, POLL, soft, next).await;
}
