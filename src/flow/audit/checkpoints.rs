//! Checkpoints: each is signed by a key that counts, and signs the beginning of this tree.

use super::report::{At, Check, Report};
use super::trusted::Trusted;
use crate::domain::event::EventKind;
use crate::flow::checkpoint::origin;
use crate::store::trail::{Head, Kept};
use crate::trail::leaf::Leaf;
use crate::trail::note::Checkpoint;
use crate::trail::tree::{Tiles, root};

/// The epochs that events declare.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<Declared>);

#[derive(Debug)]
struct Declared {
    at: At,
    epoch: u64,
    /// How many events were left.
    size: u64,
}

impl Epochs {
    /// Takes note of an event, if it declares an epoch.
    pub fn hear(&mut self, at: At, leaf: &Leaf) {
        let number = |name| leaf.data.get(name).and_then(|value| value.as_u64());
        if let (EventKind::TrailEpoch, Some(epoch), Some(size)) =
            (leaf.kind, number("epoch"), number("size"))
        {
            self.0.push(Declared { at, epoch, size });
        }
    }

    /// Returns how much of an epoch's trail outlived it.
    pub fn left_of(&self, epoch: u64) -> Option<u64> {
        let later = self.0.iter().filter(|declared| declared.epoch > epoch);
        later.map(|declared| declared.size).min()
    }

    /// Expects one event for each epoch after `known`, up to that of the head.
    pub fn compare(&self, known: u64, head: Head, report: &mut Report) {
        for epoch in known + 1..=head.epoch {
            if !self.0.iter().any(|declared| declared.epoch == epoch) {
                let what = format!(
                    "the head of the trail is of epoch {}, and no event begins epoch {epoch}",
                    head.epoch
                );
                report.add(Check::Checkpoints, At::Nothing, what);
            }
        }
        for declared in self.0.iter().filter(|declared| declared.epoch > head.epoch) {
            let what = format!(
                "it begins epoch {}, and the head of the trail is of epoch {}",
                declared.epoch, head.epoch
            );
            report.add(Check::Checkpoints, declared.at, what);
        }
    }
}

/// Compares kept checkpoints, in the order of their sizes.
pub(super) struct Checkpoints<'a> {
    pub origin: &'a str,
    pub trusted: &'a Trusted,
    pub epochs: &'a Epochs,
    /// The size of the last good one.
    pub good: u64,
}

impl Checkpoints<'_> {
    pub fn compare(&mut self, kept: &Kept, head: Head, tiles: &Tiles, report: &mut Report) {
        let Kept { epoch, size, .. } = *kept;
        let name = format!("the checkpoint over {size} events (epoch {epoch})");
        let mut wrong = |at, what: String| {
            report.add(Check::Checkpoints, at, format!("{name} {what}"));
        };
        let note = match Checkpoint::open(&kept.note, &self.trusted.keys(epoch)) {
            Ok(note) => note,
            Err(error) => return wrong(At::Event(size), format!("cannot be believed: {error}")),
        };
        let at = At::Event(note.size);
        if note.origin != origin(self.origin, epoch) {
            return wrong(at, format!("is one of {}", note.origin));
        }
        if note.size != size {
            return wrong(at, format!("signs {}", note.size));
        }
        if note.time != kept.signed_at {
            return wrong(
                at,
                format!(
                    "was signed at {}, and its row says {}",
                    note.time, kept.signed_at
                ),
            );
        }
        if epoch > head.epoch || size > head.size {
            let Head { size, epoch } = head;
            return wrong(
                At::Event(size + 1),
                format!("reaches beyond the head of the trail: {size} events, epoch {epoch}"),
            );
        }
        if self.epochs.left_of(epoch).is_some_and(|left| size > left) {
            return wrong(at, "reaches beyond what its epoch left".to_owned());
        }
        match root(size, tiles) {
            Ok(root) if root == note.root => {
                self.good = size;
                report.checkpoints += 1;
                report.signed = report.signed.max(size);
            }
            Ok(_) => wrong(
                At::Between(self.good + 1, size),
                "signs other events than these".to_owned(),
            ),
            Err(error) => wrong(
                At::Between(self.good + 1, size),
                format!("cannot be compared: {error}"),
            ),
        }
    }
}
