//! Goal: whatever the requests and in whatever order, live extents never overlap, keep their bytes, and counters,
//! listing and raw device agree; and `NoSpace` is only said when there is no such run.
//!
//! Method: random steps of two transactions at a time against a model that knows ranges and tags. A power cut is a copy of
//! the device that is opened instead, often with hardly any memory for maps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use std::collections::BTreeMap;

use freehold::allocator::FreeArea;
use freehold::{AllocRequest, Error, Extent, Transaction};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use roles::{Bed, PAGE, areas, balanced, extents, in_time};

#[derive(Clone, Copy, Debug)]
enum Step {
    Item { bytes: u16, tagged: bool },
    Run { pages: u8, group: Option<u8>, near: Option<u16> },
    Buddy { order: u8 },
    Aligned { pages: u8, order: u8 },
    Span { segments: u8, tail: u8 },
    Pieces { pages: u16, most: u8 },
    At { which: u16, pages: u8 },
    Resize { which: u16, pages: u8 },
    Free { which: u16 },
    Write { which: u16 },
    Commit,
    Abort,
    Checkpoint,
    Crash { budget: u8 },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let (byte, word) = (u8::arbitrary(g), u16::arbitrary(g));
        match u8::arbitrary(g) % 100 {
            0..15 => Self::Item { bytes: 1 + word % 2048, tagged: byte & 1 == 1 },
            15..18 => Self::Item { bytes: 1 + word % 64, tagged: byte & 1 == 1 },
            18..30 => Self::Run {
                pages: 1 + byte % 20,
                group: (word & 7 == 0).then_some(byte % 4),
                near: (word & 7 == 1).then_some(word / 8),
            },
            30..36 => Self::Buddy { order: byte % 5 },
            36..41 => Self::Aligned { pages: 1 + byte % 9, order: (word % 5) as u8 },
            41..45 => Self::Span { segments: 1 + byte % 4, tail: (word % 40) as u8 },
            45..48 => Self::Pieces { pages: 1 + word % 80, most: 2 + byte % 7 },
            48..51 => Self::At { which: word, pages: 1 + byte % 12 },
            51..60 => Self::Resize { which: word, pages: byte % 20 },
            60..76 => Self::Free { which: word },
            76..80 => Self::Write { which: word },
            80..90 => Self::Commit,
            90..94 => Self::Abort,
            94..97 => Self::Checkpoint,
            _ => Self::Crash { budget: byte },
        }
    }
}

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

struct Model {
    bed: Bed,
    live: BTreeMap<u64, Live>,
    plans: [Plan; 2],
    next_tag: u64,
}

/// Whether a run of so many pages is there, at a multiple of `align` pages of its segment.
fn has_run(areas: &[FreeArea], pages: u64, align: u64) -> bool {
    areas.iter().any(|area| {
        let start = area.offset.next_multiple_of(align * PAGE);
        start + pages * PAGE <= area.offset + area.len
    })
}

fn has_span(areas: &[FreeArea], segment: u64, segments: u64, tail: u64) -> bool {
    let free_from = |offset: u64, len: u64| {
        areas.iter().any(|area| area.offset <= offset && area.offset + area.len >= offset + len)
    };
    areas.iter().filter(|area| area.offset.is_multiple_of(segment)).any(|area| {
        (0..segments).all(|number| free_from(area.offset + number * segment, segment))
            && (tail == 0 || free_from(area.offset + segments * segment, tail * PAGE))
    })
}

impl Model {
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

    async fn request(&mut self, plan: usize, request: AllocRequest, bytes: u64, owner: u64) -> bool {
        match self.plans[plan].txn.as_mut().unwrap().alloc(request).await {
            Ok(extent) => {
                self.take(plan, extent, bytes, owner).await;
                true
            }
            Err(Error::NoSpace { .. }) => false,
            Err(error) => panic!("{request:?}: {error}"),
        }
    }

    async fn free_areas(&self) -> Vec<FreeArea> {
        areas(&self.bed.store).await
    }

