//! A checkpoint: how long the trail is and what its root is, signed, so that somebody else can hold it.
//!
//! Nobody waits for it. What is signed was read back from the database first: a leaf that changed since it was hashed,
//! or a tree that lost a part, is not signed over but said.

use std::time::Duration;

use super::{Flows, Keys};
use crate::domain::consent::Hash;
use crate::domain::time::Timestamp;
use crate::store::trail::{Head, Kept};
use crate::store::{Error, Pool};
use crate::trail::note::{Checkpoint, InvalidKey, Signer, Verifier};
use crate::trail::tree::{Frontier, MissingTile, edge, leaf_hash, root};

/// A new event is under a checkpoint after this time at the latest.
const SOON: Duration = Duration::from_secs(60);
/// So many new events are not left to wait for that.
const MANY: u64 = 1000;
/// Never more often than this.
const RARELY: Duration = Duration::from_secs(1);
/// While nothing happens, silence itself is signed.
const IDLE: Duration = Duration::from_secs(3600);
/// Leaves that one read brings back.
const PAGE: i64 = 1000;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not time.
    NotDue,
    /// There is a new one; it is on stable storage.
    Signed(Kept),
    /// The trail is not what was hashed: nothing is signed until somebody has looked.
    Broken(String),
}

/// Signs a checkpoint if it is time for one.
///
/// # Errors
/// When the database refuses; then none was signed.
pub async fn checkpoint(flows: &Flows) -> Result<Outcome, Error> {
    sign(flows, is_due).await
}

/// Signs a checkpoint now, unless the newest one says all there is to say.
///
/// # Errors
/// When the database refuses; then none was signed.
pub async fn checkpoint_now(flows: &Flows) -> Result<Outcome, Error> {
    sign(flows, |size, last, _| {
        last.is_none_or(|last| last.size < size)
    })
    .await
}

fn is_due(size: u64, last: Option<&Kept>, now: Timestamp) -> bool {
    let Some(last) = last else {
        return size > 0;
    };
    let (new, age) = (size.saturating_sub(last.size), now.since(last.signed_at));
    // It was signed by a clock that has been set back since, or by another machine's. Silence waits: two whose clocks differ
    // would sign it in turns.
    let is_ahead = last.signed_at.since(now) > SOON;
    age >= IDLE || (new >= MANY && age >= RARELY) || (new > 0 && (age >= SOON || is_ahead))
}

async fn sign(
    flows: &Flows,
    due: impl Fn(u64, Option<&Kept>, Timestamp) -> bool,
) -> Result<Outcome, Error> {
    let now = flows.clock.now();
    let mut tx = flows.pool.read().await?;
    let head = tx.trail_head().await?;
    let last = tx.last_checkpoint().await?;
    if !due(head.size, last.as_ref(), now) {
        return Ok(Outcome::NotDue);
    }
    drop(tx);
    let root = match read_back(flows, head, last.as_ref()).await {
        Ok(root) => root,
        Err(Fault::Broken(why)) => return Ok(Outcome::Broken(why)),
        Err(Fault::Store(error)) => return Err(error),
    };
    let keys = flows.keys();
    let key = keys.trail.iter().find(|key| key.signs);
    let key = key.ok_or_else(|| Error::corrupt("no trail key signs"))?;
    let origin = flows.origin(head.epoch);
    let signer = Signer::new(&origin, &key.seed).map_err(unusable)?;
    let checkpoint = Checkpoint {
        origin,
        size: head.size,
        root,
        time: now,
    };
    let kept = Kept {
        epoch: head.epoch,
        size: head.size,
        note: checkpoint.sign(&signer),
        signed_at: now,
        stamp: None,
    };
    let mut tx = flows.pool.begin().await?;
    let locked = tx.lock_trail().await?;
    // Another process was here since, or somebody declared an epoch: then it is not this one's time.
    let newest = tx.last_checkpoint().await?;
    if locked.epoch != head.epoch || !due(head.size, newest.as_ref(), now) {
        return Ok(Outcome::NotDue);
    }
    tx.keep_checkpoint(&kept).await?;
    tx.commit().await?;
    // Each place outside waits by itself.
    flows.checkpoint_signed.notify_waiters();
    Ok(Outcome::Signed(kept))
}

