//! Events get their place in the trail: a number, a leaf in the tree, and before long a signed checkpoint above.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::copies::Copies;
use super::repeat;
use crate::flow::Flows;
use crate::flow::checkpoint::{self, Outcome, checkpoint};
use crate::store::trail::{Head, Kept};
use crate::store::{Error, Tx};
use crate::telemetry::logs::field;
use crate::trail::tree::{Tiles, append, edge, leaf_hash};

const POLL: Duration = Duration::from_secs(1);
/// How often events are looked for everywhere: one may be committed after others that took their places later.
const AGAIN: Duration = Duration::from_secs(5);
const EVERYWHERE: i64 = 0;

/// Events that one transaction numbers. On SQLite nobody else writes meanwhile.
fn batch(flows: &Flows) -> i64 {
    match flows.pool.is_shared() {
        true => 1000,
        false => 250,
    }
}

/// Numbers events that have no number yet, at most one batch; returns whether there were any.
///
/// # Errors
/// When the database refuses; then none was numbered.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    Ok(number(flows, EVERYWHERE).await?.is_some())
}

/// Numbers a batch of events from a place in the order of writing on; returns the place of the first, and whether the
/// batch was full.
async fn number(flows: &Flows, from: i64) -> Result<Option<(i64, bool)>, Error> {
    let limit = batch(flows);
    // Nobody waits for what is read and hashed before the head is locked, which is a write.
    let mut seen = flows.pool.read().await?;
    let head = seen.trail_head().await?;
    let batch = Batch::read(&mut seen, head, from, limit).await?;
    drop(seen);
    let Some(mut batch) = batch else {
        flows.metrics.unsequenced_events(0);
        return Ok(None);
    };
    let mut tx = flows.pool.begin().await?;
    let head = tx.lock_trail().await?;
    if head != batch.head {
        // Another process numbered meanwhile.
        match Batch::read(&mut tx, head, from, limit).await? {
            Some(left) => batch = left,
            None => return Ok(None),
        }
    }
    tx.number(head.size, &batch.places).await?;
    tx.save_tiles(&batch.grown).await?;
    let size = head.size + batch.places.len() as u64;
    tx.set_trail_head(Head { size, ..head }).await?;
    tx.commit().await?;
    flows.written.notify_one();
    let full = batch.places.len() as i64 == limit;
    Ok(batch.places.first().map(|first| (*first, full)))
}

/// Events to number next, and what becomes of the tree with them.
struct Batch {
    /// The head that it rests on.
    head: Head,
    /// Their places in the order of writing; there are some.
    places: Vec<i64>,
    grown: Tiles,
}

impl Batch {
    async fn read(tx: &mut Tx, head: Head, from: i64, limit: i64) -> Result<Option<Self>, Error> {
        let (places, leaves): (_, Vec<_>) = tx.unnumbered(from, limit).await?.into_iter().unzip();
        if leaves.is_empty() {
            return Ok(None);
        }
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let grown = append(head.size, &tx.tiles(edge(head.size)).await?, &hashes);
        Ok(Some(Self {
            head,
            places,
            grown: grown.map_err(|error| Error::corrupt(error.to_string()))?,
        }))
    }
}

/// The role that numbers events and signs checkpoints.
pub struct Sequencer {
    flows: Arc<Flows>,
    copies: Option<Copies>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the newest numbers were given: the place from which on events are looked for. On PostgreSQL a look passes
    /// over what is left of every event that got its number since the last vacuum.
    from: i64,
    /// When events were last looked for everywhere.
    everywhere: Option<Instant>,
    /// Whether the database continues what was signed.
    compared: bool,
    /// The checkpoint whose copy was written last.
    copied: Option<Kept>,
    /// What was said to be wrong.
    alarms: BTreeMap<Alarm, String>,
}

/// What can be wrong, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The database does not continue what was signed.
    Older,
    /// An event or the tree is not what was numbered.
    Changed,
    /// The copy cannot be written.
    Copy,
}

impl Sequencer {
    /// Takes the folder of copies, where there is one.
    pub fn new(flows: Arc<Flows>, copies: Option<Copies>) -> Self {
        Self {
            flows,
            copies,
            state: Mutex::default(),
        }
    }

