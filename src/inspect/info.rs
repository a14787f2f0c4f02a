//! Identity, geometry, state, and space by role.

use std::sync::Arc;

use super::finding::{Finding, Findings};
use super::source::{Source, StoreStatus};
use crate::device::Device;
use crate::error::Result;
use crate::format::{FORMAT_VERSION, Role, format_store_id};
use crate::media::Medium;

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
    /// Everything that cannot be allocated, the journal included.
    pub metadata_bytes: u64,
    /// In extents.
    pub allocated_bytes: u64,
    /// Can be allocated.
    pub free_bytes: u64,
    /// Allocated extents.
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
}

/// Reads what a store is, from superblock, journal and segment table.
///
/// # Errors
/// [`Error::NotFreehold`](crate::Error::NotFreehold) and the other refusals of a superblock;
/// [`Error::Truncated`](crate::Error::Truncated); errors of the device. Other damage is in the report.
pub fn info(device: Arc<dyn Device>) -> Result<InfoReport> {
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
    let (mut allocated_bytes, mut extents) = (0, 0);
    for number in first..frontier {
        let record = match source.record(number) {
            Ok((record, _)) => record,
            Err(error) => {
                findings.damage(&error)?;
                continue;
            }
        };
        let usable = layout.usable_range(number).len() as u64;
        let used = u64::from(record.used_pages).min(usable) * page_bytes;
        allocated_bytes += used;
        extents += u64::from(record.extents);
        let index = roles.iter().position(|usage| usage.role == record.role).unwrap_or_else(|| {
            roles.push(RoleUsage { role: record.role, segments: 0, allocated_bytes: 0, free_bytes: 0 });
            roles.len() - 1
        });
        if let Some(usage) = roles.get_mut(index) {
            usage.segments += 1;
            usage.allocated_bytes += used;
            usage.free_bytes += usable * page_bytes - used;
        }
    }
    let (errors, _) = findings.into_parts();
    let superblock = &source.superblock;
    Ok(InfoReport {
        // The superblock is decoded for this version only.
        format_version: FORMAT_VERSION,
        uuid: format_store_id(&superblock.store_id),
        state: source.status(),
        medium: superblock.medium,
        device_bytes: layout.device_bytes(),
        sector_bytes: layout.sector_bytes(),
        block_bytes: layout.block_bytes(),
        page_bytes: layout.page_bytes(),
        segment_bytes: layout.segment_bytes(),
        journal_bytes: layout.ring_bytes(),
        metadata_bytes: layout.metadata_bytes(),
        allocated_bytes,
        free_bytes: (layout.usable_pages() * page_bytes).saturating_sub(allocated_bytes),
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
    })
}
