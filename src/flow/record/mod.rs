//! The consent record: the whole proof for one subscriber and list, in one file that needs nobody's word.
//!
//! | module | holds |
//! |---|---|
//! | [`document`] | the file |
//! | [`description`] | its first half: the fields of ISO/IEC TS 27560 |
//! | [`opened`] | events with the facts behind them |
//! | [`mod@describe`] | from evidence to the fields of ISO/IEC TS 27560 |
//! | [`verify`] | checks a file, offline |
//! | [`mail`] | the mails as they were sent |

pub mod describe;
pub mod description;
pub mod document;
pub mod mail;
pub mod opened;
mod sources;
mod step;
mod story;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::describe::{Basis, describe};
use self::document::{
    Base64, Checkpoint, Erased, Inclusion, PartText, Pending, Proven, Record, Records, SCHEMA_NAME,
    Stated,
};
use self::opened::{Opened, concerning};
use self::sources::Library;
use super::{Error, Keys, prove};
use crate::clock::random;
use crate::domain::address::Address;
use crate::domain::consent::Hash;
use crate::domain::event::{Event, EventKind};
use crate::domain::evidence::{Evidence, Part};
use crate::domain::id::{EventId, SubscriberId};
use crate::domain::list::{ListId, SenderId};
use crate::domain::time::Timestamp;
use crate::store::subscriber::Subscriber;
use crate::store::trail::Kept;
use crate::store::{self, Pool, Tx};
use crate::trail::leaf::Leaf;

/// Whose record, and for which list.
#[derive(Clone, Debug)]
pub struct Wanted<'w> {
    /// At which sender; what others know is not there.
    pub sender: &'w SenderId,
    /// Whose.
    pub subscriber: SubscriberId,
    /// For this list; for every list if none.
    pub list: Option<&'w ListId>,
}

/// What a record says of the installation.
pub struct Installation {
    /// The origin of its links.
    pub public_url: String,
    /// The name of its trail.
    pub trail: String,
    /// Its keys.
    pub keys: Arc<Keys>,
}

/// Makes the records of a subscriber in one reading of the database. None if the sender knows no such subscriber, or
/// nothing of that list.
///
/// # Errors
/// When the database cannot be read, or lacks what its events name.
pub async fn record(
    pool: &Pool,
    wanted: &Wanted<'_>,
    installation: &Installation,
    now: Timestamp,
) -> Result<Option<Records>, Error> {
    let mut tx = pool.snapshot().await?;
    Ok(read(&mut tx, wanted, installation, now).await?)
}

/// Makes the records of the subscriber with an address, and appends that they were handed out.
///
/// # Errors
/// As [`record`], and when the database refuses the event; then nothing is handed out.
pub async fn hand_out(
    pool: &Pool,
    sender: &SenderId,
    address: &Address,
    list: Option<&ListId>,
    installation: &Installation,
    now: Timestamp,
) -> Result<Option<Records>, Error> {
    let mut tx = pool.snapshot().await?;
    let identity = installation.keys.pepper.identity(sender, address);
    let Some(person) = tx.subscriber_at(sender, identity).await? else {
        return Ok(None);
    };
    let wanted = Wanted {
        sender,
        subscriber: person.id,
        list,
    };
    let Some(records) = read(&mut tx, &wanted, installation, now).await? else {
        return Ok(None);
    };
    drop(tx);
    exported(pool, &person, &records, now).await?;
    Ok(Some(records))
}

async fn exported(
    pool: &Pool,
    person: &Subscriber,
    records: &Records,
    now: Timestamp,
) -> Result<(), store::Error> {
    let lists = records.records.iter();
    let lists: Vec<&str> = lists
        .flat_map(|record| &record.description.purposes)
        .map(|purpose| purpose.id.as_str())
        .collect();
    let event = Event::of(
        random(),
        EventKind::SubscriberExported,
        now,
        Some(&person.sender),
    )
    .subscriber(person.id)
    .with("what", "consent_record")
    .with("by", "command")
    .with("lists", lists);
    let mut tx = pool.begin().await?;
    tx.hold_mailboxes_of(std::slice::from_ref(person)).await?;
    tx.append(&[event]).await?;
    tx.commit().await
}

