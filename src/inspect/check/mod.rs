//! Recounting a whole store from raw bytes.

mod record;
mod region;
mod segment;

use std::sync::Arc;

use super::finding::{Finding, FindingKind, Findings};
use super::source::{Source, StoreStatus};
use super::tree::Presence;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{AllocatorState, Layout, LeafAddress, Role, SegmentRecord, is_zero};

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Segments that are done.
    pub done_segments: u64,
    /// Segments to be done.
    pub total_segments: u64,
}

/// What a recount of everything gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckReport {
    /// Nothing is wrong. Warnings do not count.
    pub ok: bool,
    /// Whether the store was closed in order.
    pub state: StoreStatus,
    /// Everything that is wrong.
    pub errors: Vec<Finding>,
    /// Errors that are not listed, because there are too many.
    pub errors_omitted: u64,
    /// What a power cut leaves behind and replay puts in order.
    pub warnings: Vec<Finding>,
    /// In extents and items, by a recount.
    pub allocated_bytes: u64,
    /// Can be allocated.
    pub free_bytes: u64,
    /// Bytes of regions that can be no item.
    pub overhead_bytes: u64,
    /// Extents and items, by a recount.
    pub extents: u64,
    /// In use in a bitmap, without a header.
    pub leaked_bytes: u64,
    /// The journal ends in pieces that replay will drop.
    pub torn_tail: bool,
    /// Segments that were looked at.
    pub segments: u64,
    /// Transactions of the journal that were applied in memory.
    pub journal_transactions: u64,
    /// The journal is refused: state and transactions above are not those of the store.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub journal_unread: bool,
    /// Some metadata, or the journal over it, could not be read: the figures of space above are not those of the store.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub space_unread: bool,
}

impl CheckReport {
    /// The report on a store of which nothing can be read.
    fn refused(error: &Error) -> Result<Self> {
        let finding = Finding::from_error(error).ok_or_else(|| error.clone())?;
        Ok(Self { errors: vec![finding], journal_unread: true, space_unread: true, ..Self::default() })
    }
}

/// Recounts everything from raw bytes, with the journal applied in memory, and goes on after each thing that is wrong.
///
/// A journal that is refused is one error; the rest is then judged as the last checkpoint left it. `progress` is called
/// after every segment.
///
/// # Errors
/// [`Error::NotFreehold`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeatures`], and errors of the device.
/// Damage is in the report, and so is a store of which only the superblocks are gone.
pub fn check(device: Arc<dyn Device>, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
    let mut source = match Source::open(device) {
        Ok(source) => source,
        Err(error) => return CheckReport::refused(&error),
    };
    let layout = Arc::clone(&source.layout);
    let mut findings = Findings::default();
    if let Some(error) = &source.refused {
        findings.damage(error)?;
    }
    source.check_tree_ends(|error| findings.damage(&error))?;

    let first = layout.first_segment();
    let state = check_state(&mut source, &mut findings)?;
    let frontier = match &state {
        Some(state) => state.frontier.clamp(first, layout.segment_count().max(first)),
        None => last_record(&mut source, &mut findings)?.max(first),
    };
    let mut records: Vec<Option<SegmentRecord>> = Vec::new();
    for number in first..frontier {
        records.push(match source.record(number) {
            Ok((record, _)) => Some(record),
            Err(error) => {
                findings.damage(&error)?;
                None
            }
        });
    }

    let with_role = (first..frontier).zip(&records);
    let with_role = with_role.filter(|(_, record)| record.is_none_or(|record| record.role != Role::Unused));
    let with_role = with_role.map(|(number, _)| number).collect();
    let table = Table { first, frontier, records, with_role };
    let mut totals = segment::Totals::default();
    let total_segments = u64::from(frontier - first);
    for number in first..frontier {
        totals += segment::check(&mut source, &table, number, &mut findings)?;
        progress(CheckProgress { done_segments: u64::from(number - first) + 1, total_segments });
    }
    check_unused(&mut source, first, frontier, &mut findings)?;

    let page_bytes = u64::from(layout.page_bytes());
    let space_unread = findings.any_damage();
    let (errors, errors_omitted) = findings.into_parts();
    let leaked_bytes = totals.leaked_pages * page_bytes;
    let taken = totals.allocated_bytes + totals.overhead_bytes + leaked_bytes;
    Ok(CheckReport {
        ok: errors.is_empty(),
        state: source.status(),
        errors,
        errors_omitted,
        allocated_bytes: totals.allocated_bytes,
        free_bytes: (layout.usable_pages() * page_bytes).saturating_sub(taken),
        overhead_bytes: totals.overhead_bytes,
        extents: totals.extents,
        leaked_bytes,
        torn_tail: source.replay.torn_tail,
        segments: total_segments,
        journal_transactions: source.replay.transactions,
        warnings: source.warnings,
        journal_unread: source.refused.is_some(),
        space_unread,
    })
}

