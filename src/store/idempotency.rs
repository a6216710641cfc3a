//! Requests that were answered, so that a repeat gets the same answer.

use uuid::Uuid;

use super::set::Set;
use super::types::keyed;
use super::{Error, Tx, on};
use crate::domain::id::SignupId;
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

fn set_of(requests: &[Request]) -> Set {
    Set::new()
        .bytes("request", requests.iter().map(|r| r.key.0.to_vec()))
        .uuid("signup", requests.iter().map(|r| r.signup.0))
}

/// Returns the statement that writes requests which are new, in the order of their keys, for [`Tx::ask`]: it gives a row for
/// each of these. A request of another process that is not yet committed is waited for.
pub(super) fn remembering(requests: &[Request], at: Timestamp) -> (&'static str, Set) {
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
    /// Returns the requests that came earlier under these keys.
    pub(super) async fn earlier(&mut self, requests: &[Request]) -> Result<Vec<Request>, Error> {
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
