//! A model of a store under two transactions at a time: it knows ranges, tags and a few bytes of each extent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod alloc;
mod change;
mod step;

use std::collections::BTreeMap;

use freehold::{Error, Extent, Transaction};

use crate::roles::{Bed, PAGE, balanced, extents};

pub(crate) use step::Step;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Live {
    extent: Extent,
    asked: u64,
    owner: u64,
    /// What is written at its first eight bytes.
    head: u64,
    /// And at its last eight.
    tail: u64,
    /// Items, powers of two and spans.
    keeps_length: bool,
}

/// What an open transaction is going to do.
#[derive(Default)]
struct Plan {
    txn: Option<Transaction>,
    allocated: Vec<Live>,
    freed: Vec<Extent>,
    /// From the committed handle to what it becomes.
    resized: Vec<(Extent, Live)>,
}

/// A store, and what must be in it.
pub(crate) struct Model {
    pub(crate) bed: Bed,
    live: BTreeMap<u64, Live>,
    plans: [Plan; 2],
    next_tag: u64,
}

impl Model {
    pub(crate) fn new(bed: Bed) -> Self {
        Self { bed, live: BTreeMap::new(), plans: Default::default(), next_tag: 0 }
    }

    /// Drops the transactions that are open.
    pub(crate) fn drop_plans(&mut self) {
        self.plans = Default::default();
    }

