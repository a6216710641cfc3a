//! The outside copy: what was signed, out of reach of whoever writes the database.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::checkpoints::Epochs;
use super::report::{At, Check, Report};
use super::trusted::{Trusted, epoch_of};
use crate::store::trail::Head;
use crate::trail::note::Checkpoint;
use crate::trail::tree::{Tiles, root};

/// A note as a folder of copies holds it, and where.
pub(super) struct Note {
    place: String,
    text: String,
}

/// The notes of a folder, oldest first, one after the other.
pub(super) struct Notes {
    newest: Option<Note>,
    days: std::vec::IntoIter<PathBuf>,
    day: Option<(PathBuf, usize, BufReader<File>)>,
}

/// A line that holds none.
pub(super) struct NoNote {
    place: String,
    /// Somebody began to write one.
    is_torn: bool,
}

#[derive(Deserialize)]
struct Line {
    checkpoint: String,
}

/// How each line begins.
const BEGINS: &[u8] = b"{\"checkpoint\":\"";

impl Notes {
    /// Opens a folder; none if it is not there.
    pub fn open(dir: &Path) -> io::Result<Option<Self>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let paths = entries.map(|entry| Ok(entry?.path()));
        let mut days = paths.collect::<io::Result<Vec<_>>>()?;
        days.retain(|path| path.extension().is_some_and(|e| e == "ndjson"));
        days.sort();
        let newest = dir.join("checkpoint");
        let newest = match fs::read_to_string(&newest) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            text => Some(Note {
                place: newest.display().to_string(),
                text: text?,
            }),
        };
        Ok(Some(Self {
            newest,
            days: days.into_iter(),
            day: None,
        }))
    }

    /// Returns the next note, or the next line that holds none.
    pub fn next(&mut self) -> io::Result<Option<Result<Note, NoNote>>> {
        loop {
            let Some((path, number, lines)) = &mut self.day else {
                let Some(path) = self.days.next() else {
                    return Ok(self.newest.take().map(Ok));
                };
                let lines = BufReader::new(File::open(&path)?);
                self.day = Some((path, 0, lines));
                continue;
            };
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line)? == 0 {
                self.day = None;
                continue;
            }
            *number += 1;
            let place = format!("{} line {number}", path.display());
            let whole = line.strip_suffix(b"\n");
            let line = whole.unwrap_or(&line);
            return Ok(Some(match serde_json::from_slice::<Line>(line) {
                Ok(read) => Ok(Note {
                    place,
                    text: read.checkpoint,
                }),
                // A line that is being written.
                Err(_) if whole.is_none() => continue,
                Err(error) => {
                    let begins = line.starts_with(BEGINS) || BEGINS.starts_with(line);
                    let is_torn = begins && error.is_eof();
                    Err(NoNote { place, is_torn })
                }
            }));
        }
    }
}

/// What came of the notes so far.
#[derive(Default)]
pub(super) struct Outside {
    good: u64,
    /// Notes over what a declared loss took, and the largest of them.
    lost: u64,
    largest: u64,
}

impl Outside {
    /// Says that a line holds no note. What a power cut tore is no fault: the next one covers the same and more.
    pub fn no_note(&self, line: &NoNote, report: &mut Report) {
        let place = &line.place;
        match line.is_torn {
            true => report.notes.push(format!(
                "{place} is cut off, as by a power cut or a full disk; the next one covers the same events"
            )),
            false => report.add(
                Check::Outside,
                At::Nothing,
                format!("{place} holds no checkpoint"),
            ),
        }
    }

    /// Reads a note and returns what it signs.
    pub fn read(
        &self,
        note: &Note,
        trusted: &Trusted,
        report: &mut Report,
    ) -> Option<(u64, Checkpoint)> {
        let epoch = epoch_of(&note.text).unwrap_or_default();
        match Checkpoint::open(&note.text, &trusted.keys(epoch)) {
            Ok(checkpoint) => Some((epoch, checkpoint)),
            Err(error) => {
                let what = format!("{} cannot be believed: {error}", note.place);
                report.add(Check::Outside, At::Nothing, what);
                None
            }
        }
    }

    pub fn compare(
        &mut self,
        note: &Note,
        (epoch, signed): (u64, &Checkpoint),
        epochs: &Epochs,
        head: Head,
        tiles: &Tiles,
        report: &mut Report,
    ) {
        let size = signed.size;
        let mut wrong = |at, what: String| {
            let what = format!("{} {what}", note.place);
            report.add(Check::Outside, at, what);
        };
        if epoch > head.epoch {
            return wrong(
                At::Nothing,
                format!(
                    "is of epoch {epoch}, and the database of epoch {}",
                    head.epoch
                ),
            );
        }
        if epochs.left_of(epoch).is_some_and(|left| size > left) {
            self.lost += 1;
            self.largest = self.largest.max(size);
            return;
        }
        if size > head.size {
            let what = format!(
                "signs {size} events, and the database has {}: the later ones were cut off",
                head.size
            );
            return wrong(At::Event(head.size + 1), what);
        }
        let among = At::Between(self.good.min(size.saturating_sub(1)) + 1, size);
        match root(size, tiles) {
            Ok(root) if root == signed.root => {
                self.good = size;
                report.outside += 1;
            }
            Ok(_) => wrong(among, format!("signs {size} other events than these")),
            Err(error) => wrong(among, format!("cannot be compared: {error}")),
        }
    }

    /// Tells what is no fault.
    pub fn end(&self, report: &mut Report) {
        if self.lost > 0 {
            report.notes.push(format!(
                "{} outside copies sign up to event {} of an earlier epoch, whose end was declared lost",
                self.lost, self.largest
            ));
        }
    }
}

/// Goes over every note of a folder, oldest first; nothing if the folder is not there.
///
/// # Errors
/// When the folder cannot be read.
pub fn each_note(dir: &Path, mut take: impl FnMut(&str)) -> io::Result<()> {
    let Some(mut notes) = Notes::open(dir)? else {
        return Ok(());
    };
    while let Some(note) = notes.next()? {
        if let Ok(note) = note {
            take(&note.text);
        }
    }
    Ok(())
}
