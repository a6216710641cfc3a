//! An exported trail: what `events export` writes, verified with public keys and nothing else.
//!
//! One JSON object a line: `{"seq", "leaf"}` or, of an event that is another sender's, `{"seq", "leaf_hash"}`; and after the
//! event that it reaches to, `{"checkpoint"}`. Bytes are in base64 (RFC 4648, section 4).

use std::io::{self, BufRead};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::Progress;
use super::report::{At, Check, Report};
use super::trusted::epoch_of;
use crate::domain::consent::Hash;
use crate::trail::leaf::Leaf;
use crate::trail::note::{Checkpoint, Verifier};
use crate::trail::tree::{Frontier, leaf_hash};

/// One line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// An event.
    Event {
        /// Its number.
        seq: u64,
        /// Its bytes.
        leaf: String,
    },
    /// An event of which only the hash is shown.
    Hidden {
        /// Its number.
        seq: u64,
        /// The hash of its bytes (RFC 6962, section 2.1).
        leaf_hash: String,
    },
    /// What was signed over the events before.
    Checkpoint {
        /// The note.
        checkpoint: String,
    },
}

impl Line {
    /// Writes an event down.
    pub fn event(seq: u64, leaf: &[u8]) -> Self {
        let leaf = BASE64.encode(leaf);
        Line::Event { seq, leaf }
    }

    /// Writes the hash of an event down.
    pub fn hidden(seq: u64, leaf: &[u8]) -> Self {
        let leaf_hash = BASE64.encode(leaf_hash(leaf).0);
        Line::Hidden { seq, leaf_hash }
    }
}

/// Why nothing can be said of an export.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A line is none of an export: that shows no change, only that this is no whole copy.
    #[error(
        "line {line} cannot be read ({what}); if it is the last, the copy was cut off: take it away and go on with `confirmd events export --after {after}`"
    )]
    Line {
        /// Which, from 1.
        line: u64,
        /// What it is not.
        what: &'static str,
        /// How many events stand before it.
        after: u64,
    },
    /// There is no signature in it.
    #[error(
        "the file holds no checkpoint: nothing in it is signed; export again once there is one"
    )]
    Unsigned,
}

/// Verifies an export up to the first thing that is wrong, after which nothing more can be said.
///
/// # Errors
/// When the file cannot be read, or holds nothing that is signed.
pub fn verify(
    mut file: impl BufRead,
    keys: &[Verifier],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Unreadable> {
    let mut report = Report {
        of_export: true,
        ..Report::default()
    };
    let mut reader = Reader {
        tree: Frontier::new(),
        keys,
        epoch: 0,
    };
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        match reader.line(&line, &mut report) {
            Ok(()) => {}
            Err(Fault::Unread(what)) => {
                return Err(Unreadable::Line {
                    line: number,
                    what,
                    after: reader.tree.size(),
                });
            }
            Err(Fault::Wrong(check, at, what)) => {
                report.add(check, at, format!("line {number}: {what}"));
                break;
            }
        }
        if number.is_multiple_of(1000) {
            progress(Progress {
                what: "lines",
                done: number,
                of: None,
            });
        }
    }
    report.events = reader.tree.size();
    if report.wrong == 0 && report.checkpoints == 0 {
        return Err(Unreadable::Unsigned);
    }
    if report.wrong == 0 && report.signed < report.events {
        report.notes.push(format!(
            "events {} to {} are under no checkpoint yet: nothing was signed over them",
            report.signed + 1,
            report.events
        ));
    }
    Ok(report)
}

struct Reader<'k> {
    tree: Frontier,
    keys: &'k [Verifier],
    epoch: u64,
}

/// What is the matter with a line.
enum Fault {
    /// It cannot be read.
    Unread(&'static str),
    /// It says something else than what was signed.
    Wrong(Check, At, String),
}

impl Reader<'_> {
    fn line(&mut self, line: &[u8], report: &mut Report) -> Result<(), Fault> {
        let next = self.tree.size() + 1;
        let read = serde_json::from_slice(line);
        let read = read.map_err(|_| Fault::Unread("neither an event nor a checkpoint"))?;
        let in_place = |seq: u64| match seq == next {
            true => Ok(()),
            false => Err(Fault::Wrong(
                Check::Numbers,
                At::Event(next),
                format!("event {seq} stands where event {next} belongs"),
            )),
        };
        match read {
            Line::Event { seq, leaf } => {
                in_place(seq)?;
                let bytes = BASE64.decode(leaf);
                let bytes = bytes.map_err(|_| Fault::Unread("the leaf is not in base64"))?;
                Leaf::decode(&bytes).map_err(|error| {
                    Fault::Wrong(Check::Copies, At::Event(seq), error.to_string())
                })?;
                self.tree.push(leaf_hash(&bytes));
            }
            Line::Hidden { seq, leaf_hash } => {
                in_place(seq)?;
                let hash = BASE64
                    .decode(leaf_hash)
                    .ok()
                    .and_then(|h| h.try_into().ok());
                let hash = hash.ok_or(Fault::Unread("not a hash in base64"))?;
                self.tree.push(Hash(hash));
            }
            Line::Checkpoint { checkpoint } => self.checkpoint(&checkpoint, report)?,
        }
        Ok(())
    }

    fn checkpoint(&mut self, note: &str, report: &mut Report) -> Result<(), Fault> {
        let size = self.tree.size();
        let wrong = |at, what: String| Err(Fault::Wrong(Check::Checkpoints, at, what));
        let signed = match Checkpoint::open(note, self.keys) {
            Ok(signed) => signed,
            Err(error) => {
                let what = format!("the checkpoint after event {size} cannot be believed: {error}");
                return wrong(At::Event(size), what);
            }
        };
        let epoch = epoch_of(note).unwrap_or_default();
        if epoch < self.epoch {
            let what = format!(
                "a checkpoint of epoch {epoch} after one of epoch {}",
                self.epoch
            );
            return wrong(At::Event(size), what);
        }
        self.epoch = epoch;
        let unsigned = At::Between(report.signed + 1, size);
        if signed.size != size {
            let what = format!(
                "the checkpoint signs {} events, and {size} stand before it",
                signed.size
            );
            return wrong(unsigned, what);
        }
        if signed.root != self.tree.root() {
            let what = "the checkpoint signs other events than those before it".to_owned();
            return wrong(unsigned, what);
        }
        report.checkpoints += 1;
        report.signed = size;
        Ok(())
    }
}
