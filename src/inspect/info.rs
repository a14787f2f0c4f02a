//! Identity, geometry, state, and space by role.

use std::sync::Arc;

use super::finding::{Finding, FindingKind, Findings};
use super::source::{Source, StoreStatus};
use crate::device::{Device, DeviceGeometry};
use crate::error::Result;
use crate::format::{FORMAT_VERSION, Layout, Role, SegmentRecord, format_store_id};
use crate::media::{MediaFacts, Medium};
use crate::space::RoleTotals;

/// Segments of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RoleUsage {
    /// The role.
    pub role: Role,
    /// Segments below the frontier.
    pub segments: u32,
    /// Bytes in use in them.
    pub allocated_bytes: u64,
    /// Bytes free in them.
    pub free_bytes: u64,
    /// Extents, or items.
    pub extents: u64,
    /// Bytes of regions that can be no item.
    pub overhead_bytes: u64,
    /// Bytes that were allocated and not asked for.
    pub rounding_bytes: u64,
}

impl RoleUsage {
    /// Counts a segment among those of its role.
    pub(super) fn count(roles: &mut Vec<Self>, layout: &Layout, number: u32, record: &SegmentRecord) {
        let totals = RoleTotals::of(layout, record);
        let usable =
            layout.usable_range(number).len() as u64 * u64::from(layout.page_bytes()) * totals.segments;
        let index = roles.iter().position(|usage| usage.role == record.role).unwrap_or_else(|| {
            roles.push(Self {
                role: record.role,
                segments: 0,
                allocated_bytes: 0,
                free_bytes: 0,
                extents: 0,
                overhead_bytes: 0,
                rounding_bytes: 0,
            });
            roles.len() - 1
        });
        if let Some(usage) = roles.get_mut(index) {
            usage.segments += u32::try_from(totals.segments).unwrap_or(u32::MAX);
            usage.allocated_bytes += totals.allocated_bytes;
            usage.free_bytes += usable.saturating_sub(totals.allocated_bytes + totals.overhead_bytes);
            usage.extents += totals.extents;
            usage.overhead_bytes += totals.overhead_bytes;
            usage.rounding_bytes += totals.slack_bytes;
        }
    }
}

/// What a store is. The journal is applied, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InfoReport {
    /// Version of the format on the device.
    pub format_version: u32,
    /// Identity, in the usual text form.
    pub uuid: String,
    /// Whether it was closed in order.
    pub state: StoreStatus,
    /// The medium that sizes were chosen for.
    pub medium: Medium,
    /// What the system says now about the disks under the store. [`info`] leaves it out, because it sees a device and no
    /// path; [`detect_media`](crate::device::detect_media) gives it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub detected: Option<MediaFacts>,
    /// Length of the device when the store was made.
    pub device_bytes: u64,
    /// Sector size of the device.
    pub sector_bytes: u32,
    /// Size of a metadata block.
    pub block_bytes: u32,
    /// Unit of allocation.
    pub page_bytes: u32,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Size of the journal ring.
    pub journal_bytes: u64,
    /// Everything that cannot be allocated, the journal and heads of regions included.
    pub metadata_bytes: u64,
    /// In extents and items.
    pub allocated_bytes: u64,
    /// Can be allocated.
    pub free_bytes: u64,
    /// Extents and items.
    pub extents: u64,
    /// Segments with usable pages.
    pub segments: u32,
    /// Of these, segments that were never used.
    pub untouched_segments: u32,
    /// The others, by role.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub roles: Vec<RoleUsage>,
    /// Recovery epoch.
    pub epoch: u64,
    /// Last LSN, of the journal or of the last checkpoint.
    pub last_lsn: u64,
    /// Seconds since 1970 when the store was made.
    pub created_unix_seconds: u64,
    /// Transactions in the journal that are not yet in place.
    pub journal_transactions: u64,
    /// Whether the journal ends in pieces that replay will drop.
    pub torn_tail: bool,
    /// Damage that was run into. The figures above leave out what could not be read.
    pub errors: Vec<Finding>,
    /// What is worth knowing and does no harm.
    pub warnings: Vec<Finding>,
    /// The journal is refused: state, transactions and LSN above are not those of the store.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub journal_unread: bool,
    /// Some metadata, or the journal over it, could not be read: the figures of space above are not those of the store.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub space_unread: bool,
}

