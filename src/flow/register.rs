//! Lists come into force: what the configuration says is compared with what was registered, and kept by hash.

use std::collections::BTreeMap;

use super::InForce;
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::event::{Event, EventKind};
use crate::domain::list::{Catalog, Change, Entry, ListId};
use crate::domain::time::Timestamp;
use crate::store::list::{Registered, Words};
use crate::store::{self, Pool, Tx};
use crate::telemetry::logs::field;

/// Why a set of lists cannot come into force; the set before stays.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The list belonged to another sender.
    #[error(
        "lists.{list}.sender: {list} belongs to {sender}; a list never moves, consent given to one company is not another's"
    )]
    Moved {
        /// The list.
        list: String,
        /// Its sender.
        sender: String,
    },
    /// Title or words changed under the same number.
    #[error(
        "lists.{list}.revision: title or consent differ from revision {revision}; write revision = {next} and change = \"editorial\" or \"material\""
    )]
    SameRevision {
        /// The list.
        list: String,
        /// The registered revision.
        revision: i64,
        /// The next one.
        next: i64,
    },
    /// A lower number.
    #[error(
        "lists.{list}.revision: {given} is lower than {registered}, which is in force; words are never taken back, write a higher revision"
    )]
    Lower {
        /// The list.
        list: String,
        /// What the configuration says.
        given: i64,
        /// What is registered.
        registered: i64,
    },
    /// Nothing is configured, and something is open.
    #[error(
        "lists: none is configured, and {open} are open here ({names}); was the file cut off, or is it another one?"
    )]
    Nothing {
        /// How many are open.
        open: usize,
        /// Their names.
        names: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Registers the configured lists and returns what is in force.
///
/// # Errors
/// See [`RegisterError`]; then nothing was registered.
pub async fn register(
    pool: &Pool,
    catalog: Catalog,
    now: Timestamp,
) -> Result<InForce, RegisterError> {
    let mut tx = pool.begin().await?;
    tx.lock_registers().await?;
    let mut events = Vec::new();
    let registered = tx.registered_lists().await?;
    let before: BTreeMap<_, _> = registered.iter().map(|r| (&r.id, r)).collect();
    for entry in catalog.lists() {
        let old = before.get(&entry.facts.list.id).copied();
        if let Some(event) = one(&mut tx, entry, old, now).await? {
            events.push(event);
        }
    }
    let gone = left_out(&registered, &catalog);
    for gone in &gone {
        let closed = Registered {
            closed_at: Some(now),
            ..(*gone).clone()
        };
        tx.register_list(&closed).await?;
        events.push(event(EventKind::ListClosed, gone, now));
    }
    tx.append(&events).await?;
    let in_force = load(&mut tx, catalog).await?;
    tx.commit().await?;
    // To count takes a while where there is much: nobody has to wait for the end of a transaction meanwhile.
    for gone in gone {
        let Closing {
            list,
            subscriptions,
            signups,
        } = closing(&mut pool.read().await?, gone).await?;
        tracing::warn!(
            { field::LIST } = %list,
            subscriptions,
            signups,
            "a list is no longer configured: it is closed"
        );
    }
    Ok(in_force)
}

/// What else happens when a set of lists comes into force.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The material changes.
    pub material: Vec<Material>,
    /// The lists that are closed.
    pub closing: Vec<Closing>,
}

/// A material change that has not come into force yet.
#[derive(Clone, Debug)]
pub struct Material {
    /// Of which list.
    pub list: ListId,
    /// Subscriptions that it makes ineligible until they are renewed.
    pub subscriptions: i64,
}

/// A list that is no longer configured.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Which.
    pub list: ListId,
    /// Subscriptions that could be mailed.
    pub subscriptions: i64,
    /// Signups that nobody has decided yet.
    pub signups: i64,
}

/// Compares the configured lists with those registered, writing nothing.
///
/// # Errors
/// See [`RegisterError`].
pub async fn check(pool: &Pool, catalog: &Catalog) -> Result<Effects, RegisterError> {
    let mut tx = pool.read().await?;
    let mut effects = Effects::default();
    let registered = tx.registered_lists().await?;
    for gone in some_stay(&registered, catalog)? {
        effects.closing.push(closing(&mut tx, gone).await?);
    }
    for old in &registered {
        let Some(entry) = catalog.list(&old.id) else {
            continue;
        };
        let material = compare(entry, old)?;
        if material > old.material {
            effects.material.push(Material {
                subscriptions: tx.eligible_before(&old.id, material).await?,
                list: old.id.clone(),
            });
        }
    }
    Ok(effects)
}

