//! Why a database is not opened, and what to do.

use std::path::Path;

use super::PROTOCOL_VIOLATION;
use crate::store::Error;

/// Why the database cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not understood.
    #[error("database.url: not a URL of PostgreSQL, as in postgres://user@host/database")]
    Url,
    /// The folder or file cannot be made or opened.
    #[error("database.url: cannot open {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The folder cannot be written as it must be.
    #[error(
        "database.url: the folder {folder} cannot be used: {reason}; confirmd's user must be able to make, write, sync and rename files in it"
    )]
    Probe {
        /// The folder.
        folder: String,
        /// The operating system's reason.
        reason: String,
    },
    /// What was written was not read again.
    #[error(
        "database.url: a file that was written, synced and renamed in {0} is not the same afterwards; put the database on another filesystem"
    )]
    Forgetful(String),
    /// Nobody served there yet.
    #[error(
        "database.url: there is no database of confirmd yet: {0}; `confirmd serve` makes it at its first start (a relative path starts in the working directory)"
    )]
    Absent(String),
    /// The schema is older than this program.
    #[error(
        "the database was made by an older confirmd; `confirmd serve` brings it up to date when it starts"
    )]
    Older,
    /// The database cannot hold every text.
    #[error(
        "database.url: the database is in {0}, which cannot hold every name; make another with: create database NAME encoding 'UTF8' template template0"
    )]
    Encoding(String),
    /// The file is gone, and what belongs to it is not.
    #[error(
        "database.url: {0} is not there, but {0}-wal is, which holds its newest changes: put the file back beside it, or a backup with `confirmd restore FILE --replace`"
    )]
    Torn(String),
    /// The filesystem is another machine's, or another program's.
    #[error(
        "database.url: {folder} is on {name}, where SQLite's locks and fsync cannot be trusted; put the file on a local disk (ext4, XFS), or use PostgreSQL"
    )]
    Remote {
        /// The folder.
        folder: String,
        /// The filesystem.
        name: &'static str,
    },
    /// Another daemon has the file.
    #[error(
        "{0} is in use by another confirmd; one SQLite file serves one daemon (PostgreSQL serves many)"
    )]
    InUse(String),
    /// A pooler stands before the server, and nobody said so.
    #[error(
        "database.url: the settings of a session are refused ({PROTOCOL_VIOLATION}); before a pooler such as PgBouncer set database.pooler = true, and database.migrate_url to the server itself"
    )]
    Pooler,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] Error),
    /// It cannot be reached, or what is there cannot be used.
    #[error("{key}: {place}: {error}")]
    Refused {
        /// The setting that says where it is.
        key: &'static str,
        /// Where, without login or password.
        place: String,
        /// What was refused.
        error: Error,
    },
    /// What was set does not hold.
    #[error("{setting} is {found}, but a 202 must mean stable storage: {remedy}")]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// What was read back.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file that is to be read is not what it should be.
    #[error("{0} is not a database of confirmd, or is damaged")]
    NoCopy(String),
    /// The schema is newer than this program.
    #[error(
        "the database was made by a newer confirmd (schema {0}); install that version or restore a backup of this one"
    )]
    Newer(i64),
    /// A migration failed or was changed after it ran.
    #[error("the schema cannot be brought up to date: migration {0}")]
    Migration(String),
}

impl ConnectError {
    /// Says where it happened, unless that was said already.
    pub(super) fn at(self, key: &'static str, place: &str) -> Self {
        match self {
            Self::Store(error) => Self::Refused {
                key,
                place: place.to_owned(),
                error,
            },
            other => other,
        }
    }

    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }
}

impl From<sqlx::Error> for ConnectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
