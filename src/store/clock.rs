//! Which times are known that the clock of a process can be compared with.

use super::{Error, Tx, on};
use crate::domain::time::Timestamp;

impl Tx {
    /// Returns the time of PostgreSQL's server; SQLite has none but ours.
    pub async fn server_clock(&mut self) -> Result<Option<Timestamp>, Error> {
        Ok(match self {
            Tx::Sqlite(_) => None,
            Tx::Postgres(tx) => {
                let query = sqlx::query_as("select clock_timestamp()");
                let (now,) = tx
                    .ask(async |conn| Ok(query.fetch_one(conn).await?))
                    .await?;
                Some(now)
            }
        })
    }

    /// Returns until when the clock was seen to go on evenly, if it was ever looked at.
    pub async fn clock_seen(&mut self) -> Result<Option<Timestamp>, Error> {
        const SQL: &str = "select at from clock where one = 1";
        let row: Option<(Timestamp,)> = on!(self, |conn| sqlx::query_as(SQL)
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(at,)| at))
    }

    /// Notes that the clock was seen at a time, unless another process saw it later.
    pub async fn see_clock(&mut self, at: Timestamp) -> Result<(), Error> {
        const SQL: &str = "insert into clock (one, at) values (1, $1)
            on conflict (one) do update set at = excluded.at where clock.at < excluded.at";
        self.note_clock(SQL, at).await
    }

    /// Sets the time from which the clock has to go on evenly.
    pub async fn set_clock(&mut self, at: Timestamp) -> Result<(), Error> {
        const SQL: &str = "insert into clock (one, at) values (1, $1)
            on conflict (one) do update set at = excluded.at";
        self.note_clock(SQL, at).await
    }

    async fn note_clock(&mut self, sql: &'static str, at: Timestamp) -> Result<(), Error> {
        on!(self, |conn| sqlx::query(sql)
            .bind(at)
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }
}
