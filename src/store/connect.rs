//! Connecting: durability set and read back, one daemon per SQLite file, the schema brought up to date.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgConnection, SqlSafeStr, SqliteConnection};

use super::{Error, Pool};

const SQLITE: &[(i64, &str, &str)] = &[(
    1,
    "initial",
    include_str!("../../migrations/sqlite/0001_initial.sql"),
)];
const POSTGRES: &[(i64, &str, &str)] = &[(
    1,
    "initial",
    include_str!("../../migrations/postgres/0001_initial.sql"),
)];

/// The first SQLite without the bug that lets a WAL reset lose commits.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

impl Location {
    /// Reads `sqlite:PATH` or `postgres://...`.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url)?;
        Ok(Self::Postgres(Box::new(
            options.application_name("confirmd"),
        )))
    }
}

/// Why the database cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not understood.
    #[error("database.url: neither sqlite:PATH nor postgres://user@host/database")]
    Url,
    /// The folder or file cannot be made or opened.
    #[error("database.url: cannot open {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// Another daemon has the file.
    #[error(
        "{0} is in use by another confirmd; one SQLite file serves one daemon (PostgreSQL serves many)"
    )]
    InUse(String),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] Error),
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
    /// The schema is newer than this program.
    #[error(
        "the database was made by a newer confirmd (schema {0}); install that version or restore a backup of this one"
    )]
    Newer(i64),
    /// A migration failed or was changed after it ran.
    #[error("the schema cannot be brought up to date: migration {0}")]
    Migration(String),
}

impl From<sqlx::Error> for ConnectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What holds a SQLite file for one daemon; released when dropped or when the process dies.
#[derive(Debug)]
pub struct DaemonLock(#[expect(dead_code, reason = "held, not read")] Option<File>);

/// Opens the database and brings its schema up to date.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    match location {
        Location::Sqlite(path) => sqlite(path, connections).await,
        Location::Postgres(options) => postgres(options, connections).await,
    }
}

/// Takes the daemon's lock; on PostgreSQL any number of daemons may run.
///
/// # Errors
/// When another daemon has it.
pub fn lock(location: &Location) -> Result<DaemonLock, ConnectError> {
    let Location::Sqlite(path) = location else {
        return Ok(DaemonLock(None));
    };
    let file = lock_file(path, "lock")?;
    match file.try_lock() {
        Ok(()) => Ok(DaemonLock(Some(file))),
        Err(TryLockError::WouldBlock) => Err(ConnectError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(cannot_open(path, &error)),
    }
}

/// Opens a file beside the database, which must lie on a filesystem that can be written.
fn lock_file(database: &Path, extension: &str) -> Result<File, ConnectError> {
    if let Some(folder) = database.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot_open(folder, &error))?;
    }
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    let path = PathBuf::from(name);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| cannot_open(&path, &error))
}

fn cannot_open(path: &Path, error: &std::io::Error) -> ConnectError {
    ConnectError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

async fn sqlite(path: &Path, connections: u32) -> Result<Pool, ConnectError> {
    // Two first starts at once must not both create the schema; sqlx locks nothing on SQLite.
    let migrating = lock_file(path, "migrate")?;
    migrating
        .lock()
        .map_err(|error| cannot_open(path, &error))?;

    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("recursive_triggers", "on")
        .pragma("secure_delete", "on")
        .pragma("trusted_schema", "off");
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options.clone())
        .await?;
    let mut connection = writer.acquire().await?;
    durable_sqlite(&mut connection).await?;
    migrate(&mut *connection, SQLITE).await?;
    drop(connection);
    drop(migrating);

    let reader = SqlitePoolOptions::new()
        .max_connections(connections.max(1))
        .max_lifetime(None)
        .connect_with(options.pragma("query_only", "on"))
        .await?;
    Ok(Pool::Sqlite { writer, reader })
}

