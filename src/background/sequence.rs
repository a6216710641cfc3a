//! Events get their place in the trail: a number, a leaf in the tree, and before long a signed checkpoint above.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::copies::{Copies, Doubt};
use super::repeat;
use crate::flow::Flows;
use crate::flow::checkpoint::{self, Outcome, checkpoint};
use crate::store::trail::{Head, Horizon, Kept, TransactionId};
use crate::store::{Error, Tx};
use crate::telemetry::logs::field;
use crate::trail::tree::{Tiles, append, edge, leaf_hash};

const POLL: Duration = Duration::from_secs(1);
/// How often events are looked for everywhere: where another server took over, places may begin anew.
const AGAIN: Duration = Duration::from_secs(5);
const EVERYWHERE: i64 = 0;
/// No transaction of ours takes this long; those of others on the same server may.
const LONG: Duration = Duration::from_secs(120);

/// While the trail is not what was signed, it is read back for one part in so many of the time: it may be long, and nothing
/// changes before somebody has looked.
const PART: u32 = 20;

/// Events that one transaction numbers.
const BATCH: i64 = 1000;

/// Numbers events that have no number yet, at most one batch; returns whether there were any.
///
/// # Errors
/// When the database refuses; then none was numbered.
pub async fn step(flows: &Flows) -> Result<bool, Error> {
    Ok(!number(flows, EVERYWHERE).await?.numbered.is_empty())
}

/// What a look at the events without a number led to.
struct Look {
    /// How far events had come before it.
    horizon: Horizon,
    /// The places of those that got their numbers.
    numbered: Vec<i64>,
}

impl Look {
    /// Tells whether as many got theirs as a batch takes.
    fn is_full(&self) -> bool {
        self.numbered.len() as i64 == BATCH
    }
}

/// Numbers a batch of events after a place in the order of writing.
async fn number(flows: &Flows, after: i64) -> Result<Look, Error> {
    // Nobody waits for what is read and hashed before the head is locked, which is a write.
    let mut seen = flows.pool.read().await?;
    let mut look = Look {
        horizon: seen.horizon().await?,
        numbered: Vec::new(),
    };
    let head = seen.trail_head().await?;
    let batch = Batch::read(&mut seen, head, after).await?;
    drop(seen);
    let Some(mut batch) = batch else {
        flows.metrics.unsequenced_events(0);
        return Ok(look);
    };
    let mut tx = flows.pool.begin().await?;
    let head = tx.lock_trail().await?;
    if head != batch.head {
        // Another process numbered meanwhile.
        match Batch::read(&mut tx, head, after).await? {
            Some(left) => batch = left,
            None => return Ok(look),
        }
    }
    tx.number(head.size, &batch.places).await?;
    tx.save_tiles(&batch.grown).await?;
    let size = head.size + batch.places.len() as u64;
    tx.set_trail_head(Head { size, ..head }).await?;
    tx.commit().await?;
    flows.written.notify_one();
    look.numbered = batch.places;
    Ok(look)
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
    async fn read(tx: &mut Tx, head: Head, after: i64) -> Result<Option<Self>, Error> {
        let (places, leaves): (_, Vec<_>) = tx.unnumbered(after, BATCH).await?.into_iter().unzip();
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
    /// The place after which events are looked for: all up to it have their numbers. On PostgreSQL a look passes over what
    /// is left of every event that got its number since the last vacuum.
    passed: i64,
    /// The look whose places are to be passed next.
    earlier: Option<Earlier>,
    /// When events were last looked for everywhere.
    everywhere: Option<Instant>,
    /// Whether the database continues what was signed.
    compared: bool,
    /// The checkpoint whose copy was written last.
    copied: Option<Kept>,
    /// Until when what was found changed is not read back again.
    rests_until: Option<Instant>,
    /// What was said to be wrong.
    alarms: BTreeMap<Alarm, String>,
}

/// How far events had come at a look, and when no more can come up to there.
struct Earlier {
    newest: i64,
    /// A transaction that began after the look: whoever took a place before the newest has a lower id.
    later: TransactionId,
    at: Instant,
}

impl State {
    /// Moves on past the places that this look found complete: where one who began later was numbered before an event that
    /// comes late, somebody would have left before they were there. Returns whether this look is the one to wait for now.
    fn pass(&mut self, look: &Look) -> bool {
        if let Some(earlier) = &self.earlier {
            if !look.horizon.is_past(earlier.later) && earlier.at.elapsed() < LONG {
                return false;
            }
            let last = look.numbered.last().filter(|_| look.is_full());
            let end = earlier.newest.min(last.copied().unwrap_or(i64::MAX));
            self.passed = self.passed.max(end);
            self.earlier = None;
        }
        look.horizon.newest > self.passed
    }
}

/// What can be wrong, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The database does not continue what was signed.
    Older,
    /// An event or the tree is not what was numbered.
    Changed,
    /// The next event cannot be numbered.
    Stuck,
    /// The copy cannot be written.
    Copy,
    /// The copy cannot be read.
    Unread,
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
        let after = {
            let mut state = self.state();
            match state.everywhere.is_some_and(|at| at.elapsed() < AGAIN) {
                true => state.passed,
                false => {
                    state.everywhere = Some(Instant::now());
                    EVERYWHERE
                }
            }
        };
        match number(&self.flows, after).await {
            Ok(look) => {
                self.sound_alarm(Alarm::Stuck, None);
                if self.state().pass(&look) {
                    // A transaction of its own: those of another process may number all. While no event comes, none begins.
                    let later = self.flows.pool.begin().await?.id().await?;
                    self.state().earlier = Some(Earlier {
                        newest: look.horizon.newest,
                        later,
                        at: Instant::now(),
                    });
                }
                Ok(look.is_full())
            }
            // It is not there, or the tree is not: nobody comes after it before somebody has looked.
            Err(error) if error.is_defect() => {
                self.sound_alarm(Alarm::Stuck, Some(error.to_string()));
                Ok(false)
            }
            Err(error) => Err(error),
        }
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

    async fn sign_or_rest(&self) -> Result<bool, Error> {
        let began = Instant::now();
        if self.state().rests_until.is_some_and(|until| began < until) {
            return Ok(false);
        }
        let done = self.sign().await;
        let mut state = self.state();
        let is_changed = state.alarms.contains_key(&Alarm::Changed);
        state.rests_until = is_changed.then(|| Instant::now() + began.elapsed() * PART);
        done
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
            repeat(flows, "checkpoint", &never, POLL, soft(), || self
                .sign_or_rest()),
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
        let doubt = copies.compare(&self.flows).await?.err();
        let (older, unread) = match doubt.clone() {
            None => (None, None),
            Some(Doubt::Older(why)) => (Some(why), None),
            Some(Doubt::Unread(why)) => (None, Some(why)),
        };
        self.sound_alarm(Alarm::Older, older);
        self.sound_alarm(Alarm::Unread, unread);
        self.state().compared = doubt.is_none();
        Ok(doubt.is_none())
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
