//! A segment's record against what was counted.

use super::super::finding::FindingKind;
use super::super::source::Source;
use super::region::Items;
use super::segment::Recount;
use crate::error::Result;
use crate::format::{Role, SegmentRecord};

/// The order of the longest free run.
fn longest_free_order(free: &[bool]) -> Option<u8> {
    let longest = free.split(|free| !free).map(<[bool]>::len).max().unwrap_or(0);
    longest.checked_ilog2().and_then(|order| u8::try_from(order).ok())
}

/// The order of the largest free, naturally aligned run: pairs of free halves make free wholes.
fn largest_aligned_order(mut free: Vec<bool>) -> Option<u8> {
    let mut largest = None;
    for order in 0_u8.. {
        if !free.contains(&true) {
            break;
        }
        largest = Some(order);
        if free.len() < 2 {
            break;
        }
        free = free.chunks(2).map(|pair| pair == [true, true]).collect();
    }
    largest
}

pub(super) fn compare(recount: &mut Recount<'_>, source: &mut Source, items: &Items) -> Result<()> {
    let Some(record) = recount.record else { return Ok(()) };
    let number = recount.number;
    let (_, offset) = source.record(number)?;
    let mut found = Vec::new();
    if let Some(head) = recount.table.span_around(number)
        && record.role != Role::Unused
    {
        found.push((FindingKind::Span, format!("has a role, and is in the span of segment {head}")));
    }
    match record.role {
        Role::Unused => {
            if recount.extents > 0 || !recount.regions.is_empty() {
                found.push((FindingKind::Role, "has no role, and extents".to_owned()));
            }
        }
        Role::Buddy | Role::Extent | Role::Slab => counts(recount, record, items, &mut found),
        Role::Span => span(recount, record, &mut found),
    }
    pages(recount, record, &mut found);
    if recount.unknown_from.is_none()
        && record.role != Role::Unused
        && record.generation > 0
        && recount.newest == 0
    {
        found.push((FindingKind::Generation, "no header has a generation, the record has".to_owned()));
    }
    for (kind, message) in found {
        recount.findings.add(kind, offset, format!("segment {number}: {message}"));
    }
    Ok(())
}

type Found = Vec<(FindingKind, String)>;

fn counts(recount: &Recount<'_>, record: &SegmentRecord, items: &Items, found: &mut Found) {
    let mut differ = |what: &str, counted: u64, recorded: u64| {
        if counted != recorded {
            found.push((
                FindingKind::Count,
                format!("{counted} {what} by a recount, {recorded} by the record"),
            ));
        }
    };
    if recount.unknown_from.is_some() || items.unknown {
        return;
    }
    differ("extents", recount.extents + items.count, record.extents.into());
    differ("bytes not asked for", recount.slack_bytes + items.slack_bytes, record.slack_bytes.into());
    let extents = if record.role == Role::Slab { recount.extent_bytes } else { 0 };
    differ("bytes in items", items.bytes + extents, record.item_bytes.into());
    differ("bytes of room for items", items.capacity_bytes + extents, record.capacity_bytes.into());
    if items.open_classes != record.open_classes {
        let message = "other classes have free items than the record says".to_owned();
        found.push((FindingKind::Class, message));
    }
}

fn span(recount: &Recount<'_>, record: &SegmentRecord, found: &mut Found) {
    let (number, layout) = (recount.number, &recount.layout);
    let segments = record.span_segments().unwrap_or(0);
    let end = number.checked_add(segments).filter(|&end| end <= recount.table.frontier);
    let Some(end) = end.filter(|&end| end > number && layout.is_whole(number) && layout.is_whole(end - 1))
    else {
        found.push((FindingKind::Span, format!("a span of {segments} segments does not fit")));
        return;
    };
    if record.used_pages != layout.pages_per_segment() {
        found.push((FindingKind::Count, "a span does not use all of its pages".to_owned()));
    }
    match recount.span {
        Some(header) => {
            if u64::from(record.slack_bytes) != recount.slack_bytes {
                found.push((FindingKind::Count, "another number of bytes not asked for".to_owned()));
            }
            let tail = recount.table.record(end);
            let has_tail =
                tail.is_some_and(|tail| matches!(tail.role, Role::Buddy | Role::Extent | Role::Slab));
            if header.pages > 0 && end < recount.table.frontier && tail.is_some() && !has_tail {
                found.push((FindingKind::Span, format!("its tail should be in segment {end}")));
            }
            if header.pages > 0 && end >= recount.table.frontier {
                found.push((FindingKind::Span, "its tail is beyond the frontier".to_owned()));
            }
        }
        None if recount.unknown_from.is_none() => {
            found.push((FindingKind::Span, "a span without a header".to_owned()));
        }
        None => {}
    }
}

/// The bitmap against the record. A span and what is in it have none.
fn pages(recount: &Recount<'_>, record: &SegmentRecord, found: &mut Found) {
    let Some(used) = &recount.used else { return };
    let used_pages = used.iter().filter(|&&used| used).count();
    let expected = if record.role == Role::Span { 0 } else { record.used_pages as usize };
    if used_pages != expected {
        let message = format!("{used_pages} pages in use by the bitmap, {expected} by the record");
        found.push((FindingKind::Count, message));
    }
    if !matches!(record.role, Role::Buddy | Role::Extent) {
        return;
    }
    let free: Vec<bool> =
        (0_u32..).zip(used).map(|(page, used)| recount.usable.contains(&page) && !used).collect();
    if free.contains(&true) != record.class.is_some() {
        let message = "is full by the bitmap or by the record, not by both".to_owned();
        return found.push((FindingKind::Class, message));
    }
    let order =
        if record.role == Role::Buddy { largest_aligned_order(free) } else { longest_free_order(&free) };
    if order > record.class || record.class.is_some_and(|class| class > recount.layout.max_order()) {
        let message =
            format!("longest free run of order {order:?}, at most {:?} by the record", record.class);
        found.push((FindingKind::Class, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_free_runs() {
        let free = |text: &str| text.bytes().map(|byte| byte == b'.').collect::<Vec<bool>>();
        let cases = [
            ("xxxxxxxx", None, None),
            ("x..xx..x", Some(0), Some(1)),
            ("..xx....", Some(2), Some(2)),
            ("xx....xx", Some(1), Some(2)),
            ("........", Some(3), Some(3)),
        ];
        for (text, aligned, longest) in cases {
            assert_eq!(largest_aligned_order(free(text)), aligned, "{text}");
            assert_eq!(longest_free_order(&free(text)), longest, "{text}");
        }
    }
}