    async fn alloc(&mut self, plan: usize, step: Step) {
        let owner = self.next_tag;
        let segment = self.bed.store.layout().segment_bytes();
        match step {
            Step::Item { bytes, tagged } => {
                let owner = if tagged { owner | 1 } else { 0 };
                let request = AllocRequest::bytes(bytes.into()).owner(owner);
                if !self.request(plan, request, bytes.into(), owner).await {
                    assert_eq!(self.free_areas().await, [], "an item gets a page when there is one");
                }
            }
            Step::Run { pages, group, near } => {
                let bytes = u64::from(pages) * PAGE - owner % PAGE;
                let mut request = AllocRequest::bytes(bytes.max(PAGE / 2 + 1)).owner(owner);
                if let Some(group) = group {
                    request = request.group(group.into());
                }
                if let Some((near, _)) = near.and_then(|which| self.pick(plan, which)) {
                    request = request.near(near.extent);
                }
                if bytes > segment {
                    return;
                }
                if self.request(plan, request, bytes.max(PAGE / 2 + 1), owner).await {
                    let last = self.plans[plan].allocated.last().unwrap();
                    assert_eq!(last.extent.len, u64::from(pages) * PAGE);
                } else {
                    assert!(!has_run(&self.free_areas().await, pages.into(), 1), "{pages} pages are free");
                }
            }
            Step::Buddy { order } => {
                let pages = 1_u64 << order;
                if pages * PAGE > segment {
                    return;
                }
                let bytes = pages * PAGE / 2 + 1;
                let request = AllocRequest::bytes(bytes).owner(owner).power_of_two();
                if self.request(plan, request, bytes, owner).await {
                    let last = self.plans[plan].allocated.last_mut().unwrap();
                    last.keeps_length = true;
                    assert_eq!((last.extent.len, last.extent.offset % last.extent.len), (pages * PAGE, 0));
                } else {
                    assert!(!has_run(&self.free_areas().await, pages, pages), "2^{order} pages are free");
                }
            }
            Step::Aligned { pages, order } => {
                let (pages, align) = (u64::from(pages), 1_u64 << order);
                let request = AllocRequest::bytes(pages * PAGE).owner(owner).align(align * PAGE);
                if pages * PAGE > segment || align * PAGE > segment {
                    return;
                }
                if self.request(plan, request, pages * PAGE, owner).await {
                    let last = self.plans[plan].allocated.last().unwrap().extent;
                    assert_eq!((last.len, last.offset % (align * PAGE)), (pages * PAGE, 0));
                } else {
                    assert!(!has_run(&self.free_areas().await, pages, align), "{step:?} is free");
                }
            }
            Step::Span { segments, tail } => {
                let (segments, tail) = (u64::from(segments), u64::from(tail) % (segment / PAGE));
                let bytes = segments * segment + tail * PAGE;
                if bytes <= segment {
                    return;
                }
                if !self.request(plan, AllocRequest::bytes(bytes).owner(owner), bytes, owner).await {
                    assert!(!has_span(&self.free_areas().await, segment, segments, tail), "{step:?} is free");
                }
            }
            Step::Pieces { pages, most } => {
                let bytes = u64::from(pages) * PAGE;
                let request = AllocRequest::bytes(bytes).owner(owner).max_extents(most.into());
                match self.plans[plan].txn.as_mut().unwrap().alloc_extents(request).await {
                    Ok(extents) => {
                        assert!(extents.len() <= usize::from(most));
                        assert_eq!(extents.iter().map(|extent| extent.len).sum::<u64>(), bytes);
                        for extent in extents {
                            self.take(plan, extent, extent.len, owner).await;
                        }
                    }
                    Err(Error::NoSpace { .. }) => {
                        let mut lens: Vec<u64> =
                            self.free_areas().await.iter().map(|area| area.len).collect();
                        lens.sort_unstable();
                        let most: u64 = lens.iter().rev().take(most.into()).sum();
                        assert!(most < bytes, "{bytes} bytes in pieces of {lens:?}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::At { which, pages } => {
                let areas = self.free_areas().await;
                let Some(area) = areas.get(usize::from(which) % areas.len().max(1)) else { return };
                let pages = u64::from(pages).min(area.len / PAGE);
                let offset = area.offset + area.len - pages * PAGE;
                let request = AllocRequest::bytes(pages * PAGE).owner(owner).at(offset);
                assert!(self.request(plan, request, pages * PAGE, owner).await, "{area:?} is free");
                assert_eq!(self.plans[plan].allocated.last().unwrap().extent.offset, offset);
            }
            _ => {}
        }
    }

    async fn resize(&mut self, plan: usize, which: u16, pages: u8) {
        let page = PAGE * u64::from(pages.max(1));
        // Sometimes one that this transaction gives another length already.
        let again = &self.plans[plan].resized;
        let again = (pages & 1 == 1 && !again.is_empty()).then(|| usize::from(which) % again.len());
        let (live, own) = match again {
            Some(at) => (self.plans[plan].resized[at].1, false),
            None => match self.pick(plan, which) {
                Some(picked) => picked,
                None => return,
            },
        };
        let bytes = if pages == 0 { live.extent.len } else { page };
        let txn = self.plans[plan].txn.as_mut().unwrap();
        let new = match txn.resize(&live.extent, bytes).await {
            Ok(new) => new,
            Err(Error::CannotResize { .. }) => return,
            Err(error) => panic!("{live:?} to {bytes}: {error}"),
        };
        assert_eq!((new.offset, new.generation), (live.extent.offset, live.extent.generation));
        assert!(new.len >= bytes, "{new:?} for {bytes}");
        let tail = self.tag();
        let changed = Live { extent: new, asked: bytes, tail, ..live };
        // A committed one that keeps its length keeps what was noted of it.
        if live.keeps_length && !own {
            assert_eq!(new, live.extent);
            return;
        }
        if own {
            let place = self.plans[plan].allocated.iter().position(|old| *old == live).unwrap();
            self.plans[plan].allocated[place] = changed;
        } else if let Some(at) = again {
            self.plans[plan].resized[at].1 = changed;
        } else {
            self.plans[plan].resized.push((live.extent, changed));
        }
        self.no_overlap();
        self.put(plan, &new, new.len - 8, tail, false).await;
    }

    async fn free(&mut self, plan: usize, which: u16) {
        if which.is_multiple_of(5) && !self.plans[plan].resized.is_empty() {
            let at = usize::from(which / 5) % self.plans[plan].resized.len();
            let (old, live) = self.plans[plan].resized.swap_remove(at);
            self.plans[plan].txn.as_mut().unwrap().free(&live.extent).await.unwrap();
            self.plans[plan].freed.push(old);
            return;
        }
        let Some((live, own)) = self.pick(plan, which) else { return };
        self.plans[plan].txn.as_mut().unwrap().free(&live.extent).await.unwrap();
        if own {
            self.plans[plan].allocated.retain(|other| *other != live);
        } else {
            self.plans[plan].freed.push(live.extent);
        }
    }

    /// The bytes of a committed extent in a transaction of its own.
    async fn write(&mut self, which: u16) {
        let open: Vec<Extent> = self
            .plans
            .iter()
            .flat_map(|plan| plan.freed.iter().copied().chain(plan.resized.iter().map(|(old, _)| *old)))
            .collect();
        let all: Vec<Live> =
            self.live.values().filter(|live| !open.contains(&live.extent)).copied().collect();
        if all.is_empty() {
            return;
        }
        let mut live = all[usize::from(which) % all.len()];
        (live.head, live.tail) = (self.tag(), self.tag());
        for (offset, tag) in [(0, live.head), (live.extent.len - 8, live.tail)] {
            if which & 1 == 1 {
                self.bed.store.write_at(&live.extent, offset, &tag.to_le_bytes()).await.unwrap();
            } else {
                let mut txn = self.bed.store.begin();
                txn.write(&live.extent, offset, &tag.to_le_bytes()).await.unwrap();
                txn.commit().await.unwrap();
            }
        }
        self.live.insert(live.extent.offset, live);
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

    async fn verify(&self) {
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

    async fn step(&mut self, at: usize, step: Step) {
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
                self.plans = Default::default();
                self.bed.options = self.bed.options.clone().loaded_bytes(match budget % 3 {
                    0 => 0,
                    1 => usize::from(budget) << 8,
                    _ => 1 << 20,
                });
                if budget & 8 == 0 {
                    self.bed.crash().await;
                } else {
                    self.bed.close_and_open().await;
                }
                self.verify().await;
            }
            step => self.alloc(plan, step).await,
        }
        balanced(&self.bed.store.stats());
    }
}

fn property(len: usize, segment: u64, steps: Vec<Step>) {
    in_time(30, async move {
        let bed = Bed::new(len, segment, 256 << 10).await;
        let mut model = Model { bed, live: BTreeMap::new(), plans: Default::default(), next_tag: 0 };
        for (at, step) in steps.into_iter().enumerate() {
            model.step(at, step).await;
        }
        model.verify().await;
        model.plans = Default::default();
        model.verify().await;
        model.bed.verify().await;
        model.bed.crash().await;
        model.verify().await;
        // Everything can be given back.
        let free = model.bed.live().await;
        model.bed.free_all(free).await;
        model.live.clear();
        model.verify().await;
        assert_eq!(model.bed.store.stats().free_bytes, model.bed.usable_bytes());
        model.bed.verify().await;
    });
}

fn small(steps: Vec<Step>) {
    property(2 << 20, 64 << 10, steps);
}

fn large(steps: Vec<Step>) {
    property(6 << 20, 256 << 10, steps);
}

#[test]
fn random_requests_against_a_model_in_a_store_that_is_soon_full() {
    let sizes = Gen::new(400);
    QuickCheck::new().rng(sizes).tests(60).quickcheck(small as fn(Vec<Step>));
}

#[test]
fn random_requests_against_a_model_in_a_larger_store() {
    let sizes = Gen::new(300);
    QuickCheck::new().rng(sizes).tests(30).quickcheck(large as fn(Vec<Step>));
}
