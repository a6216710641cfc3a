//! Mails whose time has come are claimed: here the limits are kept, and what makes a mail's bytes is pinned.
//!
//! Deciding at delivery, and not when a signup comes, is what keeps the answer to a signup the same for every address.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Flows;
use super::job::{Job, job, recipient};
use super::lease::lease;
use super::quarantine::{is_suspect, set_aside};
use super::work::Work;
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::delivery::retry::LIFE;
use crate::domain::delivery::{About, MessageKind, MessageState};
use crate::domain::event::EventKind;
use crate::domain::id::{MessageId, SubscriberId};
use crate::domain::ledger::Ledger;
use crate::domain::limits::Withheld;
use crate::domain::list::ListId;
use crate::domain::locale::Locale;
use crate::domain::signup::{Confirm, ListState, SignupState, confirm};
use crate::domain::time::Timestamp;
use crate::store::Error;
use crate::store::message::{Claim, Message};
use crate::store::signup::Signup;
use crate::store::subscriber::Subscription;

/// How much a claim may bring.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Mails at most.
    pub mails: i64,
    /// No mail of this process is under way.
    pub alone: bool,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Mails to send.
    pub jobs: Vec<Arc<Job>>,
    /// Mails of which an earlier copy arrived: to be written down, not to be sent.
    pub arrived: Vec<Arc<Job>>,
    /// Mails that ended instead, and how.
    pub ended: Vec<(MessageId, MessageState)>,
    /// The next mail must be tried alone, and others are under way: nothing was claimed.
    pub must_wait: bool,
    /// More may be due.
    pub more: bool,
}

/// What is to become of one picked mail.
enum Decision {
    Send(Box<Message>, Option<Timestamp>),
    WriteDown(Box<Message>),
    End(MessageState),
}

/// Claims mails that are due.
///
/// # Errors
/// When the database refuses; then nothing was claimed.
pub async fn claim(
    flows: &Flows,
    room: Room,
    template: &(dyn Fn(MessageKind, &Locale) -> Hash + Send + Sync),
) -> Result<Claimed, Error> {
    let mut tx = flows.pool.begin().await?;
    let begun = flows.clock.now();
    let lease_now = tx.lease_clock(flows.clock.steady()).await?;
    let (freed, mut picked) = tx.free_and_pick(lease_now, begun, room.mails).await?;
    let freed = set_aside(&mut tx, &freed, begun).await?;
    let must_wait = picked.first().is_some_and(is_suspect) && !room.alone;
    if must_wait || picked.is_empty() {
        tx.commit().await?;
        flows.happened(&freed);
        return Ok(Claimed {
            must_wait,
            ..Claimed::default()
        });
    }
    let due = picked.len();
    match picked.first().is_some_and(is_suspect) {
        true => picked.truncate(1),
        false => picked.retain(|message| !is_suspect(message)),
    }
    let (mut work, people) = Work::lock_picked(flows, &mut tx, &picked).await?;
    work.learn_what_left(&mut tx, &picked).await?;
    // Not before what was decided while this one waited for a mailbox.
    let now = flows.clock.now();

    let mut claimed = Claimed {
        more: due > picked.len() || i64::try_from(due).is_ok_and(|due| due == room.mails),
        ..Claimed::default()
    };
    let token = Uuid::from_bytes(random());
    let mut left = Vec::new();
    for message in picked {
        let id = message.id;
        if let Some(until) = flows.leave(&message, work.in_force(), now) {
            left.push((id, until));
            continue;
        }
        let decision = match (message.kind, message.signup) {
            (MessageKind::Confirmation, Some(signup)) => match work.signup(signup).cloned() {
                Some(signup) => confirmation(flows, &mut work, message, &signup, now)?,
                None => Decision::End(MessageState::Cancelled),
            },
            // They tell of lists that the person may have left since, or joined again.
            _ if !is_still_so(&work, &message) => Decision::End(MessageState::Cancelled),
            _ => Decision::Send(Box::new(message), None),
        };
        let (message, expires, jobs) = match decision {
            Decision::Send(message, expires) => (*message, expires, &mut claimed.jobs),
            Decision::WriteDown(message) => (*message, None, &mut claimed.arrived),
            Decision::End(state) => {
                claimed.ended.push((id, state));
                continue;
            }
        };
        let Some(recipient) = recipient(&work, &people, &message) else {
            claimed.ended.push((id, MessageState::Cancelled));
            continue;
        };
        let job = job(
            flows, &mut tx, &work, message, recipient, token, expires, now, template,
        );
        jobs.push(Arc::new(job.await?));
    }
    let claim = Claim {
        token,
        lease_until: lease_now + lease(flows),
    };
    let jobs = claimed.jobs.iter().chain(&claimed.arrived);
    let messages: Vec<_> = jobs.map(|job| &job.message).collect();
    tx.claim(&messages, claim).await?;
    tx.end_picked(&claimed.ended, now).await?;
    tx.put_off(&left).await?;
    work.commit(flows, tx).await?;
    flows.happened(&freed);
    Ok(claimed)
}

