//! Subscribers and their subscriptions.

use uuid::Uuid;

use super::set::{Rows, Set};
use super::types::{keyed, named, parsed};
use super::{Error, Tx, on};
use crate::domain::id::{SignupId, SubscriberId, SubscriptionId};
use crate::domain::list::{ListId, SenderId};
use crate::domain::locale::Locale;
use crate::domain::pepper::Keyed;
use crate::domain::subscription::State;
use crate::domain::time::Timestamp;

/// One address at one sender.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id.
    pub id: SubscriberId,
    /// The sender.
    pub sender: SenderId,
    /// The keyed hash of sender and canonical address.
    pub identity: Keyed,
    /// The mailbox, for locks and limits.
    pub mailbox: Keyed,
    /// The address in its first spelling.
    pub email: String,
    /// The language of the first signup.
    pub locale: Locale,
    /// When it became known.
    pub created_at: Timestamp,
}

/// One subscriber on one list.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its id; what an unsubscribe link carries.
    pub id: SubscriptionId,
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// On which list.
    pub list: ListId,
    /// Its state.
    pub state: State,
    /// On what the state rests: `consent`, `soft_opt_in` or `none`.
    pub basis: String,
    /// Since when.
    pub since: Timestamp,
    /// How often the person left or objected.
    pub counter: i64,
    /// The signup that confirmed it.
    pub signup: Option<SignupId>,
    /// The revision of the words agreed to.
    pub revision: i64,
    /// The language of the words agreed to.
    pub locale: Locale,
    /// Since when processing is restricted.
    pub restricted_at: Option<Timestamp>,
}

type SubscriptionRow = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    Timestamp,
    i64,
    Option<Uuid>,
    i64,
    String,
    Option<Timestamp>,
);

impl Subscription {
    pub(super) fn read(row: SubscriptionRow) -> Result<Self, Error> {
        Ok(Self {
            id: SubscriptionId(row.0),
            subscriber: SubscriberId(row.1),
            list: parsed(&row.2)?,
            state: named(&row.3, State::from_name)?,
            basis: row.4,
            since: row.5,
            counter: row.6,
            signup: row.7.map(SignupId),
            revision: row.8,
            locale: parsed(&row.9)?,
            restricted_at: row.10,
        })
    }
}

type SubscriberRow = (Uuid, String, Vec<u8>, Vec<u8>, String, String, Timestamp);

impl Subscriber {
    fn read(row: SubscriberRow) -> Result<Self, Error> {
        Ok(Self {
            id: SubscriberId(row.0),
            sender: parsed(&row.1)?,
            identity: keyed(row.2)?,
            mailbox: keyed(row.3)?,
            email: row.4,
            locale: parsed(&row.5)?,
            created_at: row.6,
        })
    }

    pub(super) fn read_all(rows: &Rows) -> Result<Vec<Self>, Error> {
        rows.read()?.into_iter().map(Self::read).collect()
    }
}

/// Returns the statement that reads subscribers by id, for [`Tx::ask`].
pub(super) fn subscribers(ids: &[SubscriberId]) -> (&'static str, Set) {
    const SQL: &str = "select id, sender, identity, mailbox, email, locale, created_at
        from subscriber where id in (select s.id from {set})";
    (SQL, Set::new().uuid("id", ids.iter().map(|id| id.0)))
}

/// Returns the statement that makes the subscribers that are new, for [`Tx::ask`]: it gives sender, identity and id of each,
/// in any order.
///
/// Known or new, every subscriber costs one row written: the statement tells nobody which it was.
pub(super) fn making(subscribers: &[Subscriber]) -> (&'static str, Set) {
    const SQL: &str = "insert into subscriber (id, sender, identity, mailbox, email, locale, created_at)
        select id, sender, identity, mailbox, email, locale, created_at from {set} where true order by n
        on conflict (sender, identity) do update set identity = excluded.identity
        returning sender, identity, id";
    let identities = subscribers.iter().map(|s| s.identity.0.to_vec());
    let set = Set::new()
        .uuid("id", subscribers.iter().map(|s| s.id.0))
        .text("sender", subscribers.iter().map(|s| s.sender.to_string()))
        .bytes("identity", identities)
        .bytes("mailbox", subscribers.iter().map(|s| s.mailbox.0.to_vec()))
        .text("email", subscribers.iter().map(|s| s.email.clone()))
        .text("locale", subscribers.iter().map(|s| s.locale.to_string()))
        .time("created_at", subscribers.iter().map(|s| s.created_at));
    (SQL, set)
}

