//! What a restored database has lost: one row a restore, open until the loss is made good or accepted.

use uuid::Uuid;

use super::set::Set;
use super::trail::signed;
use super::{Error, Tx, on};
use crate::domain::id::EventId;
use crate::domain::time::Timestamp;

/// The part of a trail that a restored database does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The epoch that began with it.
    pub epoch: u64,
    /// How many events were left: the lost ones come after.
    pub size: u64,
    /// When the last of these was, or the last that was replayed.
    pub since: Timestamp,
    /// When the database was restored.
    pub until: Timestamp,
    /// The last number of the lost trail that was replayed; `size` before any was.
    pub reached: u64,
}

impl Tx {
    /// Opens a window.
    pub async fn open_window(&mut self, window: &Window) -> Result<(), Error> {
        const SQL: &str = "insert into lost_window (epoch, size, since, until, reached)
            values ($1, $2, $3, $4, $5)";
        on!(self, |conn| sqlx::query(SQL)
            .bind(signed(window.epoch))
            .bind(signed(window.size))
            .bind(window.since)
            .bind(window.until)
            .bind(signed(window.reached))
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Returns the windows that are open, oldest first.
    pub async fn open_windows(&mut self) -> Result<Vec<Window>, Error> {
        const SQL: &str = "select epoch, size, since, until, reached from lost_window
            where ended_at is null order by epoch";
        let rows: Vec<(i64, i64, Timestamp, Timestamp, i64)> =
            on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        let window = |(epoch, size, since, until, reached): (i64, i64, _, _, i64)| Window {
            epoch: epoch.unsigned_abs(),
            size: size.unsigned_abs(),
            since,
            until,
            reached: reached.unsigned_abs(),
        };
        Ok(rows.into_iter().map(window).collect())
    }

    /// Notes how far the lost trail of a window was replayed.
    pub async fn reach_in_window(
        &mut self,
        epoch: u64,
        reached: u64,
        since: Timestamp,
    ) -> Result<(), Error> {
        const SQL: &str = "update lost_window set reached = $1, since = $2 where epoch = $3";
        on!(self, |conn| sqlx::query(SQL)
            .bind(signed(reached))
            .bind(since)
            .bind(signed(epoch))
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Ends a window.
    pub async fn end_window(&mut self, epoch: u64, now: Timestamp) -> Result<(), Error> {
        const SQL: &str = "update lost_window set ended_at = $1 where epoch = $2";
        on!(self, |conn| sqlx::query(SQL)
            .bind(now)
            .bind(signed(epoch))
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Returns when the last event was written, if there is one.
    pub async fn last_event_time(&mut self) -> Result<Option<Timestamp>, Error> {
        const SQL: &str = "select time from event order by ord desc limit 1";
        let row: Option<(Timestamp,)> = on!(self, |conn| sqlx::query_as(SQL)
            .fetch_optional(conn)
            .await?);
        Ok(row.map(|(time,)| time))
    }

    /// Returns which of these events are here, numbered or not.
    pub async fn known_events(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, Error> {
        const SQL: &str = "select event.id from {set} join event on event.id = s.id";
        let set = Set::new().uuid("id", ids.iter().map(|id| id.0));
        let rows: Vec<(Uuid,)> = self.rows(SQL, set).await?;
        Ok(rows.into_iter().map(|(id,)| EventId(id)).collect())
    }
}