/// The segment table as it was read; `None` for a record that cannot be.
struct Table {
    first: u32,
    frontier: u32,
    records: Vec<Option<SegmentRecord>>,
    /// Segments that have a role, or a record that cannot be, in ascending order.
    with_role: Vec<u32>,
}

impl Table {
    fn record(&self, number: u32) -> Option<&SegmentRecord> {
        self.records.get(number.checked_sub(self.first)? as usize)?.as_ref()
    }

    /// The span that a segment is part of, but does not begin: its first segment.
    fn span_around(&self, number: u32) -> Option<u32> {
        // The nearest record with a role decides.
        let behind = self.with_role.partition_point(|&other| other < number);
        let head = *self.with_role.get(behind.checked_sub(1)?)?;
        let segments = self.record(head)?.span_segments()?;
        (number - head < segments).then_some(head)
    }
}

fn check_state(source: &mut Source, findings: &mut Findings) -> Result<Option<AllocatorState>> {
    let layout = Arc::clone(&source.layout);
    let offset = state_offset(source);
    match source.state() {
        Ok(state) => {
            if state.frontier > layout.segment_count() {
                let message =
                    format!("frontier {} beyond {} segments", state.frontier, layout.segment_count());
                findings.add(FindingKind::AllocatorState, offset, message);
            }
            Ok(Some(state))
        }
        Err(error) => findings.damage(&error).map(|()| None),
    }
}

/// Where the allocator state lies, for reports.
fn state_offset(source: &mut Source) -> u64 {
    let leaf = source.layout.state_leaf();
    source.leaf(leaf).map_or_else(|_| source.layout.slot(0, leaf.0, 0).offset, |leaf| leaf.offset)
}

/// When the frontier is not known: one behind the last segment with a record.
fn last_record(source: &mut Source, findings: &mut Findings) -> Result<u32> {
    let mut frontier = 0;
    for number in 0..source.layout.segment_count() {
        match source.record(number) {
            Ok((record, _)) if record == SegmentRecord::default() => {}
            Ok(_) => frontier = number + 1,
            Err(error) => findings.damage(&error)?,
        }
    }
    Ok(frontier)
}

/// Nothing may be written for segments under the metadata area or beyond the frontier.
fn check_unused(source: &mut Source, first: u32, frontier: u32, findings: &mut Findings) -> Result<()> {
    let layout = Arc::clone(&source.layout);
    for number in (0..first).chain(frontier..layout.segment_count()) {
        match source.record(number) {
            Ok((record, _)) if record == SegmentRecord::default() => {}
            Ok((_, offset)) => {
                let message = format!("segment {number} is not in use, its record is not zero");
                findings.add(FindingKind::Frontier, offset, message);
            }
            Err(error) => findings.damage(&error)?,
        }
    }
    let in_use = |leaf: u64| {
        let used = layout.segment_leaf_range(first).start..layout.segment_leaf_range(frontier).start;
        used.contains(&leaf) || layout.common_leaf_range().contains(&leaf)
    };
    let report = |findings: &mut Findings, layout: &Layout, leaf: u64| {
        let message = format!("metadata block {leaf} of a segment that is not in use was written");
        findings.add(FindingKind::Frontier, layout.slot(0, leaf, 0).offset, message);
    };
    for leaf in source.journaled_leaves() {
        let content = source.leaf(LeafAddress(leaf))?.bytes;
        if !in_use(leaf) && content.is_some_and(|bytes| !is_zero(&bytes)) {
            report(findings, &layout, leaf);
        }
    }
    let before = layout.common_leaf_range().end..layout.segment_leaf_range(first).start;
    let beyond = layout.segment_leaf_range(frontier).start..layout.leaf_count();
    for range in [before, beyond] {
        let mut leaf = range.start;
        while leaf < range.end {
            leaf = match source.presence(leaf) {
                Ok(Presence::Present) => {
                    report(findings, &layout, leaf);
                    leaf + 1
                }
                Ok(Presence::AbsentUntil(next)) => next,
                Err(error) => {
                    findings.damage(&error)?;
                    source.behind_damage(leaf)
                }
            };
        }
    }
    Ok(())
}
