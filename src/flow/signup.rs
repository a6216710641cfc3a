//! A signup is accepted: written down with its mail and its event, the same way whatever is known of the address.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Flows, mail};
use crate::clock::random;
use crate::domain::address::Address;
use crate::domain::consent::{Consent, Hash, Network};
use crate::domain::delivery::{About, MessageKind};
use crate::domain::event::{Event, EventKind};
use crate::domain::evidence::Part;
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::list::SenderId;
use crate::domain::locale::Locale;
use crate::domain::pepper::Keyed;
use crate::domain::signup::SignupState;
use crate::domain::time::Timestamp;
use crate::store::idempotency::{self, Begun};
use crate::store::message::Message;
use crate::store::signup::Signup;
use crate::store::subscriber::Subscriber;
use crate::store::{Error, Tx};

/// One signup, parsed and checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// At which sender.
    pub sender: SenderId,
    /// Who.
    pub email: Address,
    /// For which lists, without repeats, and what these say.
    pub lists: Vec<About>,
    /// In which language; every list has words in it.
    pub locale: Locale,
    /// The facts of the first opt-in.
    pub consent: Consent,
    /// Where it came from, as far as the policy keeps it.
    pub network: Network,
    /// The backend's own reference.
    pub reference: Option<String>,
    /// What the backend wants to know again.
    pub attributes: Option<Value>,
    /// Where the result page may lead.
    pub redirect: Option<String>,
    /// Keyed hashes of the Idempotency-Key and of the body.
    pub idempotency: Option<(Keyed, Keyed)>,
    /// The expired signup whose page asked for this one.
    pub again_of: Option<SignupId>,
}

/// What became of a signup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on stable storage, now or since an earlier request with the same key and body.
    Accepted(SignupId),
    /// The Idempotency-Key was used for another body.
    KeyReused,
}

/// Accepts signups in one transaction.
///
/// # Errors
/// When the database refuses; then none is accepted.
pub async fn sign_up(
    flows: Arc<Flows>,
    tx: Tx,
    batch: Arc<[Request]>,
) -> Result<Vec<Outcome>, Error> {
    let now = flows.clock.now();
    let ids: Vec<SignupId> = batch.iter().map(|_| SignupId::new(now, random())).collect();
    // Who came first under each key: of these, and before.
    let (mut first, mut earlier) = (BTreeMap::new(), BTreeMap::new());
    for (request, id) in batch.iter().zip(&ids) {
        if let Some((key, fingerprint)) = request.idempotency {
            let signup = *id;
            first.entry(key).or_insert(idempotency::Request {
                key,
                fingerprint,
                signup,
            });
        }
    }
    let mut begun = Some(tx);
    loop {
        let answered = |key: &Keyed| earlier.get(key).or_else(|| first.get(key));
        let asked = ids.iter().copied().zip(batch.iter());
        let outcomes: Vec<_> = asked
            .clone()
            .map(|(id, request)| outcome(id, request, answered))
            .collect();
        let fresh: Vec<_> = asked
            .zip(&outcomes)
            .filter(|((id, _), outcome)| **outcome == Outcome::Accepted(*id))
            .map(|(asked, _)| asked)
            .collect();
        if fresh.is_empty() {
            return Ok(outcomes);
        }
        let mut tx = match begun.take() {
            Some(tx) => tx,
            None => flows.pool.begin().await?,
        };
        let who = Who::of(&flows, now, &fresh);
        let requests: Vec<_> = first.values().copied().collect();
        match tx
            .begin_signups(&requests, &who.mailboxes, &who.people, now)
            .await?
        {
            Begun::New(subscribers) => {
                let events = write(&flows, &mut tx, now, &fresh, &who, &subscribers).await?;
                tx.commit().await?;
                flows.happened(&events);
                return Ok(outcomes);
            }
            // This transaction is given up: a repeat makes nobody, its subscriber may have been erased since.
            Begun::Repeated(found) => {
                for request in found {
                    first.remove(&request.key);
                    earlier.insert(request.key, request);
                }
            }
        }
    }
}

/// Returns the signup that the same body made earlier under the same key, whatever would be said of it now.
///
/// # Errors
/// When the database cannot be read.
pub async fn repeated(
    flows: &Flows,
    (key, fingerprint): (Keyed, Keyed),
) -> Result<Option<SignupId>, super::Error> {
    let asked = idempotency::Request {
        key,
        fingerprint,
        signup: SignupId::new(flows.clock.now(), random()),
    };
    let earlier = flows.pool.read().await?.earlier(&[asked]).await?;
    let same = earlier.iter().find(|one| one.fingerprint == fingerprint);
    Ok(same.map(|one| one.signup))
}

/// Answers what was asked before under the same key; everything else is accepted under its new id.
fn outcome<'r>(
    id: SignupId,
    request: &Request,
    answered: impl Fn(&Keyed) -> Option<&'r idempotency::Request>,
) -> Outcome {
    match request.idempotency {
        None => Outcome::Accepted(id),
        Some((key, fingerprint)) => match answered(&key) {
            Some(first) if first.fingerprint == fingerprint => Outcome::Accepted(first.signup),
            _ => Outcome::KeyReused,
        },
    }
}

