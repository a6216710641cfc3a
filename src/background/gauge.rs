//! Numbers that are read rather than counted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::repeat;
use crate::flow::Flows;
use crate::store::Error;

const POLL: Duration = Duration::from_secs(10);

/// Reads how much waits, and since when.
///
/// # Errors
/// When the database cannot be read.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    let mut tx = flows.pool.read().await?;
    let depth = tx.queue_depth().await?;
    let (events, unsequenced) = tx.trail_length().await?;
    flows.metrics.queue_depth("queued", depth.queued);
    flows.metrics.queue_depth("claimed", depth.claimed);
    flows.metrics.queue_depth("quarantined", depth.quarantined);
    let age = depth
        .oldest
        .map_or(Duration::ZERO, |due| flows.clock.now().since(due));
    flows.metrics.queue_oldest(age);
    flows.metrics.trail_events(events);
    flows.metrics.unsequenced_events(unsequenced);
    Ok(false)
}

/// Reads the numbers until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let never = Notify::new();
    repeat(&flows, "gauge", &never, POLL, soft, || step(&flows)).await;
}
