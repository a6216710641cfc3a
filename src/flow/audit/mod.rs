//! Verification: whether the trail is what was signed, and the state tables what the trail says.
//!
//! | check | finds | how |
//! |---|---|---|
//! | `numbers` | events that are missing or too many | numbers run from 1 to the head |
//! | `copies` | a changed column beside a leaf | the leaf says it too |
//! | `tree` | a changed leaf or tile | each hash follows from what lies below |
//! | `checkpoints` | other events under new hashes | the tiles' root was signed |
//! | `outside` | what somebody did who has the key | somebody else holds the signature |
//! | `evidence` | changed or missing personal facts | the event committed to them |
//! | `replay` | changed state | the events are replayed |
//! | `catalog` | changed words | they are kept by hash |
//!
//! Each looks at one step only, so that what is told is the step that is broken. One pass goes over the events, one over
//! the subscribers, in pages, each with a snapshot of its own: memory stays flat, and no transaction stays open.

mod catalog;
mod checkpoints;
mod copies;
mod evidence;
pub mod file;
mod life;
mod numbers;
pub(super) mod outside;
mod page;
mod replay;
pub mod report;
mod tree;
pub mod trusted;

use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::domain::id::{EventId, SubscriberId};
use crate::domain::time::Timestamp;
use crate::store::trail::Head;
use crate::store::{Error, Pool, Tx};

use self::checkpoints::{Checkpoints, Epochs};
use self::numbers::Numbers;
use self::outside::{Notes, Outside};
use self::page::{Page, edges};
use self::report::{At, Check, Checks, Report};
use self::trusted::Trusted;

/// Events of one page.
const PAGE: i64 = 500;
/// Subscribers, checkpoints or notes of one page.
const FEW: usize = 100;

/// What is verified.
pub struct Subject<'a> {
    /// The database.
    pub pool: &'a Pool,
    /// The name of its trail, without the epoch.
    pub origin: &'a str,
    /// Whose signatures count.
    pub trusted: &'a Trusted,
    /// The folder of outside copies.
    pub copy: Option<&'a Path>,
}