/// Who signs up.
struct Who {
    /// For each signup.
    of_each: Vec<Whose>,
    /// Everybody once, as if new.
    people: Vec<Subscriber>,
    /// Every mailbox once, as if new, with the mail that would be its first.
    mailboxes: BTreeMap<Keyed, MessageId>,
}

/// Whose one signup is.
struct Whose {
    mailbox: Keyed,
    /// At which sender.
    identity: (SenderId, Keyed),
    /// Which mail will ask them.
    mail: MessageId,
}

impl Who {
    fn of(flows: &Flows, now: Timestamp, fresh: &[(SignupId, &Request)]) -> Self {
        let pepper = &flows.keys().pepper;
        let mut of_each = Vec::with_capacity(fresh.len());
        let (mut people, mut mailboxes) = (BTreeMap::new(), BTreeMap::new());
        for (_, request) in fresh {
            let mailbox = pepper.mailbox(&request.email);
            let identity = pepper.identity(&request.sender, &request.email);
            let mail = MessageId::new(now, random());
            of_each.push(Whose {
                mailbox,
                identity: (request.sender.clone(), identity),
                mail,
            });
            mailboxes.entry(mailbox).or_insert(mail);
            let who = (request.sender.clone(), identity);
            people.entry(who).or_insert_with(|| Subscriber {
                id: SubscriberId::new(now, random()),
                sender: request.sender.clone(),
                identity,
                mailbox,
                email: request.email.as_str().to_owned(),
                locale: request.locale.clone(),
                created_at: now,
            });
        }
        Self {
            of_each,
            people: people.into_values().collect(),
            mailboxes,
        }
    }
}

/// Writes new signups: the same statements and rows for every address. Returns what happens with the commit.
async fn write(
    flows: &Flows,
    tx: &mut Tx,
    now: Timestamp,
    fresh: &[(SignupId, &Request)],
    who: &Who,
    subscribers: &BTreeMap<(SenderId, Keyed), SubscriberId>,
) -> Result<Vec<Event>, Error> {
    let (mut signups, mut lists) = (Vec::new(), Vec::new());
    let (mut mails, mut events) = (Vec::new(), Vec::new());
    for ((id, request), whose) in fresh.iter().zip(&who.of_each) {
        let subscriber = *subscribers
            .get(&whose.identity)
            .ok_or_else(|| Error::corrupt("a subscriber was not written"))?;
        signups.push(Signup {
            id: *id,
            sender: request.sender.clone(),
            subscriber,
            mailbox: whose.mailbox,
            email: request.email.as_str().to_owned(),
            locale: request.locale.clone(),
            state: SignupState::Accepted,
            created_at: now,
            expires_at: None,
            ended_at: None,
            consent: request.consent.clone(),
            reference: request.reference.clone(),
            attributes: request.attributes.clone(),
            redirect: request.redirect.clone(),
            again_of: request.again_of,
        });
        let about = request.lists.iter();
        lists.extend(about.map(|a| (*id, subscriber, a.list.clone(), a.facts)));
        let confirmation = mail(
            MessageKind::Confirmation,
            now,
            &request.sender,
            subscriber,
            whose.mailbox,
            Some(*id),
            request.lists.clone(),
        );
        mails.push(Message {
            id: whose.mail,
            ..confirmation
        });
        let names: Vec<&str> = request.lists.iter().map(|a| a.list.as_str()).collect();
        let event = flows
            .event(EventKind::SignupAccepted, now, Some(&request.sender))
            .signup(*id)
            .subscriber(subscriber)
            .with("lists", names)
            .with("locale", request.locale.as_str());
        let wording = wording(flows, tx, request).await?;
        events.push(evidence(event, request, &wording));
    }
    tx.add_signups(&signups).await?;
    tx.add_signup_lists(&lists).await?;
    tx.queue(&mails).await?;
    tx.append(&events).await?;
    Ok(events)
}

/// Which words were in force for this signup, and whether the backend says that they were shown.
async fn wording(flows: &Flows, tx: &mut Tx, request: &Request) -> Result<Value, Error> {
    let mut lists = Vec::with_capacity(request.lists.len());
    for about in &request.lists {
        let facts = flows.facts(tx, about.facts).await?;
        let words = facts.list.words_in(&request.locale);
        let words = words.ok_or_else(|| Error::corrupt("a list has no words in the language"))?;
        let text = Hash::of(words.as_bytes());
        lists.push(json!({ "list": about.list, "facts": about.facts, "text_sha256": text }));
    }
    let reported = request.consent.text_sha256;
    Ok(json!({ "locale": request.locale, "lists": lists, "reported_sha256": reported }))
}

fn evidence(event: Event, request: &Request, wording: &Value) -> Event {
    let consent = &request.consent;
    let form = json!({
        "action": consent.action, "source": consent.source, "at": consent.at, "challenge": consent.challenge,
        "ref": request.reference, "again_of": request.again_of, "first_at": consent.first_at,
    });
    let event = event
        .evidence(
            Part::Address,
            random(),
            &json!({ "email": request.email.as_str() }),
        )
        .evidence(Part::Wording, random(), wording)
        .evidence(Part::Form, random(), &form);
    match &request.network {
        nothing if *nothing == Network::default() => event,
        network => event.evidence(Part::Network, random(), network),
    }
}
