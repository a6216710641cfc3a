//! API keys: made, listed and revoked by the operator; checked at each request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use tokio::time::Instant;

use super::{Error, Flows};
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::ApiKeyId;
use crate::domain::list::SenderId;
use crate::domain::time::Timestamp;
pub use crate::store::api_key::ApiKey;
use crate::store::{self, Pool};

/// What every key begins with, so that scanners of leaked secrets can tell it.
pub const PREFIX: &str = "confirmd_";
/// A revoked key opens nothing after this time.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Keys remembered at a time; a stranger's guesses must not fill memory.
const MOST: usize = 1024;

/// What a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Signups and lists.
    Signup,
    /// Lookup, eligibility, links, streams, events, consent records.
    Read,
    /// Consents, unsubscribes, reports, erasure, imports.
    Manage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 3] = [Scope::Signup, Scope::Read, Scope::Manage];

    /// Returns the name used on the command line and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Signup => "signup",
            Scope::Read => "read",
            Scope::Manage => "manage",
        }
    }
}

/// Makes a key and returns it with its secret, which is shown once and stored nowhere.
///
/// # Errors
/// When the database refuses.
pub async fn create(
    pool: &Pool,
    now: Timestamp,
    sender: &SenderId,
    scopes: &[Scope],
) -> Result<(ApiKey, String), store::Error> {
    let secret = format!("{PREFIX}{}", BASE64.encode(random::<32>()));
    let key = ApiKey {
        id: ApiKeyId::new(now, random()),
        sender: sender.clone(),
        scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        hash: Hash::of(secret.as_bytes()),
        created_at: now,
        revoked_at: None,
    };
    let mut tx = pool.begin().await?;
    tx.add_api_key(&key).await?;
    tx.append(&[event(EventKind::KeyCreated, now, &key)])
        .await?;
    tx.commit().await?;
    Ok((key, secret))
}

/// Revokes a key; returns whether it was in force.
///
/// # Errors
/// When the database refuses.
pub async fn revoke(pool: &Pool, now: Timestamp, id: ApiKeyId) -> Result<bool, store::Error> {
    let mut tx = pool.begin().await?;
    if !tx.revoke_api_key(id, now).await? {
        return Ok(false);
    }
    if let Some(key) = tx.api_keys().await?.into_iter().find(|key| key.id == id) {
        tx.append(&[event(EventKind::KeyRevoked, now, &key)])
            .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Returns all keys, revoked or not.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(pool: &Pool) -> Result<Vec<ApiKey>, store::Error> {
    pool.read().await?.api_keys().await
}

fn event(kind: EventKind, now: Timestamp, key: &ApiKey) -> Event {
    Event::of(random(), kind, now, Some(&key.sender))
        .with("key", key.id.to_string())
        .with("scopes", key.scopes.clone())
}

/// Keys that were looked up less than a second ago, and what was found.
#[derive(Default)]
pub struct Known(Mutex<HashMap<Hash, Looked>>);

type Looked = (Instant, Option<Arc<ApiKey>>);

impl Known {
    /// Returns the key in force that was presented, if it is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find(&self, flows: &Flows, presented: &str) -> Result<Option<Arc<ApiKey>>, Error> {
        let encoded = presented.strip_prefix(PREFIX).unwrap_or_default();
        if encoded.len() != 43 {
            return Ok(None);
        }
        // What is compared is the hash of 256 random bits: its timing tells nothing about the key.
        let hash = Hash::of(presented.as_bytes());
        let now = Instant::now();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, key)) = known.get(&hash)
                && now.duration_since(*at) < REMEMBERED
            {
                return Ok(key.clone());
            }
        }
        let found = flows.pool.read().await?.api_key(hash).await?;
        let found = found.filter(|key| key.revoked_at.is_none()).map(Arc::new);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(hash, (now, found.clone()));
        Ok(found)
    }
}
