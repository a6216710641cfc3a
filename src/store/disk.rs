//! The filesystem under a SQLite file: whether it can be trusted with it, and how much room it has.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::connect::ConnectError;

/// Filesystems on which SQLite's locks, shared memory or fsync do not reach the disk's own: the numbers that statfs(2)
/// gives them, from Linux's `magic.h` and the sources of those that are not part of it.
const REMOTE: &[(u32, &str)] = &[
    (0x0000_6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0000_517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0000_564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9p"),
    (0x786f_4256, "vboxsf"),
    (0x6573_5546, "FUSE"),
];

/// What is written to see whether it stays.
const PROBE: &[u8] = b"confirmd looks whether this filesystem keeps what is written\n";

/// How the name of SQLite's write-ahead log ends.
pub const LOG: &str = "-wal";

/// Makes a SQLite file that is not there yet, for its owner's eyes only; SQLite makes its log alike.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make(database: &Path) -> Result<(), ConnectError> {
    let mut options = OpenOptions::new();
    // One that is there is not opened: closing it would end the locks that this process has on it.
    options.write(true).create_new(true).mode(0o600);
    match options.open(database) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|file| hand_over(&file, database)),
    }
    .map_err(|error| ConnectError::file(database, &error))
}

/// Gives what root makes in the folder of another to that other, who could not use it otherwise.
///
/// # Errors
/// When it cannot be given.
pub fn hand_over(file: &File, path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    let owner = std::fs::metadata(folder.unwrap_or(Path::new(".")))?;
    match file.metadata()?.uid() == 0 && owner.uid() != 0 {
        true => fchown(file, Some(owner.uid()), Some(owner.gid())),
        false => Ok(()),
    }
}

/// The filesystem under one SQLite file.
#[derive(Clone, Debug)]
pub struct Disk {
    folder: PathBuf,
    database: PathBuf,
}

impl Disk {
    /// Finds the filesystem of a SQLite file. What is not there yet, file or folder, will be on that of the nearest folder
    /// above it.
    ///
    /// # Errors
    /// When it cannot be looked at, or is another machine's.
    pub fn under(database: &Path) -> Result<Self, ConnectError> {
        let folder = nearest(database.parent().unwrap_or(database));
        let cannot = |error| ConnectError::file(folder, &error);
        // SQLite follows links, and puts its log beside the file that they lead to.
        let database = match database.canonicalize() {
            Ok(found) => found,
            Err(_) => folder
                .canonicalize()
                .map_err(cannot)?
                .join(database.file_name().unwrap_or_default()),
        };
        let folder = database.parent().unwrap_or(folder).to_owned();
        let kind = rustix::fs::statfs(&folder).map_err(|error| cannot(error.into()))?;
        #[expect(clippy::cast_possible_truncation, reason = "the numbers have 32 bits")]
        let kind = kind.f_type as u32;
        match REMOTE.iter().find(|(number, _)| *number == kind) {
            Some((_, name)) => Err(ConnectError::Remote {
                folder: folder.display().to_string(),
                name,
            }),
            None => Ok(Self { folder, database }),
        }
    }

    /// Looks whether a file that is written, synced and renamed there is the same afterwards.
    ///
    /// # Errors
    /// What cannot be done, and where. A full disk is none: room may return.
    pub fn probe(&self) -> Result<(), ConnectError> {
        let first = self.beside(&format!("probe-{}", std::process::id()));
        let second = self.beside(&format!("probed-{}", std::process::id()));
        let tried = self.write_and_rename(&first, &second);
        // One of them is there, or none.
        let _ = std::fs::remove_file(&first);
        let _ = std::fs::remove_file(&second);
        match tried {
            Ok(read) if read == PROBE => Ok(()),
            Ok(_) => Err(ConnectError::Forgetful(self.folder.display().to_string())),
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(ConnectError::Probe {
                folder: self.folder.display().to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn write_and_rename(&self, first: &Path, second: &Path) -> Result<Vec<u8>, Error> {
        let mut file = File::create(first)?;
        file.write_all(PROBE)?;
        file.sync_all()?;
        std::fs::rename(first, second)?;
        File::open(&self.folder)?.sync_all()?;
        let mut read = Vec::new();
        File::open(second)?.read_to_end(&mut read)?;
        Ok(read)
    }

    /// Returns how many bytes are free for this process.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn free(&self) -> Result<u64, Error> {
        let room = rustix::fs::statvfs(&self.folder)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// Returns the place of a file beside the database.
    pub(super) fn beside(&self, extension: &str) -> PathBuf {
        with_end(&self.database, &format!(".{extension}"))
    }

    /// Returns the place of SQLite's write-ahead log.
    pub(super) fn log(&self) -> PathBuf {
        with_end(&self.database, LOG)
    }
}

/// Finds what is there of a path that may not be there yet: itself, or the nearest folder above it.
pub fn nearest(path: &Path) -> &Path {
    let there = path.ancestors().find(|above| above.exists());
    there.unwrap_or(Path::new("."))
}

/// Appends to the name of a file.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Tells whether there was no room.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
