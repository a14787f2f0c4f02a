//! The tree of order masks over the words of a [`BuddyMap`](super::BuddyMap).
//!
//! One bit trick serves every level. In a row of flags, "free" unit by unit, let `f0` be the flags and
//! `f(k+1) = f(k) & f(k) >> 2^k`. Then `f(k)` marks where `2^k` free units start. Looked at only where a run of order
//! `k + 1` may start, `f(k)` and `f(k) >> 2^k` are the two halves of that run, and a run of which exactly one half is
//! free holds a maximal run of order `k`.
//! The units are the pages of a word, the words of a level-1 node, or the children of a higher node.

/// log2 of the pages of one word.
const WORD_ORDER: u32 = 6;
/// log2 of the children of one node.
const FANOUT_ORDER: u32 = 3;
/// Children of one node: words at level 1, nodes above.
pub(super) const FANOUT: usize = 1 << FANOUT_ORDER;
/// Levels over the largest map: nodes of 2^9, 2^12, 2^15 and 2^18 pages.
const LEVELS: usize = 4;

/// Where a run of each order may start within a word.
const STARTS: [u64; 7] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

/// Folds rows of `2^steps` free flags each: returns the orders below `steps` of which some row has a maximal run, and
/// leaves in `rows` 1 for a wholly free row and 0 for any other.
#[inline]
fn fold<const N: usize>(rows: &mut [u64; N], steps: usize) -> u32 {
    let mut orders = 0;
    for (order, starts) in STARTS.iter().skip(1).take(steps).enumerate() {
        let mut lone = 0;
        for row in rows.iter_mut() {
            let buddy = *row >> (1_u32 << order);
            lone |= (*row ^ buddy) & starts;
            *row &= buddy;
        }
        orders |= u32::from(lone != 0) << order;
    }
    orders
}

/// The starts of the maximal runs of `order` in one row; `order` is at most 5.
#[inline]
fn maximal(row: u64, order: u32) -> u64 {
    let free = (0..order).fold(row, |free, below| free & free >> (1_u32 << below));
    let width = 1_u32 << order;
    let pairs = free & free >> width & STARTS[order as usize + 1];
    free & STARTS[order as usize] & !(pairs | pairs << width)
}

/// One bit per child, child 0 lowest: set where `holds` says so.
#[inline]
fn flags<T>(children: &[T], holds: impl Fn(&T) -> bool) -> u64 {
    children.iter().enumerate().fold(0, |row, (at, child)| row | u64::from(holds(child)) << at)
}

/// Orders of the maximal runs among the wholly free children that `row` flags, in units of a child.
#[inline]
fn merged(row: u64) -> u32 {
    // No child is wholly free in most nodes of a map in use.
    if row == 0 {
        return 0;
    }
    let mut rows = [row];
    let orders = fold(&mut rows, FANOUT_ORDER as usize);
    orders | u32::from(rows[0] != 0) << FANOUT_ORDER
}

/// The mask of a level-1 node.
#[inline]
fn mask_of_words(words: &[u64; FANOUT]) -> u32 {
    // Inside a long run all words are alike; the folding below is for the few groups at which runs meet.
    if words.iter().all(|&word| word == 0) {
        return 0;
    }
    if words.iter().all(|&word| word == u64::MAX) {
        return 1 << (WORD_ORDER + FANOUT_ORDER);
    }
    let mut rows = *words;
    let orders = fold(&mut rows, WORD_ORDER as usize);
    orders | merged(flags(&rows, |&row| row != 0)) << WORD_ORDER
}

/// The mask of a node whose children span `2^child_order` pages each.
#[inline]
fn mask_of_nodes(children: &[u32], child_order: u32) -> u32 {
    let whole = 1_u32 << child_order;
    let inner = children.iter().filter(|&&mask| mask != whole).fold(0, |all, mask| all | mask);
    inner | merged(flags(children, |&mask| mask == whole)) << child_order
}

/// The tree. Bit `k` of a node's mask is set where a free block of order `k` that is maximal within the node's span
/// exists; a wholly free node has only the bit of its own order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// All masks, the level next to the words first, the root last.
    nodes: Box<[u32]>,
    /// Where each level starts in `nodes`, and the length of `nodes` from there on.
    starts: [usize; LEVELS + 1],
    /// Levels in use, at least 1.
    depth: u32,
}

impl Summary {
    /// The tree over `bits`, a whole and positive number of groups of [`FANOUT`] words, at most 512 groups.
    pub(super) fn of(bits: &[u64]) -> Self {
        let mut starts = [0; LEVELS + 1];
        let (mut width, mut total, mut depth) = (bits.len(), 0, 0);
        for start in starts.iter_mut().skip(1) {
            if width > 1 {
                width = width.div_ceil(FANOUT);
                total += width;
                depth += 1;
            }
            *start = total;
        }
        // Masks of zero are right for words of zero, so the update below may trust them.
        let mut summary = Self { nodes: vec![0; total].into_boxed_slice(), starts, depth };
        summary.update(bits, 0, bits.len() - 1);
        summary
    }

    /// Orders of the maximal free blocks of the whole map, bit `k` for order `k`.
    pub(super) fn orders(&self) -> u32 {
        self.nodes.last().copied().unwrap_or(0)
    }

