//! Transactions on a SQLite file: one connection writes, others read.
//!
//! A statement is a change of threads there and back, which costs more than most statements themselves. So writes wait for
//! the next statement that answers, or for the commit, and go with it; a pool of the one connection would add three more
//! changes to each transaction.

use std::fmt;
use std::mem::{forget, take};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Either, Executor, Sqlite, SqliteConnection};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::Error;
use super::set::Set;

/// A connection that one at a time may use, in the order of asking.
#[derive(Clone, Debug)]
pub struct Single {
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    options: Arc<SqliteConnectOptions>,
    failed: Arc<AtomicBool>,
}

/// The right to use it.
pub type Turn = OwnedMappedMutexGuard<Option<SqliteConnection>, SqliteConnection>;

impl Single {
    /// Connects.
    pub async fn connect(options: SqliteConnectOptions) -> Result<Self, Error> {
        let connection = options.connect().await?;
        Ok(Self {
            connection: Arc::new(Mutex::new(Some(connection))),
            options: Arc::new(options),
            failed: Arc::default(),
        })
    }

    /// Returns how it connected.
    pub fn options(&self) -> &SqliteConnectOptions {
        &self.options
    }

    /// Fails once the disk has failed under a write: a second fsync would say that all is well (PostgreSQL's "fsyncgate").
    pub fn sound(&self) -> Result<(), Error> {
        match self.failed.load(Ordering::Relaxed) {
            true => Err(Error::after_failure()),
            false => Ok(()),
        }
    }

    /// Sees to it that nobody writes any more.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Result<Turn, Error> {
        let connection = self.connection.clone().lock_owned().await;
        self.sound()?;
        OwnedMutexGuard::try_map(connection, Option::as_mut)
            .map_err(|_| sqlx::Error::PoolClosed.into())
    }

    /// Closes the connection after the turns that were asked for.
    pub async fn close(&self) {
        let Some(connection) = self.connection.lock().await.take() else {
            return;
        };
        match self.sound() {
            // What cannot be closed now is closed with the process.
            Ok(()) => drop(connection.close().await),
            // Whoever closes last folds the log into the file and deletes it. Where an fsync has failed, that is for the next
            // start, which trusts only what its checksums say.
            Err(_) => forget(connection),
        }
    }
}

/// One transaction.
#[derive(Debug)]
pub struct Transaction {
    held: Held,
    waiting: Waiting,
}

#[derive(Debug)]
enum Held {
    Reader(PoolConnection<Sqlite>),
    Snapshot(sqlx::Transaction<'static, Sqlite>),
    Writer(Writer),
}

impl Transaction {
    /// Takes a connection that reads. Its statements need no transaction around them, whose begin and end would be two more
    /// changes of threads each.
    pub(super) fn read(reader: PoolConnection<Sqlite>) -> Self {
        Self {
            held: Held::Reader(reader),
            waiting: Waiting::default(),
        }
    }

    /// Takes a transaction whose statements see one moment.
    pub(super) fn snapshot(reader: sqlx::Transaction<'static, Sqlite>) -> Self {
        Self {
            held: Held::Snapshot(reader),
            waiting: Waiting::default(),
        }
    }

    /// Begins one that may write, when it is its turn. It holds the write lock from its first statement.
    pub(super) async fn write(single: &Single) -> Result<Self, Error> {
        let turn = Some(single.turn().await?);
        let failed = single.failed.clone();
        Ok(Self {
            held: Held::Writer(Writer { turn, failed }),
            waiting: Waiting {
                sql: "begin immediate;".to_owned(),
                ..Waiting::default()
            },
        })
    }

    /// Returns the connection, for one statement, after all that waits.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.flush().await?;
        self.held.connection()
    }

    /// Adds a statement over a set.
    pub(super) fn add(&mut self, sql: &str, set: Set) -> Result<(), Error> {
        self.waiting.sql += &set.sqlite(sql, &mut self.waiting.bound)?;
        self.waiting.sql.push(';');
        Ok(())
    }

    /// Runs what waits; the last `N` statements answer with these rows.
    pub(super) async fn rows<const N: usize>(&mut self) -> Result<[Vec<SqliteRow>; N], Error> {
        let query = take(&mut self.waiting).query();
        let (mut answers, mut answer) = (Vec::new(), Vec::new());
        let mut stream = self.held.connection()?.fetch_many(query);
        let done = loop {
            match stream.try_next().await {
                Ok(Some(Either::Right(row))) => answer.push(row),
                Ok(Some(Either::Left(_))) => answers.push(take(&mut answer)),
                Ok(None) => break Ok(answers),
                Err(error) => break Err(error),
            }
        };
        drop(stream);
        let mut answers = self.held.judge(done)?;
        let last = answers.split_off(answers.len().saturating_sub(N));
        <[_; N]>::try_from(last).map_err(|_| Error::corrupt("a statement gave no answer"))
    }

    /// Commits.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        if let Held::Reader(_) | Held::Snapshot(_) = self.held {
            return Ok(());
        }
        self.waiting.sql.push_str("commit");
        let Err(error) = self.flush().await else {
            self.held.end();
            return Ok(());
        };
        // What can be rolled back was not committed, unless the disk failed. Where it was only full, SQLite has rolled back
        // itself, and the next commit goes over what was written of this one.
        let undone = sqlx::query("rollback").execute(self.held.connection()?);
        let undone = undone.await.is_ok() || error.is_full();
        let at_commit = error.is_fatal() || !undone;
        self.held.end();
        Err(Error { at_commit, ..error })
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.waiting.sql.is_empty() {
            return Ok(());
        }
        let query = take(&mut self.waiting).query();
        let done = query.execute(self.held.connection()?).await;
        self.held.judge(done).map(drop)
    }
}

impl Held {
    fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        match self {
            Held::Reader(reader) => Ok(reader),
            Held::Snapshot(reader) => Ok(reader),
            Held::Writer(Writer { turn, .. }) => {
                let turn = turn.as_deref_mut();
                turn.ok_or_else(|| sqlx::Error::PoolClosed.into())
            }
        }
    }

    /// Sees to it that nobody writes after this turn, which still lasts, if the disk has failed in it.
    fn judge<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, Error> {
        done.map_err(|error| {
            let error = Error::from(error);
            if let Held::Writer(Writer { failed, .. }) = self
                && error.is_fatal()
            {
                failed.store(true, Ordering::Relaxed);
            }
            error
        })
    }

    /// Ends the turn: nothing is left to be rolled back.
    fn end(&mut self) {
        if let Held::Writer(Writer { turn, .. }) = self {
            *turn = None;
        }
    }
}

/// The turn of a transaction that may write, until it has ended; dropped before, it is rolled back.
#[derive(Debug)]
struct Writer {
    turn: Option<Turn>,
    failed: Arc<AtomicBool>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the transaction with it.
        if let (Some(mut turn), Ok(runtime)) = (self.turn.take(), Handle::try_current()) {
            // Whoever comes next waits until this is done. There is nothing to undo if nothing was sent yet, or if a commit
            // was only not waited for.
            runtime.spawn(async move { sqlx::query("rollback").execute(&mut *turn).await });
        }
    }
}

/// Statements that go out together, and what they bind.
#[derive(Default)]
struct Waiting {
    sql: String,
    bound: SqliteArguments,
}

impl Waiting {
    fn query(self) -> Query<'static, Sqlite, SqliteArguments> {
        sqlx::query_with(AssertSqlSafe(self.sql), self.bound)
    }
}

/// What is bound holds addresses.
impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("sql", &self.sql)
            .finish_non_exhaustive()
    }
}
