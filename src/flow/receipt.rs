//! What a receipt shows: what a person agreed to by one signup, and what became of it. Reading changes nothing.
//!
//! It holds neither the address nor a network fact, so no page made from it can show them.

use std::sync::Arc;

use super::again::{again_at, asked_at};
use super::view::{ListView, look};
use super::work::Work;
use super::{Error, Flows};
use crate::domain::consent::{Action, Consent, Hash};
use crate::domain::delivery::{MessageKind, MessageState};
use crate::domain::id::{SignupId, SubscriptionId};
use crate::domain::list::{ConfirmBy, Facts, Sender};
use crate::domain::locale::Locale;
use crate::domain::receipt::{Ended, EndedBy, NotAgreed, Story, not_agreed, place, story};
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::signup::Signup;
use crate::store::{self, Tx};

/// What was recorded of one signup.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The signup.
    pub signup: SignupId,
    /// The sender as it is now: whom to turn to.
    pub sender: Arc<Sender>,
    /// The sender as it was when it asked.
    pub asked_by: Sender,
    /// The language of mail, pages and words.
    pub locale: Locale,
    /// When the person asked.
    pub asked_at: Timestamp,
    /// When that reached us, where the sender named a time of its own.
    pub received_at: Option<Timestamp>,
    /// When the person asked for a new mail instead of an expired one.
    pub again_at: Option<Timestamp>,
    /// The act.
    pub action: Action,
    /// Where it happened, as reported.
    pub source: String,
    /// The confirmation mail.
    pub mailed: Option<Mailed>,
    /// The lists that were confirmed by it.
    pub agreed: Vec<Agreed>,
    /// The others.
    pub other: Vec<(String, NotAgreed)>,
}

/// The confirmation mail of a signup.
#[derive(Clone, Copy, Debug)]
pub struct Mailed {
    /// When it was sent, or else when it was made.
    pub at: Timestamp,
    /// Whether the relay is known to have taken it.
    pub taken: bool,
}

/// One list that was agreed to.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// What the list said at the signup.
    pub facts: Arc<Facts>,
    /// The words of mail and page.
    pub words: String,
    /// What the form showed.
    pub reported: Reported,
    /// When it was confirmed.
    pub confirmed_at: Timestamp,
    /// How; none where that is not known yet.
    pub by: Option<ConfirmBy>,
    /// When and how this consent ended.
    pub ended: Option<Ended>,
    /// Since when the person is subscribed now.
    pub subscribed_since: Option<Timestamp>,
    /// Whether they may be mailed now.
    pub eligible: bool,
    /// Since when processing is restricted.
    pub restricted_at: Option<Timestamp>,
    /// Whether the list has been taken out of the configuration.
    pub closed: bool,
    /// What an unsubscribe link carries.
    pub subscription: Option<SubscriptionId>,
}

/// Which words the form showed, as the signup backend reported them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Nothing was said: the record rests on mail and page.
    No,
    /// Those of mail and page.
    Same,
    /// Earlier words of the list, or those in another language.
    Other {
        /// The words.
        words: String,
        /// Their language.
        locale: Locale,
        /// Their SHA-256.
        hash: Hash,
    },
}

/// Reads what one signup agreed to; none if nothing is known of it.
///
/// # Errors
/// When the database cannot be read.
pub async fn receipt(flows: &Flows, id: SignupId) -> Result<Option<Receipt>, Error> {
    let mut tx = flows.pool.read().await?;
    let work = Work::read_signups(flows, &mut tx, &[id]).await?;
    let in_force = work.in_force();
    let Some(mut view) = look(&work, id, flows.clock.now()) else {
        return Ok(None);
    };
    view.mind_a_restore(&mut tx).await?;
    let signup = &view.signup;
    let Some(first) = view.lists.first() else {
        return Ok(None);
    };
    let events = tx.events_of(signup.subscriber).await?;
    let (mut agreed, mut other) = (Vec::new(), Vec::new());
    for list in &view.lists {
        match not_agreed(list.row.state, list.confirm, list.closed) {
            Some(why) => {
                let title = list.facts.list.title_in(&signup.locale);
                other.push((title.to_owned(), why));
            }
            None => {
                let told = story(&events, id, &list.row.list);
                agreed.push(one(&mut tx, signup, list, told).await?);
            }
        }
    }
    let asked = asked_at(signup);
    let now = in_force.catalog.sender(&signup.sender).cloned();
    Ok(Some(Receipt {
        signup: id,
        sender: now.unwrap_or_else(|| Arc::new(first.facts.sender.clone())),
        asked_by: first.facts.sender.clone(),
        locale: signup.locale.clone(),
        asked_at: signup.consent.at.unwrap_or(asked),
        received_at: signup.consent.at.map(|_| asked),
        again_at: again_at(signup),
        action: signup.consent.action,
        source: place(&signup.consent.source),
        mailed: mailed(&tx.messages_to(signup.subscriber).await?, id),
        agreed,
        other,
    }))
}

async fn one(
    tx: &mut Tx,
    signup: &Signup,
    list: &ListView,
    told: Option<Story>,
) -> Result<Agreed, store::Error> {
    let facts = &list.facts;
    let words = facts.list.words_in(&signup.locale);
    let words = words.ok_or_else(|| store::Error::corrupt("a list lacks the words of a signup"))?;
    let row = list.subscription.as_ref();
    // The row is always up to date, but knows only the last of several ends; the trail knows the first.
    let ended = told.and_then(|story| story.ended).or_else(|| {
        let row = row?;
        let by = EndedBy::state(row.state)?;
        Some(Ended { at: row.since, by })
    });
    // Opening a link confirms only where the list chose so.
    let by = told.map(|story| story.by);
    let by = by.or((facts.list.confirm == ConfirmBy::Button).then_some(ConfirmBy::Button));
    Ok(Agreed {
        facts: facts.clone(),
        words: words.to_owned(),
        reported: reported(tx, &signup.consent, list, words).await?,
        confirmed_at: list.row.decided_at.unwrap_or(signup.created_at),
        by,
        ended,
        subscribed_since: row.filter(|_| list.is_subscribed()).map(|row| row.since),
        eligible: list.eligible,
        restricted_at: row.and_then(|row| row.restricted_at),
        closed: list.closed,
        subscription: row.map(|row| row.id),
    })
}

/// Compares the words that the form reported with those of mail and page.
async fn reported(
    tx: &mut Tx,
    consent: &Consent,
    list: &ListView,
    words: &str,
) -> Result<Reported, store::Error> {
    let Some(hash) = consent.text_sha256 else {
        return Ok(Reported::No);
    };
    if hash == Hash::of(words.as_bytes()) {
        return Ok(Reported::Same);
    }
    // What belongs to another list of the signup says nothing about this one.
    let kept = tx.words(&list.row.list, hash).await?;
    Ok(kept.map_or(Reported::No, |kept| Reported::Other {
        words: kept.body,
        locale: kept.locale,
        hash,
    }))
}

fn mailed(messages: &[Message], signup: SignupId) -> Option<Mailed> {
    let asks = |m: &&Message| m.signup == Some(signup) && m.kind == MessageKind::Confirmation;
    let sent = |m: &Message| m.settled_at.filter(|_| m.state == MessageState::Sent);
    let mails = || messages.iter().filter(asks);
    let taken = mails().find_map(sent).map(|at| (at, true));
    let made = mails().find_map(|m| Some((m.pinned.as_ref()?.date, false)));
    taken.or(made).map(|(at, taken)| Mailed { at, taken })
}
