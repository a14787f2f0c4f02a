//! The exact search where legs may share sources and areas: only what must not be cut can be in the way.

use super::{Work, hosts};
use crate::placement::Area;
use crate::placement::draft::{Draft, Taken};
use crate::placement::free::Free;
use crate::placement::instance::Instance;

/// Places so many rows beside the logs that each source is to hold.
pub(super) fn place<'i, 'a>(
    instance: &'i Instance<'a>,
    rows: u64,
    logs: &[u64],
    work: &mut Work,
) -> Option<Draft<'i, 'a>> {
    let mut draft = Draft::new(instance);
    let is_for_data = |count: u64| !instance.log_separate || count == 0;
    for (source, &count) in logs.iter().enumerate().filter(|(_, count)| **count > 0) {
        put(&mut draft, source, usize::try_from(count).ok()?, work)?;
    }
    let sources: Vec<usize> =
        logs.iter().enumerate().filter(|&(_, &count)| is_for_data(count)).map(|(source, _)| source).collect();
    let free = sources.iter().filter_map(|&source| draft.free.get(source)).map(Free::units).sum::<u64>();
    let leg = rows.checked_add(instance.metadata)?;
    if leg.checked_mul(instance.legs as u64)? > free {
        return None;
    }
    let mut placed = 0;
    if instance.metadata > 0 {
        let head = instance.metadata + 1;
        for leg in 0..instance.legs {
            let (source, area) = sources.iter().find_map(|&source| {
                let area = draft.free.get_mut(source)?.smallest_holding(head)?;
                Some((source, area))
            })?;
            draft.free.get_mut(source)?.take(area.start, head);
            draft.metadata.push(Taken { source, start: area.start, length: instance.metadata });
            draft.append(leg, Taken { source, start: area.start + instance.metadata, length: 1 });
        }
        placed = 1;
    }
    let mut sources = sources.into_iter().peekable();
    for leg in 0..instance.legs {
        let mut left = rows - placed;
        while left > 0 {
            let &source = sources.peek()?;
            let free = draft.free.get_mut(source)?;
            let Some(area) = free.largest() else {
                sources.next();
                continue;
            };
            let length = free.take(area.start, left);
            draft.append(leg, Taken { source, start: area.start, length });
            left -= length;
        }
    }
    draft.rows = rows;
    Some(draft)
}

/// Puts logs on a source so that as many legs as can be begin beside them.
fn put(draft: &mut Draft<'_, '_>, source: usize, count: usize, work: &mut Work) -> Option<()> {
    let length = draft.instance.log_units;
    let areas: Vec<Area> = draft.free.get(source)?.areas().collect();
    // Each area is tried with each number of logs, for each number before it; what is kept takes memory, too.
    let most = areas.iter().map(|area| (area.units() / length.max(1)).min(count as u64) + 1).sum::<u64>();
    work.step(most.saturating_mul(count as u64 + 1).saturating_mul(4)).then_some(())?;
    let (pieces, _) = hosts::beside(&areas, draft.instance.metadata + 1, length, count)?;
    for (area, &pieces) in areas.iter().zip(&pieces) {
        for piece in 0..pieces as u64 {
            let start = area.start + piece * length;
            draft.free.get_mut(source)?.take(start, length);
            draft.log.push(Taken { source, start, length });
        }
    }
    Some(())
}
