//! Whose signatures count.

use std::path::Path;

use crate::flow::checkpoint::origin;
use crate::flow::keyring::{KeyringError, trail_keys};
use crate::store::Pool;
use crate::trail::note::Verifier;

/// The public keys of an installation.
#[derive(Clone, Debug)]
pub enum Trusted {
    /// Those of its key files, whatever the epoch.
    Registered {
        /// The name of its trail, without the epoch.
        origin: String,
        /// The keys.
        keys: Vec<[u8; 32]>,
    },
    /// Those that were given out, each for its epoch.
    Given(Vec<Verifier>),
}

impl Trusted {
    /// Derives the public keys from the key files of the registered trail keys.
    ///
    /// # Errors
    /// When one is not here, or is not the one that was registered.
    pub async fn registered(pool: &Pool, dir: &Path, origin: String) -> Result<Self, KeyringError> {
        let keys = trail_keys(pool, dir, &origin).await?;
        Ok(Self::Registered { origin, keys })
    }

    /// Returns the keys whose checkpoints count in an epoch.
    pub fn keys(&self, epoch: u64) -> Vec<Verifier> {
        match self {
            Trusted::Given(keys) => keys.clone(),
            Trusted::Registered { origin, keys } => {
                let name = self::origin(origin, epoch);
                let keys = keys.iter().map(|key| Verifier::new(&name, *key));
                keys.filter_map(Result::ok).collect()
            }
        }
    }
}

/// Returns the epoch that a note says it is of.
pub(in crate::flow) fn epoch_of(note: &str) -> Option<u64> {
    let (_, epoch) = note.lines().next()?.rsplit_once('/')?;
    epoch.parse().ok()
}
