//! A small deterministic random number generator: xoshiro256**, seeded through SplitMix64.
//!
//! Runs must be reproducible from one number on every machine and with every version of the toolchain, which general
//! purpose generators do not promise.

use std::ops::Range;

/// One round of SplitMix64's output function: spreads every input bit over all output bits.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A deterministic generator. Equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    state: [u64; 4],
}

impl Rng {
    /// A generator for a seed; every seed is good.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let a = mix(seed);
        let b = mix(a);
        let c = mix(b);
        // The generator stands still in the all-zero state; an odd last word rules it out.
        Self { seed, state: [a, b, c, mix(c) | 1] }
    }

    /// The seed that this generator was made with.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A generator of its own for one part of a run. It depends on the seed and the label only, not on what was drawn
    /// so far, so that a change in one part of a run leaves the others as they were.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        let mut seed = mix(self.seed ^ 0x666f_726b);
        for &byte in label.as_bytes() {
            seed = mix(seed ^ u64::from(byte));
        }
        Self::new(seed)
    }

    /// Like [`fork`](Self::fork), for the `number`-th part of a kind.
    #[must_use]
    pub fn fork_numbered(&self, label: &str, number: u64) -> Self {
        let labelled = self.fork(label);
        Self::new(mix(labelled.seed ^ mix(number)))
    }

    /// 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        // The update above is xoshiro's, with the two first exclusive ors already folded into `c` and `d`.
        result
    }

    /// A number below `bound`, without bias; 0 when `bound` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the product are what is wanted")]
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = self.next_u64() as u128 * bound as u128;
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// An index below `len`; 0 when `len` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "the result is below a usize")]
    pub const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number in the range; its start when it is empty.
    pub const fn range(&mut self, range: Range<u64>) -> u64 {
        range.start.wrapping_add(self.below(range.end.saturating_sub(range.start)))
    }

    /// True with the given probability (0.0 is never, 1.0 is always).
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits: every value is exact in a double.
        ((self.next_u64() >> 11) as f64) * (1.0 / (1u64 << 53) as f64) < probability
    }

    /// Fills the buffer.
    pub fn bytes(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
    }

    /// One element, or none of an empty slice.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// Puts the elements into random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// `count` different indices below `len`, ascending; all of them when there are not so many.
    pub fn sample(&mut self, len: usize, count: usize) -> Vec<usize> {
        let mut missing = count.min(len);
        let mut chosen = Vec::with_capacity(missing);
        for index in 0..len {
            if missing == 0 {
                break;
            }
            if self.index(len - index) < missing {
                chosen.push(index);
                missing -= 1;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published update step, written out as its authors do.
    fn reference(state: &mut [u64; 4]) -> u64 {
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    #[test]
    fn is_xoshiro256_starstar() {
        let mut rng = Rng::new(42);
        let mut state = rng.state;
        for _ in 0..1000 {
            assert_eq!(rng.next_u64(), reference(&mut state));
        }
    }

    #[test]
    fn draws_stay_in_bounds_and_reach_them() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] = true;
            assert!((10..13).contains(&rng.range(10..13)));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.range(7..7), 7);
        assert!(!rng.chance(0.0) && rng.chance(1.0));
        let heads = (0..10_000).filter(|_| rng.chance(0.25)).count();
        assert!((2200..2800).contains(&heads), "{heads}");
    }

    #[test]
    fn forks_depend_on_seed_and_label_only() {
        let mut rng = Rng::new(9);
        let before = rng.fork("disk").next_u64();
        rng.next_u64();
        assert_eq!(rng.fork("disk").next_u64(), before);
        assert_ne!(rng.fork("work").next_u64(), before);
        assert_ne!(rng.fork_numbered("disk", 1).next_u64(), rng.fork_numbered("disk", 2).next_u64());
        assert_ne!(Rng::new(10).fork("disk").next_u64(), before);
    }

    #[test]
    fn samples_and_shuffles() {
        let mut rng = Rng::new(3);
        let sample = rng.sample(100, 10);
        assert_eq!(sample.len(), 10);
        assert!(sample.windows(2).all(|pair| pair[0] < pair[1]) && sample[9] < 100);
        assert_eq!(rng.sample(3, 9), [0, 1, 2]);
        let mut items: Vec<u32> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        let mut bytes = [0u8; 13];
        rng.bytes(&mut bytes);
        assert!(bytes.iter().any(|&b| b != 0));
        assert_eq!(rng.pick::<u8>(&[]), None);
    }
}
