//! What shows that an event is in the trail: its bytes and its way up to the root of a checkpoint.

use crate::domain::consent::Hash;
use crate::store::trail::Kept;
use crate::store::{Error, Tx};
use crate::trail::tree::{consistency, consistency_tiles, inclusion, inclusion_tiles};

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
