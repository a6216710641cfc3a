//! The operator's own copy of the trail, as `events export` writes it: read and proven before anything is done with it.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use crate::domain::consent::Hash;
use crate::domain::event::EventKind;
use crate::domain::time::Timestamp;
use crate::flow::audit::file::Line;
use crate::flow::audit::outside::each_note;
use crate::flow::audit::trusted::{Trusted, epoch_of};
use crate::store::window::Window;
use crate::store::{self, Tx};
use crate::trail::leaf::Leaf;
use crate::trail::note::Checkpoint;
use crate::trail::tree::{Frontier, TileId, Tiles, edge, leaf_hash};

/// What a folder of outside copies says was signed.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    /// The newest epoch.
    pub epoch: u64,
    /// The roots that were signed in it, by size.
    pub roots: BTreeMap<u64, Hash>,
}

impl Signed {
    /// Reads the notes of a folder, of epochs before one and over more than so many events, as far as their signatures
    /// count.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn read(dir: &Path, trusted: &Trusted, before: u64, over: u64) -> io::Result<Self> {
        let mut signed = Self::default();
        each_note(dir, |note| {
            let epoch = epoch_of(note).unwrap_or_default();
            let size = note.lines().nth(1).and_then(|size| size.parse().ok());
            let tells = epoch > signed.epoch || size.is_some_and(|size: u64| size > over);
            if epoch >= before || epoch < signed.epoch || !tells {
                return;
            }
            let Ok(checkpoint) = Checkpoint::open(note, &trusted.keys(epoch)) else {
                return;
            };
            if epoch > signed.epoch {
                (signed.epoch, signed.roots) = (epoch, BTreeMap::new());
            }
            signed.roots.insert(checkpoint.size, checkpoint.root);
        })?;
        Ok(signed)
    }

    /// Returns how many events were signed.
    pub fn size(&self) -> u64 {
        self.roots.keys().next_back().copied().unwrap_or_default()
    }
}

/// What the copy tells of the lost time.
#[derive(Clone, Debug)]
pub struct Told {
    /// The number of its last event.
    pub last: u64,
    /// When that was.
    pub until: Timestamp,
    /// The last event under a signature.
    pub signed: u64,
    /// Events that are to be done again, with their numbers.
    pub leaves: Vec<(u64, Leaf)>,
    /// Ids of keys whose state in the keyring changed.
    pub keys: Vec<String>,
}

/// Why a copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A line is not what it must be.
    #[error("line {line}: {what}")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// It ends too early, or nothing shows whose it is.
    #[error("{0}")]
    Whole(String),
    /// It cannot be read.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Reads a copy that reaches from what a window left, or from before, without a gap; nothing is written.
///
/// # Errors
/// See [`Unfit`].
pub async fn read(
    mut file: impl BufRead,
    tx: &mut Tx,
    window: &Window,
    trusted: &Trusted,
    outside: &Signed,
) -> Result<Told, Unfit> {
    let tiles = tx.tiles(edge(window.size)).await?;
    let tree = Frontier::from_tiles(window.size, &tiles)
        .map_err(|error| Unfit::Whole(format!("the database: {error}")))?;
    let mut reader = Reader {
        window,
        trusted,
        outside,
        tree,
        last: None,
        tied: false,
        tile: None,
        told: Told {
            last: window.size,
            until: window.since,
            signed: window.size,
            leaves: Vec::new(),
            keys: Vec::new(),
        },
    };
    let (mut text, mut line) = (Vec::new(), 0_u64);
    loop {
        text.clear();
        if file.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        line += 1;
        match reader.line(&text, tx).await {
            Ok(()) => {}
            // A line that was being written when all ended.
            Err(Wrong::Line(_)) if !text.ends_with(b"\n") => break,
            Err(Wrong::Line(what)) => return Err(Unfit::Line { line, what }),
            Err(Wrong::Store(error)) => return Err(error.into()),
        }
    }
    reader.end()
}

enum Wrong {
    Line(String),
    Store(store::Error),
}

impl From<store::Error> for Wrong {
    fn from(error: store::Error) -> Self {
        Wrong::Store(error)
    }
}

struct Reader<'r> {
    window: &'r Window,
    trusted: &'r Trusted,
    outside: &'r Signed,
    /// The tree that the lost events make of what is left.
    tree: Frontier,
    last: Option<u64>,
    /// Whether something in the file shows that it is of this trail.
    tied: bool,
    /// The tile that the last event was compared with.
    tile: Option<(TileId, Tiles)>,
    told: Told,
}

