//! The work that all do: which extents are freed, how large the next ones are. All of it follows from a seed.

use freehold::Extent;

/// Unit of allocation of every contender, in bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// The tag that is kept with each extent.
pub(crate) const OWNER: u64 = 42;

const KIB: u64 = 1 << 10;

/// Random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
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
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let count = u64::try_from(from.len()).ok().filter(|&count| count > 0)?;
        let chosen = usize::try_from(self.below(count)).ok()?;
        Some(from.swap_remove(chosen))
    }

    /// Puts these in any order.
    pub(crate) fn shuffle<T>(&mut self, these: &mut Vec<T>) {
        let mut left = std::mem::take(these);
        these.extend(std::iter::from_fn(|| self.take(&mut left)));
    }

    /// One of these.
    pub(crate) fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(from.len()).ok().filter(|&count| count > 0)?;
        from.get(usize::try_from(self.below(count)).ok()?)
    }

    /// Bytes of the next allocation: 70 % have 4 to 16 KiB, 25 % 32 to 128 KiB, the others 256 KiB to 1 MiB.
    pub(crate) fn size(&mut self) -> u64 {
        match self.below(100) {
            0..70 => self.within(4 * KIB, 16 * KIB),
            70..95 => self.within(32 * KIB, 128 * KIB),
            _ => self.within(256 * KIB, 1024 * KIB),
        }
    }
}

/// Bytes of all sizes together, in the mean.
const MEAN_BYTES: u64 = 60 * KIB;

/// A store that is this large has room for so many, rounded up to powers of two, and is then half full at most.
pub(crate) fn capacity(live: usize) -> u64 {
    let bytes = u64::try_from(live).unwrap_or(u64::MAX).saturating_mul(4 * MEAN_BYTES);
    bytes.next_power_of_two().max(4 << 30)
}

/// What is allocated and in nobody's hands.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) live: Vec<Extent>,
    pub(crate) random: Random,
}

impl Pool {
    pub(crate) fn new(seed: u64) -> Self {
        Self { live: Vec::new(), random: Random::new(seed) }
    }

    /// An extent that nobody else frees, if there is one, and the size of the next.
    pub(crate) fn choose(&mut self) -> (Option<Extent>, u64) {
        let bytes = self.random.size();
        (self.random.take(&mut self.live), bytes)
    }

    /// Deals everything out to so many tasks.
    pub(crate) fn deal(&mut self, tasks: usize) -> Vec<Self> {
        let room = self.live.len() / tasks.max(1) + 1;
        let mut pools: Vec<Self> = (0..tasks)
            .map(|_| Self { live: Vec::with_capacity(room), random: Random::new(self.random.next()) })
            .collect();
        let hands = (0..tasks).cycle();
        for (extent, hand) in self.live.drain(..).zip(hands) {
            if let Some(pool) = pools.get_mut(hand) {
                pool.live.push(extent);
            }
        }
        pools
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_of_the_three_kinds_in_their_shares() {
        let mut random = Random::new(1);
        let sizes: Vec<u64> = (0..100_000).map(|_| random.size()).collect();
        let share = |low: u64, high: u64| {
            sizes.iter().filter(|&&size| (low * KIB..=high * KIB).contains(&size)).count() / 1000
        };
        assert!((69..=71).contains(&share(4, 16)));
        assert!((24..=26).contains(&share(32, 128)));
        assert!((4..=6).contains(&share(256, 1024)));
        assert_eq!(share(0, 1024), 100);
        let mean = sizes.iter().sum::<u64>() / 100_000;
        assert!((MEAN_BYTES * 9 / 10..=MEAN_BYTES * 11 / 10).contains(&mean), "{mean}");
    }

    #[test]
    fn what_is_chosen_is_gone() {
        let mut pool = Pool::new(1);
        pool.live = (0..100).map(|at| Extent { offset: at, len: 1, generation: 0 }).collect();
        let mut chosen: Vec<u64> = (0..100).filter_map(|_| pool.choose().0).map(|one| one.offset).collect();
        assert_ne!(chosen, (0..100).collect::<Vec<_>>());
        chosen.sort_unstable();
        assert_eq!(chosen, (0..100).collect::<Vec<_>>());
        assert_eq!(pool.choose().0, None);
    }

    #[test]
    fn what_is_shuffled_is_all_there() {
        let (mut random, mut these) = (Random::new(1), (0..100).collect::<Vec<_>>());
        random.shuffle(&mut these);
        let once = these.clone();
        random.shuffle(&mut these);
        assert_ne!(these, once);
        these.sort_unstable();
        assert_eq!(these, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn everything_is_dealt_out_once() {
        let mut pool = Pool::new(1);
        pool.live = (0..100).map(|at| Extent { offset: at, len: 1, generation: 0 }).collect();
        let pools = pool.deal(7);
        assert!(pools.iter().all(|pool| (14..=15).contains(&pool.live.len())) && pool.live.is_empty());
        let mut dealt: Vec<u64> =
            pools.iter().flat_map(|pool| &pool.live).map(|extent| extent.offset).collect();
        dealt.sort_unstable();
        assert_eq!(dealt, (0..100).collect::<Vec<_>>());
        let seeds: std::collections::HashSet<u64> =
            pools.into_iter().map(|mut pool| pool.random.next()).collect();
        assert_eq!(seeds.len(), 7);
    }
}
