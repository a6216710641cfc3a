//! The trail as a file that others can check: every event, every checkpoint, page by page.

use super::audit::file::Line;
use crate::domain::list::SenderId;
use crate::store::{Error, Pool};
use crate::trail::leaf::Leaf;

/// Events of one page.
const PAGE: i64 = 1000;

/// An export in progress.
pub struct Export<'p> {
    pool: &'p Pool,
    sender: Option<SenderId>,
    after: u64,
    /// Whether the file may lack the checkpoint over the event at its end.
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
                begun: false,
            }),
            false => Err(Beyond { after, size }),
        })
    }

    /// Returns the next lines; none at the end.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn page(&mut self) -> Result<Vec<Line>, Error> {
        let mut tx = self.pool.snapshot().await?;
        let leaves = tx.leaves_after(self.after, PAGE).await?;
        let begun = std::mem::replace(&mut self.begun, true);
        let Some((last, _)) = leaves.last() else {
            // Nothing happened since the file was written, but something may have been signed over its end.
            let over = tx.checkpoints_between(self.after, self.after).await?;
            let over = over.into_iter().filter(|_| !begun && self.after > 0);
            let lines = over.map(|kept| Line::Checkpoint {
                checkpoint: kept.note,
            });
            return Ok(lines.collect());
        };
        let kept = tx.checkpoints_between(self.after + 1, *last).await?;
        self.after = *last;
        let mut kept = kept.into_iter().peekable();
        let mut lines = Vec::with_capacity(leaves.len());
        for (seq, leaf) in &leaves {
            lines.push(self.line(*seq, leaf));
            while let Some(over) = kept.next_if(|kept| kept.size == *seq) {
                lines.push(Line::Checkpoint {
                    checkpoint: over.note,
                });
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
