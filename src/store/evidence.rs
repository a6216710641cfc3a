//! The personal facts behind events.

use uuid::Uuid;

use super::set::Set;
use super::types::named;
use super::{Error, Tx, on};
use crate::domain::event::Event;
use crate::domain::evidence::{Evidence, Part};
use crate::domain::id::{EventId, SubscriberId};

/// One part as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Behind which event.
    pub event: EventId,
    /// Whose facts.
    pub subscriber: SubscriberId,
    /// The facts.
    pub evidence: Evidence,
}

type Row = (Uuid, Uuid, String, Vec<u8>, String);

fn read((event, subscriber, part, key, body): Row) -> Result<Kept, Error> {
    let key = key.try_into();
    Ok(Kept {
        event: EventId(event),
        subscriber: SubscriberId(subscriber),
        evidence: Evidence {
            part: named(&part, Part::from_name)?,
            key: key.map_err(|_| Error::corrupt("a key of evidence has another length than 32"))?,
            body,
        },
    })
}

impl Tx {
    /// Keeps the facts that events bring.
    pub(super) async fn keep_evidence(&mut self, events: &[Event]) -> Result<(), Error> {
        const SQL: &str = "insert into evidence (event, part, subscriber, key, body, kept_at)
            select event, part, subscriber, key, body, kept_at from {set}";
        let mut rows = Vec::new();
        for event in events.iter().filter(|event| !event.evidence.is_empty()) {
            let whose = event.subscriber;
            let whose = whose.ok_or_else(|| Error::corrupt("facts of nobody"))?;
            rows.extend(
                event
                    .evidence
                    .iter()
                    .map(|e| (event.id, whose, e, event.time)),
            );
        }
        if rows.is_empty() {
            return Ok(());
        }
        let set = Set::new()
            .uuid("event", rows.iter().map(|row| row.0.0))
            .text(
                "part",
                rows.iter().map(|row| row.2.part.as_str().to_owned()),
            )
            .uuid("subscriber", rows.iter().map(|row| row.1.0))
            .bytes("key", rows.iter().map(|row| row.2.key.to_vec()))
            .text("body", rows.iter().map(|row| row.2.body.clone()))
            .time("kept_at", rows.iter().map(|row| row.3));
        self.write(SQL, set).await
    }

    /// Returns what is kept of a subscriber.
    pub async fn evidence_of(&mut self, subscriber: SubscriberId) -> Result<Vec<Kept>, Error> {
        const SQL: &str = "select event, subscriber, part, key, body from evidence
            where event in (select id from event where subscriber = $1) order by event, part";
        let rows: Vec<Row> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(subscriber.0)
            .fetch_all(conn)
            .await?);
        rows.into_iter().map(read).collect()
    }

    /// Returns what is kept behind events.
    pub async fn evidence_behind(&mut self, events: &[EventId]) -> Result<Vec<Kept>, Error> {
        const SQL: &str =
            "select evidence.event, evidence.subscriber, evidence.part, evidence.key, evidence.body
            from {set} join evidence on evidence.event = s.id order by s.n, evidence.part";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let set = Set::new().uuid("id", events.iter().map(|event| event.0));
        let rows: Vec<Row> = self.rows(SQL, set).await?;
        rows.into_iter().map(read).collect()
    }
}
