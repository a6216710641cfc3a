//! Chance that can be had again.

use uuid::Uuid;

/// A small generator of numbers (SplitMix64): what a test does by chance it does again with the same seed.
pub struct Chance(pub u64);

impl Chance {
    /// Returns a number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        usize::try_from(z % n as u64).expect("small")
    }

    /// Returns one of several.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    /// Returns bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| u8::try_from(self.below(256)).expect("a byte"))
    }

    /// Returns an id.
    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.bytes())
    }
}

/// Returns the seed that `CONFIRMD_TEST_SEED` sets, or a random one.
pub fn seed() -> u64 {
    let given = std::env::var("CONFIRMD_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("a number"));
    // Each hasher of the standard library begins with random keys.
    use std::hash::{BuildHasher, Hasher, RandomState};
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}
