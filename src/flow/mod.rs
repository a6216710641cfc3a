//! Everything that can happen, one file each: lock, read, decide with `domain`, write state, events and mails in one
//! transaction.
//!
//! Hot flows take a batch and pass through a [`gate`]; rare ones take a plain transaction.

pub mod again;
pub mod api_key;
pub mod audit;
pub mod checkpoint;
pub mod claim;
pub mod confirm;
pub mod decline;
pub mod epoch;
pub mod erase;
pub mod expire;
pub mod export;
pub mod gate;
pub mod keyring;
pub mod prove;
pub mod publish;
pub mod receipt;
pub mod record;
pub mod register;
pub mod retention;
pub mod settle;
pub mod show;
pub mod signup;
pub mod start;
pub mod unsubscribe;
pub mod view;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::clock::{Clock, random};
use crate::domain::address::Address;
use crate::domain::consent::{Hash, Keep};
use crate::domain::delivery::{About, MessageKind, MessageState};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::limits::{Limits, Withheld};
use crate::domain::list::{Catalog, Facts, ListId, SenderId};
use crate::domain::pepper::{Keyed, Pepper};
use crate::domain::signup::Decline;
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::{self, Pool, Tx};
use crate::telemetry::logs::field;
use crate::telemetry::metrics::Metrics;
use crate::token::LinkKeys;

/// The secrets of an installation.
#[derive(Clone)]
pub struct Keys {
    /// Sign links.
    pub links: LinkKeys,
    /// Makes keyed hashes.
    pub pepper: Pepper,
    /// Sign checkpoints; the one that signs now comes first.
    pub trail: Vec<TrailKey>,
}

/// A key that signs checkpoints, or once did.
#[derive(Clone)]
pub struct TrailKey {
    /// Its id in the keyring.
    pub id: String,
    /// Whether it signs now.
    pub signs: bool,
    /// The seed of its Ed25519 key pair (RFC 8032).
    pub seed: Arc<Zeroizing<[u8; 32]>>,
}

/// What flows are told by configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits on confirmation mails.
    pub limits: Limits,
    /// Test addresses to which no limit applies.
    pub exempt: Vec<Address>,
    /// What is kept of IP addresses.
    pub keep_ip: Keep,
    /// What is kept of user agents.
    pub keep_user_agent: Keep,
    /// How long network facts are kept.
    pub keep_network: Duration,
    /// How far a lease reaches past the deadline of the phase in progress.
    pub lease_margin: Duration,
    /// The longest time from the write that carries DATA to the final reply.
    pub after_data: Duration,
    /// How long requests are remembered for their repeats.
    pub keep_requests: Duration,
    /// The name of this installation's trail; checkpoints carry it with the epoch.
    pub origin: String,
}

/// What every flow needs.
pub struct Flows {
    /// The database.
    pub pool: Pool,
    /// The time.
    pub clock: Clock,
    /// What configuration says.
    pub settings: Settings,
    /// The numbers that operators watch.
    pub metrics: Arc<Metrics>,
    /// Rings when a mail was queued.
    pub mail_waits: Notify,
    /// Rings when an event was written.
    pub event_waits: Notify,
    /// Rings when anything was written.
    pub written: Notify,
    /// Rings when a checkpoint was signed.
    pub checkpoint_signed: Notify,
    /// Rings when the database failed in a way that leaves earlier writes in doubt.
    pub broken: Notify,
    keys: RwLock<Arc<Keys>>,
    in_force: RwLock<Arc<InForce>>,
    facts: RwLock<HashMap<Hash, Arc<Facts>>>,
    exempt: BTreeSet<Keyed>,
}

impl Settings {
    /// Returns how long a claim holds without a sign of life while its mail waits for DATA. Nothing can have been
    /// sent until then, so another process may take over soon.
    pub fn short_lease(&self) -> Duration {
        2 * self.lease_margin
    }

    /// Returns how long a claim holds from DATA on: past the last moment at which the final reply may come.
    fn long_lease(&self) -> Duration {
        self.after_data + self.lease_margin
    }
}

/// The lists in force and the words that ever were.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Senders and lists.
    pub catalog: Catalog,
    /// Hashes of words that a signup may name.
    pub words: BTreeSet<(ListId, Hash)>,
}

/// Why a flow could not do its work; nothing of it is in force.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// More requests wait than the gate lets wait.
    #[error("too many requests wait for the database")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(Arc<store::Error>),
}

impl From<store::Error> for Error {
    /// Every failure of the database comes through here on its way to an answer, and is logged here, once.
    fn from(error: store::Error) -> Self {
        tracing::error!({ field::ERROR } = %error, "the database refused");
        Error::Store(Arc::new(error))
    }
}

impl Error {
    /// Tells whether trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Error::Busy => true,
            // After a failed disk the process ends: whoever asks again asks another one.
            Error::Store(error) => error.is_unavailable() || error.is_unknown() || error.is_fatal(),
        }
    }
}

impl Flows {
    /// Puts together what flows need.
    pub fn new(
        pool: Pool,
        clock: Clock,
        settings: Settings,
        metrics: Arc<Metrics>,
        keys: Keys,
        in_force: InForce,
    ) -> Self {
        let exempt = settings.exempt.iter().map(|a| keys.pepper.mailbox(a));
        let exempt = exempt.collect();
        let facts = in_force.catalog.lists();
        let facts = facts.map(|entry| (entry.hash, entry.facts.clone()));
        Self {
            facts: RwLock::new(facts.collect()),
            exempt,
            pool,
            clock,
            settings,
            metrics,
            mail_waits: Notify::new(),
            event_waits: Notify::new(),
            written: Notify::new(),
            checkpoint_signed: Notify::new(),
            broken: Notify::new(),
            keys: RwLock::new(Arc::new(keys)),
            in_force: RwLock::new(Arc::new(in_force)),
        }
    }

