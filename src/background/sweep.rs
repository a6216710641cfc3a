//! What time ends: links, the memory of requests, network facts; what waits for a time that a clock made up, and what
//! was set aside and is answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::repeat;
use crate::domain::delivery::retry::longest_wait;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::flow::expire::expire;
use crate::flow::jump::believed;
use crate::flow::quarantine::release_answered;
use crate::flow::retention::erase_network;
use crate::store::Error;

/// Requests that one transaction forgets, or mails that it brings forward.
const BATCH: i64 = 500;
const POLL: Duration = Duration::from_secs(10);

/// Ends what is over, at most one batch of each kind, by a clock that is believed; returns whether there was any.
///
/// # Errors
/// When the database refuses.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    let now = believed(flows).await?;
    // A deletion takes room in the log too, and gives none back to the disk.
    if flows.space.is_low() {
        return Ok(false);
    }
    let brought = bring_forward(flows).await?;
    let released = release_answered(flows).await?;
    let ended = match now {
        Some(now) => end(flows, now).await?,
        None => false,
    };
    Ok(ended || brought > 0 || released > 0)
}

async fn end(flows: &Flows, now: Timestamp) -> Result<bool, Error> {
    let expired = expire(flows, now).await?;
    let before = now - flows.settings.keep_requests;
    let mut forgotten = 0;
    if flows.pool.read().await?.has_requests(before).await? {
        let mut tx = flows.pool.begin().await?;
        forgotten = tx.forget_requests(before, BATCH).await?;
        tx.commit().await?;
    }
    let erased = erase_network(flows, now).await?;
    Ok(expired > 0 || forgotten > 0 || erased > 0)
}

/// Makes mails due that wait longer than any mail does: they were put off by a clock that has been set back since.
async fn bring_forward(flows: &Flows) -> Result<u64, Error> {
    let now = flows.clock.now();
    let end = now + longest_wait();
    if !flows.pool.read().await?.has_due_after(end).await? {
        return Ok(0);
    }
    let mut tx = flows.pool.begin().await?;
    let brought = tx.bring_forward(end, now, BATCH).await?;
    tx.commit().await?;
    flows.mail_waits.notify_one();
    Ok(brought)
}

/// Sweeps until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let never = Notify::new();
    repeat(&flows, "sweep", &never, POLL, soft, || step(&flows)).await;
}