async fn durable_sqlite(connection: &mut SqliteConnection) -> Result<(), ConnectError> {
    let (version,): (String,) = sqlx::query_as("select sqlite_version()")
        .fetch_one(&mut *connection)
        .await?;
    let numbers: Vec<u32> = version.split('.').flat_map(str::parse).collect();
    if numbers.as_slice() < OLDEST_SQLITE.as_slice() {
        return Err(ConnectError::NotDurable {
            setting: "sqlite_version()",
            found: version,
            remedy: "build with SQLite 3.51.3 or later, older ones can lose commits",
        });
    }
    let (journal,): (String,) = sqlx::query_as("pragma journal_mode")
        .fetch_one(&mut *connection)
        .await?;
    if journal != "wal" {
        return Err(ConnectError::NotDurable {
            setting: "PRAGMA journal_mode",
            found: journal,
            remedy: "put the file on a local filesystem",
        });
    }
    let (synchronous,): (i64,) = sqlx::query_as("pragma synchronous")
        .fetch_one(&mut *connection)
        .await?;
    if synchronous != 2 {
        return Err(ConnectError::NotDurable {
            setting: "PRAGMA synchronous",
            found: synchronous.to_string(),
            remedy: "it must read back as 2 (FULL)",
        });
    }
    Ok(())
}

async fn postgres(options: &PgConnectOptions, connections: u32) -> Result<Pool, ConnectError> {
    let options = options.clone().options([
        ("synchronous_commit", "on"),
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "60s"),
    ]);
    // A failed migration keeps its advisory lock until the connection ends: so it gets one of its own.
    let mut connection = PgConnection::connect_with(&options).await?;
    for (setting, remedy) in [
        (
            "fsync",
            "set fsync = on in postgresql.conf: without it a crash loses what was answered",
        ),
        (
            "synchronous_commit",
            "remove what overrides it for this role or database",
        ),
    ] {
        let (found,): (String,) = sqlx::query_as("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await?;
        if !matches!(found.as_str(), "on" | "remote_apply") {
            return Err(ConnectError::NotDurable {
                setting,
                found,
                remedy,
            });
        }
    }
    migrate(&mut connection, POSTGRES).await?;
    connection.close().await?;

    let pool = PgPoolOptions::new()
        .max_connections(connections.max(2))
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await?;
    Ok(Pool::Postgres(pool))
}

async fn migrate<C: Migrate>(
    connection: &mut C,
    migrations: &[(i64, &'static str, &'static str)],
) -> Result<(), ConnectError> {
    let migrations = migrations.iter().map(|&(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(version) => ConnectError::Newer(version),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                ConnectError::Store(error.into())
            }
            MigrateError::VersionMismatch(version) => ConnectError::Migration(format!(
                "{version} differs from the one that made this database"
            )),
            other => ConnectError::Migration(other.to_string()),
        })
}

/// What holds for a database, for `check`.
#[derive(Debug)]
pub struct Durability {
    /// Names and values that were read back.
    pub settings: Vec<(&'static str, String)>,
}

/// Reads back what durability rests on.
///
/// # Errors
/// When the database cannot be read.
pub async fn durability(pool: &Pool) -> Result<Durability, Error> {
    let mut settings = Vec::new();
    match pool {
        Pool::Sqlite { writer, .. } => {
            let mut conn = writer.acquire().await?;
            let (version,): (String,) = sqlx::query_as("select sqlite_version()")
                .fetch_one(&mut *conn)
                .await?;
            let (journal,): (String,) = sqlx::query_as("pragma journal_mode")
                .fetch_one(&mut *conn)
                .await?;
            let (synchronous,): (i64,) = sqlx::query_as("pragma synchronous")
                .fetch_one(&mut *conn)
                .await?;
            let level = if synchronous == 2 { "FULL" } else { "not FULL" };
            settings.push(("sqlite_version", version));
            settings.push(("journal_mode", journal));
            settings.push(("synchronous", level.to_owned()));
        }
        Pool::Postgres(pool) => {
            for name in ["server_version", "fsync", "synchronous_commit"] {
                let (value,): (String,) = sqlx::query_as("select current_setting($1)")
                    .bind(name)
                    .fetch_one(pool)
                    .await?;
                settings.push((name, value));
            }
        }
    }
    Ok(Durability { settings })
}
