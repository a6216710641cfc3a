//! Waiting for the lock of a file (flock(2)) without keeping a thread: whoever waits may be told to stop.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connect::ConnectError;

/// How often one tries.
const AGAIN: Duration = Duration::from_millis(20);
/// How long one tries.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock of a file, whose path is for the error.
pub(super) async fn take(file: &File, path: &Path) -> Result<(), ConnectError> {
    let end = Instant::now() + PATIENCE;
    let error = loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(AGAIN).await,
            Err(TryLockError::WouldBlock) => {
                break io::Error::other(
                    "another process has locked it, as confirmd does while it changes the schema; try again when that has ended",
                );
            }
            Err(TryLockError::Error(error)) => break error,
        }
    };
    Err(ConnectError::file(path, &error))
}
