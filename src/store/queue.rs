//! The queue of mails as a whole: what goes back to it, what is set aside, and how long it is.

use uuid::Uuid;

use super::message::{Message, MessageRow};
use super::set::Set;
use super::{COUNTED, Error, Tx, on};
use crate::domain::delivery::retry::LOST_CLAIMS;
use crate::domain::id::{MessageId, SignupId};
use crate::domain::time::Timestamp;

/// A claimed mail that goes back to the queue.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    /// Which.
    pub id: MessageId,
    /// Under which claim.
    pub claim: Uuid,
    /// When it is to be tried.
    pub due_at: Timestamp,
}

fn freeing(ended_by: Timestamp) -> (&'static str, Set) {
    const SQL: &str = "update message set lost = lost + 1, claim = null, lease_until = null,
          state = case when lost + 1 < (select s.too_often from {set}) then 'queued' else 'quarantined' end
        where state = 'claimed' and lease_until <= (select s.ended_by from {set})
        returning id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at, attempts, ambiguous,
          lost, pinned, outcome, settled_at";
    let set = Set::new()
        .time("ended_by", [ended_by])
        .int("too_often", [LOST_CLAIMS]);
    (SQL, set)
}

impl Tx {
    /// Frees every claim and returns its mails, as [`Tx::free_and_pick`] does.
    ///
    /// Only a daemon that knows itself alone may do so, as the lock on a SQLite file proves.
    pub async fn free_all_claims(&mut self) -> Result<Vec<Message>, Error> {
        let [freed] = self
            .ask([freeing(Timestamp::from_micros(i64::MAX))])
            .await?;
        Message::read_all(&freed)
    }

    /// Frees the claims whose lease had ended by a time, then picks mails that are due, oldest first, passing over those that
    /// another process is picking; returns both. Of the freed mails those that were lost too often are set aside, the
    /// others are queued.
    pub async fn free_and_pick(
        &mut self,
        ended_by: Timestamp,
        now: Timestamp,
        limit: i64,
    ) -> Result<(Vec<Message>, Vec<Message>), Error> {
        let asked = [freeing(ended_by), self.picking(now, limit)];
        let [freed, picked] = self.ask(asked).await?;
        Ok((Message::read_all(&freed)?, Message::read_all(&picked)?))
    }

    fn picking(&self, now: Timestamp, limit: i64) -> (&'static str, Set) {
        macro_rules! due {
            () => {
                "select id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at,
                  attempts, ambiguous, lost, pinned, outcome, settled_at
                from message where state = 'queued' and due_at <= (select s.now from {set})
                order by due_at limit (select s.most from {set})"
            };
        }
        let sql = match self {
            // The transaction holds the one write lock that there is.
            Tx::Sqlite(_) => due!(),
            Tx::Postgres(_) => concat!(due!(), " for update skip locked"),
        };
        (sql, Set::new().time("now", [now]).int("most", [limit]))
    }

    /// Tells whether mails are queued that are due after a time.
    pub async fn has_due_after(&mut self, time: Timestamp) -> Result<bool, Error> {
        const SQL: &str = "select due_at from message where state = 'queued' and due_at > $1
            order by due_at desc limit 1";
        let row: Option<(Timestamp,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(time)
            .fetch_optional(conn)
            .await?);
        Ok(row.is_some())
    }

    /// Makes queued mails due now that are due after a time, at most `limit`, and returns how many.
    pub async fn bring_forward(
        &mut self,
        time: Timestamp,
        now: Timestamp,
        limit: i64,
    ) -> Result<u64, Error> {
        const SQL: &str = "update message set due_at = $1 where state = 'queued' and id in
            (select id from message where state = 'queued' and due_at > $2 order by due_at desc limit $3)";
        Ok(on!(self, |conn| sqlx::query(SQL)
            .bind(now)
            .bind(time)
            .bind(limit)
            .execute(conn)
            .await?
            .rows_affected()))
    }

