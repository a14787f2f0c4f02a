//! Cases by hand, and a model of one `bool` per page that the map is compared with after every step.

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

/// The states of the pages of a segment, and the definitions applied to them as they stand.
struct Model {
    free: Vec<bool>,
    usable: Range<u32>,
}

impl Model {
    fn new(page_count: u32, usable: Range<u32>) -> Self {
        Self { free: (0..page_count).map(|page| usable.contains(&page)).collect(), usable }
    }

    /// The first page of the lowest maximal block of each order.
    fn lowest(&self) -> Vec<Option<u32>> {
        // Ends of the runs of free pages, so that a block is free if its start's run reaches its end.
        let mut ends = vec![0; self.free.len()];
        let mut end = self.free.len();
        for page in (0..self.free.len()).rev() {
            if !self.free[page] {
                end = page;
            }
            ends[page] = end;
        }
        let free = |start: usize, order: u32| ends.get(start).is_some_and(|&end| start + (1 << order) <= end);
        let maximal = |start: usize, order: u32| {
            free(start, order) && !free(start >> (order + 1) << (order + 1), order + 1)
        };
        let lowest =
            |order: u32| (0..self.free.len()).step_by(1_usize << order).find(|&start| maximal(start, order));
        (0..=18).map(|order| lowest(order).map(|page| u32::try_from(page).unwrap())).collect()
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

    fn set(&mut self, page: u32, pages: u32, free: bool) {
        self.free[page as usize..(page + pages) as usize].fill(free);
    }

    fn used_bytes(&self) -> Vec<u8> {
        let used = |page: u32| self.usable.contains(&page) && !self.free[page as usize];
        let byte = |at: u32| (0..8).fold(0, |byte, bit| byte | u8::from(used(at * 8 + bit)) << bit);
        (0..u32::try_from(self.free.len().div_ceil(8)).unwrap()).map(byte).collect()
    }

    fn check(&self, map: &BuddyMap) {
        let lowest = self.lowest();
        let largest = lowest.iter().rposition(Option::is_some);
        assert_eq!(map.largest_order().map(usize::from), largest, "largest order");
        assert_eq!(map.free_pages() as usize, self.free.iter().filter(|&&free| free).count());
        for order in 0..=40 {
            let found = lowest.iter().skip(order).find_map(|&page| page);
            assert_eq!(map.find(u8::try_from(order).unwrap()), found, "find of order {order}");
        }
        assert_eq!(map.free_runs().collect::<Vec<_>>(), self.runs(true));
        assert_eq!(map.used_runs().collect::<Vec<_>>(), self.runs(false));
        assert_eq!(map.summary, Summary::of(&map.bits), "summary against a rebuild");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u8),
    SetUsed(u32, u32),
    SetFree(u32, u32),
    /// Frees the used run, or uses the free run, that is this one counted over the runs there are.
    FlipRun(usize, bool),
}

#[derive(Clone, Debug)]
struct Case {
    page_count: u32,
    usable: Range<u32>,
    steps: Vec<Step>,
}

fn below(g: &mut Gen, limit: u32) -> u32 {
    u32::arbitrary(g) % limit
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let page_count = match below(g, 10) {
            0 | 1 => 1 + below(g, 200),
            2 | 3 => 1 << below(g, 14),
            4 | 5 => 1 + below(g, 2_000),
            6..=8 => 4_097 + below(g, 6_000),
            _ => 30_000 + below(g, 20_000),
        };
        let usable = match below(g, 3) {
            0 => 0..page_count,
            1 => below(g, page_count.min(20))..page_count,
            _ => {
                let (a, b) = (below(g, page_count + 1), below(g, page_count + 1));
                a.min(b)..a.max(b)
            }
        };
        let steps = (0..30).map(|_| {
            // Lengths spread over the orders, and starts a little past both ends of the segment's range.
            let limit = 2 << below(g, page_count.ilog2() + 1);
            let run = (below(g, page_count + 2), below(g, limit));
            match below(g, 6) {
                0 | 1 => Step::Take(u8::try_from(below(g, page_count.ilog2() + 2)).unwrap()),
                2 => Step::SetUsed(run.0, run.1),
                3 => Step::SetFree(run.0, run.1),
                _ => Step::FlipRun(usize::arbitrary(g), bool::arbitrary(g)),
            }
        });
        Self { page_count, usable, steps: steps.collect() }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let case = self.clone();
        Box::new((0..case.steps.len()).map(move |left_out| {
            let mut shorter = case.clone();
            shorter.steps.remove(left_out);
            shorter
        }))
    }
}

