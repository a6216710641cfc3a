//! Proofs: that an event is in a tree, and that a tree is the beginning of another.

use std::collections::BTreeSet;

use super::{MissingTile, Node, TileId, Tiles, bag, node_hash};
use crate::domain::consent::Hash;

/// There is no such proof, or not from these tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A tile is not there.
    #[error(transparent)]
    Missing(#[from] MissingTile),
    /// The tree does not reach so far.
    #[error("{0} is outside a tree of {1}")]
    Outside(u64, u64),
}

/// Leaves `from..to`, whose root is one hash of a proof.
type Range = (u64, u64);

/// Names the tiles from which [`inclusion`] is made; none when there is no such leaf.
pub fn inclusion_tiles(index: u64, size: u64) -> BTreeSet<TileId> {
    tiles(&path(index, size).unwrap_or_default())
}

/// Proves that leaf `index`, from 0, is in the tree of `size` leaves (RFC 6962, section 2.1.1).
///
/// # Errors
/// When there is no such leaf, or a tile of [`inclusion_tiles`] is missing.
pub fn inclusion(index: u64, size: u64, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
    let path = path(index, size).ok_or(ProofError::Outside(index, size))?;
    Ok(hashes(&path, tiles)?)
}

/// Names the tiles from which [`consistency`] is made; none when there is no such proof.
pub fn consistency_tiles(from: u64, to: u64) -> BTreeSet<TileId> {
    tiles(&difference(from, to).unwrap_or_default())
}

/// Proves that the tree of `from` leaves is the beginning of that of `to` (RFC 6962, section 2.1.2).
///
/// The proof is empty for equal sizes, and for 0, with which every tree begins.
///
/// # Errors
/// When `from` is larger than `to`, or a tile of [`consistency_tiles`] is missing.
pub fn consistency(from: u64, to: u64, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
    let difference = difference(from, to).ok_or(ProofError::Outside(from, to))?;
    Ok(hashes(&difference, tiles)?)
}

/// PATH of RFC 6962, section 2.1.1, as ranges of leaves.
fn path(index: u64, size: u64) -> Option<Vec<Range>> {
    let (mut from, mut to) = (0, size);
    if index >= size {
        return None;
    }
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = middle(from, to);
        if index < middle {
            path.push((middle, to));
            to = middle;
        } else {
            path.push((from, middle));
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// SUBPROOF of RFC 6962, section 2.1.2, as ranges of leaves.
fn difference(size: u64, to: u64) -> Option<Vec<Range>> {
    if size > to {
        return None;
    }
    let (mut from, mut to) = (0, to);
    let mut difference = Vec::new();
    while size > 0 && size < to {
        let middle = middle(from, to);
        if size <= middle {
            difference.push((middle, to));
            to = middle;
        } else {
            difference.push((from, middle));
            from = middle;
        }
    }
    // Who asks has the root of the smaller tree, so it is left out when it is a node of the larger.
    if from > 0 {
        difference.push((from, to));
    }
    difference.reverse();
    Some(difference)
}

/// Returns where RFC 6962 splits a range of two or more: after the largest power of two that is smaller than it.
fn middle(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

fn tiles(ranges: &[Range]) -> BTreeSet<TileId> {
    let nodes = ranges.iter().flat_map(|&(from, to)| Node::split(from, to));
    nodes.map(|node| node.place().0).collect()
}

fn hashes(ranges: &[Range], tiles: &Tiles) -> Result<Vec<Hash>, MissingTile> {
    let mut hashes = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges {
        let nodes = Node::split(from, to).map(|node| node.hash(tiles));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        hashes.extend(bag(nodes.into_iter()));
    }
    Ok(hashes)
}

/// Tells whether a proof shows that leaf `index` of the tree with this root has this hash (RFC 9162, section 2.1.3.2).
pub fn verify_inclusion(
    leaf_hash: Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: Hash,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf_hash);
    for &sibling in proof {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, hash);
            while node % 2 == 0 && node != 0 {
                (node, last) = (node / 2, last / 2);
            }
        } else {
            hash = node_hash(hash, sibling);
        }
        (node, last) = (node / 2, last / 2);
    }
    last == 0 && hash == root
}

/// Tells whether a proof shows that one tree is the beginning of the other (RFC 9162, section 2.1.4.2).
///
/// Equal sizes need equal roots and no proof. The empty tree, of which the RFC does not speak, needs its own root and no proof.
pub fn verify_consistency(
    from: u64,
    from_root: Hash,
    to: u64,
    to_root: Hash,
    proof: &[Hash],
) -> bool {
    if from == to {
        return proof.is_empty() && from_root == to_root;
    }
    if from == 0 {
        return proof.is_empty() && from_root == Hash::of(b"");
    }
    if from > to {
        return false;
    }
    let (mut first, rest) = match proof.split_first() {
        None => return false,
        Some(_) if from.is_power_of_two() => (from_root, proof),
        Some((first, rest)) => (*first, rest),
    };
    let shared = (from - 1).trailing_ones();
    let (mut node, mut last) = ((from - 1) >> shared, (to - 1) >> shared);
    let mut second = first;
    for &sibling in rest {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            first = node_hash(sibling, first);
            second = node_hash(sibling, second);
            while node % 2 == 0 && node != 0 {
                (node, last) = (node / 2, last / 2);
            }
        } else {
            second = node_hash(second, sibling);
        }
        (node, last) = (node / 2, last / 2);
    }
    last == 0 && first == from_root && second == to_root
}
