//! Connecting: durability set and read back, one daemon per SQLite file, the schema brought up to date.

mod error;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgConnection, SqlSafeStr};
use tokio::time::timeout;

pub use self::error::ConnectError;
use super::disk::{self, LOG, with_end};
use super::postgres::{PATIENCE, Server, Terms};
use super::sqlite::Single;
use super::{Error, Pool, flock};

const SQLITE: &[(i64, &str, &str)] = &[(
    1,
    "initial",
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
)];
const POSTGRES: &[(i64, &str, &str)] = &[(
    1,
    "initial",
    include_str!("../../../migrations/postgres/0001_initial.sql"),
)];

/// Returns the number of the newest schema of SQLite that this program knows.
pub(super) fn newest_schema() -> i64 {
    SQLITE.last().map_or(0, |(version, _, _)| *version)
}

/// What each reader of SQLite caches, in KiB where negative: a page is a few look-ups, and the operating system has
/// the file in memory anyway.
const READER_CACHE: &str = "-256";

/// The first SQLite without the bug that lets a WAL reset lose commits.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// What a server or a pooler says to words that it does not understand, such as the settings of a session.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A PostgreSQL server, the login that owns its tables where that is another, and the terms of its use.
    Postgres(Box<PgConnectOptions>, Option<Box<PgConnectOptions>>, Terms),
}

impl Location {
    /// Reads the URLs of a PostgreSQL server.
    ///
    /// # Errors
    /// When one is none.
    pub fn postgres(
        url: &str,
        migrate_url: Option<&str>,
        terms: Terms,
    ) -> Result<Self, ConnectError> {
        let read = |url: &str| {
            let options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url)?;
            // No number here is a fraction, and poolers refuse settings that they do not know.
            let options = options.extra_float_digits(None);
            Ok::<_, ConnectError>(Box::new(options.application_name("confirmd")))
        };
        let owner = migrate_url.map(read).transpose()?;
        Ok(Self::Postgres(read(url)?, owner, terms))
    }
}

/// What holds a SQLite file for one daemon; released when dropped or when the process dies.
#[derive(Debug)]
pub struct DaemonLock(#[expect(dead_code, reason = "held, not read")] Option<File>);

/// Opens a database that is there already, as [`connect`] does.
///
/// # Errors
/// See [`ConnectError`].
pub async fn open(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    if let Location::Sqlite(path) = location
        && !path.exists()
        && !with_end(path, LOG).exists()
    {
        let whole = std::path::absolute(path);
        let name = whole.as_deref().unwrap_or(path).display().to_string();
        return Err(ConnectError::Absent(name));
    }
    connect(location, connections).await
}

/// Opens the database, making it where there is none, and brings its schema up to date.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    match location {
        Location::Sqlite(path) => sqlite(path, connections).await,
        Location::Postgres(options, owner, terms) => {
            let owner = owner.as_ref().unwrap_or(options);
            postgres(options, owner, *terms, connections).await
        }
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
        Err(TryLockError::Error(error)) => Err(ConnectError::file(path, &error)),
    }
}

/// Opens a file beside the database, which must lie on a filesystem that can be written.
fn lock_file(database: &Path, extension: &str) -> Result<File, ConnectError> {
    if let Some(folder) = database.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| ConnectError::file(folder, &error))?;
    }
    let path = database.with_added_extension(extension);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| ConnectError::file(&path, &error))
}

