//! The tree against the definitions of RFC 6962, written here once more as the RFC writes them: recursive, without tiles.

mod extremes;

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

/// The recursive definitions; every hash of a range of leaves is computed once.
struct Naive {
    leaves: Vec<Hash>,
    known: RefCell<HashMap<(usize, usize), Hash>>,
}

impl Naive {
    fn new(leaves: Vec<Hash>) -> Self {
        Self {
            leaves,
            known: RefCell::default(),
        }
    }

    /// The first leaves of a tree whose leaves are numbers.
    fn numbers(count: u64) -> Self {
        Self::new((0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect())
    }

    /// MTH(D[from:to]).
    fn root(&self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => return Hash::of(b""),
            1 => return self.leaves[from],
            _ => {}
        }
        if let Some(hash) = self.known.borrow().get(&(from, to)) {
            return *hash;
        }
        let k = from + (to - from).next_power_of_two() / 2;
        let hash = node_hash(self.root(from, k), self.root(k, to));
        self.known.borrow_mut().insert((from, to), hash);
        hash
    }

    /// PATH(m, D[from:to]), with `m` counted from the first leaf of all.
    fn path(&self, m: usize, from: usize, to: usize) -> Vec<Hash> {
        if to - from == 1 {
            return Vec::new();
        }
        let k = from + (to - from).next_power_of_two() / 2;
        if m < k {
            [self.path(m, from, k), vec![self.root(k, to)]].concat()
        } else {
            [self.path(m, k, to), vec![self.root(from, k)]].concat()
        }
    }

    /// SUBPROOF(m, D[from:to], b), with `m` counted from the first leaf of all.
    fn subproof(&self, m: usize, from: usize, to: usize, b: bool) -> Vec<Hash> {
        if m == to {
            return if b { vec![] } else { vec![self.root(from, to)] };
        }
        let k = from + (to - from).next_power_of_two() / 2;
        if m <= k {
            [self.subproof(m, from, k, b), vec![self.root(k, to)]].concat()
        } else {
            [self.subproof(m, k, to, false), vec![self.root(from, k)]].concat()
        }
    }

    /// All tiles, each hash of them from its definition.
    fn tiles(&self) -> Tiles {
        let mut tiles = Tiles::new();
        for level in 0..8 {
            let span = 1_usize << (8 * level);
            for n in 0..self.leaves.len() / span {
                let index = n as u64 / 256;
                let hash = self.root(n * span, (n + 1) * span);
                tiles.entry(TileId { level, index }).or_default().push(hash);
            }
        }
        tiles
    }
}

/// Those of these tiles and no others, so that what was not asked for is not there.
fn only(tiles: &Tiles, ids: impl IntoIterator<Item = TileId>) -> Tiles {
    ids.into_iter().map(|id| (id, tiles[&id].clone())).collect()
}

fn check_inclusion(naive: &Naive, tiles: &Tiles, index: usize, size: usize) {
    let (i, n) = (index as u64, size as u64);
    let proof = inclusion(i, n, &only(tiles, inclusion_tiles(i, n))).unwrap();
    assert_eq!(proof, naive.path(index, 0, size), "{index} in {size}");
    let root = naive.root(0, size);
    assert!(verify_inclusion(naive.leaves[index], i, n, &proof, root));
}

fn check_consistency(naive: &Naive, tiles: &Tiles, from: usize, to: usize) {
    let (m, n) = (from as u64, to as u64);
    let proof = consistency(m, n, &only(tiles, consistency_tiles(m, n))).unwrap();
    let expected = match from {
        0 => vec![],
        _ => naive.subproof(from, 0, to, true),
    };
    assert_eq!(proof, expected, "{from} to {to}");
    let (old, new) = (naive.root(0, from), naive.root(0, to));
    assert!(verify_consistency(m, old, n, new, &proof));
}

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

