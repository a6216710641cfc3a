//! The loss is accepted: whoever may have left in it counts as one who did.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::end;
use crate::domain::event::EventKind;
use crate::domain::id::{SignupId, SubscriberId};
use crate::domain::list::ListId;
use crate::domain::signup::ListState;
use crate::domain::subscription::Move;
use crate::domain::time::{InvalidTime, Timestamp};
use crate::flow::Flows;
use crate::flow::work::Work;
use crate::store::window::Window;
use crate::store::{Error, Tx};

/// Subscribers of one transaction.
const FEW: i64 = 100;

/// The time that is lost, from the first to the last moment; it is named to accept the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    since: Timestamp,
    until: Timestamp,
}

impl Interval {
    /// Returns the time of all windows together; none if there is no window.
    pub fn of(windows: &[Window]) -> Option<Self> {
        let since = windows.iter().map(|window| window.since).min()?;
        let until = windows.iter().map(|window| window.until).max()?;
        Some(Self { since, until })
    }
}

/// As ISO 8601 writes an interval.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.since, self.until)
    }
}

impl FromStr for Interval {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let (since, until) = text.split_once('/').ok_or(InvalidTime)?;
        let (since, until) = (Timestamp::parse(since)?, Timestamp::parse(until)?);
        Ok(Self { since, until })
    }
}

/// What the loss costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Subscriptions that lapsed.
    pub lapsed: usize,
    /// Signups whose links ended.
    pub expired: usize,
}

/// Lapses every consent that was given before the end of these windows, ends the links of every signup from before it, and
/// ends the windows. Who confirms a signup from after it is eligible.
///
/// # Errors
/// When the database refuses; then everybody stays ineligible, and the next call goes on.
pub async fn accept(flows: &Flows, windows: &[Window]) -> Result<Accepted, Error> {
    let mut accepted = Accepted::default();
    let Some(until) = windows.iter().map(|window| window.until).max() else {
        return Ok(accepted);
    };
    let mut last = SubscriberId(Uuid::nil());
    loop {
        let mut tx = flows.pool.read().await?;
        let ids = tx.anybody_after(last, FEW).await?;
        drop(tx);
        let Some(id) = ids.last() else { break };
        last = *id;
        some(flows, &ids, until, &mut accepted).await?;
    }
    let now = flows.clock.now();
    let mut tx = flows.pool.begin().await?;
    tx.lock_trail().await?;
    for window in windows {
        end(&mut tx, window, "accepted", now).await?;
    }
    tx.commit().await?;
    Ok(accepted)
}

async fn some(
    flows: &Flows,
    ids: &[SubscriberId],
    until: Timestamp,
    accepted: &mut Accepted,
) -> Result<(), Error> {
    let mut tx = flows.pool.begin().await?;
    let people = tx.subscribers(ids).await?;
    let signups = signups_of(&mut tx, ids).await?;
    let mut work = Work::lock_subscribers(flows, &mut tx, &people, &signups).await?;
    let now = flows.clock.now();
    for person in &people {
        for subscription in work.subscriptions_of(person.id) {
            let asked = subscription.signup.and_then(|id| work.signup(id));
            let old = asked.map_or(subscription.since, |signup| signup.created_at) < until
                || subscription.since < until;
            if old && subscription.state.is_subscribed() {
                let sender = person.sender.clone();
                work.move_subscription(flows, now, Move::Lapse, subscription, |mut event| {
                    event.sender = Some(sender);
                    event.with("reason", "restored")
                });
                accepted.lapsed += 1;
            }
        }
    }
    for id in signups {
        accepted.expired += usize::from(expire(flows, &mut work, id, until, now));
    }
    work.commit(flows, tx).await
}

async fn signups_of(tx: &mut Tx, ids: &[SubscriberId]) -> Result<Vec<SignupId>, Error> {
    let rows = tx.signup_rows(ids, &[]).await?;
    Ok(rows.into_iter().map(|row| SignupId(row.id)).collect())
}

fn expire(flows: &Flows, work: &mut Work, id: SignupId, until: Timestamp, now: Timestamp) -> bool {
    let Some(signup) = work.signup(id).cloned() else {
        return false;
    };
    // A mail that bounced and was read all the same confirms too.
    let may_confirm = |state| matches!(state, ListState::Open | ListState::Undeliverable);
    let lists = work.lists(id).iter().filter(|l| may_confirm(l.state));
    let lists: Vec<ListId> = lists.map(|list| list.list.clone()).collect();
    if signup.created_at >= until || lists.is_empty() {
        return false;
    }
    for list in &lists {
        work.end_list(id, list, ListState::Expired, None, now);
    }
    let names: Vec<&str> = lists.iter().map(ListId::as_str).collect();
    let event = flows
        .event(EventKind::SignupExpired, now, Some(&signup.sender))
        .signup(id)
        .subscriber(signup.subscriber)
        .with("lists", names)
        .with("reason", "restored");
    work.events.push(event);
    true
}
