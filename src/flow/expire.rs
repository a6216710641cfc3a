//! Links whose time is over: what is still open on them has expired.

use super::Flows;
use super::work::Work;
use crate::domain::event::EventKind;
use crate::domain::list::ListId;
use crate::domain::signup::ListState;
use crate::domain::time::Timestamp;
use crate::store::Error;

/// Signups that one transaction expires.
const BATCH: i64 = 500;

/// Expires signups whose links ended before a time, at most one batch, and returns how many.
///
/// # Errors
/// When the database refuses; then none has expired.
pub async fn expire(flows: &Flows, now: Timestamp) -> Result<usize, Error> {
    let ids = flows.pool.read().await?.expired_signups(now, BATCH).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let mut tx = flows.pool.begin().await?;
    // Mails first, as everywhere: what waits with a dead link must not leave, nor stand in the way of what may.
    tx.cancel(&ids, now).await?;
    let mut work = Work::lock_signups(flows, &mut tx, &ids).await?;
    for id in &ids {
        let Some(signup) = work.signup(*id).cloned() else {
            continue;
        };
        // Another process may have been here between the read and the lock.
        if signup.ended_at.is_some() {
            continue;
        }
        let open = work
            .lists(*id)
            .iter()
            .filter(|l| l.state == ListState::Open);
        let open: Vec<ListId> = open.map(|list| list.list.clone()).collect();
        for list in &open {
            work.end_list(*id, list, ListState::Expired, None, now);
        }
        let names: Vec<&str> = open.iter().map(ListId::as_str).collect();
        let event = flows
            .event(EventKind::SignupExpired, now, Some(&signup.sender))
            .signup(*id)
            .subscriber(signup.subscriber)
            .with("lists", names);
        work.events.push(event);
    }
    work.commit(flows, tx).await?;
    Ok(ids.len())
}
