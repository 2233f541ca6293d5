//! Random numbers that do not change when a dependency is updated: SplitMix64.

/// A reproducible sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence of a cycle of a seed.
    pub fn new(seed: u64, cycle: u32) -> Self {
        // One step of the generator, so that adjacent seeds give unrelated sequences.
        let mut random = Self(seed);
        Self(random.number() ^ u64::from(cycle).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // `end` is small, so the bias of the modulo, about one in 2^50, does not matter.
        self.number() % end
    }
}