    /// Gives claimed mails back to the queue, where the claim still holds.
    pub async fn give_back(&mut self, rows: &[Back]) -> Result<(), Error> {
        const SQL: &str = "update message set state = 'queued', claim = null, lease_until = null, due_at = s.due_at
            from {set} where message.id = s.id and message.claim = s.claim";
        let set = Set::new()
            .uuid("id", rows.iter().map(|row| row.id.0))
            .uuid("claim", rows.iter().map(|row| row.claim))
            .time("due_at", rows.iter().map(|row| row.due_at));
        self.write(SQL, set).await
    }

    /// Leaves picked mails in the queue until a later time.
    pub async fn put_off(&mut self, mails: &[(MessageId, Timestamp)]) -> Result<(), Error> {
        if mails.is_empty() {
            return Ok(());
        }
        const SQL: &str = "update message set due_at = s.due_at from {set} where message.id = s.id";
        let set = Set::new()
            .uuid("id", mails.iter().map(|mail| mail.0.0))
            .time("due_at", mails.iter().map(|mail| mail.1));
        self.write(SQL, set).await
    }

    /// Cancels the confirmation mails of signups that are not under way.
    pub async fn cancel(&mut self, signups: &[SignupId], at: Timestamp) -> Result<(), Error> {
        const SQL: &str = "update message set state = 'cancelled', settled_at = s.at
            from {set} join signup on signup.id = s.id
            where message.subscriber = signup.subscriber and message.signup = s.id
              and message.kind = 'confirmation' and message.state in ('queued', 'quarantined')";
        let set = Set::new()
            .uuid("id", signups.iter().map(|id| id.0))
            .time("at", signups.iter().map(|_| at));
        self.write(SQL, set).await
    }

    /// Returns mails that are set aside, oldest first.
    pub async fn quarantined(&mut self, limit: i64) -> Result<Vec<Message>, Error> {
        const SQL: &str = "select id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at,
              attempts, ambiguous, lost, pinned, outcome, settled_at
            from message where state = 'quarantined' order by created_at limit $1";
        let rows: Vec<MessageRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        rows.into_iter().map(Message::read).collect()
    }

    /// Returns confirmation mails that are set aside though nothing is left to ask: somebody answered by their links.
    pub async fn answered_aside(&mut self, limit: i64) -> Result<Vec<MessageId>, Error> {
        const SQL: &str = "select id from message where state = 'quarantined' and kind = 'confirmation'
              and not exists (select state from signup_list where signup = message.signup and state = 'open')
            order by created_at limit $1";
        let rows: Vec<(Uuid,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(|(id,)| MessageId(id)).collect())
    }

    /// Queues a mail that is set aside, as if none of its claims had been lost; none if it is not.
    pub async fn requeue(&mut self, id: MessageId) -> Result<Option<Message>, Error> {
        const SQL: &str = "update message set state = 'queued', lost = 0
            where id = $1 and state = 'quarantined'
            returning id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at, attempts, ambiguous,
              lost, pinned, outcome, settled_at";
        let row: Option<MessageRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(id.0)
            .fetch_optional(conn)
            .await?);
        row.map(Message::read).transpose()
    }

    /// Returns how many mails wait, how many are claimed and how many are set aside, each counted up to [`COUNTED`], and
    /// since when the oldest has been due.
    pub async fn queue_depth(&mut self) -> Result<Depth, Error> {
        const SQL: &str = "select
              (select count(*) from (select due_at from message where state = 'queued' limit $1) as q),
              (select count(*) from (select lease_until from message where state = 'claimed' limit $1) as c),
              (select count(*) from (select created_at from message where state = 'quarantined' limit $1) as a),
              (select due_at from message where state = 'queued' order by due_at limit 1)";
        let (queued, claimed, quarantined, oldest) = on!(self, |conn| sqlx::query_as(SQL)
            .bind(COUNTED)
            .fetch_one(conn)
            .await?);
        Ok(Depth {
            queued,
            claimed,
            quarantined,
            oldest,
        })
    }
}

/// How much waits.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Mails that wait for their time.
    pub queued: i64,
    /// Mails under way.
    pub claimed: i64,
    /// Mails that are set aside.
    pub quarantined: i64,
    /// Since when the oldest has been due.
    pub oldest: Option<Timestamp>,
}