    /// Returns the keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts other link keys in force; the pepper never changes.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Returns the lists in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts other lists in force.
    pub fn set_in_force(&self, in_force: InForce) {
        self.facts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(in_force.catalog.lists().map(|e| (e.hash, e.facts.clone())));
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
    }

    /// Returns facts by hash: those in force, those seen before, else those kept in the database.
    async fn facts(&self, tx: &mut Tx, hash: Hash) -> Result<Arc<Facts>, store::Error> {
        if let Some(facts) = self.known_facts(hash) {
            return Ok(facts);
        }
        let facts = tx.facts(hash).await?;
        let facts = facts.ok_or_else(|| store::Error::corrupt("facts of a list are missing"))?;
        let facts = Arc::new(facts);
        self.facts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hash, facts.clone());
        Ok(facts)
    }

    fn known_facts(&self, hash: Hash) -> Option<Arc<Facts>> {
        let known = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).cloned()
    }

    /// Tells whether no limit applies to a mailbox.
    fn is_exempt(&self, mailbox: Keyed) -> bool {
        self.exempt.contains(&mailbox)
    }

    /// Says what happened, once it is on stable storage: a line each in the log, a number in the metrics, and a ring for
    /// those who number events and send mails.
    fn happened(&self, events: &[Event]) {
        for event in events {
            tell(event);
            self.count(event);
        }
        if events.iter().any(|event| may_queue(event.kind)) {
            self.mail_waits.notify_one();
        }
        self.event_waits.notify_one();
        self.written.notify_one();
    }

    fn count(&self, event: &Event) {
        let how = |name: &str| event.data.get(name).and_then(|value| value.as_str());
        match event.kind {
            EventKind::SignupAccepted => {
                let sender = event.sender.as_ref().map_or("", SenderId::as_str);
                self.metrics.signup_accepted(sender);
            }
            EventKind::SignupWithheld => {
                let reason = how("reason").and_then(Withheld::from_name);
                self.metrics
                    .signup_withheld(reason.map_or("", Withheld::as_str));
            }
            EventKind::SignupDeclined => {
                let how = how("how").and_then(Decline::from_name);
                self.metrics.decline(how.map_or("", Decline::as_str));
            }
            EventKind::SubscriptionConfirmed => self.metrics.confirm(),
            EventKind::SubscriptionUnsubscribed => {
                let by_header = how("how") == Some("one_click");
                self.metrics
                    .unsubscribe(if by_header { "one_click" } else { "page" });
            }
            EventKind::UnsubscribeRepeated => self.metrics.unsubscribe_repeated(),
            EventKind::MessageSent
            | EventKind::MessageDeferred
            | EventKind::MessageFailed
            | EventKind::MessageUnknown => {
                let kind = how("kind").and_then(MessageKind::from_name);
                let outcome = event.kind.as_str().trim_start_matches("message.");
                self.metrics
                    .message(kind.map_or("", MessageKind::as_str), outcome);
            }
            _ => {}
        }
    }

    fn event(&self, kind: EventKind, now: Timestamp, sender: Option<&SenderId>) -> Event {
        Event::of(random(), kind, now, sender)
    }
}

/// What becomes of a mail queues no other, and a further attempt has its own time.
fn may_queue(kind: EventKind) -> bool {
    use EventKind::*;
    !matches!(
        kind,
        MessageSent | MessageDeferred | MessageFailed | MessageUnknown | SignupWithheld
    )
}

/// Logs one event; it holds nothing personal, so neither does the line.
fn tell(event: &Event) {
    let text = |name: &str| event.data.get(name).map(plain);
    tracing::info!(
        { field::SENDER } = event.sender.as_ref().map(SenderId::as_str),
        { field::LIST } = event.list.as_ref().map(ListId::as_str),
        lists = text("lists"),
        { field::SIGNUP } = event.signup.map(tracing::field::display),
        { field::SUBSCRIBER } = event.subscriber.map(tracing::field::display),
        { field::MESSAGE } = event.message.map(tracing::field::display),
        { field::KIND } = text("kind"),
        how = text("how"),
        by = text("by"),
        { field::REASON } = text("reason"),
        { field::ATTEMPTS } = text("attempt"),
        { field::PHASE } = text("phase"),
        { field::CLASS } = text("cause"),
        { field::SMTP_CODE } = text("code"),
        { field::SMTP_ENHANCED } = text("enhanced"),
        next = text("next"),
        "{}",
        event.kind.as_str()
    );
}

/// A fact of an event without the quotes of JSON.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Makes a mail that is due at once.
fn mail(
    kind: MessageKind,
    now: Timestamp,
    sender: &SenderId,
    subscriber: SubscriberId,
    mailbox: Keyed,
    signup: Option<SignupId>,
    lists: Vec<About>,
) -> Message {
    Message {
        id: MessageId::new(now, random()),
        kind,
        state: MessageState::Queued,
        sender: sender.clone(),
        subscriber,
        mailbox,
        signup,
        lists,
        created_at: now,
        due_at: now,
        attempts: 0,
        ambiguous: 0,
        claims: 0,
        pinned: None,
        outcome: None,
        settled_at: None,
    }
}
