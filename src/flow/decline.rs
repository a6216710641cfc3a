//! Somebody presses "no" on a confirmation mail: what is open is declined, and what was confirmed, by it or another, ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Flows;
use super::view::{SignupView, look};
use super::work::Work;
use crate::domain::event::EventKind;
use crate::domain::id::{SignupId, SubscriberId};
use crate::domain::list::ListId;
use crate::domain::signup::{Decline, ListState, refuse};
use crate::domain::subscription::Move;
use crate::domain::time::Timestamp;
use crate::store::signup::Signup;
use crate::store::{Error, Tx};

/// Changes of how mails are held that one person can make in a day, but for holding them: an event is for ever, and a link can
/// be pressed without end.
const CHANGES: i64 = 10;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// "No".
    Refuse(Decline),
    /// "Send me confirmation mails again."
    LiftHold,
    /// "Hold them for every sender here."
    HoldEverywhere,
}

/// One press.
#[derive(Clone, Copy, Debug)]
pub struct Press {
    /// On the link of this signup.
    pub signup: SignupId,
    /// What.
    pub wish: Wish,
}

/// What a press did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The signup as it stands now; none if nothing is known of it.
    pub view: Option<SignupView>,
    /// The lists that this press declined.
    pub declined: Vec<ListId>,
    /// The lists that this press ended.
    pub unsubscribed: Vec<ListId>,
    /// Whether this press changed how confirmation mails are held.
    pub hold_changed: bool,
    /// Whether it was changed so often today that it is not lifted now.
    pub too_often: bool,
}

/// Declines in one transaction, in the order of the presses.
///
/// # Errors
/// When the database refuses; then nothing is declined.
pub async fn decline(
    flows: Arc<Flows>,
    mut tx: Tx,
    batch: Arc<[Press]>,
) -> Result<Vec<Outcome>, Error> {
    let ids: Vec<SignupId> = batch.iter().map(|press| press.signup).collect();
    let mut work = Work::lock_signups(&flows, &mut tx, &ids).await?;
    let now = flows.clock.now();
    let mut changes = changes(&mut tx, &work, &batch, now).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for press in batch.iter() {
        let mut outcome = Outcome {
            view: None,
            declined: Vec::new(),
            unsubscribed: Vec::new(),
            hold_changed: false,
            too_often: false,
        };
        if let Some(signup) = work.signup(press.signup).cloned() {
            match press.wish {
                Wish::Refuse(how) => say_no(&flows, &mut work, &signup, how, now, &mut outcome),
                Wish::LiftHold | Wish::HoldEverywhere => {
                    let changed = changes.entry(signup.subscriber).or_default();
                    outcome.too_often = press.wish == Wish::LiftHold && *changed >= CHANGES;
                    if !outcome.too_often {
                        outcome.hold_changed = hold(&flows, &mut work, &signup, press.wish, now);
                        *changed += i64::from(outcome.hold_changed);
                    }
                }
            }
        }
        outcome.view = look(&work, press.signup, now);
        outcomes.push(outcome);
    }
    work.commit(&flows, tx).await?;
    Ok(outcomes)
}

/// Counts what was changed today about those who want a hold lifted.
async fn changes(
    tx: &mut Tx,
    work: &Work,
    batch: &[Press],
    now: Timestamp,
) -> Result<BTreeMap<SubscriberId, i64>, Error> {
    let lifts = batch.iter().filter(|press| press.wish == Wish::LiftHold);
    let signups = lifts.filter_map(|press| work.signup(press.signup));
    let whose = signups.map(|signup| signup.subscriber).collect();
    let mut changes = BTreeMap::new();
    let kind = EventKind::SubscriberChanged;
    for (whose, _) in tx.told_since(kind, &whose, now - DAY).await? {
        *changes.entry(whose).or_default() += 1;
    }
    Ok(changes)
}

fn say_no(
    flows: &Flows,
    work: &mut Work,
    signup: &Signup,
    how: Decline,
    now: Timestamp,
    outcome: &mut Outcome,
) {
    for list in work.lists(signup.id).to_vec() {
        let refused = refuse(work.standing(signup, &list));
        if refused.declines {
            work.end_list(signup.id, &list.list, ListState::Declined, Some(how), now);
            outcome.declined.push(list.list.clone());
        }
        if refused.leaves {
            outcome.unsubscribed.push(list.list);
        }
    }
    if !outcome.declined.is_empty() {
        let names: Vec<&str> = outcome.declined.iter().map(ListId::as_str).collect();
        let event = flows
            .event(EventKind::SignupDeclined, now, Some(&signup.sender))
            .signup(signup.id)
            .subscriber(signup.subscriber)
            .with("how", how.as_str())
            .with("lists", names);
        work.events.push(event);
    }
    // Last: a consent record says of a list what its last event says.
    for list in &outcome.unsubscribed {
        leave(flows, work, signup, list, how, now);
    }
    // "That was not me" counts also after a plain "no" or the link's end; pressed again, it finds its hold and changes
    // nothing.
    let any = work.lists(signup.id).iter().any(|l| l.state.is_refused());
    let held = work.ledger(signup.mailbox);
    let was_not_them = how == Decline::NotMe && !outcome.unsubscribed.is_empty();
    if how.holds() && (any || was_not_them) && held.held_until(&signup.sender, now).is_none() {
        let until = now + flows.settings.limits.hold;
        work.change_ledger(signup.mailbox)
            .hold(&signup.sender, until);
        outcome.hold_changed = true;
        if outcome.declined.is_empty() {
            changed(flows, work, signup, "held", now);
        }
    }
}

fn leave(
    flows: &Flows,
    work: &mut Work,
    signup: &Signup,
    list: &ListId,
    how: Decline,
    now: Timestamp,
) {
    let Some(old) = work.subscription(signup.subscriber, list).cloned() else {
        return;
    };
    let sender = signup.sender.clone();
    work.move_subscription(flows, now, Move::Unsubscribe, old, |mut event| {
        event.sender = Some(sender);
        event
            .signup(signup.id)
            .with("by", "decline_link")
            .with("how", how.as_str())
    });
}

fn hold(flows: &Flows, work: &mut Work, signup: &Signup, wish: Wish, now: Timestamp) -> bool {
    let ledger = work.ledger(signup.mailbox);
    let what = match wish {
        Wish::LiftHold if ledger.held_until(&signup.sender, now).is_some() => {
            work.change_ledger(signup.mailbox).lift(&signup.sender);
            "lifted"
        }
        Wish::HoldEverywhere if !ledger.is_held_everywhere(now) => {
            let until = now + flows.settings.limits.hold;
            work.change_ledger(signup.mailbox).hold_everywhere(until);
            "held_everywhere"
        }
        _ => return false,
    };
    changed(flows, work, signup, what, now);
    true
}

fn changed(flows: &Flows, work: &mut Work, signup: &Signup, what: &str, now: Timestamp) {
    let event = flows
        .event(EventKind::SubscriberChanged, now, Some(&signup.sender))
        .signup(signup.id)
        .subscriber(signup.subscriber)
        .with("confirmation_mails", what);
    work.events.push(event);
}
