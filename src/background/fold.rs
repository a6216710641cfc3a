//! SQLite's write-ahead log is folded into the file beside the commits, kept short, and emptied of what was erased.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{REST, failed};
use crate::flow::Flows;
use crate::flow::space::look;
use crate::store::Error;
use crate::store::wal::{Length, Wal};

/// Pages (of 4 KiB) after which the log is folded: the fewer the times, the fewer pages are written twice, but the longer
/// commits wait while the disk takes what the last fold has written.
const MANY: i64 = 250;
/// Pages that are folded between two commits without being felt.
const FEW: i64 = 64;
/// Pages after which the log is begun anew, for which commits wait; until then it grows while it is folded.
const LONG: i64 = 8_000;
/// Pages after which readers are made to wait.
const MOST: i64 = 64_000;
/// How often folding beside the commits is tried before commits must wait.
const ROUNDS: usize = 4;
/// Time between two looks while commits go on.
const PAUSE: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_secs(1);

/// The role that folds.
pub struct Fold {
    flows: Arc<Flows>,
    wal: Wal,
    pinned: AtomicBool,
    /// When traces of erasures were last looked for.
    looked: Mutex<Option<Instant>>,
}

impl Fold {
    /// Takes folding over from the connection that writes; there is nothing to do on PostgreSQL.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn new(flows: Arc<Flows>) -> Result<Option<Self>, Error> {
        let wal = Wal::take_over(&flows.pool).await?;
        Ok(wal.map(|wal| Self {
            flows,
            wal,
            pinned: AtomicBool::new(false),
            looked: Mutex::default(),
        }))
    }

    /// Folds the log if it is long; returns whether it could be kept short.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn step(&self) -> Result<bool, Error> {
        let mut length = self.wal.length().await?;
        if length.left() >= MANY {
            length = match length.pages {
                ..LONG => self.wal.fold().await?,
                _ => self.begin_anew().await?,
            };
        }
        // Emptied, the log gives up the room that it was given on a full disk.
        if !self.flows.space.is_out() && self.is_time() && self.holds_traces().await? {
            length = self.erase_traces().await?;
        }
        self.flows.metrics.log_pages(length.pages);
        let short = length.pages < MOST || length.left() == 0;
        self.tell(!short, length);
        Ok(short)
    }

    /// Sees to it that the next commit begins the log anew.
    async fn begin_anew(&self) -> Result<Length, Error> {
        match self.fold_beside().await?.pages < MOST {
            true => self.wal.fold_up().await,
            false => self.wal.empty().await,
        }
    }

    /// Folds beside the commits until few pages are left.
    async fn fold_beside(&self) -> Result<Length, Error> {
        let mut length = self.wal.fold().await?;
        for _ in 1..ROUNDS {
            if length.left() <= FEW {
                break;
            }
            length = self.wal.fold().await?;
        }
        Ok(length)
    }

    /// Tells now and then that traces may be looked for: commits wait for that.
    fn is_time(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|at| at.elapsed() >= REST);
        if is_time {
            *looked = Some(Instant::now());
        }
        is_time
    }

    /// Tells whether something may have been erased that the log still holds.
    async fn holds_traces(&self) -> Result<bool, Error> {
        // Perhaps by a command.
        let elsewhere = self.wal.written_elsewhere().await?;
        Ok(self.flows.traces.load(Ordering::Relaxed) || elsewhere)
    }

    /// Empties the log of what was erased from the file; where a reader needs it, a later step tries again.
    async fn erase_traces(&self) -> Result<Length, Error> {
        // What is erased while the log is being emptied is for a later step.
        self.flows.traces.store(false, Ordering::Relaxed);
        let emptied = async {
            self.fold_beside().await?;
            self.wal.empty().await
        };
        let emptied = emptied.await;
        match emptied {
            Ok(Length { pages: 0, .. }) => tracing::info!(
                "SQLite's write-ahead log was emptied: it holds nothing that was erased"
            ),
            _ => self.flows.traces.store(true, Ordering::Relaxed),
        }
        emptied
    }

    async fn repeat(&self) {
        loop {
            let rest = match self.step().await {
                Ok(true) => PAUSE,
                Ok(false) => REST,
                Err(error) if error.is_full() => {
                    look(&self.flows, true).await;
                    REST
                }
                Err(error) => {
                    failed(&self.flows, "fold", &error);
                    REST
                }
            };
            tokio::time::sleep(rest).await;
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.flows.written.notified() => {}
            }
        }
    }

    /// Says once that a reader keeps the log long, and once that it no longer does.
    fn tell(&self, pinned: bool, length: Length) {
        let before = self.pinned.swap(pinned, Ordering::Relaxed);
        if pinned && !before {
            let Length { pages, folded } = length;
            tracing::warn!(
                pages,
                folded,
                "a reader keeps SQLite's write-ahead log from being folded: it grows"
            );
        } else if before && !pinned {
            tracing::info!("SQLite's write-ahead log is short again");
        }
    }
}

/// Folds until `soft`.
///
/// # Errors
/// When folding cannot be taken over.
pub async fn run(flows: Arc<Flows>, soft: impl Future<Output = ()>) -> Result<(), Error> {
    match Fold::new(flows).await? {
        Some(fold) => {
            tokio::select! {
                () = soft => {}
                () = fold.repeat() => {}
            }
            fold.wal.close().await;
        }
        None => soft.await,
    }
    Ok(())
}