/// Refuses a set without any list where some are open: most likely its file was cut off.
///
/// # Errors
/// [`RegisterError::Nothing`], or when the database refuses.
pub async fn refuse_nothing(pool: &Pool, catalog: &Catalog) -> Result<(), RegisterError> {
    let registered = pool.read().await?.registered_lists().await?;
    some_stay(&registered, catalog).map(drop)
}

fn some_stay<'r>(
    registered: &'r [Registered],
    catalog: &Catalog,
) -> Result<Vec<&'r Registered>, RegisterError> {
    let gone = left_out(registered, catalog);
    if catalog.lists().next().is_none() && !gone.is_empty() {
        let names: Vec<_> = gone.iter().map(|gone| gone.id.as_str()).collect();
        return Err(RegisterError::Nothing {
            open: gone.len(),
            names: names.join(", "),
        });
    }
    Ok(gone)
}

/// Finds the open lists that are not configured.
fn left_out<'r>(registered: &'r [Registered], catalog: &Catalog) -> Vec<&'r Registered> {
    let open = registered.iter().filter(|r| r.closed_at.is_none());
    open.filter(|r| catalog.list(&r.id).is_none()).collect()
}

async fn closing(tx: &mut Tx, gone: &Registered) -> Result<Closing, store::Error> {
    Ok(Closing {
        list: gone.id.clone(),
        subscriptions: tx.eligible_before(&gone.id, i64::MAX).await?,
        signups: tx.open_signups(&gone.id).await?,
    })
}

async fn one(
    tx: &mut Tx,
    entry: &Entry,
    old: Option<&Registered>,
    now: Timestamp,
) -> Result<Option<Event>, RegisterError> {
    let list = &entry.facts.list;
    let material = match old {
        Some(old) => compare(entry, old)?,
        None => i64::from(list.revision),
    };
    let new = Registered {
        id: list.id.clone(),
        sender: list.sender.clone(),
        revision: i64::from(list.revision),
        words: list.words_hash(),
        material,
        facts: entry.hash,
        closed_at: None,
    };
    if old.is_some_and(|old| old.facts == new.facts && old.closed_at.is_none()) {
        return Ok(None);
    }
    tx.keep_facts(&entry.facts, now).await?;
    let words = list.consent.iter().map(|(locale, body)| Words {
        list: list.id.clone(),
        hash: Hash::of(body.as_bytes()),
        locale: locale.clone(),
        body: body.clone(),
        revision: new.revision,
    });
    tx.keep_words(&words.collect::<Vec<_>>(), now).await?;
    tx.register_list(&new).await?;
    Ok(Some(event(EventKind::ListChanged, &new, now)))
}

/// Returns the last material revision, if the list may come into force.
fn compare(entry: &Entry, old: &Registered) -> Result<i64, RegisterError> {
    let list = &entry.facts.list;
    let name = || list.id.to_string();
    let revision = i64::from(list.revision);
    if old.sender != list.sender {
        return Err(RegisterError::Moved {
            list: name(),
            sender: old.sender.to_string(),
        });
    }
    if revision < old.revision {
        return Err(RegisterError::Lower {
            list: name(),
            given: revision,
            registered: old.revision,
        });
    }
    if revision == old.revision && list.words_hash() != old.words {
        return Err(RegisterError::SameRevision {
            list: name(),
            revision,
            next: revision + 1,
        });
    }
    let is_new = revision > old.revision && list.change == Some(Change::Material);
    Ok(if is_new { revision } else { old.material })
}

/// Adds closed lists from what was kept, and the words that were ever in force.
async fn load(tx: &mut Tx, mut catalog: Catalog) -> Result<InForce, store::Error> {
    let mut material = BTreeMap::new();
    for list in tx.registered_lists().await? {
        if list.closed_at.is_some() {
            let facts = tx.facts(list.facts).await?;
            let facts =
                facts.ok_or_else(|| store::Error::corrupt("facts of a list are missing"))?;
            catalog.add(facts, true);
        }
        material.insert(list.id, list.material);
    }
    Ok(InForce {
        material,
        words: tx.all_words().await?.into_iter().collect(),
        catalog,
    })
}

fn event(kind: EventKind, list: &Registered, now: Timestamp) -> Event {
    Event::of(random(), kind, now, Some(&list.sender))
        .list(&list.id)
        .with("revision", list.revision)
        .with("facts", list.facts.to_string())
}