/// How far verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of what.
    pub what: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many, if that is known.
    pub of: Option<u64>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CannotVerify {
    /// There is no such checkpoint.
    #[error("--since {0}: no checkpoint of that size is kept{1}")]
    Since(u64, String),
    /// The outside copies cannot be read.
    #[error("trail.copy: {path}: {error}")]
    Copy {
        /// The folder.
        path: String,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Verifies a database, from a checkpoint on or from the beginning.
///
/// State tables and texts, which are no part of the tree, are always compared whole.
///
/// # Errors
/// When there is nothing to begin from, or database or copies cannot be read: then nothing can be said.
pub async fn verify(
    subject: &Subject<'_>,
    checks: Checks,
    since: Option<u64>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, CannotVerify> {
    let mut report = Report::default();
    let mut run = Run {
        subject,
        checks,
        report: &mut report,
        progress,
        epochs: Epochs::default(),
    };
    let known = run.begin(since).await?;
    match run.all(since.unwrap_or(0), known).await {
        // The rows themselves cannot be read: that is no failure to look.
        Err(CannotVerify::Store(error)) if error.is_defect() => {
            let what = format!("rows cannot be read: {error}");
            report.add(Check::Numbers, At::Nothing, what);
        }
        done => done?,
    }
    report.sort();
    Ok(report)
}

struct Run<'r, 's> {
    subject: &'r Subject<'s>,
    checks: Checks,
    report: &'r mut Report,
    progress: &'r mut (dyn FnMut(Progress) + Send),
    epochs: Epochs,
}

impl Run<'_, '_> {
    async fn all(&mut self, since: u64, known: u64) -> Result<(), CannotVerify> {
        let head = self.events(since).await?;
        if self.checks.has(Check::Checkpoints) {
            self.epochs.compare(known, head, self.report);
            self.checkpoints(since).await?;
        }
        if self.checks.has(Check::Outside) {
            self.outside().await?;
        }
        if self.checks.has(Check::Evidence) {
            self.orphans().await?;
        }
        if self.checks.has(Check::Replay) {
            self.subscribers().await?;
        }
        if self.checks.has(Check::Catalog) {
            let mut tx = self.subject.pool.snapshot().await?;
            catalog::compare(&mut tx, self.report).await?;
        }
        Ok(())
    }

    /// Returns the epoch up to which events are not read.
    async fn begin(&mut self, since: Option<u64>) -> Result<u64, CannotVerify> {
        let Some(since) = since else { return Ok(1) };
        let mut tx = self.subject.pool.read().await?;
        let near = tx
            .checkpoints_by_size((since, 0, Timestamp::from_micros(0)), 1)
            .await?
            .pop();
        match near {
            Some(near) if near.size == since => Ok(near.epoch),
            near => {
                let next = near.map(|near| format!("; the next is of {}", near.size));
                Err(CannotVerify::Since(since, next.unwrap_or_default()))
            }
        }
    }

    /// Goes over the events, and returns where they end.
    async fn events(&mut self, since: u64) -> Result<Head, Error> {
        let mut numbers = Numbers::after(since);
        let mut last = match since {
            0 => i64::MIN,
            since => i64::try_from(since).unwrap_or(i64::MAX),
        };
        loop {
            let mut tx = self.subject.pool.snapshot().await?;
            let rows = tx.event_rows_after(last, PAGE).await?;
            let head = tx.trail_head().await?;
            let Some(seq) = rows.last().and_then(|row| row.seq) else {
                if self.checks.has(Check::Numbers) {
                    numbers.end(head.size, tx.tree_size().await?, self.report);
                }
                self.report.events = head.size;
                self.waiting(&mut tx, numbers).await?;
                return Ok(head);
            };
            last = seq;
            let page = Page::read(&mut tx, rows, head, self.checks).await?;
            drop(tx);
            if self.checks.has(Check::Numbers) {
                numbers.page(&page, self.report);
            }
            if self.checks.has(Check::Tree) {
                tree::compare(&page, self.report);
            }
            self.rows(&page);
            self.tell("events", last.unsigned_abs(), Some(head.size));
        }
    }

    /// Goes over the events that have no number yet.
    async fn waiting(&mut self, tx: &mut Tx, mut numbers: Numbers) -> Result<(), Error> {
        let mut last = 0;
        loop {
            let rows = tx.unnumbered_rows_after(last, PAGE).await?;
            let Some(row) = rows.last() else {
                return Ok(());
            };
            last = row.ord;
            let head = tx.trail_head().await?;
            let page = Page::read(tx, rows, head, self.checks).await?;
            if self.checks.has(Check::Numbers) && !self.subject.pool.is_shared() {
                numbers.places(&page, self.report);
            }
            self.rows(&page);
        }
    }

    /// Compares what numbered events and others have in common.
    fn rows(&mut self, page: &Page) {
        for (row, leaf) in &page.rows {
            if self.checks.has(Check::Copies) {
                copies::compare(row, leaf, self.report);
            }
            if let Ok(leaf) = leaf {
                self.epochs.hear(At::row(row), leaf);
            }
        }
        if self.checks.has(Check::Evidence) {
            evidence::compare(page, self.report);
        }
    }

    async fn checkpoints(&mut self, since: u64) -> Result<(), Error> {
        let Subject {
            pool,
            origin,
            trusted,
            ..
        } = *self.subject;
        let mut check = Checkpoints {
            origin,
            trusted,
            epochs: &self.epochs,
            good: since,
        };
        let mut after = (since, 0, Timestamp::from_micros(0));
        loop {
            let mut tx = pool.snapshot().await?;
            let head = tx.trail_head().await?;
            let page = tx.checkpoints_by_size(after, FEW as i64).await?;
            let Some(last) = page.last() else { break };
            after = (last.size, last.epoch, last.signed_at);
            let tiles = edges(&mut tx, page.iter().map(|kept| kept.size), head).await?;
            for kept in &page {
                check.compare(kept, head, &tiles, self.report);
            }
        }
        if self.report.checkpoints == 0 {
            self.report
                .notes
                .push("no checkpoint of these events is kept".to_owned());
        }
        Ok(())
    }

    async fn outside(&mut self) -> Result<(), CannotVerify> {
        let Some(dir) = self.subject.copy else {
            self.report
                .notes
                .push("no outside copy was compared: trail.copy is off".to_owned());
            return Ok(());
        };
        let cannot = |error| CannotVerify::Copy {
            path: dir.display().to_string(),
            error,
        };
        let Some(mut notes) = Notes::open(dir).map_err(cannot)? else {
            let note = format!(
                "no outside copy was compared: {} is not there",
                dir.display()
            );
            self.report.notes.push(note);
            return Ok(());
        };
        let mut outside = Outside::default();
        loop {
            let mut page = Vec::new();
            while page.len() < FEW
                && let Some(note) = notes.next().map_err(cannot)?
            {
                match note {
                    Err(line) => outside.no_note(&line, self.report),
                    Ok(note) => page.push(note),
                }
            }
            if page.is_empty() {
                break;
            }
            let trusted = self.subject.trusted;
            let report = &mut *self.report;
            let read = page
                .iter()
                .filter_map(|note| Some((note, outside.read(note, trusted, report)?)));
            let read: Vec<_> = read.collect();
            // Read after the notes: what they sign was there before they were.
            let mut tx = self.subject.pool.snapshot().await?;
            let head = tx.trail_head().await?;
            let tiles = edges(
                &mut tx,
                read.iter().map(|(_, (_, signed))| signed.size),
                head,
            )
            .await?;
            for (note, (epoch, signed)) in &read {
                outside.compare(
                    note,
                    (*epoch, signed),
                    &self.epochs,
                    head,
                    &tiles,
                    self.report,
                );
            }
        }
        outside.end(self.report);
        Ok(())
    }

    /// Looks for evidence behind no event.
    async fn orphans(&mut self) -> Result<(), Error> {
        let mut last = (EventId(Uuid::nil()), String::new());
        loop {
            let mut tx = self.subject.pool.snapshot().await?;
            let page = tx
                .evidence_owners_after((last.0, &last.1), PAGE * 4)
                .await?;
            let Some((event, part, _)) = page.last() else {
                return Ok(());
            };
            last = (*event, part.clone());
            for (event, part, _) in page.iter().filter(|(_, _, owned)| !owned) {
                let what =
                    format!("evidence \"{part}\" is of the event {event}, which is not there");
                self.report.add(Check::Evidence, At::Nothing, what);
            }
        }
    }

    async fn subscribers(&mut self) -> Result<(), Error> {
        let (mut last, mut done) = (SubscriberId(Uuid::nil()), 0);
        loop {
            let mut tx = self.subject.pool.snapshot().await?;
            let ids = tx.anybody_after(last, FEW as i64).await?;
            let Some(id) = ids.last() else { return Ok(()) };
            last = *id;
            replay::compare(&mut tx, &ids, self.report).await?;
            done += ids.len() as u64;
            self.tell("subscribers", done, None);
        }
    }

    fn tell(&mut self, what: &'static str, done: u64, of: Option<u64>) {
        (self.progress)(Progress { what, done, of });
    }
}
