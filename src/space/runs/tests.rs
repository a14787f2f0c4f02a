//! Cases by hand, and a model of one `bool` per page that the index is compared with after every few steps.

use std::{collections::BTreeMap, ops::Range};

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

/// The segments of the model: number, pages, usable range.
const SEGMENTS: [(u32, u32, Range<u32>); 7] = [
    (0, 8, 1..8),
    (3, 64, 0..64),
    (4, 513, 3..509),
    (63, 4096, 70..4096),
    (64, 513, 0..513),
    (70, 300, 130..140),
    (5000, RunMap::MAX_PAGES, 100..RunMap::MAX_PAGES - 37),
];

/// The states of the pages of one segment, and the definitions applied to them as they stand.
#[derive(Clone)]
struct Segment {
    free: Vec<bool>,
    usable: Range<u32>,
}

impl Segment {
    fn new(page_count: u32, usable: Range<u32>) -> Self {
        Self { free: (0..page_count).map(|page| usable.contains(&page)).collect(), usable }
    }

    fn runs(&self, free: bool) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for page in self.usable.clone().filter(|&page| self.free[page as usize] == free) {
            match runs.last_mut() {
                Some((start, len)) if *start + *len == page => *len += 1,
                _ => runs.push((page, 1)),
            }
        }
        runs
    }

    fn all(&self, page: u32, pages: u32, free: bool) -> bool {
        let mut run = u64::from(page)..u64::from(page) + u64::from(pages);
        pages > 0
            && run.start >= u64::from(self.usable.start)
            && run.end <= u64::from(self.usable.end)
            && run.all(|page| self.free[usize::try_from(page).unwrap()] == free)
    }

    fn set(&mut self, page: u32, pages: u32, free: bool) -> bool {
        let accepted = self.all(page, pages, !free);
        if accepted {
            self.free[page as usize..(page + pages) as usize].fill(free);
        }
        accepted
    }

    fn page_count(&self) -> u32 {
        u32::try_from(self.free.len()).unwrap()
    }

    fn used_bytes(&self) -> Vec<u8> {
        let used = |page: u32| self.usable.contains(&page) && !self.free[page as usize];
        let byte = |at: u32| (0..8).fold(0, |byte, bit| byte | u8::from(used(at * 8 + bit)) << bit);
        (0..self.page_count().div_ceil(8)).map(byte).collect()
    }

    fn rebuilt(&self) -> RunMap {
        RunMap::from_used_bytes(self.page_count(), self.usable.clone(), &self.used_bytes()).unwrap()
    }

    /// Compares everything that a map answers, for the pages named and the runs.
    fn check(&self, map: &RunMap, pages: &[u32]) {
        let runs = self.runs(true);
        assert_eq!(map.free_runs().collect::<Vec<_>>(), runs);
        assert_eq!(map.used_runs().collect::<Vec<_>>(), self.runs(false));
        assert_eq!(map.longest(), runs.iter().map(|&(_, len)| len).max().unwrap_or(0));
        assert_eq!(map.free_pages(), runs.iter().map(|&(_, len)| len).sum::<u32>());
        assert_eq!((map.page_count(), map.usable()), (self.page_count(), self.usable.clone()));
        for &page in pages {
            let around = runs.iter().map(|&(start, len)| start..start + len);
            assert_eq!(map.run_at(page), around.clone().find(|run| run.contains(&page)), "run at {page}");
            assert_eq!(map.is_free(page), self.all(page, 1, true));
            for len in [0, 1, 2, 63, 64, 65, 200, u32::MAX] {
                assert_eq!(map.is_run_free(page, len), self.all(page, len, true), "{page} {len}");
                assert_eq!(map.is_run_used(page, len), self.all(page, len, false), "{page} {len}");
            }
        }
        assert_eq!(map, &self.rebuilt(), "against a rebuild");
    }
}

/// The model of an index.
#[derive(Clone, Default)]
struct Model(BTreeMap<u32, Segment>);

