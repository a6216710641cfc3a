//! The room on the disk of a SQLite file is watched.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::repeat;
use crate::flow::Flows;
use crate::flow::space::look;
use crate::store::Error;

/// How often: a disk fills with some hundred megabytes in a second.
const POLL: Duration = Duration::from_millis(200);

/// Looks once.
///
/// # Errors
/// None; a disk that does not answer is looked at again.
pub async fn step(flows: &Arc<Flows>) -> Result<bool, Error> {
    look(flows, false).await;
    Ok(false)
}

/// Looks until `soft`.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) {
    let never = Notify::new();
    repeat(&flows, "space", &never, POLL, soft, || step(&flows)).await;
}
