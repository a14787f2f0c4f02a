//! What is free, in memory, best fit: the allocator in front of every peer that only keeps records.

use std::collections::{BTreeMap, BTreeSet};

use freehold::Extent;

use crate::Failure;
use crate::workload::PAGE_BYTES;

/// Free runs of pages.
#[derive(Debug, Default)]
pub(crate) struct FreeMap {
    /// First page and length of each run.
    by_place: BTreeMap<u64, u64>,
    /// Length and first page of each run.
    by_length: BTreeSet<(u64, u64)>,
}

impl FreeMap {
    /// Everything but these is free.
    ///
    /// # Errors
    /// When two overlap, or one lies outside.
    pub(crate) fn without(capacity: u64, live: &[Extent]) -> Result<Self, Failure> {
        let mut live = live.to_vec();
        live.sort_unstable();
        let (mut map, mut next) = (Self::default(), 0);
        for extent in &live {
            if extent.offset < next || extent.end() > capacity {
                return Err(format!("{extent:?} overlaps another, or the end").into());
            }
            map.insert(next / PAGE_BYTES, (extent.offset - next) / PAGE_BYTES);
            next = extent.end();
        }
        map.insert(next / PAGE_BYTES, (capacity - next) / PAGE_BYTES);
        Ok(map)
    }

    /// The first part of the shortest run that is long enough.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Extent> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let &(length, first) = self.by_length.range((pages, 0)..).next()?;
        self.remove(first, length);
        self.insert(first + pages, length - pages);
        Some(Extent { offset: first * PAGE_BYTES, len: pages * PAGE_BYTES, generation: 0 })
    }

    /// Gives back, and joins with what is free beside it.
    pub(crate) fn give(&mut self, extent: &Extent) {
        let (mut first, mut length) = (extent.offset / PAGE_BYTES, extent.len / PAGE_BYTES);
        if let Some((&before, &pages)) = self.by_place.range(..first).next_back()
            && before + pages == first
        {
            self.remove(before, pages);
            (first, length) = (before, length + pages);
        }
        if let Some(&pages) = self.by_place.get(&(first + length)) {
            self.remove(first + length, pages);
            length += pages;
        }
        self.insert(first, length);
    }

    fn insert(&mut self, first: u64, length: u64) {
        if length > 0 {
            self.by_place.insert(first, length);
            self.by_length.insert((length, first));
        }
    }

    fn remove(&mut self, first: u64, length: u64) {
        self.by_place.remove(&first);
        self.by_length.remove(&(length, first));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    const CAPACITY: u64 = 100 * PAGE_BYTES;

    #[test]
    fn the_shortest_run_is_taken_and_neighbours_are_joined() {
        let mut map = FreeMap::without(CAPACITY, &[]).unwrap();
        let first = map.take(10 * PAGE_BYTES).unwrap();
        let second = map.take(1).unwrap();
        let third = map.take(5 * PAGE_BYTES).unwrap();
        map.give(&first);
        assert_eq!(map.take(9 * PAGE_BYTES).unwrap().offset, 0);
        map.give(&Extent { len: 9 * PAGE_BYTES, ..first });
        map.give(&third);
        map.give(&second);
        assert_eq!(map.take(CAPACITY).unwrap().len, CAPACITY);
        assert_eq!(map.take(1), None);
    }

    #[test]
    fn it_is_rebuilt_from_what_lives() {
        let mut map = FreeMap::without(CAPACITY, &[]).unwrap();
        let live: Vec<Extent> = (1..8).filter_map(|pages| map.take(pages * PAGE_BYTES)).collect();
        map.give(live.first().unwrap());
        let rebuilt = FreeMap::without(CAPACITY, live.get(1..).unwrap()).unwrap();
        assert_eq!(rebuilt.by_place, map.by_place);
        assert_eq!(rebuilt.by_length, map.by_length);
        assert!(FreeMap::without(CAPACITY, &[live.as_slice(), live.as_slice()].concat()).is_err());
    }
}
