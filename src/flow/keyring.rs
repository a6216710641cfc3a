//! The keyring: files that hold cryptographic keys, and the register that says which there must be.
//!
//! Only the process that finds an empty register makes the first ones; whoever lacks a registered key, or finds another in
//! its place, refuses to start.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

pub use super::key_file::refuse_stray;
use super::key_file::{self, make, make_dir};
use super::{Keys, TrailKey};
use crate::clock::random;
use crate::domain::event::{Event, EventKind};
use crate::domain::pepper::Pepper;
use crate::domain::time::Timestamp;
use crate::store::keyring::{Purpose, Registered};
use crate::store::{self, Pool};
use crate::token::{KeyId, KeyState, LinkKeys};
use crate::trail::note::Signer;

/// Why the keys cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A registered key has no file.
    #[error(
        "the key file {0} is missing; copy it from the host that has it, or from the backup: links and records depend on it"
    )]
    Missing(String),
    /// A file does not hold the key that was registered.
    #[error(
        "the key file {0} does not hold the key that is registered (another fingerprint); put the right file back"
    )]
    Changed(String),
    /// A file does not hold a key at all.
    #[error("the key file {0} does not hold 32 bytes in base64url")]
    Malformed(String),
    /// Others may read the file.
    #[error("the key file {path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The folder or a file cannot be read or written.
    #[error("keys.dir: {path}: {reason}")]
    File {
        /// The file or folder.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// There is a key, and the register is empty.
    #[error(
        "the database knows of no keys, but {0} is there. Is database.url another database than before? Then correct it, or put a backup back with `confirmd restore`. If this is a new installation, or its first start was cut off, move the files out of keys.dir and start again"
    )]
    Stray(String),
    /// No such key.
    #[error("no key {0} that signs is registered; `confirmd keyring list` shows those that are")]
    Unknown(String),
    /// The change makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Opens the keyring, making the first keys if the register is empty.
///
/// # Errors
/// See [`KeyringError`].
pub async fn open(pool: &Pool, dir: &Path, now: Timestamp) -> Result<Keys, KeyringError> {
    let registered = pool.read().await?.keyring().await?;
    if !registered.is_empty() {
        return read(dir, &registered);
    }
    let mut tx = pool.begin().await?;
    tx.lock_registers().await?;
    let registered = tx.keyring().await?;
    if !registered.is_empty() {
        return read(dir, &registered);
    }
    refuse_stray(dir)?;
    make_dir(dir)?;
    let first = [
        (Purpose::Links, KeyState::Sign.as_str()),
        (Purpose::Pepper, "in use"),
        (Purpose::Trail, KeyState::Sign.as_str()),
    ];
    let mut made = Vec::new();
    for (purpose, state) in first {
        made.push(make(dir, purpose, state, now, None)?);
    }
    for key in &made {
        tx.register_key(key).await?;
    }
    tx.append(&made.iter().map(|key| event(key, now)).collect::<Vec<_>>())
        .await?;
    tx.commit().await?;
    read(dir, &made)
}

/// Opens the keyring of an installation that has one; none where nothing is registered yet.
///
/// # Errors
/// See [`KeyringError`].
pub async fn open_existing(pool: &Pool, dir: &Path) -> Result<Option<Keys>, KeyringError> {
    let registered = pool.read().await?.keyring().await?;
    if registered.is_empty() {
        return Ok(None);
    }
    read(dir, &registered).map(Some)
}

/// Returns the public halves of the registered trail keys, derived from their files.
///
/// # Errors
/// See [`KeyringError`].
pub async fn trail_keys(
    pool: &Pool,
    dir: &Path,
    origin: &str,
) -> Result<Vec<[u8; 32]>, KeyringError> {
    let registered = pool.read().await?.keyring().await?;
    let trail = registered.iter().filter(|k| k.purpose == Purpose::Trail);
    let keys = trail.map(|key| {
        let seed = key_file::read(dir, key)?;
        let signer = Signer::new(origin, &seed);
        let signer = signer.map_err(|error| KeyringError::Refused(error.to_string()))?;
        Ok(signer.verifier().public_key())
    });
    keys.collect()
}

/// Returns the registered keys, each with what is wrong with its file.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(
    pool: &Pool,
    dir: &Path,
) -> Result<Vec<(Registered, Result<(), KeyringError>)>, store::Error> {
    let registered = pool.read().await?.keyring().await?;
    let looked = registered.into_iter().map(|key| {
        let file = key_file::read(dir, &key).map(drop);
        (key, file)
    });
    Ok(looked.collect())
}

