//! Events get their place in the trail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::repeat;
use crate::flow::Flows;
use crate::store::Error;

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
    let numbered = tx.sequence(BATCH).await?;
    tx.commit().await?;
    Ok(numbered > 0)
}

/// Numbers events until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let next = || step(&flows);
    repeat(&flows, "sequence", &flows.event_waits, POLL, soft, next).await;
}