/// Decides what a confirmation mail still has to ask, and whether it may be sent now.
fn confirmation(
    flows: &Flows,
    work: &mut Work,
    mut message: Message,
    signup: &Signup,
    now: Timestamp,
) -> Result<Decision, Error> {
    let (mut open, mut closed, mut left) = (Vec::new(), Vec::new(), Vec::new());
    let mut ended = 0;
    for list in work.lists(signup.id).to_vec() {
        // A first mail has no link yet whose end could have passed.
        let mut standing = work.standing(signup, &list);
        standing.expires = standing.expires.or(Some(now + LIFE));
        match confirm(standing, now) {
            Confirm::Yes if work.in_force().is_closed(&list.list) => closed.push(list.list),
            Confirm::Yes => open.push(About {
                list: list.list,
                facts: list.facts,
            }),
            Confirm::Already => {
                work.end_as_confirmed(signup, &list.list, now);
                ended += 1;
            }
            Confirm::Ineffective if list.state == ListState::Open => left.push(list.list),
            _ => {}
        }
    }
    if message.pinned.is_some() {
        // A further attempt: the same bytes or none.
        let wanted = message.lists.iter().any(|about| open.contains(about));
        if wanted && !is_held(flows, &message, &work.ledger(signup.mailbox), now) {
            return Ok(Decision::Send(Box::new(message), signup.expires_at));
        }
        // What was perhaps sent has a link that may be in somebody's hands: that ends by its time.
        if wanted && message.ambiguous == 0 {
            let reason = match work.ledger(signup.mailbox).is_held_everywhere(now) {
                true => Withheld::Installation,
                false => Withheld::Hold,
            };
            let names: Vec<ListId> = open.into_iter().map(|about| about.list).collect();
            return Ok(withhold(flows, work, signup, &names, reason, now));
        }
        let states = work.lists(signup.id).iter().map(|list| list.state);
        if has_arrived(&message, states) {
            return Ok(Decision::WriteDown(Box::new(message)));
        }
        if message.ambiguous == 0 {
            keep_out(flows, work, signup, &closed, Withheld::Closed, now);
            keep_out(flows, work, signup, &left, Withheld::Left, now);
        }
        let state = match (message.ambiguous, ended, closed.len() + left.len()) {
            // As where the last attempt is in doubt.
            (1.., ..) => SignupState::Sent,
            (_, 1.., _) => SignupState::NotNeeded,
            (_, _, 1..) => return Ok(withhold(flows, work, signup, &[], Withheld::Left, now)),
            // It expired, which its link's end says.
            _ => return Ok(Decision::End(MessageState::Cancelled)),
        };
        if let Some(signup) = work.change_signup(signup.id) {
            signup.state = state;
        }
        return Ok(Decision::End(MessageState::Cancelled));
    }
    let exempt = flows.is_exempt(signup.mailbox);
    if !exempt {
        // The first mail to a mailbox was counted when it was queued: it does not keep itself back.
        work.change_ledger(signup.mailbox).discount(message.id);
    }
    keep_out(flows, work, signup, &closed, Withheld::Closed, now);
    keep_out(flows, work, signup, &left, Withheld::Left, now);
    if open.is_empty() {
        return Ok(match (ended, closed.len() + left.len()) {
            (0, 0) => Decision::End(MessageState::Cancelled),
            (0, _) => withhold(flows, work, signup, &[], Withheld::Left, now),
            _ => nothing_new(work, message, signup, now),
        });
    }

    let names: Vec<ListId> = open.iter().map(|about| about.list.clone()).collect();
    let own = signup.again_of.is_some();
    let admitted = if exempt {
        Ok(names.clone())
    } else {
        let ledger = work.ledger(signup.mailbox);
        let limits = &flows.settings.limits;
        ledger.admit(limits, now, &signup.sender, &names, own)
    };
    let (admitted, left_out) = match admitted {
        Ok(admitted) => (admitted, Withheld::List),
        Err(reason) => (Vec::new(), reason),
    };
    let out = names.into_iter().filter(|n| !admitted.contains(n));
    let out: Vec<ListId> = out.collect();
    if admitted.is_empty() {
        return Ok(withhold(flows, work, signup, &out, left_out, now));
    }
    keep_out(flows, work, signup, &out, left_out, now);
    open.retain(|about| admitted.contains(&about.list));
    let mut life = None;
    for list in work.lists(signup.id) {
        if admitted.contains(&list.list) {
            let own = work.facts(list)?.list.link_life;
            life = Some(life.map_or(own, |life: Duration| life.min(own)));
        }
    }
    let expires = life.map(|life| now + life);
    // No limit bounds how many there would be of a test address.
    if !exempt {
        work.change_ledger(signup.mailbox)
            .count(message.id, now, &signup.sender, &admitted, own);
    }
    if let Some(signup) = work.change_signup(signup.id) {
        signup.expires_at = expires;
    }
    message.lists = open;
    Ok(Decision::Send(Box::new(message), expires))
}

