//! The step `anywhere`: legs may share sources, and areas.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::heaviest::Heaviest;
use crate::placement::draft::{Draft, Pick};
use crate::placement::{Area, Step};

/// An area that is cut for several legs: what one more would get of it, and who they are.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    offers: u64,
    source: Reverse<usize>,
    area: Reverse<Area>,
    legs: u64,
}

impl Cut {
    fn new(source: usize, area: Area, legs: u64, want: u64, head: u64) -> Self {
        Self { offers: part(area, legs + 1, want, head), source: Reverse(source), area: Reverse(area), legs }
    }
}

/// The longest piece that each of so many legs gets of an area, behind what comes in front of it.
fn part(area: Area, legs: u64, want: u64, head: u64) -> u64 {
    (area.units() / legs).saturating_sub(head).min(want)
}

/// Rounds over all areas, whatever is to be avoided, until nothing is left to place or to take.
pub(super) fn run(draft: &mut Draft<'_, '_>) {
    let mut heaviest = Heaviest::new(Step::Anywhere);
    let mut used = vec![0; draft.free.len()];
    while draft.rest() > 0 && round(draft, &mut heaviest, &mut used) {}
}

/// Each leg takes the area that gives most: an untouched one, or a part of one that is cut already, so that the least piece
/// is as long as can be. Of equals an untouched one, of the source that this row uses least. Whether there was one for
/// each. `used` counts for each source, and is all zeros between rounds.
fn round(draft: &mut Draft<'_, '_>, heaviest: &mut Heaviest, used: &mut [u32]) -> bool {
    let (want, head) = (draft.rest(), draft.head());
    let mut cuts: BinaryHeap<Cut> = BinaryHeap::new();
    let mut order: Vec<(usize, Area)> = Vec::with_capacity(draft.instance.legs);
    for _ in 0..draft.instance.legs {
        let untouched =
            heaviest.first(draft, want).and_then(|source| Some((source, draft.offer(source, want)?)));
        let offers = untouched.map_or(0, |(_, area)| part(area, 1, want, head));
        let cut = cuts.peek().map_or(0, |cut| cut.offers);
        if offers.max(cut) == 0 {
            break;
        }
        let (source, area, legs) = match untouched {
            Some((source, area)) if offers >= cut => {
                // It is out of the way until all have chosen.
                if let Some(free) = draft.free.get_mut(source) {
                    free.take(area.start, area.units());
                }
                let times = used.get_mut(source).map_or(0, |times| {
                    *times += 1;
                    *times
                });
                heaviest.relist(draft, source, times);
                (source, area, 1)
            }
            _ => {
                let Some(cut) = cuts.pop() else { break };
                (cut.source.0, cut.area.0, cut.legs + 1)
            }
        };
        cuts.push(Cut::new(source, area, legs, want, head));
        order.push((source, area));
    }
    // How long the pieces are is known only now: everything goes back, and so much is taken.
    let mut length = want;
    for Cut { source, area, legs, .. } in cuts {
        length = length.min(part(area.0, legs, want, head));
        if let Some(free) = draft.free.get_mut(source.0) {
            free.give_back(area.0.start, area.0.units());
        }
        if let Some(times) = used.get_mut(source.0) {
            *times = 0;
        }
    }
    let complete = order.len() == draft.instance.legs && length > 0;
    let picks = picks(&order, head + length);
    draft.tell(Step::Anywhere, want, if complete { &picks } else { &[] }, length, |_, _| None);
    if complete {
        draft.take_row(&picks, length);
    }
    complete
}

/// Where the pieces begin when each takes `units`: those in the same area one behind the other.
fn picks(order: &[(usize, Area)], units: u64) -> Vec<Pick> {
    let mut next: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    let pick = |&(source, area): &(usize, Area)| {
        let next = next.entry((source, area.start)).or_insert(area.start);
        let start = *next;
        *next += units;
        Pick { source, start }
    };
    order.iter().map(pick).collect()
}
