//! The tree: each stored hash is that of its leaf, or of the stored tile below it.

use super::page::Page;
use super::report::{At, Check, Report};
use crate::domain::consent::Hash;
use crate::store::audit::EventRow;
use crate::trail::tree::{TileId, Tiles, WIDTH, leaf_hash, tile_root};

/// Compares the tiles over a page of events with these events, and with the tiles below them.
///
/// What is compared with a signed root is the tiles. Each is compared with what it was made from, so that it is known
/// which one is wrong.
pub(super) fn compare(page: &Page, report: &mut Report) {
    for (row, _) in &page.rows {
        let seq = row.seq.and_then(|seq| u64::try_from(seq).ok());
        if let Some(seq) = seq.filter(|seq| (1..=page.head.size).contains(seq)) {
            leaf(seq, row, &page.tiles, report);
        }
    }
}

fn leaf(seq: u64, row: &EventRow, tiles: &Tiles, report: &mut Report) {
    let width = WIDTH as u64;
    let (mut level, mut place) = (0, seq - 1);
    let mut hash = leaf_hash(&row.leaf);
    loop {
        let tile = TileId {
            level,
            index: place / width,
        };
        let entry = entry(tiles, tile, place % width);
        if entry != Some(hash) {
            report_entry(seq, tile, level, entry, report);
        }
        // The last entry of a full tile: the tile above holds its root.
        let full = place % width == width - 1;
        match tiles
            .get(&tile)
            .filter(|hashes| full && hashes.len() == WIDTH)
        {
            Some(hashes) => (level, place, hash) = (level + 1, place / width, tile_root(hashes)),
            None => return,
        }
    }
}

fn entry(tiles: &Tiles, tile: TileId, place: u64) -> Option<Hash> {
    tiles.get(&tile)?.get(usize::try_from(place).ok()?).copied()
}

fn report_entry(seq: u64, tile: TileId, level: u8, entry: Option<Hash>, report: &mut Report) {
    let lacks = entry.is_none();
    if level == 0 {
        let what = match lacks {
            true => format!("tile {tile} lacks its hash"),
            false => format!("its bytes are not those that were hashed into tile {tile}"),
        };
        return report.add(Check::Tree, At::Event(seq), what);
    }
    let below = 1_u64 << (8 * u32::from(level));
    let what = match lacks {
        true => format!("tile {tile} lacks the hash over them"),
        false => format!("the hash over them in tile {tile} does not follow from the tile below"),
    };
    report.add(Check::Tree, At::Between(seq + 1 - below, seq), what);
}
