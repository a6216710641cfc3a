//! A backup: what a copy of the database holds, and whether it is whole.

use std::path::Path;

use super::audit::report::{Check, Checks, Report};
use super::audit::trusted::Trusted;
use super::audit::{CannotVerify, Progress, Subject, verify};
use super::keyring::{self, KeyringError};
use crate::store::keyring::Registered;
use crate::store::trail::{Head, Kept};
use crate::store::{self, Pool};

/// What a database holds that is to be relied on later.
#[derive(Debug)]
pub struct Inspected {
    /// How far its trail reaches.
    pub head: Head,
    /// Events that have no number yet.
    pub waiting: i64,
    /// The newest checkpoint.
    pub checkpoint: Option<Kept>,
    /// The keys that it needs.
    pub keys: Vec<Registered>,
    /// What verification found.
    pub report: Report,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CannotInspect {
    /// The database itself is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A key is not here.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// It cannot be verified.
    #[error(transparent)]
    Verify(#[from] CannotVerify),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Reads a database whole: its pages, its keys, and whether trail and states are what was signed, outside copies left
/// aside: those may be newer.
///
/// # Errors
/// When it is damaged, a key that it needs is not here, or it cannot be read.
pub async fn inspect(
    pool: &Pool,
    keys_dir: &Path,
    origin: &str,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Inspected, CannotInspect> {
    if let Some(damage) = pool.damage().await? {
        return Err(CannotInspect::Damaged(damage));
    }
    keyring::open_existing(pool, keys_dir).await?;
    let trusted = Trusted::registered(pool, keys_dir, origin.to_owned()).await?;
    let subject = Subject {
        pool,
        origin,
        trusted: &trusted,
        copy: None,
    };
    let checks = Checks::default().without(Check::Outside);
    let report = verify(&subject, checks, None, progress).await?;
    let mut tx = pool.snapshot().await?;
    Ok(Inspected {
        head: tx.trail_head().await?,
        waiting: tx.trail_length().await?.1,
        checkpoint: tx.last_checkpoint().await?,
        keys: tx.keyring().await?,
        report,
    })
}
