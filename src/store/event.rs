//! Events: appended by flows, numbered by the sequencer, read in the order of their numbers.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::set::Set;
use super::types::parsed;
use super::{COUNTED, Error, Tx, on};
use crate::domain::event::{Event, EventKind, Sequenced};
use crate::domain::id::SubscriberId;
use crate::domain::list::{ListId, SenderId};
use crate::domain::time::Timestamp;
use crate::trail::leaf::{Leaf, encode};

fn read((seq, leaf): (i64, Vec<u8>)) -> Result<Sequenced, Error> {
    let leaf = Leaf::decode(&leaf);
    let leaf =
        leaf.map_err(|error| Error::corrupt(format!("event {seq} cannot be read: {error}")))?;
    Ok(leaf.at(seq))
}

impl Tx {
    /// Appends events in this order, and keeps the personal facts behind them.
    pub async fn append(&mut self, events: &[Event]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        const SQL: &str = "insert into event (id, type, time, sender, list, subscriber, signup, message, leaf)
            select id, type, time, sender, list, subscriber, signup, message, leaf from {set} order by n";
        fn texts<'e, T: ToString + 'e>(
            events: &'e [Event],
            of: impl Fn(&'e Event) -> Option<&'e T>,
        ) -> impl Iterator<Item = Option<String>> {
            events.iter().map(move |e| of(e).map(T::to_string))
        }
        let set = Set::new()
            .uuid("id", events.iter().map(|e| e.id.0))
            .text("type", events.iter().map(|e| e.kind.as_str().to_owned()))
            .time("time", events.iter().map(|e| e.time))
            .text("sender", texts(events, |e| e.sender.as_ref()))
            .text("list", texts(events, |e| e.list.as_ref()))
            .uuid(
                "subscriber",
                events.iter().map(|e| e.subscriber.map(|id| id.0)),
            )
            .uuid("signup", events.iter().map(|e| e.signup.map(|id| id.0)))
            .uuid("message", events.iter().map(|e| e.message.map(|id| id.0)))
            .bytes("leaf", events.iter().map(encode));
        self.write(SQL, set).await?;
        self.keep_evidence(events).await
    }

    /// Returns events after a number, at most `limit`, of one sender or of all.
    pub async fn events_after(
        &mut self,
        after: i64,
        limit: i64,
        sender: Option<&SenderId>,
    ) -> Result<Vec<Sequenced>, Error> {
        const ALL: &str = "select seq, leaf
            from numbered_event where seq > $1 order by seq limit $2";
        const ONE: &str = "select seq, leaf
            from numbered_event where seq > $1 and sender = $3 order by seq limit $2";
        let rows: Vec<(i64, Vec<u8>)> = on!(self, |conn| {
            let query = sqlx::query_as(if sender.is_some() { ONE } else { ALL });
            let query = query.bind(after).bind(limit);
            match sender {
                Some(sender) => query.bind(sender.as_str()).fetch_all(conn).await?,
                None => query.fetch_all(conn).await?,
            }
        });
        rows.into_iter().map(read).collect()
    }

    /// Returns the sequenced events of a subscriber, oldest first.
    pub async fn events_of(&mut self, id: SubscriberId) -> Result<Vec<Sequenced>, Error> {
        const SQL: &str = "select seq, leaf
            from numbered_event where subscriber = $1 order by seq";
        let rows: Vec<(i64, Vec<u8>)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(id.0)
            .fetch_all(conn)
            .await?);
        rows.into_iter().map(read).collect()
    }

    /// Returns about whom there were events of a kind since then, and of which list: as often as there were.
    pub async fn told_since(
        &mut self,
        kind: EventKind,
        subscribers: &BTreeSet<SubscriberId>,
        since: Timestamp,
    ) -> Result<Vec<(SubscriberId, Option<ListId>)>, Error> {
        if subscribers.is_empty() {
            return Ok(Vec::new());
        }
        const SQL: &str = "select event.subscriber, event.list from {set}
            join event on event.subscriber = s.id and event.type = s.type and event.time > s.since";
        let set = Set::new()
            .uuid("id", subscribers.iter().map(|id| id.0))
            .text("type", subscribers.iter().map(|_| kind.as_str().to_owned()))
            .time("since", subscribers.iter().map(|_| since));
        let rows: Vec<(Uuid, Option<String>)> = self.rows(SQL, set).await?;
        let told = rows.into_iter().map(|(whose, list)| {
            let list = list.as_deref().map(parsed).transpose()?;
            Ok((SubscriberId(whose), list))
        });
        told.collect()
    }

    /// Returns the bytes of all events of a subscriber in the order of their writing, each with its number if it has one.
    pub async fn leaves_of(
        &mut self,
        id: SubscriberId,
    ) -> Result<Vec<(Option<u64>, Vec<u8>)>, Error> {
        const SQL: &str = "select (select seq from numbered_event where ord = event.ord), leaf
            from event where subscriber = $1 order by ord";
        let rows: Vec<(Option<i64>, Vec<u8>)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(id.0)
            .fetch_all(conn)
            .await?);
        let rows = rows.into_iter();
        Ok(rows
            .map(|(seq, leaf)| (seq.map(i64::unsigned_abs), leaf))
            .collect())
    }

    /// Returns the length of the trail and how many events wait for a number, counted up to [`COUNTED`].
    pub async fn trail_length(&mut self) -> Result<(i64, i64), Error> {
        const SQL: &str =
            "select size, (select count(*) from (select ord from unnumbered_event limit $1) as w)
            from trail_head where one = 1";
        Ok(on!(self, |conn| sqlx::query_as(SQL)
            .bind(COUNTED)
            .fetch_one(conn)
            .await?))
    }
}
