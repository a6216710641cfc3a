//! Everything that can happen, one file each: lock, read, decide with `domain`, write state, events and mails in one
//! transaction.
//!
//! Hot flows take a batch and pass through a [`gate`]; rare ones take a plain transaction.

pub mod again;
pub mod api_key;
pub mod audit;
pub mod backup;
pub mod checkpoint;
pub mod claim;
pub mod confirm;
pub mod decline;
mod elsewhere;
pub mod epoch;
pub mod erase;
mod error;
pub mod expire;
pub mod export;
pub mod gate;
mod happened;
pub mod job;
pub mod jump;
mod key_file;
pub mod keyring;
pub mod lease;
pub mod prove;
pub mod publish;
pub mod quarantine;
pub mod receipt;
pub mod record;
pub mod register;
pub mod restore;
pub mod retention;
pub mod settle;
pub mod show;
pub mod signup;
pub mod space;
pub mod start;
pub mod unsubscribe;
pub mod view;
mod work;

pub use self::error::Error;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use self::space::Space;
use crate::clock::{Clock, random};
use crate::domain::address::Address;
use crate::domain::consent::{Hash, Keep};
use crate::domain::delivery::{About, MessageKind, MessageState};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::limits::Limits;
use crate::domain::list::{Catalog, Facts, ListId, SenderId};
use crate::domain::pepper::{Keyed, Pepper};
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::{self, Pool, Tx};
use crate::telemetry::metrics::Metrics;
use crate::token::{KeyId, LinkKeys};

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

impl Keys {
    /// Returns the ids of the keys that sign or verify, as numbers.
    pub fn ids(&self) -> Vec<u32> {
        let trail = self.trail.iter().filter_map(|key| key.id.parse().ok());
        self.links.ids().chain(trail).map(KeyId::number).collect()
    }
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
    /// Rings when other keys came into force.
    pub keys_changed: Notify,
    /// Rings when the database failed in a way that leaves earlier writes in doubt.
    pub broken: Notify,
    /// The room under the database.
    pub space: Space,
    /// Whether SQLite's write-ahead log may still hold what was erased from the file.
    pub traces: AtomicBool,
    /// What was seen of the clock.
    pub seen: jump::Seen,
    keys: RwLock<Arc<Keys>>,
    in_force: RwLock<Arc<InForce>>,
    facts: RwLock<HashMap<Hash, Arc<Facts>>>,
    /// Lists of which the log said that only others have them.
    told: Mutex<BTreeSet<ListId>>,
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
    /// The last revision of each list that changed its words materially.
    pub material: BTreeMap<ListId, i64>,
}

impl InForce {
    /// Tells whether nobody can join a list: it was taken out, or is not known.
    pub fn is_closed(&self, list: &ListId) -> bool {
        self.catalog.list(list).is_none_or(|entry| entry.closed)
    }

    /// Tells whether the words of a list changed materially after a revision.
    pub fn is_outdated(&self, list: &ListId, revision: i64) -> bool {
        self.material.get(list).is_some_and(|last| revision < *last)
    }

    /// Tells whether words of one revision renew a consent to those of another.
    fn renews(&self, list: &ListId, asked: u32, agreed: i64) -> bool {
        self.is_outdated(list, agreed) && !self.is_outdated(list, i64::from(asked))
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
        space: Space,
    ) -> Self {
        let exempt = settings.exempt.iter().map(|a| keys.pepper.mailbox(a));
        let exempt = exempt.collect();
        let facts = in_force.catalog.lists();
        let facts = facts.map(|entry| (entry.hash, entry.facts.clone()));
        Self {
            facts: RwLock::new(facts.collect()),
            told: Mutex::default(),
            exempt,
            pool,
            clock,
            settings,
            metrics,
            mail_waits: Notify::new(),
            event_waits: Notify::new(),
            written: Notify::new(),
            checkpoint_signed: Notify::new(),
            keys_changed: Notify::new(),
            broken: Notify::new(),
            space,
            // A process before this one may have erased something.
            traces: AtomicBool::new(true),
            seen: jump::Seen::default(),
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
        self.keys_changed.notify_one();
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

    fn event(&self, kind: EventKind, now: Timestamp, sender: Option<&SenderId>) -> Event {
        Event::of(random(), kind, now, sender)
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
        lost: 0,
        pinned: None,
        outcome: None,
        settled_at: None,
    }
}
