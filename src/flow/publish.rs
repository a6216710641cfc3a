//! What everybody may know of the trail: the keys that sign it, and the newest checkpoint.

use super::{Error, Flows};

/// What is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The name of the log in this epoch.
    pub origin: String,
    /// The epoch.
    pub epoch: u64,
    /// The keys of this epoch and of all before, the newest epoch first, in each the key that signs.
    pub keys: Vec<PublicKey>,
    /// The newest checkpoint, a signed note.
    pub checkpoint: Option<String>,
}

/// A public key of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its id in the keyring.
    pub id: String,
    /// Whether it signs now; else it did.
    pub signs: bool,
    /// The epoch, which is a part of its name.
    pub epoch: u64,
    /// The key as C2SP writes it: name, key id, public key.
    pub vkey: String,
}

/// Reads what is public.
///
/// # Errors
/// When the database cannot be read.
pub async fn published(flows: &Flows) -> Result<Published, Error> {
    let mut tx = flows.pool.read().await?;
    // In this order: an epoch that begins between the two has no checkpoint whose keys would be missing.
    let checkpoint = tx.last_checkpoint().await?.map(|kept| kept.note);
    let epoch = tx.trail_head().await?.epoch;
    let all = flows.keys();
    let mut keys = Vec::new();
    for epoch in (1..=epoch).rev() {
        let verifiers = all.verifiers(&flows.settings.origin, epoch)?;
        for (key, verifier) in all.trail.iter().zip(verifiers) {
            keys.push(PublicKey {
                id: key.id.clone(),
                signs: key.signs,
                epoch,
                vkey: verifier.to_string(),
            });
        }
    }
    Ok(Published {
        origin: flows.origin(epoch),
        epoch,
        keys,
        checkpoint,
    })
}