/// A mail's own link was used, and no copy of it is kept as evidence.
fn has_arrived(message: &Message, mut states: impl Iterator<Item = ListState>) -> bool {
    message.ambiguous == 0 && states.any(|state| state == ListState::Confirmed)
}

/// What a mail says of its lists is the case: who is told goodbye is on none of them, who is told of a subscription on all.
fn is_still_so(work: &Work, message: &Message) -> bool {
    let is_on = |about| is_subscribed(work, message.subscriber, about);
    match message.kind {
        MessageKind::Welcome | MessageKind::AlreadySubscribed => message.lists.iter().all(is_on),
        MessageKind::Goodbye => !message.lists.iter().any(is_on),
        MessageKind::Confirmation => true,
    }
}

/// A person is on a list that a mail is about.
fn is_subscribed(work: &Work, whose: SubscriberId, about: &About) -> bool {
    let subscription = work.subscription(whose, &about.list);
    subscription.is_some_and(|subscription| subscription.state.is_subscribed())
}

/// The mailbox said "that was not me", to this mail or to another of the sender.
pub(super) fn is_held(flows: &Flows, message: &Message, ledger: &Ledger, now: Timestamp) -> bool {
    !flows.is_exempt(message.mailbox) && ledger.held_until(&message.sender, now).is_some()
}

/// Every list was confirmed already: one mail in a day says so, to whoever reads that mailbox.
fn nothing_new(work: &mut Work, mut message: Message, signup: &Signup, now: Timestamp) -> Decision {
    if let Some(signup) = work.change_signup(signup.id) {
        signup.state = SignupState::NotNeeded;
    }
    let whose = message.subscriber;
    message.lists.retain(|about| {
        let subscription = work.subscription(whose, &about.list);
        // Who agreed to words that changed since, and signed up before that, may not be mailed.
        let outdated = |s: &Subscription| work.in_force().is_outdated(&s.list, s.revision);
        subscription.is_some_and(|s| s.state.is_subscribed() && !outdated(s))
    });
    let ledger = work.change_ledger(signup.mailbox);
    if !message.lists.is_empty() && ledger.notice(&signup.sender, now) {
        message.kind = MessageKind::AlreadySubscribed;
        return Decision::Send(Box::new(message), None);
    }
    Decision::End(MessageState::Cancelled)
}

/// Keeps a mail back, with every list that it still had.
fn withhold(
    flows: &Flows,
    work: &mut Work,
    signup: &Signup,
    lists: &[ListId],
    reason: Withheld,
    now: Timestamp,
) -> Decision {
    keep_out(flows, work, signup, lists, reason, now);
    if let Some(signup) = work.change_signup(signup.id) {
        signup.state = SignupState::Withheld;
    }
    Decision::End(MessageState::Withheld)
}

/// Keeps lists out of a mail. The sender is not told of the installation's own limit; the operator is.
fn keep_out(
    flows: &Flows,
    work: &mut Work,
    signup: &Signup,
    lists: &[ListId],
    reason: Withheld,
    now: Timestamp,
) {
    if lists.is_empty() {
        return;
    }
    for list in lists {
        work.end_list(signup.id, list, ListState::Withheld, None, now);
    }
    let names: Vec<&str> = lists.iter().map(ListId::as_str).collect();
    let sender = reason.told().map(|_| &signup.sender);
    let event = flows
        .event(EventKind::SignupWithheld, now, sender)
        .signup(signup.id)
        .subscriber(signup.subscriber)
        .with("reason", reason.as_str())
        .with("lists", names);
    work.events.push(event);
}