async fn read(
    tx: &mut Tx,
    wanted: &Wanted<'_>,
    installation: &Installation,
    now: Timestamp,
) -> Result<Option<Records>, store::Error> {
    let known = tx.subscribers(&[wanted.subscriber]).await?;
    if !known.iter().any(|person| person.sender == *wanted.sender) {
        return Ok(None);
    }
    let events = events(tx, wanted).await?;
    let in_force: BTreeMap<ListId, Hash> = tx
        .registered_lists()
        .await?
        .into_iter()
        .map(|list| (list.id, list.facts))
        .collect();
    let named: BTreeSet<ListId> = events
        .iter()
        .flat_map(Opened::lists)
        .filter_map(|name| name.parse().ok())
        .filter(|name| wanted.list.is_none_or(|list| list == name))
        .collect();
    if named.is_empty() && wanted.list.is_some() {
        return Ok(None);
    }
    let library = Library::read(tx, &events, named.iter().filter_map(|l| in_force.get(l))).await?;
    let checkpoint = checkpoint(tx, &events).await?;
    let verifiers = match &checkpoint {
        Some(kept) => installation
            .keys
            .verifiers(&installation.trail, kept.epoch)?,
        None => Vec::new(),
    };
    let verifier_keys: Vec<_> = verifiers.iter().map(ToString::to_string).collect();
    let mut records = Vec::with_capacity(named.len());
    for list in &named {
        let about = concerning(&events, list, &library.read);
        let in_force = in_force.get(list).copied();
        let stated = Stated {
            generated_at: now,
            confirmd: env!("CARGO_PKG_VERSION").to_owned(),
            public_url: installation.public_url.clone(),
            in_force: in_force
                .ok_or_else(|| store::Error::corrupt("an event's list was never registered"))?,
            events: about.iter().map(|event| event.leaf.id).collect(),
        };
        let sources = library.sources(tx, &about, &stated).await?;
        let basis = Basis {
            stated: &stated,
            list,
            subscriber: wanted.subscriber,
            events: &about,
            facts: &library.read,
            texts: &sources.texts,
        };
        let description =
            describe(&basis).map_err(|error| store::Error::corrupt(error.to_string()))?;
        let mut evidence = Vec::with_capacity(about.len());
        for event in &about {
            evidence.push(proven(tx, event, &about, checkpoint.as_ref()).await?);
        }
        records.push(Record {
            description,
            stated,
            evidence,
            checkpoint: checkpoint.as_ref().map(|kept| Checkpoint {
                note: kept.note.clone(),
                stamp: kept.stamp.clone().map(Base64),
                verifier_keys: verifier_keys.clone(),
            }),
            sources,
        });
    }
    Ok(Some(Records {
        schema: SCHEMA_NAME,
        records,
    }))
}

/// Reads all events of a subscriber that the sender may see, with the facts behind them.
async fn events(tx: &mut Tx, wanted: &Wanted<'_>) -> Result<Vec<Opened>, store::Error> {
    let mut facts: BTreeMap<EventId, BTreeMap<Part, Evidence>> = BTreeMap::new();
    for kept in tx.evidence_of(wanted.subscriber).await? {
        let parts = facts.entry(kept.event).or_default();
        parts.insert(kept.evidence.part, kept.evidence);
    }
    let mut events = Vec::new();
    for (seq, bytes) in tx.leaves_of(wanted.subscriber).await? {
        let leaf = Leaf::decode(&bytes);
        let leaf = leaf.map_err(|error| store::Error::corrupt(error.to_string()))?;
        // Without a sender it is the operator's: a limit of the installation is not told to senders.
        if leaf.sender.as_ref() == Some(wanted.sender) {
            let parts = facts.remove(&leaf.id).unwrap_or_default();
            events.push(Opened {
                seq,
                bytes,
                leaf,
                parts,
            });
        }
    }
    Ok(events)
}

/// The first checkpoint over all these events that has a time stamp; else the newest, unless it belongs to a trail that
/// was lost.
async fn checkpoint(tx: &mut Tx, events: &[Opened]) -> Result<Option<Kept>, store::Error> {
    let head = tx.trail_head().await?;
    let numbers: Option<Vec<u64>> = events.iter().map(|event| event.seq).collect();
    if let Some(last) = numbers.and_then(|numbers| numbers.into_iter().max())
        && let Some(stamped) = tx.stamped_checkpoint(head.epoch, last).await?
    {
        return Ok(Some(stamped));
    }
    let last = tx.last_checkpoint().await?;
    Ok(last.filter(|last| last.epoch == head.epoch && last.size <= head.size))
}

async fn proven(
    tx: &mut Tx,
    event: &Opened,
    all: &[&Opened],
    checkpoint: Option<&Kept>,
) -> Result<Proven, store::Error> {
    let proof = match (event.seq, checkpoint) {
        (Some(seq), Some(at)) => prove::event(tx, seq, at)
            .await?
            .map(|hashes| (at.size, hashes)),
        _ => None,
    };
    let gone = event
        .leaf
        .evidence
        .keys()
        .filter(|part| !event.parts.contains_key(part));
    Ok(Proven {
        seq: event.seq,
        leaf: Base64(event.bytes.clone()),
        parts: event
            .parts
            .values()
            .map(|kept| PartText {
                part: kept.part,
                key: Base64(kept.key.to_vec()),
                body: kept.body.clone(),
            })
            .collect(),
        erased: gone.filter_map(|part| erasure(event, *part, all)).collect(),
        proof: match proof {
            Some((size, hashes)) => Inclusion::Proof {
                size,
                hashes: hashes.iter().map(|hash| Base64(hash.0.to_vec())).collect(),
            },
            None => Inclusion::Pending(Pending::Pending),
        },
    })
}

/// Finds the event that says that a part was erased.
fn erasure(event: &Opened, part: Part, all: &[&Opened]) -> Option<Erased> {
    let mut says = all
        .iter()
        .filter_map(|one| Some((one.leaf.id, one.erases()?)));
    says.find_map(|(by, (of, erased, reason))| {
        (of == event.leaf.id && erased == part).then(|| Erased {
            part,
            by,
            reason: reason.to_owned(),
        })
    })
}
