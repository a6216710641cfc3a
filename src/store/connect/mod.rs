//! Connecting: durability set and read back, one daemon per SQLite file, the schema brought up to date or compared.

mod error;
pub(super) mod schema;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

pub use self::error::ConnectError;
use self::schema::Schema;
use super::disk::{self, LOG, with_end};
use super::postgres::{PATIENCE, Server, Terms};
use super::sqlite::Single;
use super::{Error, Pool, flock};

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

/// Opens a database that is there already, and changes nothing about it.
///
/// # Errors
/// See [`ConnectError`].
pub async fn open(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    reach(location, connections, Schema::Compare).await
}

/// Opens a database that is there already, and brings its schema up to date.
///
/// # Errors
/// See [`ConnectError`].
pub async fn upgrade(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    match open(location, connections).await {
        Err(ConnectError::Older) => connect(location, connections).await,
        opened => opened,
    }
}

/// Opens the database, making it where there is none, and brings its schema up to date.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(location: &Location, connections: u32) -> Result<Pool, ConnectError> {
    reach(location, connections, Schema::Make).await
}

async fn reach(
    location: &Location,
    connections: u32,
    schema: Schema,
) -> Result<Pool, ConnectError> {
    let (reached, place) = match location {
        Location::Sqlite(path) => {
            let whole = std::path::absolute(path);
            let place = whole.as_deref().unwrap_or(path).display().to_string();
            (sqlite(path, &place, connections, schema).await, place)
        }
        Location::Postgres(options, owner, terms) => {
            let reached = async {
                encoded_and_settled(owner.as_ref().unwrap_or(options), schema)
                    .await
                    .map_err(|error| match owner {
                        Some(owner) => error.at("database.migrate_url", &place_of(owner)),
                        None => error,
                    })?;
                postgres(options, *terms, connections).await
            };
            (reached.await, place_of(options))
        }
    };
    reached.map_err(|error| error.at("database.url", &place))
}

/// Names a database on a server, without whoever logs in.
fn place_of(options: &PgConnectOptions) -> String {
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!(
            "{database} at {}:{}",
            options.get_host(),
            options.get_port()
        ),
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
        .and_then(|file| disk::hand_over(&file, &path).map(|()| file))
        .map_err(|error| ConnectError::file(&path, &error))
}

async fn sqlite(
    path: &Path,
    place: &str,
    connections: u32,
    schema: Schema,
) -> Result<Pool, ConnectError> {
    // SQLite would take the log of another file for the new one's.
    let torn = || match !path.exists() && with_end(path, LOG).exists() {
        true => Err(ConnectError::Torn(path.display().to_string())),
        false => Ok(()),
    };
    let migrating = match schema {
        Schema::Make => {
            // Two first starts at once must not both create the schema; sqlx locks nothing on SQLite.
            let migrating = lock_file(path, "migrate")?;
            flock::take(&migrating, &path.with_added_extension("migrate")).await?;
            torn()?;
            disk::make(path)?;
            Some(migrating)
        }
        Schema::Compare => {
            torn()?;
            if !path.exists() {
                return Err(ConnectError::Absent(place.to_owned()));
            }
            None
        }
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("recursive_triggers", "on")
        .pragma("secure_delete", "on")
        // What undoes a single statement is kept in memory, not in a file that each statement opens and closes.
        .pragma("temp_store", "memory")
        .pragma("trusted_schema", "off");
    let writer = Single::connect(options.clone()).await?;
    let mut turn = writer.turn().await?;
    schema.settle(&mut *turn, schema::SQLITE, place).await?;
    drop((turn, migrating));

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

/// Looks at a database of PostgreSQL as the owner of its tables.
async fn encoded_and_settled(owner: &PgConnectOptions, schema: Schema) -> Result<(), ConnectError> {
    // Changing a large table may take long, whatever its owner's statements may take otherwise.
    let settings = owner.clone().options([("statement_timeout", "0")]);
    // A failed migration keeps its advisory lock until the connection ends: so it gets one of its own.
    let connected = timeout(PATIENCE, PgConnection::connect_with(&settings)).await;
    let connected = connected.map_err(|_| Error::unavailable("no answer from the server"))?;
    let mut connection = connected.map_err(refused)?;
    let (encoding,): (String,) = sqlx::query_as("select current_setting('server_encoding')")
        .fetch_one(&mut connection)
        .await?;
    // In any other, single names and addresses could not be kept, however often somebody tries.
    if encoding != "UTF8" {
        return Err(ConnectError::Encoding(encoding));
    }
    schema
        .settle(&mut connection, schema::POSTGRES, &place_of(owner))
        .await?;
    Ok(connection.close().await?)
}

async fn postgres(
    options: &PgConnectOptions,
    terms: Terms,
    connections: u32,
) -> Result<Pool, ConnectError> {
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