fn set(map: &mut BuddyMap, model: &mut Model, (page, pages): (u32, u32), free: bool) {
    let before = map.clone();
    assert_eq!(map.is_run_free(page, pages), model.all(page, pages, true));
    assert_eq!(map.is_run_used(page, pages), model.all(page, pages, false));
    let accepted = if free { map.set_free(page, pages) } else { map.set_used(page, pages) };
    assert_eq!(accepted, model.all(page, pages, !free), "set {page}+{pages} to free: {free}");
    if accepted {
        model.set(page, pages, free);
    } else {
        assert_eq!(*map, before, "a refused call changed the map");
    }
}

fn agrees_with_the_model(case: Case) -> bool {
    let mut map = BuddyMap::new(case.page_count, case.usable.clone());
    let mut model = Model::new(case.page_count, case.usable.clone());
    model.check(&map);
    for step in case.steps {
        match step {
            Step::Take(order) => {
                let expected = map.find(order);
                assert_eq!(map.take(order), expected);
                if let Some(page) = expected {
                    assert!(page.is_multiple_of(1 << order) && model.all(page, 1 << order, true));
                    model.set(page, 1 << order, false);
                }
            }
            Step::SetUsed(page, pages) => set(&mut map, &mut model, (page, pages), false),
            Step::SetFree(page, pages) => set(&mut map, &mut model, (page, pages), true),
            Step::FlipRun(at, free) => {
                let runs = model.runs(!free);
                if !runs.is_empty() {
                    set(&mut map, &mut model, runs[at % runs.len()], free);
                }
            }
        }
        model.check(&map);
    }
    assert_eq!(BuddyMap::from_used_bytes(case.page_count, case.usable, &model.used_bytes()), Ok(map));
    true
}

#[test]
fn random_steps_agree_with_the_model() {
    QuickCheck::new().tests(120).quickcheck(agrees_with_the_model as fn(Case) -> bool);
}

#[test]
fn blocks_split_and_merge_over_every_order() {
    let mut map = BuddyMap::new(BuddyMap::MAX_PAGES, 0..BuddyMap::MAX_PAGES);
    let fresh = map.clone();
    assert_eq!((map.largest_order(), map.find(18), map.find(19)), (Some(18), Some(0), None));
    assert_eq!(map.take(0), Some(0));
    assert_eq!(map.largest_order(), Some(17));
    for order in 0..18 {
        assert_eq!(map.find(order), Some(1 << order));
    }
    for order in (0..18).rev() {
        assert_eq!(map.take(order), Some(1 << order));
    }
    assert_eq!((map.free_pages(), map.largest_order(), map.take(0)), (0, None, None));
    assert_eq!(map.used_runs().collect::<Vec<_>>(), [(0, BuddyMap::MAX_PAGES)]);
    for order in 0..18 {
        assert!(map.set_free(1 << order, 1 << order));
    }
    assert_eq!(map.largest_order(), Some(17));
    assert!(map.set_free(0, 1));
    assert_eq!(map, fresh);
    assert_eq!(map.take(18), Some(0));
    assert_eq!(map.free_pages(), 0);
}

#[test]
fn the_smallest_sufficient_block_is_split_even_if_it_lies_higher() {
    let mut map = BuddyMap::new(8192, 0..8192);
    assert!(map.set_used(5000, 1));
    assert_eq!((map.find(0), map.find(1), map.find(3)), (Some(5001), Some(5002), Some(4992)));
    assert_eq!((map.find(12), map.find(11), map.find(13)), (Some(0), Some(6144), None));
}