    /// Bytes of the masks.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.nodes)
    }

    /// Brings the masks up to date after words `first..=last` of `bits` changed. Only nodes above a change are
    /// looked at, and the climb ends at a level on which no mask changed.
    pub(super) fn update(&mut self, bits: &[u64], mut first: usize, mut last: usize) {
        let mut child_order = WORD_ORDER;
        for level in 0..self.depth as usize {
            let mut changed: Option<(usize, usize)> = None;
            for node in first / FANOUT..=last / FANOUT {
                let mask = match level.checked_sub(1) {
                    None => mask_of_words(&bits.as_chunks().0[node]),
                    Some(below) => mask_of_nodes(self.children(below, node), child_order),
                };
                let slot = &mut self.nodes[self.starts[level] + node];
                if *slot != mask {
                    *slot = mask;
                    changed = Some((changed.map_or(node, |(from, _)| from), node));
                }
            }
            let Some(range) = changed else { return };
            (first, last) = range;
            child_order += FANOUT_ORDER;
        }
    }

    /// First page of the lowest maximal block of the smallest order that is at least `order`.
    pub(super) fn find(&self, bits: &[u64], order: u32) -> Option<u32> {
        let sufficient = self.orders().checked_shr(order).filter(|&orders| orders != 0)?;
        let wanted = order + sufficient.trailing_zeros();
        // A maximal block at least as large as a child is made of whole children and ends the descent; a smaller
        // one is maximal within the child that holds it, whose mask then shows it.
        let mut child_order = WORD_ORDER + FANOUT_ORDER * (self.depth - 1);
        let mut node = 0_u32;
        for below in (0..self.depth as usize - 1).rev() {
            let children = self.children(below, node as usize);
            node <<= FANOUT_ORDER;
            if let Some(units) = wanted.checked_sub(child_order) {
                let whole = flags(children, |&mask| mask == 1 << child_order);
                return Some((node + maximal(whole, units).trailing_zeros()) << child_order);
            }
            node += flags(children, |&mask| mask >> wanted & 1 == 1).trailing_zeros();
            child_order -= FANOUT_ORDER;
        }
        let words: &[u64; FANOUT] = &bits.as_chunks().0[node as usize];
        node <<= FANOUT_ORDER;
        if let Some(units) = wanted.checked_sub(WORD_ORDER) {
            let whole = flags(words, |&word| word == u64::MAX);
            return Some((node + maximal(whole, units).trailing_zeros()) << WORD_ORDER);
        }
        let blocks = words.iter().map(|&word| maximal(word, wanted));
        let (word, starts) = (node..).zip(blocks).find(|&(_, starts)| starts != 0)?;
        Some((word << WORD_ORDER) + starts.trailing_zeros())
    }

    /// Masks of level `below` that are children of node `node` of the level above it.
    #[inline]
    fn children(&self, below: usize, node: usize) -> &[u32] {
        let start = self.starts[below] + node * FANOUT;
        &self.nodes[start..(start + FANOUT).min(self.starts[below + 1])]
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// Starts of the maximal runs of each order in a row of `units` flags, by the definition.
    fn naive(row: u64, units: u32) -> Vec<u64> {
        let free = |start: u32, order: u32| {
            start + (1 << order) <= units && (start..start + (1 << order)).all(|unit| row >> unit & 1 == 1)
        };
        let starts = |order: u32| {
            (0..units).step_by(1 << order).filter(move |&start| {
                free(start, order) && !free(start >> (order + 1) << (order + 1), order + 1)
            })
        };
        (0..=units.ilog2()).map(|order| starts(order).fold(0, |row, start| row | 1 << start)).collect()
    }

    fn mask(starts: &[u64]) -> u32 {
        (0..).zip(starts).fold(0, |mask, (order, &starts)| mask | u32::from(starts != 0) << order)
    }

    fn word_agrees(word: u64) -> bool {
        let expected = naive(word, 64);
        let words = [0, 0, word, 0, 0, 0, 0, 0];
        mask_of_words(&words) == mask(&expected)
            && (0..6).all(|order: u32| maximal(word, order) == expected[order as usize])
    }

    quickcheck! {
        fn word_masks_agree_with_the_definition(a: u64, b: u64, c: u64, low: u8, length: u8) -> bool {
            // Uniform words have short runs only; mostly free ones and single runs have the long ones.
            let run = (u64::MAX >> (length % 64)) << (low % 64);
            [a, a & b, a & b & c, a | b | c, a | run, !(a & b & c) & run, run, !run].into_iter().all(word_agrees)
        }

        fn node_masks_are_the_union_of_word_masks(words: Vec<u64>) -> bool {
            let mut group = [0; FANOUT];
            group.iter_mut().zip(words).for_each(|(to, word)| *to = word & !1);
            let union = group.iter().fold(0, |all, &word| all | mask(&naive(word, 64)));
            mask_of_words(&group) == union
        }
    }

    #[test]
    fn words_with_one_run_agree_with_the_definition() {
        for low in 0..64 {
            for high in low..64 {
                let word = (u64::MAX << low) & (u64::MAX >> (63 - high));
                assert!(word_agrees(word) && word_agrees(!word), "{word:#x}");
            }
        }
    }

    #[test]
    fn whole_children_merge_in_every_combination() {
        for row in 0..256_u64 {
            let expected = naive(row, 8);
            let words: [u64; FANOUT] =
                std::array::from_fn(|at| if row >> at & 1 == 1 { u64::MAX } else { 0 });
            assert_eq!(mask_of_words(&words), mask(&expected) << 6, "words {row:#010b}");
            let nodes: [u32; FANOUT] =
                std::array::from_fn(|at| if row >> at & 1 == 1 { 1 << 12 } else { 0b1001 });
            let inner = if row == 255 { 0 } else { 0b1001 };
            assert_eq!(mask_of_nodes(&nodes, 12), inner | mask(&expected) << 12, "nodes {row:#010b}");
            for order in 0..=3 {
                assert_eq!(maximal(row, order), expected[order as usize]);
            }
        }
    }
}
