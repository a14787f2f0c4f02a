//! The step `anywhere`: legs may share sources, and areas.

use std::collections::BTreeMap;

use super::heaviest::Heaviest;
use crate::placement::Step;
use crate::placement::draft::{Draft, Pick};

/// An area that is spoken for.
struct Reserved {
    source: usize,
    start: u64,
    end: u64,
    units: u64,
}

/// Rounds over all areas, whatever is to be avoided, until nothing is left to place or to take.
pub(super) fn run(draft: &mut Draft<'_, '_>) {
    let mut heaviest = Heaviest::new(Step::Anywhere);
    let mut used = vec![0; draft.free.len()];
    while draft.rest() > 0 && round(draft, &mut heaviest, &mut used) {}
}

/// Each leg takes the heaviest area that is left by those before it; of equals, one of the source that this row uses
/// least. Whether there was one for all.
/// `used` counts for each source, and is all zeros between rounds.
fn round(draft: &mut Draft<'_, '_>, heaviest: &mut Heaviest, used: &mut [u32]) -> bool {
    let (want, head) = (draft.rest(), draft.head());
    let mut reserved: Vec<Reserved> = Vec::with_capacity(draft.instance.legs);
    let mut length = want;
    for _ in 0..draft.instance.legs {
        let Some(source) = heaviest.first(draft, want) else { break };
        let Some(area) = draft.offer(source, want) else { break };
        let usable = draft.usable(area, want);
        length = length.min(usable);
        let units = head + usable;
        if let Some(free) = draft.free.get_mut(source) {
            free.take(area.start, units);
        }
        reserved.push(Reserved { source, start: area.start, end: area.end, units });
        let times = used.get_mut(source).map_or(0, |times| {
            *times += 1;
            *times
        });
        heaviest.relist(draft, source, times);
    }
    // The length of the row is known only now: everything goes back, and the right length is taken.
    for area in reserved.iter().rev() {
        if let Some(free) = draft.free.get_mut(area.source) {
            free.give_back(area.start, area.units);
        }
        if let Some(times) = used.get_mut(area.source) {
            *times = 0;
        }
    }
    let complete = reserved.len() == draft.instance.legs && length > 0;
    let picks = picks(&reserved, head + length);
    draft.tell(Step::Anywhere, want, if complete { &picks } else { &[] }, length, |_, _| None);
    if complete {
        draft.take_row(&picks, length);
    }
    complete
}

/// Where the pieces begin when each takes `units`: those in the same area one behind the other.
fn picks(reserved: &[Reserved], units: u64) -> Vec<Pick> {
    let mut cuts: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    let pick = |area: &Reserved| {
        let cut = cuts.entry((area.source, area.end)).or_insert(area.start);
        let start = *cut;
        *cut += units;
        Pick { source: area.source, start }
    };
    reserved.iter().map(pick).collect()
}