    /// Gives every extent back.
    pub(crate) async fn free_all(&mut self) {
        self.bed.free_all(self.bed.live().await).await;
        self.live.clear();
    }

    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        // No byte of it is zero.
        (self.next_tag * 0x0101_0101) | 0x8080_8080_8080_8080
    }

    /// Extents that a plan may touch: its own, and committed ones that no plan changes.
    fn pick(&self, plan: usize, which: u16) -> Option<(Live, bool)> {
        let changed = |extent: &Extent| {
            self.plans
                .iter()
                .any(|plan| plan.freed.contains(extent) || plan.resized.iter().any(|(old, _)| old == extent))
        };
        let own = self.plans[plan].allocated.iter().map(|live| (*live, true));
        let free = self.live.values().filter(|live| !changed(&live.extent)).map(|live| (*live, false));
        let all: Vec<_> = own.chain(free).collect();
        (!all.is_empty()).then(|| all[usize::from(which) % all.len()])
    }

    /// Ranges that nobody else may have.
    fn occupied(&self) -> Vec<(u64, u64)> {
        let own = self.plans.iter().flat_map(|plan| plan.allocated.iter().map(|live| live.extent));
        let grown = self.plans.iter().flat_map(|plan| plan.resized.iter().map(|(_, live)| live.extent));
        let mut ranges: BTreeMap<u64, u64> = BTreeMap::new();
        for extent in self.live.values().map(|live| live.extent).chain(own).chain(grown) {
            let end = ranges.entry(extent.offset).or_insert(0);
            *end = extent.end().max(*end);
        }
        ranges.into_iter().collect()
    }

    fn no_overlap(&self) {
        let ranges = self.occupied();
        let layout = self.bed.store.layout();
        let end = layout.page_count() * PAGE;
        for pair in ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:?} overlap");
        }
        for (from, to) in ranges {
            assert!(from >= layout.data_offset() && to <= end, "{from}..{to} is not usable");
        }
    }

    async fn take(&mut self, plan: usize, extent: Extent, asked: u64, owner: u64) {
        assert!(extent.len >= asked, "{extent:?} for {asked} bytes");
        let live = Live {
            extent,
            asked,
            owner,
            head: self.tag(),
            tail: self.tag(),
            keeps_length: !extent.len.is_multiple_of(PAGE)
                || extent.len > self.bed.store.layout().segment_bytes(),
        };
        self.plans[plan].allocated.push(live);
        self.no_overlap();
        let direct = live.head & 1 == 1;
        self.put(plan, &extent, 0, live.head, direct).await;
        self.put(plan, &extent, extent.len - 8, live.tail, direct).await;
    }

    async fn put(&mut self, plan: usize, extent: &Extent, offset: u64, tag: u64, direct: bool) {
        if direct {
            self.bed.store.write_at(extent, offset, &tag.to_le_bytes()).await.unwrap();
        } else {
            let txn = self.plans[plan].txn.as_mut().unwrap();
            txn.write(extent, offset, &tag.to_le_bytes()).await.unwrap();
        }
    }

    async fn end(&mut self, plan: usize, commit: bool) {
        let Plan { txn, allocated, freed, resized } = std::mem::take(&mut self.plans[plan]);
        let Some(txn) = txn else { return };
        if !commit {
            txn.abort();
            return;
        }
        match txn.commit().await {
            Ok(_) => {}
            Err(Error::TransactionTooLarge { .. }) => return,
            Err(error) => panic!("{error}"),
        }
        for extent in freed {
            assert!(self.live.remove(&extent.offset).is_some());
        }
        for (old, live) in resized {
            assert!(self.live.insert(old.offset, live).is_some());
        }
        for live in allocated {
            assert!(self.live.insert(live.extent.offset, live).is_none());
        }
    }

    pub(crate) async fn verify(&self) {
        let listed = extents(&self.bed.store).await;
        let listed: Vec<_> = listed.into_iter().map(|info| (info.extent, info.owner)).collect();
        let model: Vec<_> = self.live.values().map(|live| (live.extent, live.owner)).collect();
        assert_eq!(listed, model);
        for live in self.live.values() {
            for (offset, tag) in [(live.extent.len - 8, live.tail), (0, live.head)] {
                if live.extent.len < 16 && offset > 0 {
                    continue;
                }
                let bytes = self.bed.store.read_at(&live.extent, offset, 8).await.unwrap();
                assert_eq!(bytes, tag.to_le_bytes(), "{live:?} at {offset}");
            }
        }
        let stats = self.bed.store.stats();
        balanced(&stats);
        let sum = |part: fn(&Live) -> u64| self.live.values().map(part).sum::<u64>();
        assert_eq!(stats.allocated_bytes, sum(|live| live.extent.len));
        assert_eq!(stats.extents, self.live.len() as u64);
        // Each is rounded down to a unit, at most 16 bytes or a 512th.
        let rounding = sum(|live| live.extent.len - live.asked);
        let unit = sum(|live| (live.extent.len / 512).max(16));
        assert!(
            (rounding.saturating_sub(unit)..=rounding).contains(&stats.rounding_bytes),
            "{rounding} {stats:?}"
        );
        if self.plans.iter().all(|plan| plan.txn.is_none()) {
            assert_eq!((stats.reserved_bytes, stats.pending_bytes), (0, 0));
        }
    }

    pub(crate) async fn step(&mut self, at: usize, step: Step) {
        let plan = at % 2;
        if self.plans[plan].txn.is_none() {
            self.plans[plan].txn = Some(self.bed.store.begin());
        }
        match step {
            Step::Resize { which, pages } => self.resize(plan, which, pages).await,
            Step::Free { which } => self.free(plan, which).await,
            Step::Write { which } => self.write(which).await,
            Step::Commit => self.end(plan, true).await,
            Step::Abort => self.end(plan, false).await,
            Step::Checkpoint => self.bed.store.checkpoint().await.unwrap(),
            Step::Crash { budget } => {
                self.drop_plans();
                self.bed.options = self.bed.options.clone().loaded_bytes(match budget % 3 {
                    0 => 0,
                    1 => usize::from(budget) << 8,
                    _ => 1 << 20,
                });
                self.bed.reopen(budget & 8 != 0).await;
                self.verify().await;
            }
            step => self.alloc(plan, step).await,
        }
        balanced(&self.bed.store.stats());
    }
}
