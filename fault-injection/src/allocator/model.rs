//! The reference model: naive, and without any code of the allocator's book-keeping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freehold::{Extent, ExtentInfo};

use super::payload::PageState;
use crate::rng::mix;

/// What is allocated, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By offset.
    pub extents: BTreeMap<u64, Held>,
    /// Handles of what was freed, offset and generation: no extent has one of them again.
    spent: Arc<BTreeSet<(u64, u32)>>,
}

/// An extent and its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The extent and its owner.
    pub info: ExtentInfo,
    /// What its pages hold.
    pub pages: Arc<Vec<PageState>>,
}

/// Journaled bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where: an extent.
    pub extent: Extent,
    /// Which page of it.
    pub page: usize,
    /// Which unit of the page gets a new cell; none stands for the page as a whole.
    pub unit: Option<usize>,
    /// What is written.
    pub tag: u64,
}

/// What a transaction does.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Its place in the store's history.
    pub lsn: u64,
    /// Extents allocated, each page holding a tag.
    pub allocated: Vec<(ExtentInfo, u64)>,
    /// Extents freed.
    pub freed: Vec<Extent>,
    /// Extents with another length: as they were, as they are, and the tag that more pages hold.
    pub resized: Vec<(Extent, Extent, u64)>,
    /// Journaled bytes.
    pub puts: Vec<Put>,
}

impl Effects {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        let place =
            |extent: &Extent| format!("{}+{} (generation {})", extent.offset, extent.len, extent.generation);
        parts.extend(self.allocated.iter().map(|(info, _)| format!("allocates {}", place(&info.extent))));
        parts.extend(self.freed.iter().map(|extent| format!("frees {}", place(extent))));
        parts.extend(
            self.resized.iter().map(|(old, new, _)| format!("makes {} {} bytes long", place(old), new.len)),
        );
        parts.extend(self.puts.iter().map(|put| {
            let what = put.unit.map_or_else(|| "all of it".to_owned(), |unit| format!("cell {unit}"));
            format!("writes {what} in page {} of {}", put.page, place(&put.extent))
        }));
        let all = if parts.is_empty() { "does nothing".to_owned() } else { parts.join(", ") };
        format!("transaction, LSN {}: {all}", self.lsn)
    }
}

impl State {
    /// The state after a transaction.
    #[must_use]
    pub fn after(&self, effects: &Effects, page_bytes: u64) -> Self {
        let mut next = self.clone();
        for extent in &effects.freed {
            Arc::make_mut(&mut next.spent).insert((extent.offset, extent.generation));
            // The offset may be another extent's by now, when acknowledgements were told out of order.
            if next.extents.get(&extent.offset).is_some_and(|held| held.info.extent == *extent) {
                next.extents.remove(&extent.offset);
            }
        }
        for (old, new, tag) in &effects.resized {
            if let Some(held) = next.extents.get_mut(&old.offset).filter(|held| held.info.extent == *old) {
                held.info.extent = *new;
                let (before, after) = (old.len / page_bytes, new.len / page_bytes);
                let pages = Arc::make_mut(&mut held.pages);
                pages.truncate(usize::try_from(after).unwrap_or(usize::MAX));
                pages.extend((before..after).map(|page| PageState::direct(tag + page)));
            }
        }
        for (info, tag) in &effects.allocated {
            let pages = (0..info.extent.len.div_ceil(page_bytes)).map(|page| PageState::direct(tag + page));
            let held = Held { info: *info, pages: Arc::new(pages.collect()) };
            next.extents.insert(info.extent.offset, held);
        }
        for put in &effects.puts {
            next.change_page(&put.extent, put.page, |page| match put.unit {
                Some(unit) => page.put(unit, put.tag),
                None => *page = PageState::direct(put.tag),
            });
        }
        next
    }

    /// The state while a page is written directly: it may hold anything.
    #[must_use]
    pub fn unsettled(&self, extent: &Extent, page: usize) -> Self {
        let mut next = self.clone();
        next.change_page(extent, page, |page| *page = PageState::unsettled());
        next
    }

    /// The state after a page was written directly, and made durable.
    #[must_use]
    pub fn overwritten(&self, extent: &Extent, page: usize, tag: u64) -> Self {
        let mut next = self.clone();
        next.change_page(extent, page, |page| *page = PageState::direct(tag));
        next
    }

    fn change_page(&mut self, extent: &Extent, page: usize, change: impl FnOnce(&mut PageState)) {
        if let Some(held) = self.extents.get_mut(&extent.offset)
            && let Some(state) = Arc::make_mut(&mut held.pages).get_mut(page)
        {
            change(state);
        }
    }

    /// Whether something that was freed had this handle: one that is stale would match.
    #[must_use]
    pub fn is_spent(&self, extent: &Extent) -> bool {
        self.spent.contains(&(extent.offset, extent.generation))
    }

    /// The extents, by offset.
    pub fn infos(&self) -> impl Iterator<Item = ExtentInfo> + '_ {
        self.extents.values().map(|held| held.info)
    }

    /// A number that equal states share.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut sum = 0;
        let mut add = |number: u64| sum = mix(sum ^ number);
        for held in self.extents.values() {
            let extent = held.info.extent;
            add(extent.offset);
            add(extent.len);
            add(u64::from(extent.generation));
            add(held.info.owner);
            held.pages.iter().for_each(|page| add(page.fingerprint()));
        }
        sum
    }
}
