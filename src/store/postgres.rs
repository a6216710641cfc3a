//! Transactions on a PostgreSQL server, directly or through a pooler.
//!
//! A pooler in transaction mode gives each transaction whichever connection to the server is free, with what others left
//! on it. So nothing rests on a session there: what a connection of our own sets once, each transaction sets; and
//! statements are prepared anew in each, under names that are unique in it once the names of others are gone.
//!
//! A server may fall silent without closing its connections, as when its host is gone. It ends a statement of its own
//! accord after [`Terms::statement`]; whoever hears nothing for longer gives the statement up, and the connection with it.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, raw_sql,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Error;

/// After this time without use a connection may have been closed.
const RESTED: Duration = Duration::from_secs(1);
/// How long one waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long the answer to a statement that has ended may be under way, and a connection on its way back.
const WAY_BACK: Duration = Duration::from_secs(5);

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By connections of our own.
    Direct,
    /// Through a pooler in transaction mode.
    Pooled,
}

/// On which terms the server is used.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How it is reached.
    pub way: Way,
    /// How long it may take over one statement; waiting for a lock is part of it.
    pub statement: Duration,
}

impl Terms {
    /// What holds for every transaction, for a session and for one that has none.
    fn settings(self) -> [(&'static str, String); 3] {
        [
            ("synchronous_commit", "on".to_owned()),
            (
                "statement_timeout",
                format!("{}ms", self.statement.as_millis()),
            ),
            // No transaction waits for anything but the database: one that does is of a process that was stopped, and its
            // locks keep the others waiting.
            ("idle_in_transaction_session_timeout", "10s".to_owned()),
        ]
    }
}

/// A server and the connections to it.
#[derive(Clone, Debug)]
pub struct Server {
    pool: PgPool,
    terms: Terms,
}

impl Server {
    /// Connects.
    pub(super) async fn connect(
        options: PgConnectOptions,
        terms: Terms,
        connections: u32,
    ) -> Result<Self, sqlx::Error> {
        let options = match terms.way {
            Way::Direct => options.options(terms.settings()),
            Way::Pooled => options.statement_cache_capacity(0),
        };
        let pool = PgPoolOptions::new()
            // A connection was alive when it came back: only one that has rested since is asked again.
            .test_before_acquire(false)
            .before_acquire(|connection, rested| {
                Box::pin(async move {
                    if rested.idle_for > RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .max_connections(connections.max(2))
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await?;
        Ok(Self { pool, terms })
    }

    /// Begins a transaction, in one round trip.
    pub(super) async fn begin(&self, begin: &'static str) -> Result<Transaction, Error> {
        let begin = match self.terms.way {
            Way::Direct => begin.into_sql_str(),
            Way::Pooled => {
                let set = self.terms.settings();
                let set = set.map(|(name, value)| format!("; set local {name} = '{value}'"));
                AssertSqlSafe(format!("{begin}; deallocate all{}", set.concat())).into_sql_str()
            }
        };
        let mut tx = Transaction {
            connection: Some(self.pool.acquire().await?),
            state: State::Beginning,
            patience: self.terms.statement + WAY_BACK,
        };
        tx.run(begin).await?;
        tx.state = State::Open;
        Ok(tx)
    }

    /// Returns how a further connection is made, if it would be a session.
    pub(super) fn session(&self) -> Option<PgConnectOptions> {
        match self.terms.way {
            Way::Direct => Some(PgConnectOptions::clone(&self.pool.connect_options())),
            Way::Pooled => None,
        }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        // One whose server is silent ends with the process.
        let _ = timeout(WAY_BACK, self.pool.close()).await;
    }
}

/// A transaction; rolled back when dropped.
#[derive(Debug)]
pub struct Transaction {
    /// None at the very end.
    connection: Option<PoolConnection<Postgres>>,
    state: State,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Beginning,
    Open,
    Committed,
}

impl Transaction {
    /// Runs a statement.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub(super) async fn ask<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let silent = || Error::unavailable("the server does not answer");
        let connection = self.connection.as_mut().ok_or_else(silent)?;
        let answer = timeout(self.patience, statement(connection)).await;
        answer.unwrap_or_else(|_| Err(silent()))
    }

    async fn run(&mut self, statement: SqlStr) -> Result<(), Error> {
        let statement = raw_sql(statement);
        self.ask(async |connection| Ok(statement.execute(connection).await.map(drop)?))
            .await
    }

    pub(super) async fn commit(mut self) -> Result<(), Error> {
        self.run("COMMIT".into_sql_str()).await?;
        self.state = State::Committed;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) = (self.connection.take(), Handle::try_current()) {
            runtime.spawn(timeout(WAY_BACK, give_back(connection, self.state)));
        }
    }
}

/// Gives a connection back of which all is known; it is closed where the server says no more, and with this future.
async fn give_back(mut connection: PoolConnection<Postgres>, state: State) {
    connection.close_on_drop();
    let clean = match state {
        State::Beginning => false,
        State::Open => raw_sql("ROLLBACK").execute(&mut *connection).await.is_ok(),
        State::Committed => true,
    };
    if clean {
        connection.return_to_pool().await;
    }
}
