//! The regions of a segment: each head against its header.

use super::super::finding::FindingKind;
use super::super::source::Source;
use super::segment::Recount;
use crate::error::Result;
use crate::format::RegionSummary;
use crate::space::Region;

/// What the items of a segment come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) capacity_bytes: u64,
    pub(super) slack_bytes: u64,
    pub(super) open_classes: u32,
    /// A head could not be read.
    pub(super) unknown: bool,
}

pub(super) fn check(recount: &mut Recount<'_>, source: &mut Source) -> Result<Items> {
    let layout = std::sync::Arc::clone(&recount.layout);
    let mut items = Items::default();
    for (number, header) in recount.regions.clone() {
        let offset = layout.page_offset(recount.number, number * layout.region_pages());
        let place = format!("segment {} region {number}", recount.number);
        let found = RegionSummary::decode(header.owner)
            .and_then(|summary| Some((summary, layout.region_layout(summary.class, summary.tagged)?)));
        let Some((summary, region_layout)) = found else {
            let message = format!("{place}: items of a class that this store does not have");
            recount.findings.add(FindingKind::Region, offset, message);
            items.unknown = true;
            continue;
        };
        let class = summary.class;
        let mut region = Region::found(region_layout, header.generation, &summary);
        let loaded = source.caller(offset, region_layout.head_bytes()).map(|head| region.load(head));
        match loaded {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                recount.findings.add(FindingKind::Region, offset, format!("{place}: {reason}"));
                items.unknown = true;
            }
            Err(error) => {
                recount.findings.damage(&error)?;
                items.unknown = true;
            }
        }
        items.count += u64::from(summary.used);
        items.bytes += u64::from(summary.used) * class.bytes();
        items.capacity_bytes += u64::from(region_layout.capacity()) * class.bytes();
        if summary.used < region_layout.capacity() {
            items.open_classes |= class.open_bit();
        }
        for index in 0..region_layout.capacity() {
            if region.is_used(index) == Some(true) {
                items.slack_bytes += region.item(index).map_or(0, |(mark, _)| mark.slack_bytes(class));
            }
        }
    }
    Ok(items)
}
