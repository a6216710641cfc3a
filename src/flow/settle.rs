//! What became of an attempt is written down by whoever still holds the claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::Flows;
use super::job::Job;
use super::quarantine::about;
use super::work::Work;
use crate::clock::random;
use crate::domain::delivery::retry::{LIFE, Next, after};
use crate::domain::delivery::{Answer, Attempt, MessageKind, MessageState};
use crate::domain::event::{Event, EventKind};
use crate::domain::evidence::Part;
use crate::domain::id::{MessageId, SignupId};
use crate::domain::signup::{ListState, SignupState};
use crate::domain::time::Timestamp;
use crate::message::Proof;
use crate::store::message::Settlement;
use crate::store::{Error, Tx};

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Result {
    /// Of which mail.
    pub job: Arc<Job>,
    /// How.
    pub attempt: Attempt,
    /// What the relay answered.
    pub answer: Option<Answer>,
    /// The mail as evidence; none if it was not made.
    pub proof: Option<Proof>,
    /// An earlier try to write it down may have succeeded without saying so.
    pub again: bool,
}

/// A result, and what is to be written of it: made before the transaction, since on SQLite nobody else writes during one.
#[derive(Clone, Debug)]
pub struct Plan {
    result: Result,
    next: Next,
    row: Settlement,
    event: Option<Event>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The mail ends, or goes on.
    Settled(Next),
    /// The lease had ended: another process has or had the mail, and this result changes nothing.
    TooLate,
}

/// Settles attempts in one transaction.
///
/// # Errors
/// When the database refuses; the leases then end by themselves, and the mails are sent again.
pub async fn settle(
    flows: Arc<Flows>,
    mut tx: Tx,
    batch: Arc<[Arc<Plan>]>,
) -> std::result::Result<Vec<Outcome>, Error> {
    let rows = batch.iter().map(|plan| &plan.row).collect();
    let settled = write(&mut tx, rows).await?;
    let failed = batch
        .iter()
        .filter(|plan| plan.next == Next::End(MessageState::Failed));
    let failed: Vec<_> = failed
        .filter_map(|plan| plan.result.job.message.signup)
        .collect();
    // Whoever came too late writes down no more than that: their mail may have gone with an erased person.
    let messages = batch
        .iter()
        .map(|plan| (&plan.row, &plan.result.job.message));
    let messages = messages.filter(|(row, _)| settled.contains(&(row.id, row.claim)));
    let mailboxes = messages.map(|(_, message)| message.mailbox).collect();
    tx.hold_mailboxes(&mailboxes).await?;
    let now = flows.clock.now();
    let mut work = Work::read_signups(&flows, &mut tx, &failed).await?;
    let mut sent = Vec::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    for plan in batch.iter() {
        let Plan {
            result,
            next,
            row,
            event,
        } = &**plan;
        let message = &result.job.message;
        if !settled.contains(&(row.id, row.claim)) {
            if !result.again && result.attempt.was_made() {
                work.events.push(late(result, now));
            }
            outcomes.push(Outcome::TooLate);
            continue;
        }
        work.events.extend(event.clone());
        if let (Next::End(state), Some(signup)) = (*next, message.signup)
            && message.kind == MessageKind::Confirmation
        {
            match state {
                MessageState::Sent | MessageState::Unknown => sent.push(signup),
                MessageState::Failed => undeliverable(&mut work, signup, now),
                _ => {}
            }
        }
        outcomes.push(Outcome::Settled(*next));
    }
    tx.mark_sent(&sent).await?;
    work.commit(&flows, tx).await?;
    Ok(outcomes)
}

/// Writes what still holds its claim, and returns it.
///
/// One process may bring two results of one mail, where the first one's lease had ended: each is judged by itself.
async fn write(
    tx: &mut Tx,
    mut rows: Vec<&Settlement>,
) -> std::result::Result<BTreeSet<(MessageId, Uuid)>, Error> {
    rows.sort_by_key(|row| row.id);
    let mut settled = BTreeSet::new();
    while !rows.is_empty() {
        let (mut round, mut seen) = (Vec::new(), BTreeSet::new());
        rows.retain(|row| {
            let first = seen.insert(row.id);
            if first {
                round.push(*row);
            }
            !first
        });
        let held = tx.settle(&round).await?;
        let held = round.iter().filter(|row| held.contains(&row.id));
        settled.extend(held.map(|row| (row.id, row.claim)));
    }
    Ok(settled)
}

