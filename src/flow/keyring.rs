//! The keyring: files that hold cryptographic keys, and the register that says which there must be.
//!
//! A file is `<purpose>-<id>.key` with 32 random bytes in base64url. Only the process that finds an empty register makes
//! the first ones; whoever lacks a registered key, or finds another in its place, refuses to start.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

use super::{Keys, TrailKey};
use crate::clock::random;
use crate::domain::consent::Hash;
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
        made.push(make(dir, purpose, state, now)?);
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
        let seed = read_file(dir, key)?;
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
        let file = read_file(dir, &key).map(drop);
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
    make_dir(dir)?;
    let key = make(dir, purpose, KeyState::Verify.as_str(), now)?;
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
    read_file(dir, key)?;
    let state = decide(key)?;
    let mut events = Vec::new();
    if state == KeyState::Sign {
        let number = KeyId::from_str(id).map_err(|_| KeyringError::Unknown(id.to_owned()))?;
        let lacking = tx.lacking(number.number()).await?;
        if lacking > 0 {
            return Err(KeyringError::Refused(format!(
                "{lacking} running daemons do not have the key {id}, and would know none of its links: copy its file into keys.dir of every host, send each daemon SIGHUP, then activate it"
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
        let secret = read_file(dir, key)?;
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

/// Refuses a folder that holds keys: where none is registered, the database that they belong to is another one.
///
/// # Errors
/// [`KeyringError::Stray`], or when the folder cannot be read.
pub fn refuse_stray(dir: &Path) -> Result<(), KeyringError> {
    let files = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        files => files.map_err(|error| cannot(dir, &error))?,
    };
    for file in files {
        let path = file.map_err(|error| cannot(dir, &error))?.path();
        if path.extension().is_some_and(|end| end == "key") {
            return Err(KeyringError::Stray(path.display().to_string()));
        }
    }
    Ok(())
}

fn path(dir: &Path, purpose: Purpose, id: &str) -> PathBuf {
    dir.join(format!("{}-{id}.key", purpose.as_str()))
}

fn read_file(dir: &Path, key: &Registered) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let path = path(dir, key.purpose, &key.id);
    let name = || path.display().to_string();
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => KeyringError::Missing(name()),
        _ => cannot(&path, &error),
    })?;
    let text = Zeroizing::new(text);
    let mode = fs::metadata(&path)
        .map_err(|error| cannot(&path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(KeyringError::Exposed {
            path: name(),
            mode: mode & 0o777,
        });
    }
    let mut secret = Zeroizing::new([0; 32]);
    match BASE64.decode_slice(text.trim_end(), secret.as_mut_slice()) {
        Ok(32) => {}
        _ => return Err(KeyringError::Malformed(name())),
    }
    if fingerprint(&secret) != key.fingerprint {
        return Err(KeyringError::Changed(name()));
    }
    Ok(secret)
}

fn make(
    dir: &Path,
    purpose: Purpose,
    state: &str,
    now: Timestamp,
) -> Result<Registered, KeyringError> {
    let secret = Zeroizing::new(random::<32>());
    let id = format!("{:08x}", u32::from_be_bytes(random()));
    let path = path(dir, purpose, &id);
    let text = Zeroizing::new(format!("{}\n", BASE64.encode(*secret)));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // The name must survive a power cut as well as the content.
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| cannot(&path, &error))?;
    Ok(Registered {
        id,
        purpose,
        state: state.to_owned(),
        fingerprint: fingerprint(&secret),
        created_at: now,
    })
}

fn make_dir(dir: &Path) -> Result<(), KeyringError> {
    fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))
}

fn fingerprint(secret: &[u8; 32]) -> Vec<u8> {
    let mut labelled = b"confirmd key fingerprint v1".to_vec();
    labelled.extend_from_slice(secret);
    Hash::of(&labelled).0[..16].to_vec()
}

fn cannot(path: &Path, error: &std::io::Error) -> KeyringError {
    KeyringError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
