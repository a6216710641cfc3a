//! Requests that were answered, so that a repeat gets the same answer: what every signup begins with.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::address::locking_or_making;
use super::set::Set;
use super::subscriber::{Subscriber, making};
use super::types::{keyed, parsed};
use super::{Error, Tx, on};
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::list::SenderId;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

/// One request under an Idempotency-Key.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The keyed hash of API key, route and Idempotency-Key.
    pub key: Keyed,
    /// The keyed hash of the body.
    pub fingerprint: Keyed,
    /// The signup that it made.
    pub signup: SignupId,
}

/// What new signups begin with.
pub enum Begun {
    /// Nobody asked for any of them before: the subscriber of each sender and identity, known or new.
    New(BTreeMap<(SenderId, Keyed), SubscriberId>),
    /// These requests came earlier under the same keys. What was made for them must not stay.
    Repeated(Vec<Request>),
}

fn set_of(requests: &[Request]) -> Set {
    Set::new()
        .bytes("request", requests.iter().map(|r| r.key.0.to_vec()))
        .uuid("signup", requests.iter().map(|r| r.signup.0))
}

/// Returns the statement that writes requests which are new, in the order of their keys, for [`Tx::ask`]: it gives a row for
/// each of these. A request of another process that is not yet committed is waited for.
fn remembering(requests: &[Request], at: Timestamp) -> (&'static str, Set) {
    const SQL: &str = "insert into idempotency (request, fingerprint, signup, created_at)
        select request, fingerprint, signup, created_at from {set} where true order by n
        on conflict (request) do nothing returning request";
    let fingerprints = requests.iter().map(|r| r.fingerprint.0.to_vec());
    let set = set_of(requests)
        .bytes("fingerprint", fingerprints)
        .time("created_at", requests.iter().map(|_| at));
    (SQL, set)
}

impl Tx {
    /// Remembers requests, locks mailboxes, and makes those mailboxes and people that are new.
    pub async fn begin_signups(
        &mut self,
        requests: &[Request],
        mailboxes: &BTreeMap<Keyed, MessageId>,
        people: &[Subscriber],
        at: Timestamp,
    ) -> Result<Begun, Error> {
        let (lock, make) = (locking_or_making(mailboxes), making(people));
        let made = if requests.is_empty() {
            let [_, made] = self.ask([lock, make]).await?;
            made
        } else {
            let asked = [remembering(requests, at), lock, make];
            let [remembered, _, made] = self.ask(asked).await?;
            let remembered: Vec<(Vec<u8>,)> = remembered.read()?;
            if remembered.len() < requests.len() {
                return Ok(Begun::Repeated(self.earlier(requests).await?));
            }
            made
        };
        let made: Vec<(String, Vec<u8>, Uuid)> = made.read()?;
        let made = made.into_iter().map(|(sender, identity, id)| {
            Ok(((parsed(&sender)?, keyed(identity)?), SubscriberId(id)))
        });
        Ok(Begun::New(made.collect::<Result<_, Error>>()?))
    }

    /// Returns the requests that came earlier under these keys.
    pub async fn earlier(&mut self, requests: &[Request]) -> Result<Vec<Request>, Error> {
        const SQL: &str = "select i.request, i.fingerprint, i.signup
            from {set} join idempotency i on i.request = s.request where i.signup <> s.signup";
        let rows: Vec<(Vec<u8>, Vec<u8>, Uuid)> = self.rows(SQL, set_of(requests)).await?;
        rows.into_iter()
            .map(|(key, fingerprint, signup)| {
                Ok(Request {
                    key: keyed(key)?,
                    fingerprint: keyed(fingerprint)?,
                    signup: SignupId(signup),
                })
            })
            .collect()
    }

    /// Tells whether there are requests from before an instant.
    pub async fn has_requests(&mut self, before: Timestamp) -> Result<bool, Error> {
        const SQL: &str =
            "select created_at from idempotency where created_at < $1 order by created_at limit 1";
        let row: Option<(Timestamp,)> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(before)
            .fetch_optional(conn)
            .await?);
        Ok(row.is_some())
    }

    /// Forgets requests from before an instant, at most `limit`, and returns how many.
    pub async fn forget_requests(&mut self, before: Timestamp, limit: i64) -> Result<u64, Error> {
        const SQL: &str = "delete from idempotency where request in
            (select request from idempotency where created_at < $1 order by created_at limit $2)";
        Ok(on!(self, |conn| sqlx::query(SQL)
            .bind(before)
            .bind(limit)
            .execute(conn)
            .await?
            .rows_affected()))
    }
}
