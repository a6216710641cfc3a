//! A clock that jumps ahead ends nothing: what it ends cannot be undone.
//!
//! Events say nothing of that, for whoever has a wrong clock writes events by it. So the sweep notes until when the clock
//! went on evenly, and compares. On PostgreSQL the server is a second witness: while it agrees, a process may have been
//! away for as long as it likes.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::Flows;
use crate::clock::random;
use crate::domain::event::{Event, EventKind};
use crate::domain::time::Timestamp;
use crate::store::{Error, Pool, Tx};

/// A clock that is further ahead has jumped.
const MOST: Duration = Duration::from_secs(3600);
/// How often it is noted that the clock goes on.
const NOTED: Duration = Duration::from_secs(600);

/// What this process saw of its clock.
#[derive(Debug, Default)]
pub struct Seen {
    jumped: AtomicBool,
    /// Microseconds since 1970; nothing is noted while there is no room for it.
    last: AtomicI64,
}

impl Seen {
    /// Tells whether the clock has jumped ahead.
    pub fn has_jumped(&self) -> bool {
        self.jumped.load(Ordering::Relaxed)
    }
}

/// Returns the time where the clock goes on evenly; raises the alarm where it has jumped ahead, and ends it where that is over.
///
/// # Errors
/// When the database refuses; then nothing is known.
pub async fn believed(flows: &Flows) -> Result<Option<Timestamp>, Error> {
    let now = flows.clock.now();
    let mut tx = flows.pool.read().await?;
    let (noted, known) = known(&mut tx).await?;
    drop(tx);
    let last = flows.seen.last.load(Ordering::Relaxed);
    let last = (last > 0).then(|| Timestamp::from_micros(last));
    let known = known.max(last);
    let jumped = known.is_some_and(|known| now > known + MOST);
    flows.metrics.clock_alarm(jumped);
    match (flows.seen.jumped.swap(jumped, Ordering::Relaxed), jumped) {
        (false, true) => tracing::error!(
            now = now.to_string(),
            known = known.map(|known| known.to_string()),
            "the clock has jumped ahead: nothing expires and nothing is deleted; put it right, or, if it is right and the service was off, run: confirmd clock accept"
        ),
        (true, false) => tracing::info!("the clock goes on: what is over ends again"),
        _ => {}
    }
    if jumped {
        return Ok(None);
    }
    flows.seen.last.store(now.as_micros(), Ordering::Relaxed);
    if noted.is_none_or(|noted| now > noted + NOTED) && !flows.space.is_low() {
        let mut tx = flows.pool.begin().await?;
        tx.see_clock(now).await?;
        tx.commit().await?;
    }
    Ok(Some(now))
}

/// Believes the clock as it is, and writes that down; returns what was known. None where that agrees.
///
/// # Errors
/// When the database refuses; then nothing is believed.
pub async fn accept(pool: &Pool, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let mut tx = pool.begin().await?;
    let (noted, known) = known(&mut tx).await?;
    let known = known.filter(|known| now > *known + MOST);
    // One that was accepted before and was wrong.
    let Some(known) = known.or(noted.filter(|noted| *noted > now + MOST)) else {
        return Ok(None);
    };
    tx.set_clock(now).await?;
    let event = Event::of(random(), EventKind::ClockAccepted, now, None);
    tx.append(&[event.with("known", known.to_string())]).await?;
    tx.commit().await?;
    Ok(Some(known))
}

/// Returns what is noted, and the latest time that is known: that, the server's, or where nothing is noted yet that of the
/// last event.
async fn known(tx: &mut Tx) -> Result<(Option<Timestamp>, Option<Timestamp>), Error> {
    let noted = tx.clock_seen().await?;
    let seen = match noted {
        None => tx.last_event_time().await?,
        noted => noted,
    };
    Ok((noted, seen.max(tx.server_clock().await?)))
}
