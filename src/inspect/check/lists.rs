//! The free lists: redundant with the records, so they are compared.

use super::super::finding::{FindingKind, Findings};
use super::super::source::Source;
use crate::error::Result;
use crate::format::{AllocatorState, SegmentRecord};

/// Each segment is exactly once on the list of its class, linked both ways. `records` begin with segment `first`.
pub(super) fn check(
    source: &mut Source,
    state: &AllocatorState,
    first: u32,
    records: &[Option<SegmentRecord>],
    findings: &mut Findings,
) -> Result<()> {
    let index =
        |number: u32| number.checked_sub(first).map(|index| index as usize).filter(|&i| i < records.len());
    let record = |number: u32| index(number).and_then(|index| records.get(index)).copied().flatten();
    let head_offset = super::state_offset(source);
    let max_order = source.layout.max_order();
    let mut seen = vec![false; records.len()];
    // Lists that run into a record that cannot be read: who is on the rest of them is not known.
    let mut broken = Vec::new();

    for (class, &head) in (0_u8..).zip(&state.heads) {
        if class > max_order && head.is_some() {
            let message = format!("there is a list of class {class}, the largest is {max_order}");
            findings.add(FindingKind::FreeList, head_offset, message);
            continue;
        }
        let (mut previous, mut next, mut from) = (None, head, head_offset);
        // Every step marks a segment or ends the walk, so a cycle ends it too.
        while let Some(number) = next {
            let place = index(number);
            let Some(visited) = place.and_then(|place| seen.get_mut(place)) else {
                findings.add(
                    FindingKind::FreeList,
                    from,
                    format!("links to segment {number}, which is not in use"),
                );
                broken.push(class);
                break;
            };
            if *visited {
                findings.add(
                    FindingKind::FreeList,
                    from,
                    format!("links to segment {number}, which is on a list already"),
                );
                broken.push(class);
                break;
            }
            *visited = true;
            let Some(found) = record(number) else {
                broken.push(class);
                break;
            };
            let (_, offset) = source.record(number)?;
            if found.class != Some(class) {
                let message = format!(
                    "segment {number} is on the list of class {class}, its class is {:?}",
                    found.class
                );
                findings.add(FindingKind::FreeList, offset, message);
            }
            if found.previous != previous {
                let message = format!("segment {number} follows {previous:?}, it says {:?}", found.previous);
                findings.add(FindingKind::FreeList, offset, message);
            }
            (previous, next, from) = (Some(number), found.next, offset);
        }
    }

    for (number, (found, seen)) in (first..).zip(records.iter().zip(seen)) {
        let Some(found) = found.filter(|_| !seen) else { continue };
        let (_, offset) = source.record(number)?;
        match found.class {
            Some(class) if !broken.contains(&class) => {
                let message = format!("segment {number} is not on the list of its class {class}");
                findings.add(FindingKind::FreeList, offset, message);
            }
            None if found.previous.is_some() || found.next.is_some() => {
                let message = format!("segment {number} is full, and linked");
                findings.add(FindingKind::FreeList, offset, message);
            }
            _ => {}
        }
    }
    Ok(())
}
