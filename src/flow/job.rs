//! A claimed mail: what makes its bytes, and to whom it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Flows;
use super::again::{again_at, asked_at};
use super::work::Work;
use crate::clock::random;
use crate::domain::address::Address;
use crate::domain::consent::Hash;
use crate::domain::delivery::{MessageKind, Pinned};
use crate::domain::id::{SubscriberId, SubscriptionId};
use crate::domain::list::{Facts, vouched_site};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::subscriber::Subscriber;
use crate::store::{Error, Tx};

/// A claimed mail with all that composing needs.
#[derive(Clone, Debug)]
pub struct Job {
    /// The mail, pinned.
    pub message: Message,
    /// What it is pinned to.
    pub pinned: Pinned,
    /// The token of the claim.
    pub claim: Uuid,
    /// To whom.
    pub to: Address,
    /// In which language.
    pub locale: Locale,
    /// What its lists say.
    pub facts: Vec<Arc<Facts>>,
    /// Their subscriptions, where there are any.
    pub subscriptions: Vec<SubscriptionId>,
    /// When the person did what the mail answers: signed up, confirmed or left.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one.
    pub again_at: Option<Timestamp>,
    /// On which site, where the list knows it.
    pub site: Option<String>,
    /// When the link ends.
    pub expires: Option<Timestamp>,
}

/// Returns to whom a mail goes, as the signup spelled it, and in which language; none if they were erased.
pub(super) fn recipient<'r>(
    work: &'r Work,
    people: &'r BTreeMap<SubscriberId, Subscriber>,
    message: &Message,
) -> Option<(&'r str, &'r Locale)> {
    let signup = message.signup.and_then(|id| work.signup(id));
    let person = || people.get(&message.subscriber);
    signup
        .map(|signup| (&*signup.email, &signup.locale))
        .or_else(|| person().map(|person| (&*person.email, &person.locale)))
}

/// Puts together what composing a mail needs, and pins it at its first claim.
#[expect(
    clippy::too_many_arguments,
    reason = "one call; a struct would only rename them"
)]
pub(super) async fn job(
    flows: &Flows,
    tx: &mut Tx,
    work: &Work,
    mut message: Message,
    (spelled, locale): (&str, &Locale),
    claim: Uuid,
    expires: Option<Timestamp>,
    now: Timestamp,
    template: &(dyn Fn(MessageKind, &Locale) -> Hash + Send + Sync),
) -> Result<Job, Error> {
    let signup = message.signup.and_then(|id| work.signup(id));
    let to = Address::parse(spelled);
    let to = to.map_err(|_| Error::corrupt("a stored address cannot be read"))?;
    let mut facts = Vec::with_capacity(message.lists.len());
    for about in &message.lists {
        facts.push(flows.facts(tx, about.facts).await?);
    }
    let first = facts.first();
    let first = first.ok_or_else(|| Error::corrupt("a mail is about no list"))?;
    let pinned = match message.pinned.clone() {
        Some(pinned) => pinned,
        None => {
            let from = first.list.from.as_ref().unwrap_or(&first.sender.from);
            Pinned {
                link_key: flows.keys().links.signing().to_string(),
                template: template(message.kind, locale),
                message_id: format!("{}@{}", message.id, from.address.domain()),
                date: Timestamp::from_seconds(now.as_seconds()),
                boundary: format!("=_{}", Uuid::from_bytes(random()).simple()),
            }
        }
    };
    message.pinned = Some(pinned.clone());
    let answers = matches!(
        message.kind,
        MessageKind::Confirmation | MessageKind::AlreadySubscribed
    );
    let answered = signup.filter(|_| answers);
    let subscriptions = message.lists.iter();
    let subscriptions = subscriptions
        .filter_map(|about| work.subscription(message.subscriber, &about.list))
        .map(|subscription| subscription.id);
    Ok(Job {
        to,
        locale: locale.clone(),
        subscriptions: subscriptions.collect(),
        asked_at: answered.map_or(message.created_at, asked_at),
        again_at: answered.and_then(again_at),
        site: signup
            .and_then(|signup| vouched_site(&signup.consent.source, facts.iter().map(|f| &f.list))),
        expires: expires.or(signup.and_then(|signup| signup.expires_at)),
        facts,
        claim,
        pinned,
        message,
    })
}
