//! Somebody asks for a new mail on the page of an expired link: a new signup from the old one's facts.
//!
//! The link proves the mailbox, so this has a budget of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::signup::{Request, sign_up};
use super::space::Need;
use super::view::{SignupView, look};
use super::work::Work;
use super::{Error, Flows};
use crate::domain::address::Address;
use crate::domain::consent::{Consent, Network};
use crate::domain::delivery::{About, MessageKind, MessageState};
use crate::domain::id::SignupId;
use crate::domain::list::ListId;
use crate::domain::signup::Confirm;
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::message::Message;
use crate::store::signup::Signup;

/// What became of the wish.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A new mail is on its way, from this press or from an earlier one.
    OnItsWay(SignupView),
    /// None is sent now; when the newest was whose link still works, if there is one.
    NotNow(SignupView, Option<Timestamp>),
    /// The mailbox holds such mails: nothing was asked for.
    Held(SignupView),
    /// Nothing is expired, or nothing of it can be asked for again: the page says what is the case.
    NotPossible(SignupView),
    /// Nothing is known.
    Unknown,
}

/// Asks once more for what expired.
///
/// # Errors
/// When the database refuses, or its disk is nearly full.
pub async fn again(flows: &Arc<Flows>, id: SignupId) -> Result<Outcome, Error> {
    flows.space.let_in(Need::CanWait)?;
    let mut tx = flows.pool.begin().await?;
    let mut work = Work::lock_signups(flows, &mut tx, &[id]).await?;
    let now = flows.clock.now();
    let in_force = work.in_force();
    let Some(view) = look(&work, id, now) else {
        return Ok(Outcome::Unknown);
    };
    let expired = view.lists.iter();
    let expired: Vec<_> = expired
        .filter(|list| list.confirm == Confirm::Expired && !list.closed && !list.eligible)
        .collect();
    if expired.is_empty() {
        return Ok(Outcome::NotPossible(view));
    }
    if view.held_until.is_some() && !flows.is_exempt(view.signup.mailbox) {
        return Ok(Outcome::Held(view));
    }
    let asked: BTreeSet<_> = expired.iter().map(|list| list.row.list.clone()).collect();
    let earlier = tx.signups_of(view.signup.subscriber).await?;
    let mails = tx.messages_to(view.signup.subscriber).await?;
    // What the limits would keep back at once is not asked for.
    let recent = now - flows.settings.limits.per_list;
    let has_mail = |s: &Signup| mails.iter().any(|m| m.signup == Some(s.id) && waits(m));
    let enough = |s: &Signup| s.created_at > recent || has_mail(s);
    if earlier.iter().any(|s| s.again_of == Some(id) && enough(s)) {
        return Ok(instead(view, &asked, &mails, &earlier, now));
    }
    let entries = asked
        .iter()
        .filter_map(|list| in_force.catalog.list(list))
        .collect::<Vec<_>>();
    let asked_locale = Some(&view.signup.locale);
    let Some(locale) = in_force.catalog.locale(&entries, asked_locale) else {
        return Ok(Outcome::NotPossible(view));
    };
    let about = entries.iter().map(|entry| About {
        list: entry.facts.list.id.clone(),
        facts: entry.hash,
    });
    let email = Address::parse(&view.signup.email);
    let email = email.map_err(|_| store::Error::corrupt("a stored address cannot be read"))?;
    let request = Request {
        sender: view.signup.sender.clone(),
        email,
        lists: about.collect(),
        locale,
        consent: Consent {
            first_at: Some(asked_at(&view.signup)),
            ..view.signup.consent.clone()
        },
        network: Network::default(),
        reference: view.signup.reference.clone(),
        attributes: view.signup.attributes.clone(),
        redirect: view.signup.redirect.clone(),
        idempotency: None,
        again_of: Some(id),
    };
    work.learn_what_left(&mut tx, &[]).await?;
    let names: Vec<ListId> = asked.iter().cloned().collect();
    let (ledger, limits) = (work.ledger(view.signup.mailbox), &flows.settings.limits);
    let admitted = ledger.admit(limits, now, &view.signup.sender, &names, true);
    let is_sent = admitted.is_ok() || flows.is_exempt(view.signup.mailbox);
    sign_up(flows.clone(), tx, [request].into()).await?;
    Ok(match is_sent {
        true => Outcome::OnItsWay(view),
        false => instead(view, &asked, &mails, &earlier, now),
    })
}

/// Returns when a person asked at the form.
pub fn asked_at(signup: &Signup) -> Timestamp {
    signup.consent.first_at.unwrap_or(signup.created_at)
}

/// Returns when they asked for a new mail, where a signup answers that.
pub fn again_at(signup: &Signup) -> Option<Timestamp> {
    signup.consent.first_at.map(|_| signup.created_at)
}

fn waits(mail: &Message) -> bool {
    matches!(mail.state, MessageState::Queued | MessageState::Claimed)
}

/// What there is where no further mail is sent: one that waits, or the newest whose link still works.
fn instead(
    view: SignupView,
    asked: &BTreeSet<ListId>,
    mails: &[Message],
    signups: &[Signup],
    now: Timestamp,
) -> Outcome {
    let works = |mail: &Message| {
        let signup = signups.iter().find(|one| Some(one.id) == mail.signup);
        signup.and_then(|one| one.expires_at) > Some(now)
    };
    let asks = |mail: &&Message| {
        mail.kind == MessageKind::Confirmation
            && mail.lists.iter().any(|about| asked.contains(&about.list))
    };
    let mails = || mails.iter().filter(asks);
    if mails().any(waits) {
        return Outcome::OnItsWay(view);
    }
    let sent = mails().filter(|mail| mail.state == MessageState::Sent && works(mail));
    Outcome::NotNow(view, sent.filter_map(|mail| mail.settled_at).max())
}
