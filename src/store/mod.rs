//! The only SQL: one file per table family, one text per statement for both databases.
//!
//! [`Pool`] and [`Tx`] are closed enums. What differs between SQLite and PostgreSQL lives in five places: connecting
//! ([`connect`]), beginning ([`Pool::begin`], [`sqlite`], [`postgres`]), locking and claiming ([`address`], [`queue`],
//! [`message`]), waking ([`wake`]), and writing sets ([`set`]).
#![expect(
    clippy::missing_errors_doc,
    reason = "every statement here fails in the ways that store::Error names, and in no other"
)]

pub mod address;
pub mod api_key;
pub mod audit;
pub mod clock;
pub mod connect;
pub mod copy;
pub mod disk;
pub mod erase;
pub mod event;
pub mod evidence;
mod flock;
pub mod idempotency;
pub mod keyring;
pub mod list;
pub mod message;
pub mod postgres;
pub mod queue;
pub mod reserve;
pub mod set;
pub mod signup;
pub mod sqlite;
pub mod subscriber;
pub mod template;
pub mod trail;
mod types;
pub mod wake;
pub mod wal;
pub mod window;

use sqlx::SqlitePool;

/// Runs one expression on the connection of a transaction, whichever database it is.
macro_rules! on {
    ($tx:expr, |$conn:ident| $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                let $conn = tx.connection().await?;
                $body
            }
            $crate::store::Tx::Postgres(tx) => tx.ask(async |$conn| Ok($body)).await?,
        }
    };
}
use on;

/// How far rows that wait are counted: whoever looks at the number acts long before.
pub const COUNTED: i64 = 100_000;

/// The database.
#[derive(Clone, Debug)]
pub enum Pool {
    /// One writer and a few readers on one file.
    Sqlite {
        /// The one connection that writes.
        writer: sqlite::Single,
        /// Connections that cannot write.
        reader: SqlitePool,
    },
    /// A PostgreSQL server, shared by any number of processes.
    Postgres(postgres::Server),
}

/// One transaction; rolled back when dropped.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite.
    Sqlite(sqlite::Transaction),
    /// On PostgreSQL.
    Postgres(postgres::Transaction),
}

impl Pool {
    /// Begins a transaction that may write; on SQLite no other of this process begins before it ends.
    ///
    /// # Errors
    /// When the database cannot be reached or is locked by another process for longer than the busy timeout.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Ok(match self {
            Pool::Sqlite { writer, .. } => Tx::Sqlite(sqlite::Transaction::write(writer).await?),
            Pool::Postgres(server) => Tx::Postgres(server.begin("begin").await?),
        })
    }

    /// Begins a transaction that only reads, and never waits for a writer. Each statement sees what is committed by then.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn read(&self) -> Result<Tx, Error> {
        Ok(match self {
            Pool::Sqlite { writer, reader } => {
                writer.sound()?;
                Tx::Sqlite(sqlite::Transaction::read(reader.acquire().await?))
            }
            Pool::Postgres(server) => Tx::Postgres(server.begin("begin read only").await?),
        })
    }

    /// Begins a transaction that only reads, and in which all statements see one moment.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn snapshot(&self) -> Result<Tx, Error> {
        const BEGIN: &str = "begin isolation level repeatable read read only";
        Ok(match self {
            Pool::Sqlite { reader, .. } => {
                Tx::Sqlite(sqlite::Transaction::snapshot(reader.begin().await?))
            }
            Pool::Postgres(server) => Tx::Postgres(server.begin(BEGIN).await?),
        })
    }

    /// Closes every connection; on SQLite this folds the write-ahead log into the file.
    pub async fn close(&self) {
        match self {
            Pool::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Pool::Postgres(server) => server.close().await,
        }
    }

    /// Tells whether other processes may serve from it too; a SQLite file has one daemon, which its lock proves.
    pub fn is_shared(&self) -> bool {
        matches!(self, Pool::Postgres(_))
    }

    /// Returns the name of the database system.
    pub fn system(&self) -> &'static str {
        match self {
            Pool::Sqlite { .. } => "sqlite",
            Pool::Postgres(_) => "postgres",
        }
    }
}

impl Tx {
    /// Commits.
    ///
    /// # Errors
    /// [`Error::is_unknown`] holds for a failure here: whether the transaction is stored is not known.
    pub async fn commit(self) -> Result<(), Error> {
        match self {
            Tx::Sqlite(tx) => tx.commit().await,
            Tx::Postgres(tx) => tx.commit().await.map_err(|error| Error {
                at_commit: true,
                ..error
            }),
        }
    }
}