impl Model {
    /// Length, segment and first page of all runs, in the order in which they are preferred.
    fn runs(&self) -> Vec<(u32, u32, u32)> {
        let runs = |(&at, segment): (&u32, &Segment)| {
            segment.runs(true).into_iter().map(move |(page, len)| (len, at, page)).collect::<Vec<_>>()
        };
        let mut runs = self.0.iter().flat_map(runs).collect::<Vec<_>>();
        runs.sort_unstable();
        runs
    }

    fn set(&mut self, segment: u32, page: u32, pages: u32, free: bool) -> bool {
        self.0.get_mut(&segment).is_some_and(|segment| segment.set(page, pages, free))
    }

    fn check(&self, index: &RunIndex, pages: &[u32]) {
        let runs = self.runs();
        assert_eq!(index.attached().collect::<Vec<_>>(), self.0.keys().copied().collect::<Vec<_>>());
        let fit = |&(len, segment, page): &(u32, u32, u32)| Fit { segment, page, len };
        let longest = runs.last().map_or(0, |run| run.0);
        assert_eq!(index.longest(), runs.iter().find(|run| run.0 == longest).map(fit));
        for wanted in lengths(&runs) {
            let suits = |run: &&(u32, u32, u32)| wanted > 0 && run.0 >= wanted;
            assert_eq!(index.best_fit(wanted), runs.iter().find(suits).map(fit), "best fit for {wanted}");
            for &segment in self.0.keys().chain(&[1, 6000]) {
                let best = runs.iter().filter(|run| run.1 == segment).find(suits).map(fit);
                assert_eq!(index.best_fit_in(segment, wanted), best, "best fit for {wanted} in {segment}");
            }
        }
        for (wanted, align) in
            [(1, 2), (3, 4), (4, 4), (5, 16), (16, 16), (60, 64), (64, 64), (130, 8), (2, 1)]
        {
            let within = |run: &(u32, u32, u32)| {
                let page = (run.2..run.2 + run.0).find(|page| page % align == 0)?;
                let len = run.2 + run.0 - page;
                (len >= wanted).then_some(Fit { segment: run.1, page, len })
            };
            let ample = runs.iter().find(|run| run.0 >= wanted + align - 1).and_then(within);
            let best = ample.or_else(|| runs.iter().find_map(within));
            assert_eq!(index.aligned_fit(wanted, align), best, "{wanted} pages aligned to {align}");
        }
        let mut histogram = Histogram::default();
        for &(len, ..) in &runs {
            let order = (0..19).rfind(|order| 1 << order <= len).unwrap();
            histogram.runs[order] += 1;
            histogram.pages[order] += u64::from(len);
            histogram.squares += u128::from(len).pow(2);
        }
        assert_eq!(index.histogram(), histogram);
        for (&at, segment) in &self.0 {
            segment.check(index.map(at).unwrap(), pages);
        }
    }
}

/// Lengths at which the answers may change, and the limits.
fn lengths(runs: &[(u32, u32, u32)]) -> Vec<u32> {
    let mut lengths = vec![0, 1, 2, 3, 62, 63, 64, 65, 127, 128, RunMap::MAX_PAGES, 1 << 22, u32::MAX];
    lengths.extend(runs.iter().rev().step_by(runs.len() / 20 + 1).flat_map(|run| [run.0, run.0 + 1]));
    lengths
}

