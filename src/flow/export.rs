//! The trail as a file that others can check: every event, every checkpoint, page by page.

use super::audit::file::Line;
use crate::domain::list::SenderId;
use crate::domain::time::Timestamp;
use crate::store::trail::Kept;
use crate::store::{Error, Pool};
use crate::trail::leaf::Leaf;

/// Events of one page.
const PAGE: i64 = 1000;

/// An export in progress.
pub struct Export<'p> {
    pool: &'p Pool,
    sender: Option<SenderId>,
    after: u64,
    /// The last checkpoint that was written over the event at the file's end; none where it may lack one.
    signed: Option<(u64, Timestamp)>,
    begun: bool,
}

/// There is nothing to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--after {after}: the trail has {size} events; the file is of another trail, or the database is older than it"
)]
pub struct Beyond {
    /// Where the file ends.
    pub after: u64,
    /// Where the trail ends.
    pub size: u64,
}

impl<'p> Export<'p> {
    /// Begins after a number, with all events or with those of one sender readable.
    ///
    /// # Errors
    /// When the database cannot be read, or the trail does not reach so far.
    pub async fn begin(
        pool: &'p Pool,
        after: u64,
        sender: Option<SenderId>,
    ) -> Result<Result<Self, Beyond>, Error> {
        let size = pool.read().await?.trail_head().await?.size;
        Ok(match after <= size {
            true => Ok(Self {
                pool,
                sender,
                after,
                signed: None,
                begun: false,
            }),
            false => Err(Beyond { after, size }),
        })
    }

    /// Returns the next lines; none at the end, where there may be more later.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn page(&mut self) -> Result<Vec<Line>, Error> {
        let mut tx = self.pool.snapshot().await?;
        let leaves = tx.leaves_after(self.after, PAGE).await?;
        let begun = std::mem::replace(&mut self.begun, true);
        // Something may have been signed over the file's end since it was written.
        let over = match (begun, leaves.is_empty()) {
            (false, false) => Vec::new(),
            _ => tx.checkpoints_between(self.after, self.after).await?,
        };
        let new = over.into_iter().filter(|kept| {
            let signed = (kept.epoch, kept.signed_at);
            self.after > 0 && self.signed.is_none_or(|last| signed > last)
        });
        let new: Vec<_> = new.collect();
        self.signed = new.last().map(of).or(self.signed);
        let mut lines: Vec<_> = new.into_iter().map(note).collect();
        let Some((last, _)) = leaves.last() else {
            return Ok(lines);
        };
        let kept = tx.checkpoints_between(self.after + 1, *last).await?;
        self.after = *last;
        self.signed = kept.last().filter(|kept| kept.size == *last).map(of);
        let mut kept = kept.into_iter().peekable();
        for (seq, leaf) in &leaves {
            lines.push(self.line(*seq, leaf));
            while let Some(over) = kept.next_if(|kept| kept.size == *seq) {
                lines.push(note(over));
            }
        }
        Ok(lines)
    }

    /// What a sender may read is decided by the leaf itself, not by a column beside it.
    fn line(&self, seq: u64, leaf: &[u8]) -> Line {
        let Some(sender) = &self.sender else {
            return Line::event(seq, leaf);
        };
        match Leaf::decode(leaf) {
            Ok(read) if read.sender.as_ref() == Some(sender) => Line::event(seq, leaf),
            _ => Line::hidden(seq, leaf),
        }
    }
}

fn of(kept: &Kept) -> (u64, Timestamp) {
    (kept.epoch, kept.signed_at)
}

fn note(kept: Kept) -> Line {
    Line::Checkpoint {
        checkpoint: kept.note,
    }
}