/// What went wrong in the database, without a word of its own message: those repeat values, and values are addresses.
#[derive(Debug, thiserror::Error)]
#[error("database: {what}{}", if *at_commit { " at commit" } else { "" })]
pub struct Error {
    kind: Kind,
    what: String,
    at_commit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Later the same may work: unreachable, locked, deadlocked.
    Unavailable,
    /// There is no room left under SQLite. Nothing was stored; later the same may work.
    Full,
    /// The disk failed under SQLite: nothing more can be promised.
    Fatal,
    /// A defect of ours, or a row that cannot be read.
    Defect,
}

impl Error {
    /// Tells whether trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Full)
    }

    /// Tells whether the disk under SQLite was full.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Tells whether the process must stop: an I/O error of SQLite leaves the outcome of earlier writes open.
    pub fn is_fatal(&self) -> bool {
        self.kind == Kind::Fatal
    }

    /// Tells whether the transaction may have been stored all the same.
    pub fn is_unknown(&self) -> bool {
        self.at_commit
    }

    /// Tells whether rows cannot be read, or the program is wrong about them: trying again does not help.
    pub fn is_defect(&self) -> bool {
        self.kind == Kind::Defect
    }

    fn after_failure() -> Self {
        Self {
            kind: Kind::Fatal,
            what: "the disk failed under an earlier write".to_owned(),
            at_commit: false,
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::Defect,
            what: what.into(),
            at_commit: false,
        }
    }

    fn unavailable(what: &str) -> Self {
        Self {
            kind: Kind::Unavailable,
            what: what.to_owned(),
            at_commit: false,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let (kind, what) = match &error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or_default();
                let on = inner.constraint().map(|c| format!(" on {c}"));
                (
                    kind_of(&code),
                    format!("code {code}{}{}", words(&code), on.unwrap_or_default()),
                )
            }
            sqlx::Error::Io(inner) => (Kind::Unavailable, format!("connection: {}", inner.kind())),
            sqlx::Error::Tls(inner) => (Kind::Unavailable, format!("TLS: {inner}")),
            sqlx::Error::PoolTimedOut => (Kind::Unavailable, "no connection came free".to_owned()),
            sqlx::Error::PoolClosed => (Kind::Unavailable, "the pool is closed".to_owned()),
            sqlx::Error::WorkerCrashed => (Kind::Fatal, "the worker thread died".to_owned()),
            sqlx::Error::ColumnDecode { index, .. } => {
                (Kind::Defect, format!("column {index} cannot be read"))
            }
            sqlx::Error::Protocol(_) => (Kind::Unavailable, "protocol error".to_owned()),
            sqlx::Error::RowNotFound => (Kind::Defect, "a row is missing".to_owned()),
            _ => (Kind::Defect, "unexpected".to_owned()),
        };
        Self {
            kind,
            what,
            at_commit: false,
        }
    }
}

/// What a code means to whoever must mend it, where its number does not say.
fn words(code: &str) -> &'static str {
    match code {
        "25006" => " (the server is read-only)",
        "28000" => " (the server lets this login not in: see its pg_hba.conf)",
        "28P01" => " (the password is not that of this login)",
        "3D000" => " (there is no such database: create it)",
        "42501" => {
            " (the login lacks a right: let it own the database, or name the owner's login in database.migrate_url)"
        }
        "53300" => " (all connections of the server are taken: raise its max_connections)",
        "57P03" => " (the server starts or stops)",
        _ => match primary(code) {
            Some(8) => " (the file may not be written by this user)",
            Some(14) => " (no file that this user can open)",
            Some(26) => " (the file is no SQLite database)",
            _ => "",
        },
    }
}

/// Returns SQLite's primary code, which is the low byte of its number.
fn primary(code: &str) -> Option<u32> {
    let number = code.parse::<u32>().ok().filter(|_| code.len() < 5);
    number.map(|number| number & 0xff)
}

/// SQLite's codes are numbers; PostgreSQL's are five characters.
fn kind_of(code: &str) -> Kind {
    // SQLITE_IOERR_SHMSIZE: no room for the index of the log, which is made before it is used.
    if code == "4874" {
        return Kind::Full;
    }
    match primary(code) {
        // SQLITE_BUSY, _LOCKED, _CANTOPEN, _READONLY
        Some(5 | 6 | 14 | 8) => Kind::Unavailable,
        // SQLITE_FULL
        Some(13) => Kind::Full,
        // SQLITE_IOERR, _CORRUPT, _NOTADB
        Some(10 | 11 | 26) => Kind::Fatal,
        // A lock that was not had in the time that the server lets.
        _ if code == "55P03" => Kind::Unavailable,
        _ => match code.get(..2) {
            // connection, resources, operator intervention, system error, serialization, read-only
            Some("08" | "53" | "57" | "58" | "40" | "25") if code.len() == 5 => Kind::Unavailable,
            _ => Kind::Defect,
        },
    }
}