/// What is done to an index and its model.
#[derive(Clone, Debug)]
enum Step {
    Take {
        segment: u32,
        page: u32,
        pages: u32,
    },
    Give {
        segment: u32,
        page: u32,
        pages: u32,
    },
    /// Best fit, and then that many pages of it.
    Fit {
        pages: u32,
    },
    /// Frees a used run or a part of it: the next used run from `page` on, without `skip` pages at its start.
    Free {
        segment: u32,
        page: u32,
        skip: u32,
        pages: u32,
    },
    /// Takes the next 300 pages one by one, without those whose number is a multiple of `distance`.
    Comb {
        segment: u32,
        page: u32,
        distance: u32,
    },
    Detach {
        segment: u32,
    },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let at = usize::arbitrary(g) % SEGMENTS.len();
        let (segment, page_count, _) = SEGMENTS[at].clone();
        let near = [0, 1, 60, 63, 64, 65, 127, 500, 4090, page_count / 2, page_count.saturating_sub(70)];
        let start = *g.choose(&near).unwrap() + u32::from(u8::arbitrary(g)) % 80;
        let page = start % (page_count + 3);
        let small = 1 + u32::from(u8::arbitrary(g)) % 8;
        let sizes =
            [small, small, small, 0, 60 + small, 64, 128, page_count / 3, page_count, u32::MAX - page];
        let pages = *g.choose(&sizes).unwrap();
        match u8::arbitrary(g) % 16 {
            0..4 => Self::Take { segment, page, pages },
            4..6 => Self::Give { segment, page, pages },
            6..10 => Self::Fit { pages },
            10..14 => Self::Free { segment, page, skip: u32::from(small > 6), pages },
            14 => Self::Comb { segment, page, distance: small + 1 },
            _ => Self::Detach { segment },
        }
    }
}

fn set(index: &mut RunIndex, model: &mut Model, at: (u32, u32, u32), free: bool) {
    let (segment, page, pages) = at;
    let answer = if free { index.give(segment, page, pages) } else { index.take(segment, page, pages) };
    assert_eq!(answer, model.set(segment, page, pages, free), "{at:?}, to be free: {free}");
}

fn apply(index: &mut RunIndex, model: &mut Model, step: &Step) {
    match *step {
        Step::Take { segment, page, pages } => set(index, model, (segment, page, pages), false),
        Step::Give { segment, page, pages } => set(index, model, (segment, page, pages), true),
        Step::Fit { pages } => {
            let runs = model.runs();
            let best = runs.iter().find(|run| pages > 0 && run.0 >= pages);
            let best = best.map(|&(len, segment, page)| Fit { segment, page, len });
            assert_eq!(index.best_fit(pages), best);
            let end = |fit: &Fit| fit.page + fit.len;
            let page = |fit: &Fit| if pages >= LONG { end(fit) - pages } else { fit.page };
            let place = best.map(|fit| (fit.segment, page(&fit)));
            assert_eq!(index.take_best(pages), place);
            if let Some((segment, page)) = place {
                assert!(model.set(segment, page, pages, false));
            }
        }
        Step::Free { segment, page, skip, pages } => {
            let used = model.0.get(&segment).map(|segment| segment.runs(false)).unwrap_or_default();
            if let Some((start, len)) = used.into_iter().find(|run| run.0 >= page) {
                set(index, model, (segment, start + skip, pages.min(len)), true);
            }
        }
        Step::Comb { segment, page, distance } => {
            let teeth = (page..page + 300).filter(|page| page % distance != 0);
            teeth.for_each(|page| set(index, model, (segment, page, 1), false));
        }
        Step::Detach { segment } => match (index.detach(segment), model.0.remove(&segment)) {
            (Some(map), Some(removed)) => removed.check(&map, &[]),
            (None, None) => {
                let (_, page_count, usable) = SEGMENTS.iter().find(|it| it.0 == segment).unwrap().clone();
                index.attach(segment, RunMap::new(page_count, usable.clone()));
                model.0.insert(segment, Segment::new(page_count, usable));
            }
            (map, _) => panic!("segment {segment}: attached in the index: {}", map.is_some()),
        },
    }
}

/// An index with the first `count` of [`SEGMENTS`] attached, and its model.
fn start(count: usize) -> (RunIndex, Model) {
    let (mut index, mut model) = (RunIndex::default(), Model::default());
    for (segment, page_count, usable) in &SEGMENTS[..count] {
        index.attach(*segment, RunMap::new(*page_count, usable.clone()));
        model.0.insert(*segment, Segment::new(*page_count, usable.clone()));
    }
    (index, model)
}

