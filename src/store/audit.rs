//! What verification reads: rows as they stand, in pages, without believing that they are well formed.

use uuid::Uuid;

use super::set::Set;
use super::types::hash;
use super::{Error, Tx, on};
use crate::domain::consent::Hash;
use crate::domain::id::{EventId, SubscriberId};
use crate::domain::time::Timestamp;

/// An event as its row says it: the bytes that were hashed, and the copies of what they say.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The place in the order of writing.
    pub ord: i64,
    /// The number, once it has one.
    pub seq: Option<i64>,
    /// The event.
    pub id: Uuid,
    /// What happened.
    pub kind: String,
    /// When.
    pub time: Timestamp,
    /// At which sender.
    pub sender: Option<String>,
    /// On which list.
    pub list: Option<String>,
    /// To whom.
    pub subscriber: Option<Uuid>,
    /// By which signup.
    pub signup: Option<Uuid>,
    /// With which mail.
    pub message: Option<Uuid>,
    /// What was hashed.
    pub leaf: Vec<u8>,
}

impl EventRow {
    fn read(row: EventRowTuple) -> Self {
        let (ord, seq, id, kind, time, sender, list, subscriber, signup, message, leaf) = row;
        Self {
            ord,
            seq,
            id,
            kind,
            time,
            sender,
            list,
            subscriber,
            signup,
            message,
            leaf,
        }
    }
}
type EventRowTuple = (
    i64,
    Option<i64>,
    Uuid,
    String,
    Timestamp,
    Option<String>,
    Option<String>,
    Option<Uuid>,
    Option<Uuid>,
    Option<Uuid>,
    Vec<u8>,
);

/// A subscription as its row says it.
#[derive(Clone, Debug)]
pub struct SubscriptionRow {
    /// Whose it is.
    pub subscriber: Uuid,
    /// On which list.
    pub list: String,
    /// Its state.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// How often the person left or objected.
    pub counter: i64,
    /// The signup that confirmed it.
    pub signup: Option<Uuid>,
    /// The revision of the words agreed to.
    pub revision: i64,
    /// Since when processing is restricted.
    pub restricted_at: Option<Timestamp>,
}

impl SubscriptionRow {
    fn read(row: SubscriptionRowTuple) -> Self {
        let (subscriber, list, state, since, counter, signup, revision, restricted_at) = row;
        Self {
            subscriber,
            list,
            state,
            since,
            counter,
            signup,
            revision,
            restricted_at,
        }
    }
}
type SubscriptionRowTuple = (
    Uuid,
    String,
    String,
    Timestamp,
    i64,
    Option<Uuid>,
    i64,
    Option<Timestamp>,
);

/// A signup as its row says it.
#[derive(Clone, Debug)]
pub struct SignupRow {
    /// Its id.
    pub id: Uuid,
    /// At which sender.
    pub sender: String,
    /// Whose it is.
    pub subscriber: Uuid,
}

impl SignupRow {
    fn read(row: SignupRowTuple) -> Self {
        let (id, sender, subscriber) = row;
        Self {
            id,
            sender,
            subscriber,
        }
    }
}
type SignupRowTuple = (Uuid, String, Uuid);

/// A list of a signup as its row says it.
#[derive(Clone, Debug)]
pub struct ListRow {
    /// Of which signup.
    pub signup: Uuid,
    /// Which list.
    pub list: String,
    /// Its state.
    pub state: String,
    /// How it was declined.
    pub reason: Option<String>,
    /// The subscription's counter when the signup came.
    pub counter: i64,
    /// When it ended.
    pub decided_at: Option<Timestamp>,
}

impl ListRow {
    fn read(row: ListRowTuple) -> Self {
        let (signup, list, state, reason, counter, decided_at) = row;
        Self {
            signup,
            list,
            state,
            reason,
            counter,
            decided_at,
        }
    }
}
type ListRowTuple = (Uuid, String, String, Option<String>, i64, Option<Timestamp>);