impl Tx {
    /// Returns subscribers by id.
    pub async fn subscribers(&mut self, ids: &[SubscriberId]) -> Result<Vec<Subscriber>, Error> {
        let [rows] = self.ask([subscribers(ids)]).await?;
        Subscriber::read_all(&rows)
    }

    /// Returns the subscriber with this address at a sender.
    pub async fn subscriber_at(
        &mut self,
        sender: &SenderId,
        identity: Keyed,
    ) -> Result<Option<Subscriber>, Error> {
        const SQL: &str = "select id, sender, identity, mailbox, email, locale, created_at
            from subscriber where sender = $1 and identity = $2";
        let row: Option<SubscriberRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(sender.as_str())
            .bind(identity.0.to_vec())
            .fetch_optional(conn)
            .await?);
        row.map(Subscriber::read).transpose()
    }

    /// Returns subscriptions by id.
    pub async fn subscriptions(
        &mut self,
        ids: &[SubscriptionId],
    ) -> Result<Vec<Subscription>, Error> {
        const SQL: &str = "select id, subscriber, list, state, basis, since, counter, signup, revision, locale, restricted_at
            from subscription where id in (select s.id from {set})";
        let set = Set::new().uuid("id", ids.iter().map(|id| id.0));
        let rows: Vec<SubscriptionRow> = self.rows(SQL, set).await?;
        rows.into_iter().map(Subscription::read).collect()
    }

    /// Returns all subscriptions of subscribers.
    pub async fn subscriptions_of(
        &mut self,
        ids: &[SubscriberId],
    ) -> Result<Vec<Subscription>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        const SQL: &str = "select id, subscriber, list, state, basis, since, counter, signup, revision, locale, restricted_at
            from subscription where subscriber in (select s.id from {set})";
        let set = Set::new().uuid("id", ids.iter().map(|id| id.0));
        let rows: Vec<SubscriptionRow> = self.rows(SQL, set).await?;
        rows.into_iter().map(Subscription::read).collect()
    }

    /// Counts the subscriptions to a list that may be mailed and were agreed to before a revision of its words.
    pub async fn eligible_before(&mut self, list: &ListId, revision: i64) -> Result<i64, Error> {
        const SQL: &str = "select count(*) from subscription
            where list = $1 and revision < $2 and state in ('confirmed', 'attested') and restricted_at is null";
        let (count,): (i64,) = on!(self, |conn| sqlx::query_as(SQL)
            .bind(list.as_str())
            .bind(revision)
            .fetch_one(conn)
            .await?);
        Ok(count)
    }

    /// Writes subscriptions, new and changed, whose mailboxes this transaction has locked.
    pub async fn save_subscriptions(&mut self, rows: &[Subscription]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str = "insert into subscription
              (id, subscriber, list, state, basis, since, counter, signup, revision, locale, restricted_at)
            select id, subscriber, list, state, basis, since, counter, signup, revision, locale, restricted_at
            from {set} where true order by n
            on conflict (subscriber, list) do update set
              state = excluded.state, basis = excluded.basis, since = excluded.since, counter = excluded.counter,
              signup = excluded.signup, revision = excluded.revision, locale = excluded.locale,
              restricted_at = excluded.restricted_at";
        let set = Set::new()
            .uuid("id", rows.iter().map(|s| s.id.0))
            .uuid("subscriber", rows.iter().map(|s| s.subscriber.0))
            .text("list", rows.iter().map(|s| s.list.to_string()))
            .text("state", rows.iter().map(|s| s.state.as_str().to_owned()))
            .text("basis", rows.iter().map(|s| s.basis.clone()))
            .time("since", rows.iter().map(|s| s.since))
            .int("counter", rows.iter().map(|s| s.counter))
            .uuid("signup", rows.iter().map(|s| s.signup.map(|id| id.0)))
            .int("revision", rows.iter().map(|s| s.revision))
            .text("locale", rows.iter().map(|s| s.locale.to_string()))
            .time("restricted_at", rows.iter().map(|s| s.restricted_at));
        self.write(SQL, set).await
    }

    /// Returns, for subscriptions that were erased, the subscriptions that the same addresses have now.
    pub async fn subscriptions_after_erasure(
        &mut self,
        erased: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, Option<SubscriptionId>)>, Error> {
        const SQL: &str = "select t.subscription, n.id
            from {set}
            join tombstone t on t.subscription = s.id
            left join subscriber p on p.sender = t.sender and p.identity = t.identity
            left join subscription n on n.subscriber = p.id and n.list = t.list";
        let set = Set::new().uuid("id", erased.iter().map(|id| id.0));
        let rows: Vec<(Uuid, Option<Uuid>)> = self.rows(SQL, set).await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(old, new)| (SubscriptionId(old), new.map(SubscriptionId)))
            .collect())
    }
}
