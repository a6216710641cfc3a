//! How long a claim holds, and how it ends before its mail is settled.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Flows;
use crate::domain::id::MessageId;
use crate::store::queue::Back;
use crate::store::{Error, Tx};

/// Returns how long a claim holds without a sign of life.
pub(super) fn lease(flows: &Flows) -> Duration {
    match flows.pool.is_shared() {
        true => flows.settings.short_lease(),
        // Nobody is there who could take over.
        false => flows.settings.long_lease(),
    }
}

/// Says that claimed mails are still being seen to.
///
/// # Errors
/// When the database refuses; then their leases end by themselves.
pub async fn renew(flows: &Flows, claims: &[(MessageId, Uuid)]) -> Result<(), Error> {
    let mut tx = flows.pool.begin().await?;
    let until = tx.lease_clock(flows.clock.steady()).await? + lease(flows);
    tx.renew(claims, until).await?;
    tx.commit().await
}

/// Gives mails back that were claimed and of which the relay has nothing that counts.
///
/// # Errors
/// When the database refuses; then their leases end by themselves.
pub async fn give_back(
    _flows: Arc<Flows>,
    mut tx: Tx,
    rows: Arc<[Back]>,
) -> Result<Vec<()>, Error> {
    tx.give_back(&rows).await?;
    tx.commit().await?;
    Ok(vec![(); rows.len()])
}
