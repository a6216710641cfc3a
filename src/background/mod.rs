//! What runs without being asked: each role has `step`, which does what there is to do, and `run`, which repeats it.
//!
//! A role is woken by a ring from the flows, those of other processes included ([`wake`]), and looks by itself after a
//! while: rings can be missed, work cannot. Every step may be repeated, cut off or run in two processes at once.

pub mod copies;
pub mod deliver;
pub mod fold;
pub mod gauge;
pub mod outlets;
pub mod sequence;
pub mod space;
pub mod sweep;
mod verdict;
pub mod wake;

use std::future::Future;
use std::time::Duration;

use tokio::sync::Notify;

use crate::flow::Flows;
use crate::store::Error;

/// How long a role rests after the database refused.
const REST: Duration = Duration::from_secs(2);
/// How long a role that has caught up lets rings come together: many small transactions cost more than a few larger ones.
const PAUSE: Duration = Duration::from_millis(100);

/// Repeats a step: at once while it finds work, else after a ring or a while, until `soft`.
async fn repeat<S, F>(
    flows: &Flows,
    name: &'static str,
    ring: &Notify,
    poll: Duration,
    soft: impl Future<Output = ()>,
    mut step: S,
) where
    S: FnMut() -> F,
    F: Future<Output = Result<bool, Error>>,
{
    tokio::pin!(soft);
    loop {
        let wait = match step().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => poll,
            Err(error) => {
                failed(flows, name, &error);
                REST
            }
        };
        let rung = ring.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        let rung = async {
            tokio::time::sleep(PAUSE).await;
            rung.await;
        };
        tokio::select! {
            biased;
            () = &mut soft => return,
            () = tokio::time::sleep(wait) => {}
            () = rung, if wait == poll => {}
        }
    }
}

fn failed(flows: &Flows, role: &'static str, error: &Error) {
    tracing::error!(role, error = %error, "the database refused; trying again");
    if error.is_fatal() {
        flows.broken.notify_one();
    }
}
