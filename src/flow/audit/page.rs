//! A page of events, with all that they are compared with.

use std::collections::BTreeSet;

use super::evidence;
use super::report::{Check, Checks};
use crate::domain::id::EventId;
use crate::store::audit::EventRow;
use crate::store::evidence::Kept;
use crate::store::trail::Head;
use crate::store::{Error, Tx};
use crate::trail::leaf::{InvalidLeaf, Leaf};
use crate::trail::tree::{TileId, Tiles, edge};

/// Events and what belongs to them, of one moment.
pub(super) struct Page {
    pub rows: Vec<(EventRow, Result<Leaf, InvalidLeaf>)>,
    pub head: Head,
    /// The tiles over them, on every level.
    pub tiles: Tiles,
    pub evidence: Vec<Kept>,
    /// Events that erased something of those who lack evidence, with their place in the order of writing.
    pub erasures: Vec<(i64, Leaf)>,
}

impl Page {
    /// Reads what the checks need.
    pub async fn read(
        tx: &mut Tx,
        rows: Vec<EventRow>,
        head: Head,
        checks: Checks,
    ) -> Result<Self, Error> {
        let rows = rows.into_iter().map(|row| {
            let leaf = Leaf::decode(&row.leaf);
            (row, leaf)
        });
        let mut page = Page {
            rows: rows.collect(),
            head,
            tiles: Tiles::new(),
            evidence: Vec::new(),
            erasures: Vec::new(),
        };
        if checks.has(Check::Tree) {
            page.tiles = tx.tiles(page.above()).await?;
        }
        if checks.has(Check::Evidence) {
            let leaves = page.rows.iter().filter_map(|(_, leaf)| leaf.as_ref().ok());
            let ids: Vec<EventId> = leaves.map(|leaf| leaf.id).collect();
            page.evidence = tx.evidence_behind(&ids).await?;
            let lacking: Vec<_> = evidence::lacking(&page).into_iter().collect();
            if !lacking.is_empty() {
                let rows = tx.erasures_of(&lacking).await?.into_iter();
                let read = rows.filter_map(|row| Some((row.ord, Leaf::decode(&row.leaf).ok()?)));
                page.erasures = read.collect();
            }
        }
        Ok(page)
    }

    fn above(&self) -> BTreeSet<TileId> {
        let rows = self.rows.iter();
        let places = rows.filter_map(|(row, _)| u64::try_from(row.seq? - 1).ok());
        let mut leaves: Vec<u64> = places.map(|place| place >> 8).collect();
        leaves.dedup();
        let above = |index: u64| {
            (0..7).map(move |level| TileId {
                level,
                index: index >> (8 * u32::from(level)),
            })
        };
        leaves.into_iter().flat_map(above).collect()
    }
}

/// Reads what the roots at some sizes are made from.
pub(super) async fn edges(
    tx: &mut Tx,
    sizes: impl Iterator<Item = u64>,
    head: Head,
) -> Result<Tiles, Error> {
    let ids: BTreeSet<TileId> = sizes
        .filter(|size| *size <= head.size)
        .flat_map(edge)
        .collect();
    tx.tiles(ids).await
}
