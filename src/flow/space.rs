//! Room on the disk of a SQLite file. Below the floor nothing new comes in; what people press, and what became of mails that
//! left, is written as long as there is a byte, and a reserve is kept for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use super::{Error, Flows};
use crate::store::disk::Disk;
use crate::store::reserve::Reserve;
use crate::telemetry::logs::field;
use crate::telemetry::metrics::Metrics;

/// The part of the reserve that must be free, or the reserve is given up: more than commits take between two looks.
const LAST: u64 = 4;
/// The part of the floor by which more must be free before the shortage is over: what hovers is not said to end.
const SPARE: u64 = 8;

/// Who may use the last room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// What can come again later: signups.
    CanWait,
    /// What a person decided, and what became of a mail.
    CannotWait,
}

/// How much room there is.
#[derive(Debug)]
pub struct Space {
    watched: Option<Watched>,
    low: AtomicBool,
    out: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    disk: Disk,
    floor: u64,
    reserve: Mutex<Reserve>,
}

impl Space {
    /// Watches a disk, where the database is on one of ours: below the floor (in bytes) there is too little room.
    pub fn new(disk: Option<(Disk, Reserve)>, floor: u64) -> Self {
        let watched = disk.map(|(disk, reserve)| Watched {
            disk,
            floor,
            reserve: Mutex::new(reserve),
        });
        Self {
            watched,
            low: AtomicBool::new(false),
            out: AtomicBool::new(false),
        }
    }

    /// Tells whether less than the floor is free: what can wait must.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Tells whether the reserve is in use: what is left of it is for people's decisions.
    pub fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }

    /// Lets in what can wait while there is room.
    ///
    /// # Errors
    /// [`Error::NoRoom`] below the floor.
    pub fn let_in(&self, need: Need) -> Result<(), Error> {
        match need == Need::CanWait && self.is_low() {
            true => Err(Error::NoRoom),
            false => Ok(()),
        }
    }

    /// Looks how much is free; gives up the reserve or takes it again. `full` says that a write found no room. Says once that
    /// a shortage begins, and once that it is over.
    pub fn look(&self, full: bool, metrics: &Metrics) {
        let Some(Watched {
            disk,
            floor,
            reserve,
        }) = &self.watched
        else {
            return;
        };
        let mut reserve = reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match disk.free() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!({ field::ERROR } = %error, "the disk of the database does not say what is free");
                return;
            }
        };
        let enough = match self.is_low() {
            true => floor + floor / SPARE,
            false => *floor,
        };
        let size = reserve.size();
        let done = match reserve.is_whole() {
            true if size > 0 && (full || free < size / LAST) => reserve.give(),
            false if !full && free >= enough + size => reserve.take(),
            _ => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!({ field::ERROR } = %error, "the reserve beside the database cannot be changed");
        }
        let low = !reserve.is_whole() || free < enough;
        let out = !reserve.is_whole() && free < size;
        self.out.store(out, Ordering::Relaxed);
        metrics.disk(free, low);
        match (self.low.swap(low, Ordering::Relaxed), low) {
            (false, true) => tracing::error!(
                free,
                floor,
                "too little is free on the disk of the database: signups are refused, mails wait; make room"
            ),
            (true, false) => tracing::info!(
                free,
                floor,
                "there is room on the disk of the database again: signups are accepted"
            ),
            _ => {}
        }
    }
}

/// Looks how much is free, on a thread that may wait for the disk.
pub async fn look(flows: &Arc<Flows>, full: bool) {
    let flows = flows.clone();
    let look = spawn_blocking(move || flows.space.look(full, &flows.metrics));
    // It is only cut off by the end of the process.
    let _ = look.await;
}
