//! The work: which extents are freed, how large the next ones are. All of it follows from a seed.

use freehold::Extent;

/// Fewest extents that are live.
const LIVE: usize = 2000;
/// Extents of each client where there are many clients.
const LIVE_EACH: usize = 4;

const KIB: u64 = 1 << 10;
/// Bytes of an extent, in the mean.
const MEAN_BYTES: u64 = 60 * KIB;
const MIN_STORE_BYTES: u64 = 4 << 30;

/// Random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// From zero to below `bound`, which is not zero.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Takes one of these out.
    pub(super) fn take(&mut self, from: &mut Vec<Extent>) -> Option<Extent> {
        let count = u64::try_from(from.len()).ok().filter(|&count| count > 0)?;
        let chosen = usize::try_from(self.below(count)).ok()?;
        Some(from.swap_remove(chosen))
    }

    /// Bytes of the next allocation: 70 % have 4 to 16 KiB, 25 % 32 to 128 KiB, the others 256 KiB to 1 MiB.
    pub(super) fn size(&mut self) -> u64 {
        match self.below(100) {
            0..70 => self.within(4 * KIB, 16 * KIB),
            70..95 => self.within(32 * KIB, 128 * KIB),
            _ => self.within(256 * KIB, 1024 * KIB),
        }
    }
}

/// Extents that are live, so that every client always has one to free.
pub(super) fn live(clients: usize) -> usize {
    if clients > LIVE / 2 { clients * LIVE_EACH } else { LIVE }
}

/// Bytes of a store that has room for so many extents, and for the rounding of large pages.
pub(super) fn store_bytes(live: usize) -> u64 {
    let bytes = u64::try_from(live).unwrap_or(u64::MAX).saturating_mul(4 * MEAN_BYTES);
    bytes.next_power_of_two().max(MIN_STORE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_of_the_three_kinds_in_their_shares() {
        let mut random = Random::new(1);
        let sizes: Vec<u64> = (0..100_000).map(|_| random.size()).collect();
        let within = |low: u64, high: u64| {
            sizes.iter().filter(|&&size| (low * KIB..=high * KIB).contains(&size)).count()
        };
        assert!((69_000..=71_000).contains(&within(4, 16)));
        assert!((24_000..=26_000).contains(&within(32, 128)));
        assert!((4_000..=6_000).contains(&within(256, 1024)));
        assert_eq!(within(4, 16) + within(32, 128) + within(256, 1024), sizes.len());
        let mean = sizes.iter().sum::<u64>() / 100_000;
        assert!((MEAN_BYTES * 9 / 10..=MEAN_BYTES * 11 / 10).contains(&mean), "{mean}");
    }

    #[test]
    fn what_is_taken_is_gone() {
        let mut random = Random::new(1);
        let mut live: Vec<Extent> = (0..100).map(|offset| Extent { offset, len: 1, generation: 0 }).collect();
        let mut taken = Vec::new();
        while let Some(extent) = random.take(&mut live) {
            taken.push(extent.offset);
        }
        assert_ne!(taken, (0..100).collect::<Vec<_>>());
        taken.sort_unstable();
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn each_client_has_extents_and_they_have_room() {
        for (clients, expected) in [(1, 2000), (1000, 2000), (1001, 4004), (65536, 262_144)] {
            assert_eq!(live(clients), expected);
            assert!(store_bytes(expected) >= expected as u64 * 4 * MEAN_BYTES);
        }
        assert_eq!(store_bytes(2000), 4 << 30);
    }
}
