//! What time ends: links, the memory of requests, network facts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::repeat;
use crate::flow::Flows;
use crate::flow::expire::expire;
use crate::flow::retention::erase_network;
use crate::store::Error;

/// Requests that one transaction forgets.
const BATCH: i64 = 500;
const POLL: Duration = Duration::from_secs(10);

/// Ends what is over, at most one batch of each kind; returns whether there was any.
///
/// # Errors
/// When the database refuses.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    // A deletion takes room in the log too, and gives none back to the disk.
    if flows.space.is_low() {
        return Ok(false);
    }
    let expired = expire(flows).await?;
    let before = flows.clock.now() - flows.settings.keep_requests;
    let mut forgotten = 0;
    if flows.pool.read().await?.has_requests(before).await? {
        let mut tx = flows.pool.begin().await?;
        forgotten = tx.forget_requests(before, BATCH).await?;
        tx.commit().await?;
    }
    let erased = erase_network(flows).await?;
    Ok(expired > 0 || forgotten > 0 || erased > 0)
}

/// Sweeps until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let never = Notify::new();
    repeat(&flows, "sweep", &never, POLL, soft, || step(&flows)).await;
}
