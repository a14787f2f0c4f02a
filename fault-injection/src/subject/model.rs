//! The reference model: naive, and without any code of the allocator's book-keeping.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold::{Extent, ExtentInfo};

use super::payload::PageState;

/// What is allocated, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By offset.
    pub extents: BTreeMap<u64, Held>,
}

/// An extent and its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The extent and its owner.
    pub info: ExtentInfo,
    /// What its pages hold, unless a direct write was never known to be durable.
    pub pages: Arc<Vec<PageState>>,
}

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The store was formatted.
    Format,
    /// A transaction.
    Transaction(Effects),
    /// A page of a live extent was written directly, and made durable.
    Overwrite {
        /// The extent.
        extent: Extent,
        /// Which page of it.
        page: usize,
        /// What was written.
        tag: u64,
    },
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
    /// Journaled cells: extent, page, unit, tag.
    pub puts: Vec<(Extent, usize, usize, u64)>,
}

impl State {
    /// The state after one more step.
    #[must_use]
    pub fn after(&self, entry: &Entry, page_bytes: u64) -> Self {
        let mut next = self.clone();
        match entry {
            Entry::Format => {}
            Entry::Transaction(effects) => {
                for extent in &effects.freed {
                    // The offset may be another extent's by now, when acknowledgements were told out of order.
                    if next.extents.get(&extent.offset).is_some_and(|held| held.info.extent == *extent) {
                        next.extents.remove(&extent.offset);
                    }
                }
                for (info, tag) in &effects.allocated {
                    let count = usize::try_from(info.extent.len / page_bytes).unwrap_or(0);
                    let pages = (0..count as u64).map(|page| PageState { base: tag + page, cells: vec![] });
                    let held = Held { info: *info, pages: Arc::new(pages.collect()) };
                    next.extents.insert(info.extent.offset, held);
                }
                for (extent, page, unit, tag) in &effects.puts {
                    next.change_page(extent, *page, |state| state.put(*unit, *tag));
                }
            }
            Entry::Overwrite { extent, page, tag } => {
                next.change_page(extent, *page, |state| state.overwrite(*tag));
            }
        }
        next
    }

    fn change_page(&mut self, extent: &Extent, page: usize, change: impl FnOnce(&mut PageState)) {
        if let Some(held) = self.extents.get_mut(&extent.offset)
            && let Some(state) = Arc::make_mut(&mut held.pages).get_mut(page)
        {
            change(state);
        }
    }
}

/// A history, with the state after each step, and how far it was started and acknowledged at each point of the trace.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The steps, in the order in which they take effect.
    pub entries: Vec<Entry>,
    /// The state before the first step and after each.
    pub states: Vec<State>,
}

/// How far a history had come at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// So many steps were acknowledged.
    pub acknowledged: usize,
    /// So many were begun.
    pub started: usize,
}

/// Marks in a trace say how far the history has come.
impl Progress {
    /// A mark: so many steps are begun.
    #[must_use]
    pub const fn started_mark(steps: usize) -> u64 {
        (steps as u64) << 1
    }

    /// A mark: so many steps are acknowledged.
    #[must_use]
    pub const fn acknowledged_mark(steps: usize) -> u64 {
        (steps as u64) << 1 | 1
    }

    /// Takes a mark into account.
    pub fn observe(&mut self, mark: u64) {
        let steps = usize::try_from(mark >> 1).unwrap_or(usize::MAX);
        if mark & 1 == 1 {
            self.acknowledged = self.acknowledged.max(steps);
        }
        self.started = self.started.max(steps);
    }
}

impl History {
    /// A history that begins in `state`.
    #[must_use]
    pub fn from(state: State) -> Self {
        Self { entries: Vec::new(), states: vec![state] }
    }

    /// Adds a step.
    pub fn push(&mut self, entry: Entry, page_bytes: u64) {
        let next = self.last().after(&entry, page_bytes);
        self.entries.push(entry);
        self.states.push(next);
    }

    /// The state after the last step.
    #[must_use]
    pub fn last(&self) -> &State {
        static EMPTY: State = State { extents: BTreeMap::new() };
        self.states.last().unwrap_or(&EMPTY)
    }
}