fn agrees(count: usize, steps: Vec<Step>) {
    let (mut index, mut model) = start(count);
    model.check(&index, &[]);
    let last = steps.len().saturating_sub(1);
    for (at, step) in steps.into_iter().enumerate() {
        apply(&mut index, &mut model, &step);
        if at % 8 == 7 || at == last {
            let pages = match step {
                Step::Take { page, .. } | Step::Give { page, .. } | Step::Free { page, .. } => page,
                _ => 64,
            };
            model.check(&index, &[0, pages, pages + 1, pages.saturating_sub(1), pages + 64, u32::MAX]);
        }
    }
}

#[test]
fn small_segments_agree_with_the_model() {
    fn property(steps: Vec<Step>) {
        agrees(6, steps);
    }
    QuickCheck::new().tests(300).quickcheck(property as fn(Vec<Step>));
}

#[test]
fn all_segments_agree_with_the_model() {
    fn property(steps: Vec<Step>) {
        agrees(SEGMENTS.len(), steps);
    }
    QuickCheck::new().tests(6).quickcheck(property as fn(Vec<Step>));
}

#[test]
fn long_stretches_are_skipped_in_both_directions() {
    let (pages, last) = (RunMap::MAX_PAGES, RunMap::MAX_PAGES - 1);
    let mut index = RunIndex::default();
    index.attach(9, RunMap::new(pages, 0..pages));
    assert_eq!(index.longest(), Some(Fit { segment: 9, page: 0, len: pages }));
    // Splits on both sides of the borders of words and of regions, one at a time.
    for page in
        [1, 62, 63, 64, 65, 127, 4094, 4095, 4096, 4097, 8192, 100_000, last - 4096, last - 64, last - 1]
    {
        assert!(index.take(9, page, 1) && !index.take(9, page, 1));
        let map = index.map(9).unwrap();
        assert_eq!((map.run_at(0), map.run_at(last)), (Some(0..page), Some(page + 1..pages)));
        assert_eq!(map.free_runs().collect::<Vec<_>>(), [(0, page), (page + 1, last - page)]);
        assert!(index.give(9, page, 1) && !index.give(9, page, 1));
        assert_eq!(index.map(9).unwrap().run_at(page), Some(0..pages));
    }
    assert!(index.take(9, 0, pages));
    assert_eq!((index.longest(), index.best_fit(1), index.histogram()), (None, None, Histogram::default()));
    assert!(index.give(9, 0, pages));
    assert_eq!(index.map(9), Some(&RunMap::new(pages, 0..pages)));
}

#[test]
fn the_end_of_a_later_run_is_no_end_of_an_earlier_one() {
    // Runs 0..1, 2..4 and 5..6: a run of 1 and the end of one of 2 are 4 pages apart.
    let mut index = RunIndex::default();
    index.attach(0, RunMap::new(64, 0..4));
    index.attach(1, RunMap::new(64, 0..6));
    assert!(index.take(1, 1, 1) && index.take(1, 4, 1));
    assert_eq!(index.best_fit(4), Some(Fit { segment: 0, page: 0, len: 4 }));
    assert!(index.take(0, 3, 1) && index.give(1, 1, 1));
    assert_eq!(index.best_fit(4), Some(Fit { segment: 1, page: 0, len: 4 }));
    assert!(index.take(1, 1, 1));
    assert_eq!(index.best_fit(4), None);
}

#[test]
fn an_aligned_place_is_not_seen_where_two_runs_only_add_up() {
    // Runs 0..1, 2..4 and 9..13: only the last has 4 pages, and none of its first pages is a multiple of 4.
    let mut index = RunIndex::default();
    index.attach(0, RunMap::new(64, 0..13));
    assert!(index.take(0, 1, 1) && index.take(0, 4, 5));
    assert_eq!(index.aligned_fit(4, 4), None);
    assert_eq!(index.aligned_fit(4, 1), Some(Fit { segment: 0, page: 9, len: 4 }));
}