impl Reader<'_> {
    async fn line(&mut self, text: &[u8], tx: &mut Tx) -> Result<(), Wrong> {
        let line = serde_json::from_slice(text);
        let wrong = |what: &str| Wrong::Line(what.to_owned());
        let line = line.map_err(|_| {
            wrong("neither an event nor a checkpoint, as `confirmd events export` writes them")
        })?;
        match line {
            Line::Event { seq, leaf } => {
                let bytes = BASE64.decode(leaf);
                let bytes = bytes.map_err(|_| wrong("the leaf is not in base64"))?;
                let leaf = Leaf::decode(&bytes).map_err(|error| Wrong::Line(error.to_string()))?;
                self.follows(seq)?;
                match seq <= self.window.size {
                    true => self.is_left(seq, leaf_hash(&bytes), tx).await,
                    false => self.is_lost(seq, leaf, leaf_hash(&bytes)),
                }
            }
            Line::Hidden { seq, .. } if seq <= self.window.size => self.follows(seq),
            Line::Hidden { seq, .. } => Err(Wrong::Line(format!(
                "event {seq} is hidden, as in an export for one sender; what it says cannot be done again"
            ))),
            Line::Checkpoint { checkpoint } => self.checkpoint(&checkpoint),
        }
    }

    /// The numbers have no gap, and begin no later than the lost ones.
    fn follows(&mut self, seq: u64) -> Result<(), Wrong> {
        let next = self.last.map(|last| last + 1);
        let due = next.unwrap_or(seq.min(self.window.size + 1));
        if seq != due {
            return Err(Wrong::Line(format!(
                "event {due} is missing: event {seq} stands in its place"
            )));
        }
        self.last = Some(seq);
        Ok(())
    }

    /// An event that was not lost is the one that the database has.
    async fn is_left(&mut self, seq: u64, hash: Hash, tx: &mut Tx) -> Result<(), Wrong> {
        let (index, place) = ((seq - 1) / 256, (seq - 1) % 256);
        let id = TileId { level: 0, index };
        if self.tile.as_ref().is_none_or(|(known, _)| *known != id) {
            self.tile = Some((id, tx.tiles([id]).await?));
        }
        let tile = self.tile.as_ref().and_then(|(_, tiles)| tiles.get(&id));
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if tile.and_then(|hashes| hashes.get(place)) != Some(&hash) {
            return Err(Wrong::Line(format!(
                "event {seq} is not the one that the database has: the file is of another trail"
            )));
        }
        self.tied = true;
        Ok(())
    }

    fn is_lost(&mut self, seq: u64, leaf: Leaf, hash: Hash) -> Result<(), Wrong> {
        use EventKind::*;
        self.tree.push(hash);
        (self.told.last, self.told.until) = (seq, leaf.time);
        if let Some(root) = self.outside.roots.get(&seq) {
            if *root != self.tree.root() {
                return Err(Wrong::Line(format!(
                    "a checkpoint outside, of epoch {}, signs other events than these up to event {seq}: what happened in that epoch is lost too, and is not in the file",
                    self.outside.epoch
                )));
            }
            (self.tied, self.told.signed) = (true, seq);
        }
        let number = |name| leaf.data.get(name).and_then(|value| value.as_u64());
        match leaf.kind {
            TrailEpoch if number("epoch").is_some_and(|epoch| epoch >= self.window.epoch) => {
                return Err(Wrong::Line(format!(
                    "event {seq} was written after the restore; the file must be of the time that was lost"
                )));
            }
            KeyringChanged => {
                let key = leaf.data.get("key").and_then(|key| key.as_str());
                self.told.keys.extend(key.map(str::to_owned));
            }
            SubscriptionUnsubscribed
            | SubscriptionObjected
            | SubscriptionUndeliverable
            | SubscriptionLapsed
            | SubscriberErased
            | SubscriberChanged
            | SignupDeclined
            | KeyRevoked => self.told.leaves.push((seq, leaf)),
            _ => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self, note: &str) -> Result<(), Wrong> {
        let wrong = |what: String| Err(Wrong::Line(what));
        let epoch = epoch_of(note).unwrap_or_default();
        if epoch >= self.window.epoch {
            return wrong(format!(
                "the checkpoint is of epoch {epoch}, which began with a restore"
            ));
        }
        let signed = match Checkpoint::open(note, &self.trusted.keys(epoch)) {
            Ok(signed) => signed,
            Err(error) => return wrong(format!("the checkpoint cannot be believed: {error}")),
        };
        // What is left was compared with the database, event by event.
        if self.last.is_none_or(|last| last <= self.window.size) {
            return Ok(());
        }
        if signed.size != self.tree.size() || signed.root != self.tree.root() {
            return wrong(format!(
                "the checkpoint over {} events signs other events than those before it",
                signed.size
            ));
        }
        (self.tied, self.told.signed) = (true, signed.size);
        Ok(())
    }

    fn end(self) -> Result<Told, Unfit> {
        let size = self.window.size;
        if self.last.is_none_or(|last| last < size) {
            let last = self.last.unwrap_or_default();
            return Err(Unfit::Whole(format!(
                "the file ends with event {last}, and the backup with event {size}: event {} is missing",
                last + 1
            )));
        }
        if !self.tied {
            return Err(Unfit::Whole(format!(
                "nothing in the file shows that it is of this trail: it needs a checkpoint after event {size}, or an event before"
            )));
        }
        Ok(self.told)
    }
}
