//! A buddy in memory: blocks of a power of two of pages, aligned to their length.

use std::collections::BTreeSet;

/// Free blocks by order.
#[derive(Debug)]
pub(crate) struct Buddy {
    free: Vec<BTreeSet<u64>>,
}

impl Buddy {
    /// A free store of a power of two of pages, without these blocks: page and order of each, in order.
    ///
    /// # Errors
    /// When a block overlaps another or lies outside.
    pub(crate) fn without(pages: u64, used: &[(u64, u32)]) -> Result<Self, &'static str> {
        let orders = usize::try_from(pages.ilog2()).unwrap_or(0) + 1;
        let mut buddy = Self { free: vec![BTreeSet::new(); orders] };
        let mut next = 0;
        for &(page, order) in used {
            if page < next || page + (1 << order) > pages {
                return Err("a block overlaps another, or the end");
            }
            buddy.insert(next, page);
            next = page + (1 << order);
        }
        buddy.insert(next, pages);
        Ok(buddy)
    }

    /// Frees a range in as few blocks as it has.
    fn insert(&mut self, mut page: u64, end: u64) {
        while page < end {
            let fits = (end - page).ilog2();
            let order = if page == 0 { fits } else { fits.min(page.trailing_zeros()) };
            self.give(page, order);
            page += 1 << order;
        }
    }

    fn order(&mut self, order: u32) -> Option<&mut BTreeSet<u64>> {
        self.free.get_mut(usize::try_from(order).ok()?)
    }

    /// The first page of a block of this order.
    pub(crate) fn take(&mut self, order: u32) -> Option<u64> {
        let mut found = order;
        let page = loop {
            match self.order(found)?.pop_first() {
                Some(page) => break page,
                None => found += 1,
            }
        };
        while found > order {
            found -= 1;
            self.order(found)?.insert(page + (1 << found));
        }
        Some(page)
    }

    /// Gives a block back, and joins it with its buddy as long as that is free.
    pub(crate) fn give(&mut self, mut page: u64, mut order: u32) {
        while self.order(order + 1).is_some() {
            let buddy = page ^ (1 << order);
            if !self.order(order).is_some_and(|blocks| blocks.remove(&buddy)) {
                break;
            }
            page = page.min(buddy);
            order += 1;
        }
        if let Some(blocks) = self.order(order) {
            blocks.insert(page);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn blocks_are_split_and_joined() {
        let mut buddy = Buddy::without(64, &[]).unwrap();
        let first = buddy.take(0).unwrap();
        let second = buddy.take(4).unwrap();
        assert_eq!((first, second), (0, 16));
        assert_eq!(buddy.take(6), None);
        buddy.give(first, 0);
        buddy.give(second, 4);
        assert_eq!(buddy.take(6), Some(0));
    }

    #[test]
    fn it_is_rebuilt_from_what_is_used() {
        let mut buddy = Buddy::without(256, &[]).unwrap();
        let mut used: Vec<(u64, u32)> =
            [3, 0, 5, 1, 0].into_iter().map(|order| (buddy.take(order).unwrap(), order)).collect();
        let (page, order) = used.remove(1);
        buddy.give(page, order);
        used.sort_unstable();
        assert_eq!(Buddy::without(256, &used).unwrap().free, buddy.free);
        assert!(Buddy::without(256, &[(0, 1), (1, 0)]).is_err());
    }
}