/// A mail as its row says it.
#[derive(Clone, Debug)]
pub struct MessageRow {
    /// Its id.
    pub id: Uuid,
    /// Why it is sent.
    pub kind: String,
    /// Its state.
    pub state: String,
    /// To whom.
    pub subscriber: Uuid,
    /// For which signup.
    pub signup: Option<Uuid>,
}

impl MessageRow {
    fn read(row: MessageRowTuple) -> Self {
        let (id, kind, state, subscriber, signup) = row;
        Self {
            id,
            kind,
            state,
            subscriber,
            signup,
        }
    }
}
type MessageRowTuple = (Uuid, String, String, Uuid, Option<Uuid>);

/// What is kept under its hash, and its text.
pub type Named = (Hash, String);

impl Tx {
    /// Returns numbered events after a number, at most `limit`.
    pub async fn event_rows_after(&mut self, seq: i64, limit: i64) -> Result<Vec<EventRow>, Error> {
        const SQL: &str =
            "select ord, seq, id, type, time, sender, list, subscriber, signup, message, leaf
            from numbered_event where seq > $1 order by seq limit $2";
        let rows: Vec<_> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(seq)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(EventRow::read).collect())
    }

    /// Returns events without a number after a place in the order of writing, at most `limit`.
    pub async fn unnumbered_rows_after(
        &mut self,
        ord: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>, Error> {
        const SQL: &str =
            "select ord, seq, id, type, time, sender, list, subscriber, signup, message, leaf
            from unnumbered_event where ord > $1 order by ord limit $2";
        let rows: Vec<_> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(ord)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(EventRow::read).collect())
    }

    /// Returns all events of subscribers in the order of their writing.
    pub async fn event_rows_of(&mut self, ids: &[SubscriberId]) -> Result<Vec<EventRow>, Error> {
        const SQL: &str =
            "select ord, (select seq from numbered_event where ord = event.ord), event.id, type, time, sender, list,
              subscriber, signup, message, leaf
            from {set} join event on event.subscriber = s.id order by ord";
        let rows: Vec<_> = self.rows(SQL, of(ids)).await?;
        Ok(rows.into_iter().map(EventRow::read).collect())
    }

    /// Returns the events that erased something of subscribers, in the order of their writing.
    pub async fn erasures_of(&mut self, ids: &[SubscriberId]) -> Result<Vec<EventRow>, Error> {
        const SQL: &str =
            "select ord, (select seq from numbered_event where ord = event.ord), event.id, type, time, sender, list,
              subscriber, signup, message, leaf
            from {set} join event on event.subscriber = s.id
            where type in ('evidence.erased', 'subscriber.erased') order by ord";
        let rows: Vec<_> = self.rows(SQL, of(ids)).await?;
        Ok(rows.into_iter().map(EventRow::read).collect())
    }

    /// Returns, in the order of their ids, subscribers after one of whom any table knows, at most `limit`.
    pub async fn anybody_after(
        &mut self,
        id: SubscriberId,
        limit: i64,
    ) -> Result<Vec<SubscriberId>, Error> {
        const SQL: &str = "select id from (select id from subscriber where id > $1 order by id limit $2) as a
            union select subscriber
              from (select distinct subscriber from event where subscriber > $1 order by subscriber limit $2) as b
            union select subscriber
              from (select distinct subscriber from subscription where subscriber > $1 order by subscriber limit $2) as c
            union select subscriber
              from (select distinct subscriber from signup where subscriber > $1 order by subscriber limit $2) as d
            union select subscriber
              from (select distinct subscriber from message where subscriber > $1 order by subscriber limit $2) as e
            order by 1 limit $2";
        let rows: Vec<(Uuid,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(id.0)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(|(id,)| SubscriberId(id)).collect())
    }

    /// Returns the senders of subscribers that have a row.
    pub async fn subscriber_rows(
        &mut self,
        ids: &[SubscriberId],
    ) -> Result<Vec<(Uuid, String)>, Error> {
        const SQL: &str =
            "select subscriber.id, sender from {set} join subscriber on subscriber.id = s.id";
        self.rows(SQL, of(ids)).await
    }

    /// Returns the subscriptions of subscribers.
    pub async fn subscription_rows(
        &mut self,
        ids: &[SubscriberId],
    ) -> Result<Vec<SubscriptionRow>, Error> {
        const SQL: &str =
            "select subscriber, list, state, since, counter, signup, revision, restricted_at
            from {set} join subscription on subscription.subscriber = s.id";
        let rows: Vec<_> = self.rows(SQL, of(ids)).await?;
        Ok(rows.into_iter().map(SubscriptionRow::read).collect())
    }

    /// Returns the signups of subscribers, and any other signups that are named.
    pub async fn signup_rows(
        &mut self,
        ids: &[SubscriberId],
        named: &[Uuid],
    ) -> Result<Vec<SignupRow>, Error> {
        const OF: &str = "select signup.id, sender, subscriber
            from {set} join signup on signup.subscriber = s.id";
        const NAMED: &str =
            "select signup.id, sender, subscriber from {set} join signup on signup.id = s.id";
        let mut rows: Vec<SignupRowTuple> = self.rows(OF, of(ids)).await?;
        let set = Set::new().uuid("id", named.iter().copied());
        let others: Vec<SignupRowTuple> = self.rows(NAMED, set).await?;
        rows.extend(others);
        let mut rows: Vec<_> = rows.into_iter().map(SignupRow::read).collect();
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        Ok(rows)
    }

    /// Returns the lists of signups.
    pub async fn list_rows(&mut self, signups: &[Uuid]) -> Result<Vec<ListRow>, Error> {
        const SQL: &str = "select signup, list, state, reason, counter, decided_at
            from {set} join signup_list on signup_list.signup = s.id";
        let set = Set::new().uuid("id", signups.iter().copied());
        let rows: Vec<_> = self.rows(SQL, set).await?;
        Ok(rows.into_iter().map(ListRow::read).collect())
    }

    /// Returns the mails to subscribers.
    pub async fn message_rows(&mut self, ids: &[SubscriberId]) -> Result<Vec<MessageRow>, Error> {
        const SQL: &str = "select message.id, kind, state, subscriber, signup
            from {set} join message on message.subscriber = s.id";
        let rows: Vec<_> = self.rows(SQL, of(ids)).await?;
        Ok(rows.into_iter().map(MessageRow::read).collect())
    }

    /// Returns parts of evidence after one, by event and name, at most `limit`, and whether their event is there.
    pub async fn evidence_owners_after(
        &mut self,
        (event, part): (EventId, &str),
        limit: i64,
    ) -> Result<Vec<(EventId, String, bool)>, Error> {
        const SQL: &str = "select evidence.event, evidence.part, event.ord
            from evidence left join event on event.id = evidence.event
            where (evidence.event, evidence.part) > ($1, $2) order by evidence.event, evidence.part limit $3";
        let rows: Vec<(Uuid, String, Option<i64>)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(event.0)
            .bind(part)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        let rows = rows.into_iter();
        Ok(rows
            .map(|(event, part, ord)| (EventId(event), part, ord.is_some()))
            .collect())
    }

    /// Returns kept facts after a hash, at most `limit`, in the order of their hashes.
    pub async fn facts_after(&mut self, after: &[u8], limit: i64) -> Result<Vec<Named>, Error> {
        const SQL: &str = "select hash, body from facts where hash > $1 order by hash limit $2";
        let rows: Vec<(Vec<u8>, String)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(after)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        let rows = rows.into_iter();
        rows.map(|(key, body)| Ok((hash(key)?, body))).collect()
    }

    /// Returns kept words, for whatever list and language.
    pub async fn kept_words(&mut self) -> Result<Vec<(String, String, Named)>, Error> {
        const SQL: &str =
            "select list, locale, hash, body from consent_text order by list, revision, locale";
        let rows: Vec<(String, String, Vec<u8>, String)> =
            on!(self, |conn| sqlx::query_as(SQL).fetch_all(conn).await?);
        let rows = rows.into_iter();
        rows.map(|(list, locale, key, body)| Ok((list, locale, (hash(key)?, body))))
            .collect()
    }
}

fn of(ids: &[SubscriberId]) -> Set {
    Set::new().uuid("id", ids.iter().map(|id| id.0))
}