#[test]
fn refused_ranges_change_nothing() {
    let mut map = BuddyMap::new(1000, 10..990);
    assert!(map.set_used(100, 200));
    let before = map.clone();
    let calls = [
        (100, 0),
        (9, 2),
        (989, 2),
        (990, 1),
        (1000, 1),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (20, u32::MAX),
    ];
    for (page, pages) in calls {
        assert!(!map.set_used(page, pages) && !map.set_free(page, pages), "{page}+{pages}");
        assert!(!map.is_run_free(page, pages) && !map.is_run_used(page, pages), "{page}+{pages}");
    }
    assert!(!map.set_used(100, 200) && !map.set_used(99, 2) && !map.set_used(299, 2));
    assert!(!map.set_free(99, 2) && !map.set_free(299, 2) && !map.set_free(500, 1));
    assert_eq!(map, before);
    assert!(map.set_free(100, 200) && !map.set_free(100, 200));
    assert_eq!(map, BuddyMap::new(1000, 10..990));
}

#[test]
fn small_and_empty_maps() {
    for (page_count, usable) in [(0, 0..0), (1, 0..0), (64, 64..64), (4097, 5..5), (100, 200..300)] {
        let map = BuddyMap::new(page_count, usable);
        assert_eq!((map.free_pages(), map.largest_order(), map.find(0)), (0, None, None));
        assert_eq!((map.free_runs().count(), map.used_runs().count()), (0, 0));
    }
    let mut map = BuddyMap::new(1, 0..1);
    assert_eq!(
        (map.largest_order(), map.take(0), map.take(0), map.is_free(0)),
        (Some(0), Some(0), None, false)
    );
    let tail = BuddyMap::new(4100, 1..4100);
    assert_eq!((tail.largest_order(), tail.find(11), tail.find(2)), (Some(11), Some(2048), Some(4)));
}

#[test]
fn a_segment_is_cut_to_the_largest_map() {
    let map = BuddyMap::new(u32::MAX, 0..u32::MAX);
    assert_eq!((map.free_pages(), map.largest_order()), (BuddyMap::MAX_PAGES, Some(18)));
    assert_eq!((map.find(31), map.find(32), map.find(u8::MAX)), (None, None, None));
}

#[test]
fn stored_bitmaps_are_checked() {
    let load = |page_count, usable, used: &[u8]| BuddyMap::from_used_bytes(page_count, usable, used).err();
    assert_eq!(load(12, 2..11, &[0b1111_1100, 0b0000_0111]), None);
    assert_eq!(load(12, 2..11, &[0b1111_1110, 0b0000_0111]), Some(1));
    assert_eq!(load(12, 2..11, &[0, 0b0000_1000]), Some(11));
    assert_eq!(load(12, 2..11, &[0, 0b0001_0000]), Some(12));
    assert_eq!(load(12, 2..11, &[0]), Some(8));
    assert_eq!(load(12, 2..11, &[0, 0, 0]), Some(12));
    assert_eq!(load(12, 2..13, &[0, 0]), Some(12));
    assert_eq!(load(u32::MAX, 0..1, &[]), Some(BuddyMap::MAX_PAGES));
    let map = BuddyMap::from_used_bytes(12, 2..11, &[0b0111_0000, 0b0000_0101]).unwrap();
    assert_eq!(map.free_runs().collect::<Vec<_>>(), [(2, 2), (7, 1), (9, 1)]);
    assert_eq!(map.used_runs().collect::<Vec<_>>(), [(4, 3), (8, 1), (10, 1)]);
    assert_eq!((map.free_pages(), map.largest_order(), map.find(0)), (4, Some(1), Some(7)));
}

#[test]
fn the_summary_is_a_small_part_of_the_memory() {
    let map = BuddyMap::new(BuddyMap::MAX_PAGES, 0..BuddyMap::MAX_PAGES);
    let bits = size_of_val(&*map.bits);
    assert_eq!(bits, 32 << 10);
    assert!((map.memory_bytes() - bits) * 100 <= bits * 8);
}
