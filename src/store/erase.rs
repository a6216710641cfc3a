//! What is deleted when a person is erased. Events stay: they hold nothing personal.

use super::{Error, Pool, Tx, on};
use crate::domain::id::SubscriberId;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

impl Tx {
    /// Locks the mails to a subscriber, before their mailbox: delivery locks in this order.
    pub async fn lock_messages_to(&mut self, id: SubscriberId) -> Result<(), Error> {
        const SQL: &str = "select id from message where subscriber = $1 order by id for update";
        if let Tx::Postgres(tx) = self {
            sqlx::query(SQL).bind(id.0).fetch_all(&mut **tx).await?;
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

    async fn delete_evidence(&mut self, id: SubscriberId) -> Result<u64, Error> {
        const SQL: &str = "delete from evidence where subscriber = $1";
        Ok(on!(self, |conn| sqlx::query(SQL)
            .bind(id.0)
            .execute(conn)
            .await?
            .rows_affected()))
    }

    /// Forgets a locked mailbox to which no sender has a subscriber any more.
    pub async fn forget_mailbox(&mut self, mailbox: Keyed) -> Result<(), Error> {
        const SQL: &str = "delete from address where mailbox = $1
            and not exists (select 1 from subscriber where subscriber.mailbox = address.mailbox)";
        on!(self, |conn| sqlx::query(SQL)
            .bind(mailbox.0.to_vec())
            .execute(conn)
            .await
            .map(drop)?);
        Ok(())
    }
}

impl Pool {
    /// Takes what was deleted out of SQLite's write-ahead log as well; tells whether that was possible now.
    pub async fn truncate_log(&self) -> Result<bool, Error> {
        const SQL: &str = "pragma wal_checkpoint(truncate)";
        let Pool::Sqlite { writer, .. } = self else {
            return Ok(true);
        };
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as(SQL).fetch_one(writer).await?;
        Ok(busy == 0)
    }
}
