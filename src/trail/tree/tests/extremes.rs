//! Trees of any size, and everything that must be refused.

use std::collections::BTreeSet;

use super::*;

/// A tree whose leaves are all the same has one hash a height, so it can be of any size.
struct Same(Vec<Hash>);

impl Same {
    fn new() -> Self {
        let mut heights = vec![leaf_hash(b"same")];
        for height in 0..63 {
            heights.push(node_hash(heights[height], heights[height]));
        }
        Self(heights)
    }

    fn root(&self, size: u64) -> Hash {
        if size.is_power_of_two() {
            return self.0[size.ilog2() as usize];
        }
        let height = size.ilog2();
        node_hash(self.0[height as usize], self.root(size - (1 << height)))
    }

    /// Full tiles, as if the tree had grown since.
    fn tiles(&self, ids: impl IntoIterator<Item = TileId>) -> Tiles {
        let full = |id: TileId| (id, vec![self.0[8 * usize::from(id.level)]; 256]);
        ids.into_iter().map(full).collect()
    }
}

#[test]
fn trees_of_any_size_work() {
    let same = Same::new();
    let leaf = same.0[0];
    let big = [
        1 << 24,
        1 << 40,
        1 << 56,
        1 << 63,
        u64::MAX / 3,
        u64::MAX - 1000,
    ];
    for size in big
        .into_iter()
        .flat_map(|size| [size - 3, size, size + 257])
    {
        let edge = same.tiles(edge(size));
        assert_eq!(root(size, &edge).unwrap(), same.root(size), "{size}");

        let changed = append(size, &edge, &[leaf; 600]).unwrap();
        let mut all = same.tiles(super::edge(size + 600));
        all.extend(changed);
        assert_eq!(root(size + 600, &all).unwrap(), same.root(size + 600));

        for other in [1, 255, size / 3, size - 1] {
            let tiles = same.tiles(inclusion_tiles(other, size));
            let proof = inclusion(other, size, &tiles).unwrap();
            assert!(verify_inclusion(leaf, other, size, &proof, same.root(size)));
            let tiles = same.tiles(consistency_tiles(other, size));
            let proof = consistency(other, size, &tiles).unwrap();
            let (old, new) = (same.root(other), same.root(size));
            assert!(verify_consistency(other, old, size, new, &proof));
        }
    }
}

/// Every proof that differs from this one in one thing.
fn spoiled(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut spoiled = Vec::new();
    for at in 0..=proof.len() {
        let mut more = proof.to_vec();
        more.insert(at, Hash([at as u8; 32]));
        spoiled.push(more);
        if at < proof.len() {
            let mut other = proof.to_vec();
            other[at].0[at % 32] ^= 1 << (at % 8);
            spoiled.push(other);
            let mut fewer = proof.to_vec();
            fewer.remove(at);
            spoiled.push(fewer);
        }
        if at + 1 < proof.len() {
            let mut swapped = proof.to_vec();
            swapped.swap(at, at + 1);
            spoiled.push(swapped);
        }
    }
    spoiled
}