/// Why nothing was signed.
enum Fault {
    Broken(String),
    Store(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Store(error)
    }
}

impl From<MissingTile> for Fault {
    fn from(error: MissingTile) -> Self {
        Fault::Broken(error.to_string())
    }
}

/// Reads the leaves since the last checkpoint back, and returns the root that they and the tree agree on.
///
/// What has a number never changes, and millions may have one: each page is read by itself, so that SQLite's log is not kept
/// from being folded meanwhile.
async fn read_back(flows: &Flows, head: Head, last: Option<&Kept>) -> Result<Hash, Fault> {
    let broken = |why: String| Err(Fault::Broken(why));
    if let Some(last) = last.filter(|last| last.size > head.size && last.epoch == head.epoch) {
        let (now, then) = (head.size, last.size);
        return broken(format!(
            "the trail has {now} events, and {then} were signed"
        ));
    }
    let from = last.map_or(0, |last| last.size.min(head.size));
    let tiles = flows.pool.read().await?.tiles(edge(from)).await?;
    let mut frontier = Frontier::from_tiles(from, &tiles)?;
    if let Some(last) = last.filter(|last| last.size == from) {
        match Checkpoint::open(&last.note, &flows.verifiers(last.epoch)?) {
            Ok(signed) if signed.root == frontier.root() => {}
            Ok(_) => {
                let why = "the tree of the first {from} events is not the one that was signed";
                return broken(why.replace("{from}", &from.to_string()));
            }
            Err(error) => return broken(format!("the last checkpoint: {error}")),
        }
    }
    while frontier.size() < head.size {
        let mut page = flows.pool.read().await?;
        let leaves = page.leaves_after(frontier.size(), PAGE).await?;
        drop(page);
        let next = frontier.size() + 1;
        if leaves.first().is_none_or(|(seq, _)| *seq != next) {
            return broken(format!("event {next} is missing"));
        }
        for (seq, leaf) in leaves {
            if seq == frontier.size() + 1 && seq <= head.size {
                frontier.push(leaf_hash(&leaf));
            }
        }
    }
    let tiles = flows.pool.read().await?.tiles(edge(head.size)).await?;
    let root = root(head.size, &tiles)?;
    match root == frontier.root() {
        true => Ok(root),
        false => broken(format!(
            "an event from {} to {} is not the one that was numbered",
            from + 1,
            head.size
        )),
    }
}

impl Flows {
    /// Returns the name of the trail in an epoch.
    pub fn origin(&self, epoch: u64) -> String {
        origin(&self.settings.origin, epoch)
    }

    /// Returns the public keys whose checkpoints count in an epoch.
    ///
    /// # Errors
    /// When a registered key is none.
    pub fn verifiers(&self, epoch: u64) -> Result<Vec<Verifier>, Error> {
        self.keys().verifiers(&self.settings.origin, epoch)
    }
}

impl Keys {
    /// Returns the public keys whose checkpoints of a trail count in an epoch, the one that signs first.
    ///
    /// # Errors
    /// When a registered key is none.
    pub fn verifiers(&self, trail: &str, epoch: u64) -> Result<Vec<Verifier>, Error> {
        let origin = origin(trail, epoch);
        let signers = self.trail.iter().map(|key| Signer::new(&origin, &key.seed));
        signers
            .map(|signer| Ok(signer.map_err(unusable)?.verifier()))
            .collect()
    }
}

/// Returns the name that a trail was signed under, without the epoch; none where nothing was signed yet.
///
/// # Errors
/// When the database cannot be read.
pub async fn signed_as(pool: &Pool) -> Result<Option<String>, Error> {
    let last = pool.read().await?.last_checkpoint().await?;
    let name = last.and_then(|last| {
        let (name, _) = last.note.lines().next()?.rsplit_once('/')?;
        Some(name.to_owned())
    });
    Ok(name)
}

/// Returns the name of a trail in an epoch, which its checkpoints carry: after a declared loss it is another log.
pub fn origin(trail: &str, epoch: u64) -> String {
    format!("{trail}/{epoch}")
}

fn unusable(error: InvalidKey) -> Error {
    Error::corrupt(format!("a trail key cannot be used: {error}"))
}
