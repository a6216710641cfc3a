//! What is deleted when a person is erased. Events stay: they hold nothing personal.

use std::time::Duration;

use uuid::Uuid;

use super::set::Set;
use super::types::parsed;
use super::{Error, Pool, Tx, on};
use crate::domain::id::{EventId, SubscriberId};
use crate::domain::list::SenderId;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

/// How often and after what time the log is tried again while another connection folds it.
const ATTEMPTS: usize = 100;
const MOMENT: Duration = Duration::from_millis(50);

impl Tx {
    /// Locks the mails to a subscriber, before their mailbox: delivery locks in this order.
    pub async fn lock_messages_to(&mut self, id: SubscriberId) -> Result<(), Error> {
        const SQL: &str = "select id from message where subscriber = $1 order by id for update";
        if let Tx::Postgres(tx) = self {
            let query = sqlx::query(SQL).bind(id.0);
            tx.ask(async |conn| Ok(query.fetch_all(conn).await?))
                .await?;
        }
        Ok(())
    }

    /// Deletes every row about a subscriber, and keeps of each subscription no more than what lets its old links end a
    /// later one. Returns how many parts of evidence went.
    pub async fn delete_subscriber(
        &mut self,
        id: SubscriberId,
        now: Timestamp,
    ) -> Result<u64, Error> {
        const BURY: &str = "insert into tombstone (subscription, sender, list, identity, erased_at)
            select subscription.id, subscriber.sender, subscription.list, subscriber.identity, $2
            from subscription join subscriber on subscriber.id = subscription.subscriber
            where subscriber.id = $1";
        const REST: [&str; 4] = [
            "delete from message where subscriber = $1",
            "delete from signup where subscriber = $1",
            "delete from subscription where subscriber = $1",
            "delete from subscriber where id = $1",
        ];
        on!(self, |conn| sqlx::query(BURY)
            .bind(id.0)
            .bind(now)
            .execute(conn)
            .await
            .map(drop)?);
        let parts = self.delete_evidence(id).await?;
        for sql in REST {
            on!(self, |conn| sqlx::query(sql)
                .bind(id.0)
                .execute(conn)
                .await
                .map(drop)?);
        }
        Ok(parts)
    }

    /// Tells whether network facts are kept from before a time.
    pub async fn has_network(&mut self, before: Timestamp) -> Result<bool, Error> {
        const SQL: &str = "select 1 from evidence where part = 'network' and kept_at < $1
            order by kept_at limit 1";
        let row: Option<(i32,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(before)
            .fetch_optional(conn)
            .await?);
        Ok(row.is_some())
    }

    /// Deletes network facts from before a time, and returns behind which events they were, at which sender, of whom.
    pub async fn delete_network(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<(EventId, SenderId, SubscriberId)>, Error> {
        const DELETE: &str = "delete from evidence where (event, part) in
              (select event, part from evidence where part = 'network' and kept_at < $1 order by kept_at limit $2)
            returning event";
        const WHOSE: &str = "select event.id, event.sender, event.subscriber from {set}
            join event on event.id = s.id order by event.ord";
        let deleted: Vec<(Uuid,)> = on!(self, |conn| sqlx::query_as(DELETE)
            .bind(before)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        if deleted.is_empty() {
            return Ok(Vec::new());
        }
        let set = Set::new().uuid("id", deleted.into_iter().map(|(id,)| id));
        let rows: Vec<(Uuid, String, Uuid)> = self.rows(WHOSE, set).await?;
        rows.into_iter()
            .map(|(event, sender, subscriber)| {
                Ok((EventId(event), parsed(&sender)?, SubscriberId(subscriber)))
            })
            .collect()
    }

    async fn delete_evidence(&mut self, id: SubscriberId) -> Result<u64, Error> {
        const SQL: &str =
            "delete from evidence where event in (select id from event where subscriber = $1)";
        Ok(on!(self, |conn| sqlx::query(SQL)
            .bind(id.0)
            .execute(conn)
            .await?
            .rows_affected()))
    }

    /// Forgets a locked mailbox of which nothing is remembered. Who else has it makes it again when there is something.
    pub async fn forget_mailbox(&mut self, mailbox: Keyed) -> Result<(), Error> {
        const SQL: &str = "delete from address where mailbox = $1";
        on!(self, |conn| sqlx::query(SQL)
            .bind(mailbox.0.to_vec())
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }
}

impl Pool {
    /// Takes the last traces of what was deleted out of SQLite's files; tells whether that was possible now.
    ///
    /// `secure_delete` overwrites a deleted row, but not the copies that SQLite left behind when it moved that row from
    /// page to page: these go only when the whole file is written anew. Nobody else can write meanwhile.
    pub async fn scrub(&self) -> Result<bool, Error> {
        let Pool::Sqlite { writer, .. } = self else {
            return Ok(true);
        };
        let mut turn = writer.turn().await?;
        // The new file is first made as a temporary one, which must not be held in memory.
        for sql in [
            "pragma temp_store = file",
            "vacuum",
            "pragma temp_store = memory",
        ] {
            sqlx::query(sql).execute(&mut *turn).await?;
        }
        for _ in 0..ATTEMPTS {
            let (busy, pages, _): (i64, i64, i64) =
                sqlx::query_as("pragma wal_checkpoint(truncate)")
                    .fetch_one(&mut *turn)
                    .await?;
            // Without a number of pages somebody else is folding the log, which takes a moment.
            if pages >= 0 {
                return Ok(busy == 0);
            }
            tokio::time::sleep(MOMENT).await;
        }
        Ok(false)
    }
}