#[test]
fn a_proof_that_was_changed_is_refused() {
    let naive = Naive::numbers(300);
    let sizes = [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100, 255, 256, 257, 300];
    for (size, other) in sizes.iter().flat_map(|n| sizes.map(|m| (*n, m))) {
        if other > size {
            continue;
        }
        let (n, m) = (size as u64, other as u64);
        let (root, old) = (naive.root(0, size), naive.root(0, other));

        let (leaf, proof) = (naive.leaves[other - 1], naive.path(other - 1, 0, size));
        let holds =
            |leaf, index, proof: &[Hash], root| verify_inclusion(leaf, index, n, proof, root);
        assert!(holds(leaf, m - 1, &proof, root));
        assert!(!holds(Hash::of(b"x"), m - 1, &proof, root));
        assert!(!holds(leaf, m - 1, &proof, Hash::of(b"x")));
        for index in (0..n + 2).filter(|index| *index != m - 1) {
            assert!(
                !holds(leaf, index, &proof, root),
                "{other} as {index} in {size}"
            );
        }
        for proof in spoiled(&proof) {
            assert!(!holds(leaf, m - 1, &proof, root), "{other} in {size}");
        }

        // A root that lies above the tree of this size.
        let (x, longer) = (leaf, |proof: &[Hash]| [proof, &[leaf]].concat());
        assert!(!holds(leaf, m - 1, &longer(&proof), node_hash(x, root)));

        let proof = naive.subproof(other, 0, size, true);
        let holds = |old, proof: &[Hash], new| verify_consistency(m, old, n, new, proof);
        assert!(holds(old, &proof, root));
        assert!(!holds(Hash::of(b"x"), &proof, root));
        assert!(!holds(old, &proof, Hash::of(b"x")));
        for proof in spoiled(&proof) {
            assert!(!holds(old, &proof, root), "{other} to {size}");
        }
        assert!(!holds(
            node_hash(x, old),
            &longer(&proof),
            node_hash(x, root)
        ));
        assert!(m == n || !verify_consistency(n, root, m, old, &proof));
        // A root that lies below it.
        let larger = 2 * n.next_power_of_two();
        assert!(!verify_consistency(m, old, larger, root, &proof));
        assert!(verify_consistency(0, Hash::of(b""), n, root, &[]));
        assert!(!verify_consistency(0, old, n, root, &[]));
        assert!(!verify_consistency(0, Hash::of(b""), n, root, &[old]));
    }
}

#[test]
fn no_input_is_too_strange_to_refuse() {
    let numbers = [
        0,
        1,
        2,
        3,
        255,
        1 << 32,
        1 << 63,
        (1 << 63) + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    let zero = Hash([0; 32]);
    for (a, b) in numbers.iter().flat_map(|a| numbers.map(|b| (*a, b))) {
        for length in [0, 1, 2, 7, 62, 63, 64, 65, 200] {
            let proof = vec![zero; length];
            assert!(!verify_inclusion(zero, a, b, &proof, Hash::of(b"")));
            assert!(a == b || !verify_consistency(a, zero, b, Hash::of(b"x"), &proof));
        }
        assert_eq!(inclusion_tiles(a, b).is_empty(), a >= b || b == 1);
        assert!(a >= b || b == 1 || inclusion(a, b, &Tiles::new()).is_err());
        assert!(a <= b || consistency(a, b, &Tiles::new()).is_err());
        assert_eq!(consistency_tiles(a, b).is_empty(), a == 0 || a >= b);
    }
    assert_eq!(
        inclusion(3, 3, &Tiles::new()),
        Err(ProofError::Outside(3, 3))
    );
}

#[test]
fn a_tile_that_is_not_there_is_named() {
    let same = Same::new();
    let tile = |level, index| TileId { level, index };
    assert!(edge(0).is_empty() && edge(65_536) == [tile(2, 0)]);
    let edge = edge(131_000);
    assert_eq!(edge, [tile(0, 511), tile(1, 1), tile(2, 0)]);
    // 72 leaves more fill the first two and reach the third.
    for (gone, hashes) in edge.iter().zip([184, 255, 1]) {
        for short in [true, false] {
            let mut some = same.tiles(edge.clone());
            some.remove(gone);
            if short {
                some.insert(*gone, vec![same.0[0]; hashes - 1]);
            }
            assert_eq!(root(131_000, &some).unwrap_err().tile, *gone);
            let missing = MissingTile {
                tile: *gone,
                hashes,
            };
            let appended = append(131_000, &some, &[same.0[0]; 72]);
            assert_eq!(appended.unwrap_err(), missing);
        }
    }
    let asked = inclusion_tiles(65_600, 70_000);
    let expected = [tile(0, 256), tile(0, 273), tile(1, 1), tile(2, 0)];
    assert_eq!(asked, BTreeSet::from(expected));
    for gone in &asked {
        let some = same.tiles(asked.iter().copied().filter(|id| id != gone));
        let error = inclusion(65_600, 70_000, &some).unwrap_err();
        assert!(matches!(error, ProofError::Missing(missing) if missing.tile == *gone));
    }
    let missing = MissingTile {
        tile: tile(1, 7),
        hashes: 9,
    };
    assert_eq!(missing.to_string(), "tile 1/7 is needed with 9 hashes");
}
