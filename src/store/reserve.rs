//! Room kept for a full disk: a file beside the SQLite file, given up when there is no other.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Write};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::disk::Disk;

/// What is written at a time where room cannot be asked for.
const BLOCK: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Reserve {
    file: PathBuf,
    log: PathBuf,
    size: u64,
    whole: bool,
}

impl Reserve {
    /// Finds what is left of the reserve of a database. With a size of 0 there is none.
    pub fn of(disk: &Disk, size: u64) -> Self {
        let file = disk.beside("reserve");
        let found = file.metadata().map_or(0, |found| found.len());
        Self {
            file,
            log: disk.log(),
            size,
            whole: found == size,
        }
    }

    /// Returns how many bytes it has when it is whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Tells whether it is whole.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes the room for it.
    ///
    /// # Errors
    /// When there is too little; then none is taken.
    pub fn take(&mut self) -> Result<(), Error> {
        let mut file = self.open()?;
        file.set_len(0)?;
        let taken = match allocate(&mut file, self.size) {
            Ok(()) => file.sync_all(),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => self.whole = true,
            Err(_) => file.set_len(0)?,
        }
        taken
    }

    /// Gives it up: half of it to SQLite's write-ahead log, where nobody else can take it, the other half to whoever comes,
    /// which the database itself needs to grow when the log is folded.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn give(&mut self) -> Result<(), Error> {
        self.whole = false;
        self.open()?.set_len(0)?;
        // SQLite locks the database and the index of the log, never the log: it may be opened and closed here.
        if let Ok(log) = OpenOptions::new().write(true).open(&self.log) {
            let there = log.metadata().map_or(0, |log| log.len());
            // Where the filesystem cannot, the log takes what it needs when it needs it.
            let _ = fallocate(&log, FallocateFlags::KEEP_SIZE, 0, there + self.size / 2);
        }
        Ok(())
    }

    fn open(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        options.open(&self.file)
    }
}

/// Takes blocks for so many bytes; by writing them, where the filesystem has no other way.
fn allocate(file: &mut File, size: u64) -> Result<(), Error> {
    if size == 0 {
        return Ok(());
    }
    let asked = fallocate(&*file, FallocateFlags::empty(), 0, size).map_err(Error::from);
    match asked {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        done => return done,
    }
    let block = vec![0; BLOCK];
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(())
}
