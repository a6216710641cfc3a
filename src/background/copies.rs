//! The folder with a copy of every checkpoint, out of reach of whoever writes the database.
//!
//! | file | holds |
//! |---|---|
//! | `checkpoint` | the newest signed note |
//! | `2026-11-23.ndjson` | each note of that day, one `{"checkpoint": "..."}` a line |
//!
//! At start, and before each write, the database is compared with `checkpoint`. A database that does not continue what
//! was signed is a restored or a rolled back one: its numbers would be given a second time.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::flow::Flows;
use crate::store::Error;
use crate::store::trail::Kept;
use crate::trail::note::Checkpoint;
use crate::trail::tree::{edge, root};

/// The file in the folder that is the newest checkpoint.
pub const NEWEST: &str = "checkpoint";

/// The folder.
#[derive(Clone, Debug)]
pub struct Copies {
    dir: PathBuf,
}

/// Why the database may not be continued.
#[derive(Clone, Debug)]
pub enum Doubt {
    /// The newest copy cannot be read.
    Unread(String),
    /// It signs what the database does not hold.
    Older(String),
}

impl Copies {
    /// Takes the folder; it is made with the first copy.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Compares the database with the newest copy; says what keeps it from being continued, and what to do.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn compare(&self, flows: &Flows) -> Result<Result<(), Doubt>, Error> {
        let file = self.dir.join(NEWEST);
        let refuse = |why: String| Ok(Err(Doubt::Older(format!("{}: {why}", file.display()))));
        let note = match fs::read_to_string(&file) {
            Ok(note) => note,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(())),
            Err(error) => {
                let why = format!("trail.copy: {} cannot be read: {error}", file.display());
                return Ok(Err(Doubt::Unread(why)));
            }
        };
        let origin = note.lines().next().unwrap_or_default();
        let epoch = origin.strip_prefix(&format!("{}/", flows.settings.origin));
        let Some(epoch) = epoch.and_then(|epoch| epoch.parse::<u64>().ok()) else {
            return refuse(format!(
                "is of another trail ({origin}); set trail.copy to a folder of this installation"
            ));
        };
        let signed = match Checkpoint::open(&note, &flows.verifiers(epoch)?) {
            Ok(signed) => signed,
            Err(error) => return refuse(format!("is no checkpoint of this installation: {error}")),
        };
        let mut tx = flows.pool.read().await?;
        let head = tx.trail_head().await?;
        if head.epoch > epoch {
            return Ok(Ok(()));
        }
        const REMEDY: &str = "if a backup was restored, run: confirmd audit epoch --reason \"...\"; else put the right database back";
        if head.epoch < epoch || head.size < signed.size {
            return refuse(format!(
                "says that {} events were signed, and the database has {}: it is older than its copy; {REMEDY}",
                signed.size, head.size
            ));
        }
        let tiles = tx.tiles(edge(signed.size)).await?;
        match root(signed.size, &tiles) {
            Ok(root) if root == signed.root => Ok(Ok(())),
            _ => refuse(format!(
                "signs other events than the first {} of the database; {REMEDY}",
                signed.size
            )),
        }
    }

    /// Adds a checkpoint, on stable storage.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn add(&self, kept: &Kept) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let day = kept.signed_at.to_string();
        let day = self.dir.join(format!("{}.ndjson", &day[..10]));
        append(&day, &format!("{}\n", json!({ "checkpoint": kept.note })))?;
        replace(&self.dir, &kept.note)
    }
}

/// Appends a line, or nothing if it is the last one already. What a power cut left of another gets a line of its own, and a
/// full disk leaves nothing.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.create(true).read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(
        length.saturating_sub(line.len() as u64 + 1),
    ))?;
    file.read_to_end(&mut end)?;
    let (line, end) = (line.as_bytes(), end.as_slice());
    let new = match end.strip_suffix(line) {
        Some(b"" | b"\n") => return file.sync_all(),
        _ if end.last().is_none_or(|last| *last == b'\n') => line.to_vec(),
        _ => [b"\n", line].concat(),
    };
    let written = file.write_all(&new).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(file.set_len(length)))
}

/// Puts the newest note in the place of the one before, so that at every moment one of them is there, whole.
fn replace(dir: &Path, note: &str) -> io::Result<()> {
    // Several processes may share the folder.
    let new = dir.join(format!(".checkpoint.{}", std::process::id()));
    let newest = dir.join(NEWEST);
    let write = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, newest)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))?;
    fs::File::open(dir)?.sync_all()
}