/// The eight leaves of the reference tests of Certificate Transparency.
const LEAVES: [&[u8]; 8] = [
    b"",
    &[0x00],
    &[0x10],
    b"\x20\x21",
    b"\x30\x31",
    b"@ABC",
    b"PQRSTUVW",
    b"`abcdefghijklmno",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const N1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const N23: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const N4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const N45: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const N67: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const N4567: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

#[test]
fn the_vectors_of_certificate_transparency_hold() {
    let leaves: Vec<Hash> = LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
    let naive = Naive::new(leaves.clone());
    let tiles = append(0, &Tiles::new(), &leaves).unwrap();
    let mut frontier = Frontier::new();
    for (size, expected) in ROOTS.iter().enumerate() {
        let expected = hash(expected);
        assert_eq!(root(size as u64, &tiles).unwrap(), expected);
        assert_eq!(frontier.root(), expected);
        assert_eq!(naive.root(0, size), expected);
        leaves
            .get(size)
            .iter()
            .for_each(|leaf| frontier.push(**leaf));
    }
    let cases: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[N1, N23, N4567]),
        (5, 8, &[N4, N67, ROOTS[4]]),
        (2, 3, &[ROOTS[2]]),
        (1, 5, &[ROOTS[1], N23, N4]),
    ];
    for (index, size, expected) in cases {
        let expected: Vec<Hash> = expected.iter().map(|text| hash(text)).collect();
        let root = hash(ROOTS[size as usize]);
        assert_eq!(inclusion(index, size, &tiles).unwrap(), expected);
        assert!(verify_inclusion(
            leaves[index as usize],
            index,
            size,
            &expected,
            root
        ));
    }
    let cases: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (1, 8, &[N1, N23, N4567]),
        (6, 8, &[N45, N67, ROOTS[4]]),
        (2, 5, &[N23, N4]),
    ];
    for (from, to, expected) in cases {
        let expected: Vec<Hash> = expected.iter().map(|text| hash(text)).collect();
        let (old, new) = (hash(ROOTS[from as usize]), hash(ROOTS[to as usize]));
        assert_eq!(consistency(from, to, &tiles).unwrap(), expected);
        assert!(verify_consistency(from, old, to, new, &expected));
    }
}

#[test]
fn every_proof_of_small_trees_is_the_defined_one() {
    let naive = Naive::numbers(300);
    let tiles = naive.tiles();
    // Densely where a tile begins and ends; in between, four of each size.
    for size in 1..=300 {
        let dense = size <= 33 || (255..=257).contains(&size);
        let few = if dense { 1 } else { size / 4 };
        for other in (size % few..size).step_by(few) {
            check_inclusion(&naive, &tiles, other, size);
            check_consistency(&naive, &tiles, other, size);
        }
        check_inclusion(&naive, &tiles, size - 1, size);
        check_consistency(&naive, &tiles, size, size);
    }
}

#[test]
fn every_root_is_the_defined_one() {
    let naive = Naive::numbers(66_000);
    let tiles = naive.tiles();
    let mut frontier = Frontier::new();
    for size in 0..=66_000 {
        if size % 997 == 0 || (size + 3) % 256 < 6 && !(1500..65_000).contains(&size) {
            let edge = only(&tiles, edge(size as u64));
            assert_eq!(root(size as u64, &edge).unwrap(), naive.root(0, size));
            assert_eq!(frontier.root(), naive.root(0, size));
            assert_eq!(Frontier::from_tiles(size as u64, &edge).unwrap(), frontier);
        }
        naive
            .leaves
            .get(size)
            .iter()
            .for_each(|leaf| frontier.push(**leaf));
    }
    for size in [65_535, 65_536, 65_537, 65_793, 66_000] {
        for other in [
            0,
            1,
            255,
            256,
            257,
            511,
            32_768,
            65_279,
            65_280,
            65_534,
            size - 1,
        ] {
            check_inclusion(&naive, &tiles, other, size);
            check_consistency(&naive, &tiles, other, size);
        }
    }
}

#[test]
fn batches_of_any_size_make_the_same_tiles() {
    let naive = Naive::numbers(66_200);
    let expected = naive.tiles();
    let mut seed = 1_u64;
    for most in [1, 300, 30_000] {
        let mut tiles = Tiles::new();
        // One by one only around the borders; each single leaf costs a test as much as a batch.
        let mut size = if most == 1 { 65_100 } else { 0 };
        if size > 0 {
            let batch = append(0, &tiles, &naive.leaves[..size]).unwrap();
            tiles.extend(batch);
        }
        while size < naive.leaves.len() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let batch = 1 + (seed >> 33) as usize % most;
            let to = naive.leaves.len().min(size + batch);
            let edge = only(&tiles, edge(size as u64));
            let changed = append(size as u64, &edge, &naive.leaves[size..to]).unwrap();
            // Nothing that did not change, and nothing that only gave its root.
            assert!(changed.iter().all(|(id, tile)| tiles.get(id) != Some(tile)));
            tiles.extend(changed);
            size = to;
        }
        assert!(tiles == expected, "batches of up to {most}");
    }
    assert_eq!(append(300, &Tiles::new(), &[]), Ok(Tiles::new()));
}
