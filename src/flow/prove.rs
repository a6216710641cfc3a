//! What shows that an event is in the trail: its bytes and its way up to the root of a checkpoint.

use super::audit::trusted::Trusted;
use crate::domain::consent::Hash;
use crate::store::trail::Kept;
use crate::store::{Error, Tx};
use crate::trail::note::Checkpoint;
use crate::trail::tree::{
    consistency, consistency_tiles, edge, inclusion, inclusion_tiles, leaf_hash, root,
    verify_consistency, verify_inclusion,
};

/// Returns the hashes that lead from an event up to the root of a checkpoint (RFC 6962, section 2.1.1); none if the
/// checkpoint does not reach that far.
///
/// # Errors
/// When the database cannot be read, or its tree lacks what the checkpoint says it has.
pub async fn event(tx: &mut Tx, seq: u64, at: &Kept) -> Result<Option<Vec<Hash>>, Error> {
    if seq == 0 || seq > at.size {
        return Ok(None);
    }
    let tiles = tx.tiles(inclusion_tiles(seq - 1, at.size)).await?;
    let proof = inclusion(seq - 1, at.size, &tiles);
    proof
        .map(Some)
        .map_err(|error| Error::corrupt(error.to_string()))
}

/// Returns the hashes that show that a longer trail only continues a shorter one (RFC 6962, section 2.1.2).
///
/// # Errors
/// When the database cannot be read, the first is longer than the second, or the tree is shorter than that.
pub async fn growth(tx: &mut Tx, from: u64, to: u64) -> Result<Vec<Hash>, Error> {
    let tiles = tx.tiles(consistency_tiles(from, to)).await?;
    consistency(from, to, &tiles).map_err(|error| Error::corrupt(error.to_string()))
}

/// An event and what shows that it is in the trail.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// The hashes that lead up to the root.
    pub proof: Vec<Hash>,
    /// What was signed over it.
    pub checkpoint: Kept,
}

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is no such event, or it has no number yet.
    #[error("there is no event {0} in the trail")]
    Unknown(String),
    /// Nothing was signed over it.
    #[error("event {0} is under no checkpoint yet; `confirmd serve` signs one within a minute")]
    Waiting(u64),
    /// The proof proves nothing.
    #[error("{0}; run: confirmd audit verify")]
    Broken(String),
}

/// Proves that an event is in the trail, and checks the proof as whoever gets it will.
///
/// # Errors
/// When the database cannot be read.
pub async fn proven(
    tx: &mut Tx,
    seq: u64,
    trusted: &Trusted,
) -> Result<Result<Proven, Unproven>, Error> {
    let unknown = Ok(Err(Unproven::Unknown(seq.to_string())));
    if seq == 0 {
        return unknown;
    }
    let found = tx.leaves_after(seq - 1, 1).await?.pop();
    let Some((_, leaf)) = found.filter(|(found, _)| *found == seq) else {
        return unknown;
    };
    let over = tx.last_checkpoint().await?;
    let Some(checkpoint) = over.filter(|kept| kept.size >= seq) else {
        return Ok(Err(Unproven::Waiting(seq)));
    };
    let broken = |why: String| Ok(Err(Unproven::Broken(why)));
    let signed = match Checkpoint::open(&checkpoint.note, &trusted.keys(checkpoint.epoch)) {
        Ok(signed) => signed,
        Err(error) => return broken(format!("the checkpoint over event {seq}: {error}")),
    };
    let proof = match event(tx, seq, &checkpoint).await {
        Ok(proof) => proof.unwrap_or_default(),
        Err(error) if error.is_defect() => return broken(format!("event {seq}: {error}")),
        Err(error) => return Err(error),
    };
    let hash = leaf_hash(&leaf);
    if !verify_inclusion(hash, seq - 1, signed.size, &proof, signed.root) {
        return broken(format!("event {seq} is not the one that was signed"));
    }
    Ok(Ok(Proven {
        seq,
        leaf,
        proof,
        checkpoint,
    }))
}

/// Two sizes of the trail and what shows that the larger continues the smaller.
#[derive(Clone, Debug)]
pub struct Grown {
    /// Root and checkpoint of the smaller.
    pub from: (Hash, Option<Kept>),
    /// Root and checkpoint of the larger.
    pub to: (Hash, Option<Kept>),
    /// The hashes.
    pub proof: Vec<Hash>,
}

/// Proves that the trail only grew, and checks the proof and what was signed at both sizes.
///
/// # Errors
/// When the database cannot be read.
pub async fn grown(
    tx: &mut Tx,
    (from, to): (u64, u64),
    trusted: &Trusted,
) -> Result<Result<Grown, Unproven>, Error> {
    let broken = |why: String| Ok(Err(Unproven::Broken(why)));
    if to > tx.trail_head().await?.size {
        return Ok(Err(Unproven::Unknown(to.to_string())));
    }
    let mut ends = Vec::new();
    for size in [from, to] {
        let Ok(root) = root(size, &tx.tiles(edge(size)).await?) else {
            return broken(format!("the tree over {size} events lacks a part"));
        };
        let kept = tx.checkpoints_between(size, size).await?.pop();
        if let Some(kept) = &kept {
            match Checkpoint::open(&kept.note, &trusted.keys(kept.epoch)) {
                Ok(signed) if signed.root == root => {}
                Ok(_) => return broken(format!("other events were signed than these {size}")),
                Err(error) => return broken(format!("the checkpoint over {size} events: {error}")),
            }
        }
        ends.push((root, kept));
    }
    let proof = match growth(tx, from, to).await {
        Ok(proof) => proof,
        Err(error) if error.is_defect() => return broken(error.to_string()),
        Err(error) => return Err(error),
    };
    let (to_end, from_end) = (ends.pop(), ends.pop());
    match from_end.zip(to_end) {
        Some((a, b)) if verify_consistency(from, a.0, to, b.0, &proof) => Ok(Ok(Grown {
            from: a,
            to: b,
            proof,
        })),
        _ => broken(format!(
            "the first {from} events are not the beginning of the {to}"
        )),
    }
}
