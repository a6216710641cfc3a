//! A file that is written beside the place where it is to be, so that there is never half of it there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::clock::random;
use crate::domain::consent::Hash;
use crate::store::disk::{LOG, hand_over, with_end};

/// The files of a SQLite database, in the order in which they may be moved: without the first one the others are of no use,
/// while a database without its log opens, and lacks what was written last.
const PARTS: [&str; 3] = ["", LOG, "-shm"];
/// What confirmd puts beside one.
const MIGRATING: &str = ".migrate";

/// The file; gone when dropped, unless it was placed.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Names a file beside a target; it is not there yet. In a container a process that died had the same number as this.
    pub fn beside(target: &Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let name = format!(".{name}.{:016x}.partial", u64::from_ne_bytes(random()));
        Self {
            path: target.with_file_name(name),
            target: target.to_owned(),
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, empty, for its owner's eyes only.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        options.open(&self.path)
    }

    /// Fills it with a copy of another file for whoever owns the folder, and returns the hash of what was copied.
    ///
    /// # Errors
    /// When one cannot be read or the other not be written.
    pub fn copy_from(&self, file: &Path) -> io::Result<Hash> {
        let mut from = File::open(file)?;
        let mut to = self.make()?;
        hand_over(&to, &self.path)?;
        let hash = each(&mut from, |bytes| to.write_all(bytes))?;
        to.sync_all()?;
        Ok(hash)
    }

    /// Puts it in its place, on stable storage.
    ///
    /// # Errors
    /// When the file or its folder cannot be written.
    pub fn place(self) -> io::Result<()> {
        let log = with_end(&self.path, LOG);
        if log.metadata().is_ok_and(|log| log.len() > 0) {
            let what = format!("{} could not be folded into the database", log.display());
            return Err(io::Error::other(what));
        }
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        sync_folder(&self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        for end in PARTS.into_iter().chain([MIGRATING]) {
            // What was never there, or was placed, need not be removed.
            let _ = fs::remove_file(with_end(&self.path, end));
        }
    }
}

/// Moves a database, with what belongs to it, to another name beside it.
///
/// # Errors
/// When it cannot be moved.
pub fn move_aside(database: &Path, end: &str) -> io::Result<PathBuf> {
    let aside = with_end(database, end);
    for part in PARTS {
        match fs::rename(with_end(database, part), with_end(&aside, part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
        // A power cut must not undo one move and keep a later one.
        sync_folder(database)?;
    }
    Ok(aside)
}

/// Returns the first file of a database that is there.
pub fn part_of(database: &Path) -> Option<PathBuf> {
    let mut parts = PARTS.iter().map(|part| with_end(database, part));
    parts.find(|part| fs::symlink_metadata(part).is_ok())
}

/// Returns the size of a file and the hash of its bytes.
///
/// # Errors
/// When it cannot be read.
pub fn measure(file: &Path) -> io::Result<(u64, Hash)> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    Ok((size, each(&mut file, |_| Ok(()))?))
}

fn each(file: &mut File, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Hash> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Hash(hash.finalize().into()));
        }
        hash.update(&block[..read]);
        take(&block[..read])?;
    }
}

/// A name must survive a power cut as well as the content.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