    /// Numbers a batch of events and signs a checkpoint if it is time, unless the trail is not what was signed; returns
    /// whether there may be more to do.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn step(&self) -> Result<bool, Error> {
        let more = self.number().await?;
        self.sign().await?;
        Ok(more)
    }

    async fn number(&self) -> Result<bool, Error> {
        match self.continues().await? {
            true => self.number_newest().await,
            false => Ok(false),
        }
    }

    async fn number_newest(&self) -> Result<bool, Error> {
        let from = {
            let mut state = self.state();
            match state.everywhere.is_some_and(|at| at.elapsed() < AGAIN) {
                true => state.from,
                false => {
                    state.everywhere = Some(Instant::now());
                    EVERYWHERE
                }
            }
        };
        let numbered = number(&self.flows, from).await?;
        let (first, full) = numbered.unwrap_or((EVERYWHERE, false));
        let mut state = self.state();
        state.from = state.from.max(first);
        Ok(full)
    }

    async fn sign(&self) -> Result<bool, Error> {
        if !self.continues().await? {
            return Ok(false);
        }
        match checkpoint(&self.flows).await? {
            Outcome::Broken(why) => self.sound_alarm(Alarm::Changed, Some(why)),
            Outcome::Signed(_) => {
                self.sound_alarm(Alarm::Changed, None);
                self.copy().await?;
            }
            Outcome::NotDue => self.copy().await?,
        }
        Ok(false)
    }

    /// Signs what is not yet signed; for the moment before a stop.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish(&self) -> Result<(), Error> {
        if self.continues().await? {
            while step(&self.flows).await? {}
            checkpoint::checkpoint_now(&self.flows).await?;
            self.copy().await?;
        }
        Ok(())
    }

    /// Runs until `soft`. Numbers do not wait for signatures: what must be read back first may be much.
    pub async fn run<S: Future<Output = ()>>(self, soft: impl Fn() -> S) {
        let (flows, never) = (&self.flows, Notify::new());
        let waits = &flows.event_waits;
        tokio::join!(
            repeat(flows, "sequence", waits, POLL, soft(), || self.number()),
            repeat(flows, "checkpoint", &never, POLL, soft(), || self.sign()),
        );
        if let Err(error) = self.finish().await {
            super::failed(&self.flows, "sequence", &error);
        }
    }

    /// Tells whether there is room, and compares the database with its copy, until it has once been found to continue it.
    async fn continues(&self) -> Result<bool, Error> {
        // Events keep their order without a number: the reserve is for those who would write one.
        if self.flows.space.is_out() {
            return Ok(false);
        }
        let (Some(copies), false) = (&self.copies, self.state().compared) else {
            return Ok(true);
        };
        match copies.compare(&self.flows).await? {
            Ok(()) => {
                self.sound_alarm(Alarm::Older, None);
                self.state().compared = true;
                Ok(true)
            }
            Err(why) => {
                self.sound_alarm(Alarm::Older, Some(why));
                Ok(false)
            }
        }
    }

    /// Copies the newest checkpoint, whichever process signed it.
    async fn copy(&self) -> Result<(), Error> {
        let newest = self.flows.pool.read().await?.last_checkpoint().await?;
        let Some(newest) = newest else { return Ok(()) };
        self.flows
            .metrics
            .checkpoint(newest.size, newest.signed_at.as_seconds());
        let Some(copies) = &self.copies else {
            return Ok(());
        };
        if self.state().copied.as_ref() == Some(&newest) {
            return Ok(());
        }
        // The copy may be newer than a database that was rolled back under us: that must not be written over.
        self.state().compared = false;
        if !self.continues().await? {
            return Ok(());
        }
        let (copies, kept) = (copies.clone(), newest.clone());
        let added = tokio::task::spawn_blocking(move || copies.add(&kept)).await;
        match added {
            Ok(Ok(())) => {
                self.sound_alarm(Alarm::Copy, None);
                self.state().copied = Some(newest);
            }
            Ok(Err(error)) => {
                let why = format!("trail.copy cannot be written: {error}");
                self.sound_alarm(Alarm::Copy, Some(why));
            }
            // Cut off by the end of the process.
            Err(_) => {}
        }
        Ok(())
    }

    /// Says once what is wrong, and once that it no longer is.
    fn sound_alarm(&self, alarm: Alarm, why: Option<String>) {
        let mut state = self.state();
        let before = match &why {
            Some(why) => state.alarms.insert(alarm, why.clone()),
            None => state.alarms.remove(&alarm),
        };
        match (&why, before) {
            (Some(why), before) if before.as_ref() != Some(why) => {
                tracing::error!(?alarm, { field::REASON } = why, "the trail needs you");
            }
            (None, Some(_)) => tracing::info!(?alarm, "the trail is well again"),
            _ => {}
        }
        self.flows.metrics.trail_alarm(!state.alarms.is_empty());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
