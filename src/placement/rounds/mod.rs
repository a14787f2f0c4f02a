//! The rounds: one step after the other, from strict to loose. What a step found is kept, the rest goes on to the next.
//!
//! A round gives every leg one piece of the same length, the least that the chosen areas give, or it takes nothing.

mod anywhere;
mod cling;
mod contiguous;
mod heaviest;
mod partition;

use smallvec::SmallVec;

use super::draft::{Draft, Pick};
use super::story::Reason;
use super::{Partition, Step};
use cling::Homes;
use heaviest::Heaviest;

pub use partition::PARTITION_BOUND;

/// A source for each leg; on the heap when there are many.
type Seats = SmallVec<[usize; 8]>;

/// Whether no two legs are on the same source.
fn are_distinct(seats: &[usize]) -> bool {
    if let [_] = seats {
        return true;
    }
    let mut sorted = Seats::from_slice(seats);
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair.first() != pair.last())
}

/// Places what the steps find.
pub(super) fn run(draft: &mut Draft<'_, '_>) -> Partition {
    let limit = draft.instance.limit;
    let partition = contiguous::run(draft);
    let mut heaviest = Heaviest::new(Step::Normal);
    let mut homes = Homes::new(draft.instance);
    if limit >= Step::Cling {
        if homes.are_unknown() {
            // Of a new volume the first round chooses, and the others stay there.
            settle(draft, Step::Cling, &mut heaviest, &mut homes);
        }
        // Relatives of a source are so when it is full, too.
        let mut relatives = homes.with_sharing(&draft.instance.tags);
        cling::run(draft, Step::Cling, &mut homes);
        if limit >= Step::ClingByTags && draft.instance.tags.are_listed() {
            cling::run(draft, Step::ClingByTags, &mut relatives);
        }
    }
    if limit >= Step::Normal {
        while settle(draft, Step::Normal, &mut heaviest, &mut homes) {}
    }
    if limit >= Step::Anywhere {
        anywhere::run(draft);
    }
    partition
}

/// One round that chooses among all sources. Whether it took anything.
fn settle(draft: &mut Draft<'_, '_>, step: Step, heaviest: &mut Heaviest, homes: &mut Homes) -> bool {
    let want = draft.want();
    if want == 0 {
        return false;
    }
    let Some(chosen) = heaviest.choose(draft, want) else {
        draft.tell(step, want, &[], 0, |_, _| None);
        return false;
    };
    let seats = homes.seated(chosen);
    let taken = take(draft, step, &seats, want, |_, _| None);
    homes.learn(&seats);
    taken
}

/// Takes a row from these sources, leg by leg: from each the area that it offers. Whether there was something to take.
fn take(
    draft: &mut Draft<'_, '_>,
    step: Step,
    seats: &[usize],
    want: u64,
    outside: impl Fn(&Draft<'_, '_>, usize) -> Option<Reason>,
) -> bool {
    let mut picks: SmallVec<[Pick; 8]> = SmallVec::with_capacity(seats.len());
    let mut length = want;
    for &source in seats {
        let Some(area) = draft.offer(source, want) else { return false };
        length = length.min(draft.usable(area, want));
        picks.push(Pick { source, start: area.start });
    }
    if length == 0 {
        return false;
    }
    draft.tell(step, want, &picks, length, outside);
    draft.take_row(&picks, length);
    true
}
