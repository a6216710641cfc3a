//! Transactions on a PostgreSQL server, directly or through a pooler.
//!
//! A pooler in transaction mode gives each transaction whichever connection to the server is free, with what others left
//! on it. So nothing rests on a session there: what a connection of our own sets once, each transaction sets; and
//! statements are prepared anew in each, under names that are unique in it once the names of others are gone.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool, Postgres, SqlSafeStr, Transaction};

use super::Error;

/// After this time without use a connection may have been closed.
const RESTED: Duration = Duration::from_secs(1);
/// How long one waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By connections of our own.
    Direct,
    /// Through a pooler in transaction mode.
    Pooled,
}

/// What holds for every transaction, for a session and for one that has none.
macro_rules! settings {
    ($($name:literal = $value:literal;)+) => {
        const SETTINGS: &[(&str, &str)] = &[$(($name, $value)),+];
        const SET_LOCAL: &str = concat!($("; set local ", $name, " = '", $value, "'"),+);
    };
}

settings! {
    "synchronous_commit" = "on";
    // Waiting for a lock is part of a statement.
    "statement_timeout" = "30s";
    // No transaction waits for anything but the database: one that does is of a process that was stopped, and its locks
    // keep the others waiting.
    "idle_in_transaction_session_timeout" = "10s";
}

/// A server and the connections to it.
#[derive(Clone, Debug)]
pub struct Server {
    pool: PgPool,
    way: Way,
}

impl Server {
    /// Connects.
    pub(super) async fn connect(
        options: PgConnectOptions,
        way: Way,
        connections: u32,
    ) -> Result<Self, sqlx::Error> {
        let options = match way {
            Way::Direct => options.options(SETTINGS.iter().copied()),
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
        Ok(Self { pool, way })
    }

    /// Begins a transaction, in one round trip.
    pub(super) async fn begin(
        &self,
        begin: &'static str,
    ) -> Result<Transaction<'static, Postgres>, Error> {
        let begin = match self.way {
            Way::Direct => begin.into_sql_str(),
            Way::Pooled => {
                AssertSqlSafe(format!("{begin}; deallocate all{SET_LOCAL}")).into_sql_str()
            }
        };
        Ok(self.pool.begin_with(begin).await?)
    }

    /// Returns how a further connection is made, if it would be a session.
    pub(super) fn session(&self) -> Option<PgConnectOptions> {
        match self.way {
            Way::Direct => Some(PgConnectOptions::clone(&self.pool.connect_options())),
            Way::Pooled => None,
        }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