/// Makes a key that verifies and does not yet sign, and returns it.
///
/// # Errors
/// See [`KeyringError`].
pub async fn add(
    pool: &Pool,
    dir: &Path,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Registered, KeyringError> {
    if purpose == Purpose::Pepper {
        let why = "there is one pepper, for good: every keyed hash of an address rests on it";
        return Err(KeyringError::Refused(why.to_owned()));
    }
    let registered = pool.read().await?.keyring().await?;
    let Some(other) = registered.first() else {
        let why = "nothing is known yet: the first `confirmd serve` makes the first keys";
        return Err(KeyringError::Refused(why.to_owned()));
    };
    let owner = key_file::owner(dir, other)?;
    let key = make(dir, purpose, KeyState::Verify.as_str(), now, Some(owner))?;
    let mut tx = pool.begin().await?;
    tx.register_key(&key).await?;
    tx.append(&[event(&key, now)]).await?;
    tx.commit().await?;
    Ok(key)
}

/// Lets a key sign; the one of its purpose that signed before verifies from now on. Refused while a process runs that does
/// not have it; one that starts later refuses to start without it.
///
/// # Errors
/// See [`KeyringError`].
pub async fn activate(
    pool: &Pool,
    dir: &Path,
    id: &str,
    now: Timestamp,
) -> Result<(), KeyringError> {
    change(pool, dir, id, now, |key| match key.state.as_str() {
        "unsubscribe-only" => Err(KeyringError::Refused(format!(
            "the key {id} was declared compromised; it never signs again"
        ))),
        _ => Ok(KeyState::Sign),
    })
    .await
}

/// Declares a link key compromised: its links may still leave, and do nothing else. Another key must sign.
///
/// # Errors
/// See [`KeyringError`].
pub async fn compromise(
    pool: &Pool,
    dir: &Path,
    id: &str,
    now: Timestamp,
) -> Result<(), KeyringError> {
    change(pool, dir, id, now, |key| match key.state.as_str() {
        _ if key.purpose == Purpose::Trail => Err(KeyringError::Refused(format!(
            "{id} is a trail key: add and activate another; what {id} signed counts as far as an outside copy has it"
        ))),
        "sign" => Err(KeyringError::Refused(format!(
            "the link key {id} signs; first run `confirmd keyring add` and `confirmd keyring activate` for another"
        ))),
        _ => Ok(KeyState::UnsubscribeOnly),
    })
    .await
}

async fn change(
    pool: &Pool,
    dir: &Path,
    id: &str,
    now: Timestamp,
    decide: impl FnOnce(&Registered) -> Result<KeyState, KeyringError>,
) -> Result<(), KeyringError> {
    let mut tx = pool.begin().await?;
    tx.lock_registers().await?;
    let registered = tx.keyring().await?;
    let signs = |k: &&Registered| k.purpose != Purpose::Pepper;
    let key = registered.iter().filter(signs).find(|key| key.id == id);
    let key = key.ok_or_else(|| KeyringError::Unknown(id.to_owned()))?;
    key_file::read(dir, key)?;
    let state = decide(key)?;
    let mut events = Vec::new();
    if state == KeyState::Sign {
        let number = KeyId::from_str(id).map_err(|_| KeyringError::Unknown(id.to_owned()))?;
        let lacking = tx.lacking(number.number()).await?;
        if lacking > 0 {
            return Err(KeyringError::Refused(format!(
                "{lacking} running daemons do not have the key {id}, and would not know what it signs: copy its file into keys.dir of every host, send each daemon SIGHUP, then activate it"
            )));
        }
        let others = registered.iter().filter(|k| k.purpose == key.purpose);
        for old in others.filter(|k| k.state == "sign" && k.id != id) {
            let old = Registered {
                state: KeyState::Verify.as_str().to_owned(),
                ..old.clone()
            };
            tx.set_key_state(&old.id, &old.state).await?;
            events.push(event(&old, now));
        }
    }
    if key.state != state.as_str() {
        let key = Registered {
            state: state.as_str().to_owned(),
            ..key.clone()
        };
        tx.set_key_state(id, &key.state).await?;
        events.push(event(&key, now));
    }
    tx.append(&events).await?;
    tx.commit().await?;
    Ok(())
}

fn event(key: &Registered, now: Timestamp) -> Event {
    Event::of(random(), EventKind::KeyringChanged, now, None)
        .with("key", key.id.clone())
        .with("purpose", key.purpose.as_str())
        .with("state", key.state.clone())
}

fn read(dir: &Path, registered: &[Registered]) -> Result<Keys, KeyringError> {
    let (mut links, mut trail) = (Vec::new(), Vec::new());
    let mut pepper = None;
    for key in registered {
        let secret = key_file::read(dir, key)?;
        match key.purpose {
            Purpose::Pepper => pepper = Some(Pepper::new(&secret)),
            Purpose::Trail => trail.push(TrailKey {
                id: key.id.clone(),
                signs: key.state == KeyState::Sign.as_str(),
                seed: Arc::new(secret),
            }),
            Purpose::Links => {
                let state = KeyState::from_name(&key.state);
                let (Ok(id), Some(state)) = (key.id.parse(), state) else {
                    return Err(store::Error::corrupt("the keyring holds an unknown key").into());
                };
                links.push((id, state, *secret));
            }
        }
    }
    let links = LinkKeys::new(links);
    trail.sort_by_key(|key| !key.signs);
    match (links, pepper, trail.iter().any(|key| key.signs)) {
        (Some(links), Some(pepper), true) => Ok(Keys {
            links,
            pepper,
            trail,
        }),
        _ => Err(store::Error::corrupt("the keyring lacks a pepper or a signing key").into()),
    }
}