#[test]
fn runs_of_one_length_come_and_go_far_apart() {
    let mut index = RunIndex::default();
    index.attach(2, RunMap::new(RunMap::MAX_PAGES, 0..RunMap::MAX_PAGES));
    assert!(index.take(2, 0, RunMap::MAX_PAGES));
    let places = [100, 20_000, 200_000, 262_141];
    let fit = |page: u32| Some(Fit { segment: 2, page, len: 3 });
    for last_gone in places {
        assert!(places.iter().rev().all(|&page| index.give(2, page, 3)));
        assert_eq!(index.best_fit(2), fit(100));
        for gone in places.into_iter().filter(|&page| page != last_gone) {
            assert!(index.take(2, gone, 3));
            let lowest = places.into_iter().find(|&page| page == last_gone || page > gone);
            assert_eq!(
                (index.best_fit(2), index.best_fit_in(2, 3)),
                (fit(lowest.unwrap()), fit(lowest.unwrap()))
            );
        }
        assert!(index.take(2, last_gone, 3));
        assert_eq!((index.best_fit(1), index.best_fit_in(2, 1)), (None, None));
    }
}

#[test]
fn stored_bitmaps_are_checked() {
    let map = |page_count, usable, used: &[u8]| RunMap::from_used_bytes(page_count, usable, used);
    assert_eq!(map(16, 2..14, &[0b0000_0111, 0]).unwrap_err(), 0);
    assert_eq!(map(16, 2..14, &[0b0000_0100, 0b0100_0000]).unwrap_err(), 14);
    assert_eq!(map(16, 2..14, &[0]).unwrap_err(), 8);
    assert_eq!(map(16, 2..14, &[0; 3]).unwrap_err(), 16);
    assert_eq!(map(16, 2..17, &[0; 2]).unwrap_err(), 16);
    assert_eq!(map(RunMap::MAX_PAGES + 1, 0..1, &[]).unwrap_err(), RunMap::MAX_PAGES);
    let runs = map(16, 2..14, &[0b0000_1100, 0b0000_0001]).unwrap();
    assert_eq!(runs.free_runs().collect::<Vec<_>>(), [(4, 4), (9, 5)]);
    assert_eq!(runs.used_runs().collect::<Vec<_>>(), [(2, 2), (8, 1)]);
}

#[test]
fn parts_past_the_segment_are_left_out() {
    let map = RunMap::new(8, 5..20);
    assert_eq!((map.usable(), map.free_pages(), map.run_at(5)), (5..8, 3, Some(5..8)));
    let map = RunMap::new(u32::MAX, 9..u32::MAX);
    assert_eq!((map.page_count(), map.longest()), (RunMap::MAX_PAGES, RunMap::MAX_PAGES - 9));
}

#[test]
fn alignments_that_are_no_power_of_two_are_refused() {
    let (index, _) = start(SEGMENTS.len());
    assert_eq!(index.aligned_fit(4, 0), None);
    assert_eq!(index.aligned_fit(4, 12), None);
    assert_eq!(index.aligned_fit(0, 4), None);
    // Page 0 is a multiple of everything, and one segment has it free.
    assert_eq!(index.aligned_fit(1, 1 << 31), Some(Fit { segment: 3, page: 0, len: 64 }));
}

#[test]
fn the_index_is_half_as_large_as_the_bits() {
    let mut index = RunIndex::default();
    for segment in 0..64 {
        index.attach(segment, RunMap::new(RunMap::MAX_PAGES, 0..RunMap::MAX_PAGES));
    }
    assert_eq!(index.memory_bytes(), 64 << 15);
    assert!(index.index_bytes() * 100 < index.memory_bytes() * 53, "{}", index.index_bytes());
}