impl Result {
    /// Plans what is to be written.
    pub fn plan(self, now: Timestamp) -> Plan {
        let (next, row) = self.follows(now);
        let event = event(&self, &row, next, now);
        Plan {
            result: self,
            next,
            row,
            event,
        }
    }

    fn follows(&self, now: Timestamp) -> (Next, Settlement) {
        let message = &self.job.message;
        // An attempt that was stopped by us, or cut off before anything was said, does not count.
        let tried = i64::from(self.attempt.was_made());
        let attempts = message.attempts + tried;
        let ambiguous = message.ambiguous + i64::from(self.attempt == Attempt::Ambiguous);
        let first = message
            .pinned
            .as_ref()
            .map_or(message.created_at, |p| p.date);
        let end = (first + LIFE).min(self.job.expires.unwrap_or(first + LIFE));
        let [jitter] = random::<1>();
        let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        let next = after(
            self.attempt,
            now,
            small(attempts),
            small(ambiguous),
            end,
            jitter,
        );
        let (state, due_at) = match next {
            Next::End(state) => (state, message.due_at),
            Next::Retry(at) => (MessageState::Queued, at),
        };
        let row = Settlement {
            id: message.id,
            claim: self.job.claim,
            state,
            due_at,
            attempts,
            ambiguous,
            outcome: self.answer.clone(),
            at: now,
        };
        (next, row)
    }
}

impl Plan {
    /// Says that an earlier try to write it down may have succeeded.
    pub fn again(&mut self) {
        self.result.again = true;
    }
}

/// Says that an answer came when another process had or could have had the mail.
fn late(result: &Result, now: Timestamp) -> Event {
    let event = about(EventKind::MessageLate, &result.job.message, now);
    answered(event.with("outcome", result.attempt.as_str()), result)
}

/// Adds what the relay answered.
fn answered(mut event: Event, result: &Result) -> Event {
    if let Some(answer) = &result.answer {
        event = event
            .with("phase", answer.phase.clone())
            .with("cause", answer.cause.clone());
        if let Some(code) = answer.code {
            event = event.with("code", code);
        }
        if let Some(enhanced) = &answer.enhanced {
            event = event.with("enhanced", enhanced.clone());
        }
    }
    event
}

/// A mail as evidence of its sending.
#[derive(Serialize)]
struct Sent<'r> {
    mail: &'r Proof,
    answer: &'r Option<Answer>,
}

/// Says what became of an attempt.
fn event(result: &Result, row: &Settlement, next: Next, now: Timestamp) -> Option<Event> {
    let message = &result.job.message;
    let kind = match next {
        Next::Retry(_) => EventKind::MessageDeferred,
        Next::End(MessageState::Sent) => EventKind::MessageSent,
        Next::End(MessageState::Failed) => EventKind::MessageFailed,
        Next::End(MessageState::Unknown) => EventKind::MessageUnknown,
        Next::End(_) => return None,
    };
    let mut event = about(kind, message, now).with("attempt", row.attempts);
    event = answered(event, result);
    if let Next::Retry(at) = next {
        event = event.with("next", at.to_string());
    }
    // What the relay has or had, also from a process that died, may arrive whatever became of it: the person may decide on
    // this copy, and then there is no other.
    let may_arrive = message.lost > 0
        || result.attempt == Attempt::Arrived
        || result.answer.as_ref().is_some_and(Answer::is_past_data);
    if let (true, Some(mail)) = (may_arrive, &result.proof) {
        let answer = &result.answer;
        event = event.evidence(Part::Mail, random(), &Sent { mail, answer });
    }
    Some(event)
}

/// Ends a signup whose mail nobody takes.
fn undeliverable(work: &mut Work, id: SignupId, now: Timestamp) {
    if let Some(signup) = work.change_signup(id) {
        signup.state = SignupState::Undeliverable;
    }
    for list in work.lists(id).to_vec() {
        if list.state == ListState::Open {
            work.end_list(id, &list.list, ListState::Undeliverable, None, now);
        }
    }
}