/// Reads what a store is, from superblock, journal and segment table.
///
/// # Errors
/// [`Error::NotFreehold`](crate::Error::NotFreehold) and the other refusals of a superblock;
/// [`Error::Truncated`](crate::Error::Truncated); errors of the device. Other damage is in the report.
pub fn info(device: Arc<dyn Device>) -> Result<InfoReport> {
    let geometry = device.geometry();
    let mut source = Source::open(device)?;
    let layout = Arc::clone(&source.layout);
    let mut findings = Findings::default();
    if let Some(error) = &source.refused {
        findings.damage(error)?;
    }
    let first = layout.first_segment();
    let frontier = match source.state() {
        Ok(state) => state.frontier.clamp(first, layout.segment_count().max(first)),
        Err(error) => {
            findings.damage(&error)?;
            first
        }
    };
    let page_bytes = u64::from(layout.page_bytes());
    let mut roles: Vec<RoleUsage> = Vec::new();
    // The last segment of the span at hand, which covers segments without a role.
    let mut span_end = 0;
    for number in first..frontier {
        let record = match source.record(number) {
            Ok((record, _)) => record,
            Err(error) => {
                findings.damage(&error)?;
                continue;
            }
        };
        if number < span_end && record.role == Role::Unused {
            continue;
        }
        span_end = number.saturating_add(record.span_segments().unwrap_or(1));
        RoleUsage::count(&mut roles, &layout, number, &record);
    }
    let sum = |part: fn(&RoleUsage) -> u64| roles.iter().map(part).sum::<u64>();
    let (allocated_bytes, extents) = (sum(|usage| usage.allocated_bytes), sum(|usage| usage.extents));
    let overhead_bytes = sum(|usage| usage.overhead_bytes);
    if let Some(message) = misfit(&layout, geometry) {
        source.warnings.push(Finding::new(FindingKind::Geometry, layout.superblock_offset(0), message));
    }
    let space_unread = findings.any_damage();
    let (errors, _) = findings.into_parts();
    let superblock = &source.superblock;
    Ok(InfoReport {
        // The superblock is decoded for this version only.
        format_version: FORMAT_VERSION,
        uuid: format_store_id(&superblock.store_id),
        state: source.status(),
        medium: superblock.medium,
        detected: None,
        device_bytes: layout.device_bytes(),
        sector_bytes: layout.sector_bytes(),
        block_bytes: layout.block_bytes(),
        page_bytes: layout.page_bytes(),
        segment_bytes: layout.segment_bytes(),
        journal_bytes: layout.ring_bytes(),
        metadata_bytes: layout.metadata_bytes() + overhead_bytes,
        allocated_bytes,
        free_bytes: (layout.usable_pages() * page_bytes).saturating_sub(allocated_bytes + overhead_bytes),
        extents,
        segments: layout.segment_count().saturating_sub(first),
        untouched_segments: layout.segment_count().saturating_sub(frontier),
        roles,
        epoch: superblock.epoch,
        last_lsn: source.replay.last_lsn.unwrap_or(superblock.tail_lsn),
        created_unix_seconds: superblock.created_unix_seconds,
        journal_transactions: source.replay.transactions,
        torn_tail: source.replay.torn_tail,
        errors,
        warnings: source.warnings,
        journal_unread: source.refused.is_some(),
        space_unread,
    })
}

/// How the sizes of a store do not suit the device that it lies on now: the worst of it, in words.
fn misfit(layout: &Layout, device: DeviceGeometry) -> Option<String> {
    let sector_bytes = device.sector_bytes;
    let physical_block_bytes = device.physical_block_bytes.max(sector_bytes);
    let (page_bytes, granule_bytes) = (layout.page_bytes(), layout.ring_granule_bytes());
    if sector_bytes > granule_bytes {
        return Some(format!(
            "the device has sectors of {sector_bytes} bytes; the store has pages of {page_bytes} and was made for sectors of {granule_bytes} at most, and can only be read here"
        ));
    }
    if !page_bytes.is_multiple_of(physical_block_bytes) {
        return Some(format!(
            "a page of {page_bytes} bytes is not a multiple of the device's physical block of {physical_block_bytes}: writing is slow, and a power cut may damage what lies next to it"
        ));
    }
    (physical_block_bytes > granule_bytes).then(|| {
        format!(
            "the journal writes {granule_bytes} bytes and the device's physical block has {physical_block_bytes}: a power cut may damage what lies next to a write"
        )
    })
}
