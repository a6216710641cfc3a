//! SQLite's write-ahead log, folded into the file while commits go on.
//!
//! SQLite itself folds inside the commit that fills the log, which then waits for the disk. A daemon takes that over
//! with a connection of its own; commands leave it as it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::SqliteConnection;

use super::sqlite::Single;
use super::{Error, Pool};

/// How long folding waits for readers, while commits wait for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// The log of one SQLite file, and the connection that folds it.
#[derive(Debug)]
pub struct Wal {
    writer: Single,
    own: Single,
    /// What SQLite's data version was on the connection that writes.
    seen: AtomicI64,
}

/// How long the log is, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Pages in the log.
    pub pages: i64,
    /// Of these, pages that the file has.
    pub folded: i64,
}

impl Length {
    /// Returns how many pages the file does not have yet.
    pub fn left(self) -> i64 {
        self.pages - self.folded
    }
}

impl Wal {
    /// Takes folding over from the connection that writes. PostgreSQL has no log of ours.
    pub async fn take_over(pool: &Pool) -> Result<Option<Self>, Error> {
        let Pool::Sqlite { writer, .. } = pool else {
            return Ok(None);
        };
        let own = Single::connect(writer.options().clone().busy_timeout(PATIENCE)).await?;
        let mut turn = writer.turn().await?;
        sqlx::query("pragma wal_autocheckpoint = 0")
            .execute(&mut *turn)
            .await?;
        let seen = AtomicI64::new(version(&mut turn).await?);
        drop(turn);
        let writer = writer.clone();
        Ok(Some(Self { writer, own, seen }))
    }

    /// Tells whether another process has written since the last look, or since the log was emptied.
    pub async fn written_elsewhere(&self) -> Result<bool, Error> {
        let mut turn = self.writer.turn().await?;
        let version = version(&mut turn).await?;
        Ok(self.seen.swap(version, Ordering::Relaxed) != version)
    }

    /// Returns how long the log is.
    pub async fn length(&self) -> Result<Length, Error> {
        self.run("pragma wal_checkpoint(noop)").await
    }

    /// Folds what no reader needs in the log. Nobody waits for it.
    pub async fn fold(&self) -> Result<Length, Error> {
        self.run("pragma wal_checkpoint(passive)").await
    }

    /// Folds what is left between two commits, so that the next one begins the log anew. Commits wait, readers do not.
    pub async fn fold_up(&self) -> Result<Length, Error> {
        let _between_commits = self.writer.turn().await?;
        self.fold().await
    }

    /// Folds everything and makes the log empty, unless a reader needs it for longer than a moment, for which commits wait.
    pub async fn empty(&self) -> Result<Length, Error> {
        let mut between_commits = self.writer.turn().await?;
        let emptied = self.run("pragma wal_checkpoint(truncate)").await?;
        // Our own emptying looks like another's write. One that came since is told by the length.
        let seen = version(&mut between_commits).await?;
        self.seen.store(seen, Ordering::Relaxed);
        match emptied.pages {
            0 => self.length().await,
            _ => Ok(emptied),
        }
    }

    /// Closes its own connection.
    pub async fn close(&self) {
        self.own.close().await;
    }

    async fn run(&self, pragma: &'static str) -> Result<Length, Error> {
        let row = sqlx::query_as::<_, (i64, i64, i64)>(pragma)
            .fetch_one(&mut *self.own.turn().await?)
            .await;
        let (_busy, pages, folded) = row.map_err(|error| {
            let error = Error::from(error);
            if error.is_fatal() {
                self.writer.fail();
            }
            error
        })?;
        Ok(Length { pages, folded })
    }
}

/// Reads the number that changes with every write of another connection.
async fn version(writer: &mut SqliteConnection) -> Result<i64, Error> {
    let (version,) = sqlx::query_as("pragma data_version")
        .fetch_one(writer)
        .await?;
    Ok(version)
}