async fn sqlite(path: &Path, connections: u32) -> Result<Pool, ConnectError> {
    // Two first starts at once must not both create the schema; sqlx locks nothing on SQLite.
    let migrating = lock_file(path, "migrate")?;
    flock::take(&migrating, &path.with_added_extension("migrate")).await?;

    // SQLite would take the log of another file for the new one's.
    if !path.exists() && with_end(path, LOG).exists() {
        return Err(ConnectError::Torn(path.display().to_string()));
    }
    disk::make(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("recursive_triggers", "on")
        .pragma("secure_delete", "on")
        // What undoes a single statement is kept in memory, not in a file that each statement opens and closes.
        .pragma("temp_store", "memory")
        .pragma("trusted_schema", "off");
    let writer = Single::connect(options.clone()).await?;
    migrate(&mut *writer.turn().await?, SQLITE).await?;
    drop(migrating);

    let reader = SqlitePoolOptions::new()
        .test_before_acquire(false)
        .max_connections(connections.max(1))
        .max_lifetime(None)
        .connect_with(
            options
                .pragma("query_only", "on")
                .pragma("cache_size", READER_CACHE),
        )
        .await?;
    let pool = Pool::Sqlite { writer, reader };
    let old = "build with SQLite 3.51.3 or later, older ones can lose commits";
    let (_, version) = &durability(&pool).await?[0];
    let numbers: Vec<u32> = version.split('.').flat_map(str::parse).collect();
    if numbers.as_slice() < OLDEST_SQLITE.as_slice() {
        return Err(ConnectError::NotDurable {
            setting: "sqlite_version",
            found: version.clone(),
            remedy: old,
        });
    }
    durable(
        &pool,
        &[
            (
                "journal_mode",
                &["wal"],
                "put the file on a local filesystem",
            ),
            ("synchronous", &["2"], "it must read back as 2 (FULL)"),
        ],
    )
    .await?;
    Ok(pool)
}

/// Refuses a database whose settings, read back, do not say what durability needs.
async fn durable(
    pool: &Pool,
    needed: &[(&'static str, &[&str], &'static str)],
) -> Result<(), ConnectError> {
    let settings = durability(pool).await?;
    for &(setting, allowed, remedy) in needed {
        let found = settings.iter().find(|(name, _)| *name == setting);
        let found = found.map_or("", |(_, value)| value.as_str());
        if !allowed.contains(&found) {
            return Err(ConnectError::NotDurable {
                setting,
                found: found.to_owned(),
                remedy,
            });
        }
    }
    Ok(())
}

async fn postgres(
    options: &PgConnectOptions,
    owner: &PgConnectOptions,
    terms: Terms,
    connections: u32,
) -> Result<Pool, ConnectError> {
    // Changing a large table may take long, whatever its owner's statements may take otherwise.
    let owner = owner.clone().options([("statement_timeout", "0")]);
    // A failed migration keeps its advisory lock until the connection ends: so it gets one of its own.
    let connected = timeout(PATIENCE, PgConnection::connect_with(&owner)).await;
    let connected = connected.map_err(|_| Error::unavailable("no answer from the server"))?;
    let mut connection = connected.map_err(refused)?;
    migrate(&mut connection, POSTGRES).await?;
    connection.close().await?;

    let server = Server::connect(options.clone(), terms, connections).await;
    let pool = Pool::Postgres(server.map_err(refused)?);
    durable(
        &pool,
        &[
            (
                "fsync",
                &["on"],
                "set fsync = on in postgresql.conf: without it a crash loses what was answered",
            ),
            (
                "synchronous_commit",
                &["on", "remote_apply"],
                "remove what overrides it for this role or database",
            ),
        ],
    )
    .await?;
    Ok(pool)
}

fn refused(error: sqlx::Error) -> ConnectError {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() == Some(PROTOCOL_VIOLATION) {
        true => ConnectError::Pooler,
        false => error.into(),
    }
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

/// Reads back the version and what durability rests on, by name.
///
/// # Errors
/// When the database cannot be read.
pub async fn durability(pool: &Pool) -> Result<Vec<(&'static str, String)>, Error> {
    const SQLITE: &[(&str, &str)] = &[
        ("sqlite_version", "select sqlite_version()"),
        (
            "journal_mode",
            "select journal_mode from pragma_journal_mode",
        ),
        (
            "synchronous",
            "select cast(synchronous as text) from pragma_synchronous",
        ),
    ];
    const POSTGRES: &[(&str, &str)] = &[
        ("server_version", "select current_setting('server_version')"),
        ("fsync", "select current_setting('fsync')"),
        (
            "synchronous_commit",
            "select current_setting('synchronous_commit')",
        ),
    ];
    let questions = match pool {
        Pool::Sqlite { .. } => SQLITE,
        Pool::Postgres(_) => POSTGRES,
    };
    let mut settings = Vec::new();
    for &(name, sql) in questions {
        let (value,): (String,) = match pool {
            Pool::Sqlite { writer, .. } => {
                let query = sqlx::query_as(sql);
                query.fetch_one(&mut *writer.turn().await?).await?
            }
            Pool::Postgres(server) => {
                let mut tx = server.begin("begin read only").await?;
                let query = sqlx::query_as(sql);
                tx.ask(async |conn| Ok(query.fetch_one(conn).await?))
                    .await?
            }
        };
        settings.push((name, value));
    }
    Ok(settings)
}
