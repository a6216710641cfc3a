//! The last look at a mail, before the write that carries DATA.

use std::sync::Arc;

use uuid::Uuid;

use super::Flows;
use super::claim::is_held;
use super::job::Job;
use crate::domain::delivery::MessageKind;
use crate::domain::id::MessageId;
use crate::domain::list::Facts;
use crate::domain::signup::{Confirm, Standing, confirm};
use crate::domain::subscription::State;
use crate::store::message::Message;
use crate::store::signup::Asked;
use crate::store::{Error, Tx};

/// Looks once more at mails that are about to be sent, before the write that carries DATA, with a lease that covers what
/// follows.
///
/// # Errors
/// When the database refuses; then none may be sent.
pub async fn start(flows: Arc<Flows>, batch: &[Arc<Job>]) -> Result<Vec<bool>, Error> {
    let now = flows.clock.now();
    let claims: Vec<_> = batch
        .iter()
        .map(|job| (job.message.id, job.claim))
        .collect();
    let (mut tx, held) = hold(&flows, &claims).await?;
    let signups: Vec<_> = batch.iter().filter_map(|job| job.message.signup).collect();
    let asked = tx.asked(&signups).await?;
    let left = batch.iter().map(|job| &job.message);
    let left = left.filter(|message| message.kind == MessageKind::Goodbye);
    let left: Vec<_> = left.map(|message| message.subscriber).collect();
    let subscriptions = tx.subscriptions_of(&left).await?;
    let lists = batch.iter().flat_map(|job| &job.message.lists);
    let in_force = flows
        .in_force_for(&mut tx, lists.map(|about| &about.list))
        .await?;
    tx.commit().await?;
    let is_open = |one: &Asked, facts: &Facts| {
        let revision = facts.list.revision;
        let renews = |agreed| in_force.renews(&one.list, revision, agreed);
        let standing = Standing {
            renews: one.revision.is_some_and(renews),
            ..one.standing
        };
        !in_force.is_closed(&one.list) && confirm(standing, now) == Confirm::Yes
    };
    let wanted = |job: &Job, message: &Message| match (message.kind, message.signup) {
        (MessageKind::Confirmation, Some(id)) => asked.get(&id).is_some_and(|asked| {
            asked.iter().any(|one| {
                let facts = job.facts.iter().find(|facts| facts.list.id == one.list);
                facts.is_some_and(|facts| is_open(one, facts))
                    && !is_held(&flows, message, &one.ledger, now)
            })
        }),
        (MessageKind::Welcome | MessageKind::AlreadySubscribed, Some(id)) => {
            asked.get(&id).is_some_and(|asked| {
                asked.iter().all(|one| {
                    one.standing.subscription.is_some_and(State::is_subscribed)
                        || message.lists.iter().all(|about| about.list != one.list)
                })
            })
        }
        (MessageKind::Goodbye, _) => !subscriptions.iter().any(|one| {
            one.subscriber == message.subscriber
                && one.state.is_subscribed()
                && message.lists.iter().any(|about| about.list == one.list)
        }),
        _ => true,
    };
    let answers = batch.iter();
    Ok(answers
        .map(|job| held.contains(&(job.message.id, job.claim)) && wanted(job, &job.message))
        .collect())
}

/// Sees to it that claims hold until the final reply, and returns those that do.
async fn hold(
    flows: &Flows,
    claims: &[(MessageId, Uuid)],
) -> Result<(Tx, Vec<(MessageId, Uuid)>), Error> {
    let now = flows.clock.steady();
    if !flows.pool.is_shared() {
        // They were claimed for as long, so that there is nothing to write, unless they stood in line for long.
        let mut tx = flows.pool.read().await?;
        let held = tx.held(claims, now + flows.settings.after_data).await?;
        if held.len() == claims.len() {
            return Ok((tx, held));
        }
    }
    let mut tx = flows.pool.begin().await?;
    let lease = tx.lease_clock(now).await? + flows.settings.long_lease();
    let held = tx.renew(claims, lease).await?;
    Ok((tx, held))
}
