//! The Merkle tree of RFC 6962, section 2.1, with SHA-256, kept as tiles of 256 hashes.
//!
//! A tile is a stretch of one level ([C2SP tlog-tiles](https://c2sp.org/tlog-tiles), height 8). On level 0 its hashes are
//! leaf hashes; on every level above, a hash is the root of the full tile below it:
//!
//! ```text
//! level 1   [ 0/0  0/1  ... ]            entry n is the root of tile n of level 0
//! level 0   [ leaf 0 .. 255 ] [ leaf 256 .. 511 ] [ leaf 512 .. ]   <- the unfinished ones are the edge
//! ```
//!
//! Nodes between two levels are hashed from the tile when they are asked for. Tiles only ever grow at their end, so a
//! tile that was read from a larger tree serves every smaller one.

mod proof;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::consent::Hash;

pub use proof::{
    ProofError, consistency, consistency_tiles, inclusion, inclusion_tiles, verify_consistency,
    verify_inclusion,
};

/// How many levels of the binary tree one level of tiles spans.
const HEIGHT: u32 = 8;
/// How many hashes a full tile holds.
pub const WIDTH: usize = 1 << HEIGHT;

/// Hashes a leaf (RFC 6962, section 2.1: the byte 0, then the leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0])
            .chain_update(leaf)
            .finalize()
            .into(),
    )
}

/// Hashes an inner node (RFC 6962, section 2.1: the byte 1, then both children).
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash::of(&bytes)
}

/// The place of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for leaf hashes.
    pub level: u8,
    /// The place in its level, from 0.
    pub index: u64,
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.index)
    }
}

/// The hashes of a tile, 1 to 256; fewer than 256 only at the right end of its level.
pub type Tile = Vec<Hash>;

/// Tiles by their place.
pub type Tiles = BTreeMap<TileId, Tile>;

/// A tile that was needed is not there, or holds fewer hashes than its tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tile {tile} is needed with {hashes} hashes")]
pub struct MissingTile {
    /// Its place.
    pub tile: TileId,
    /// How many of its hashes are needed.
    pub hashes: usize,
}

/// Returns the unfinished tiles of a tree: all that [`append`], [`root`] and [`Frontier::from_tiles`] need.
pub fn edge(size: u64) -> Vec<TileId> {
    let unfinished = |level| {
        let (tile, hashes) = end(size, level);
        (hashes > 0).then_some(tile)
    };
    (0..8).filter_map(unfinished).collect()
}

/// Returns the tile at the right end of a level, and how many hashes it holds, 0 to 255.
fn end(size: u64, level: u8) -> (TileId, usize) {
    let entries = size >> (HEIGHT * u32::from(level));
    let tile = TileId {
        level,
        index: entries >> HEIGHT,
    };
    (tile, entries as usize % WIDTH)
}

/// Appends leaves to a tree of `size` leaves; returns every tile that is new or has grown, whole.
///
/// Of an edge tile only what a tree of `size` has is used. Costs two hashes a leaf, whatever the size.
///
/// # Errors
/// When a tile of [`edge`] is missing.
pub fn append(size: u64, edge: &Tiles, leaves: &[Hash]) -> Result<Tiles, MissingTile> {
    let mut changed = Tiles::new();
    let mut entries = leaves.to_vec();
    for level in 0..8 {
        if entries.is_empty() {
            break;
        }
        let (mut id, kept) = end(size, level);
        let mut tile = read(edge, id, 0..kept)?.to_vec();
        let mut roots = Tile::new();
        for entry in entries {
            tile.push(entry);
            if tile.len() == WIDTH {
                roots.push(fold(&tile));
                changed.insert(id, std::mem::take(&mut tile));
                id.index += 1;
            }
        }
        if !tile.is_empty() {
            changed.insert(id, tile);
        }
        entries = roots;
    }
    Ok(changed)
}

/// Returns the root of a tree from its [`edge`]; that of the empty tree is the hash of nothing.
///
/// # Errors
/// When a tile of [`edge`] is missing.
pub fn root(size: u64, tiles: &Tiles) -> Result<Hash, MissingTile> {
    Ok(Frontier::from_tiles(size, tiles)?.root())
}

/// A complete subtree: the node above leaves `index << height` and the `1 << height` that begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    height: u32,
    index: u64,
}

impl Node {
    /// Splits a range into complete subtrees, from left to right and so from large to small.
    ///
    /// `from` is 0 or a multiple of a power of two that is not below the length, as it is in all ranges of RFC 6962.
    fn split(from: u64, to: u64) -> impl Iterator<Item = Node> {
        let mut at = from;
        std::iter::from_fn(move || {
            let height = (to - at).checked_ilog2()?;
            let index = at >> height;
            at += 1 << height;
            Some(Node { height, index })
        })
    }

    /// Returns the tile that has this node inside it or, for a height of whole levels, as an entry; and the place there.
    fn place(self) -> (TileId, std::ops::Range<usize>) {
        let within = self.height % HEIGHT;
        let first = self.index << within;
        let tile = TileId {
            level: (self.height / HEIGHT) as u8,
            index: first >> HEIGHT,
        };
        let start = first as usize % WIDTH;
        (tile, start..start + (1 << within))
    }

    fn hash(self, tiles: &Tiles) -> Result<Hash, MissingTile> {
        let (tile, place) = self.place();
        Ok(fold(read(tiles, tile, place)?))
    }
}

fn read(
    tiles: &Tiles,
    tile: TileId,
    place: std::ops::Range<usize>,
) -> Result<&[Hash], MissingTile> {
    let hashes = place.end;
    if hashes == 0 {
        return Ok(&[]);
    }
    tiles
        .get(&tile)
        .and_then(|all| all.get(place))
        .ok_or(MissingTile { tile, hashes })
}

/// Hashes a power of two of sibling nodes up to the node above them all.
fn fold(nodes: &[Hash]) -> Hash {
    let mut row = nodes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks_exact(2)
            .map(|pair| node_hash(pair[0], pair[1]))
            .collect();
    }
    row[0]
}

/// Returns the root over a full tile: what the level above holds for it.
///
/// # Panics
/// When there is nothing in the tile.
pub fn tile_root(hashes: &[Hash]) -> Hash {
    fold(hashes)
}

/// Hashes the complete subtrees of a range, from left to right, up to the root of the range.
fn bag(nodes: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    nodes.rev().reduce(|right, left| node_hash(left, right))
}

/// The right edge of a growing tree and nothing else: at most 64 hashes, to verify a stream of any length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete subtrees, one for each bit of the size, from the largest.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Begins with the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with a tree of which the [`edge`] is at hand.
    ///
    /// # Errors
    /// When a tile of [`edge`] is missing.
    pub fn from_tiles(size: u64, tiles: &Tiles) -> Result<Self, MissingTile> {
        let subtrees = Node::split(0, size).map(|node| node.hash(tiles));
        Ok(Self {
            size,
            subtrees: subtrees.collect::<Result<_, _>>()?,
        })
    }

    /// Takes the hash of the next leaf.
    pub fn push(&mut self, leaf_hash: Hash) {
        let mut node = leaf_hash;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                node = node_hash(left, node);
            }
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// Returns how many leaves there were.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the root; that of the empty tree is the hash of nothing.
    pub fn root(&self) -> Hash {
        bag(self.subtrees.iter().copied()).unwrap_or_else(|| Hash::of(b""))
    }
}
