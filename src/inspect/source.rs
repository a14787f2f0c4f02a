//! A store opened for looking at: superblock, journal applied in memory, metadata blocks.

use std::sync::Arc;

use super::finding::{Finding, FindingKind};
use super::tree::{Presence, TreeReader};
use crate::device::{Device, Port, SystemClock};
use crate::error::{Error, Result};
use crate::format::{
    AllocatorState, Layout, LeafAddress, SEGMENT_RECORD_BYTES, SegmentRecord, StoreState, Superblock,
    WITNESS_COPIES, Witness, is_zero,
};
use crate::journal::{
    BlockId, Journal, JournalOptions, Replay, ReplayReport, SuperblockPair, inspect_superblocks,
};

/// Whether a store was closed in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum StoreStatus {
    /// Closed in order, with nothing in the journal after the tail.
    Clean,
    /// Anything else.
    #[default]
    NeedsReplay,
}

impl StoreStatus {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::NeedsReplay => "needs_replay",
        }
    }
}

/// A metadata block as the journal has it.
#[derive(Debug)]
pub(super) struct Leaf {
    /// `None` when it was never written, and so is all zeros.
    pub(super) bytes: Option<Arc<Vec<u8>>>,
    /// Where it lies on the device, for reports.
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) superblock: Superblock,
    pub(super) layout: Arc<Layout>,
    pub(super) replay: ReplayReport,
    /// Why the journal is not applied.
    pub(super) refused: Option<Error>,
    pub(super) warnings: Vec<Finding>,
    port: Arc<Port>,
    journal: Option<Arc<Journal>>,
    tree: TreeReader,
    /// The block of the segment table that was read last.
    table: Option<(u64, Result<Arc<Leaf>>)>,
}

pub(super) fn read_port(device: Arc<dyn Device>) -> Arc<Port> {
    Arc::new(Port::new(device, Arc::new(SystemClock::default()), true))
}

/// The superblock in force, on a device that is long enough for it.
pub(super) fn read_superblock(port: &Port) -> Result<Superblock> {
    let superblock = SuperblockPair::read(port)?.current().clone();
    let (expected, found) = (superblock.layout.device_bytes(), port.geometry().len_bytes);
    if found < expected { Err(Error::Truncated { expected, found }) } else { Ok(superblock) }
}

impl Source {
    /// Opens a store. A journal that is refused is left out, and remembered.
    pub(super) fn open(device: Arc<dyn Device>) -> Result<Self> {
        let port = read_port(device);
        let superblock = read_superblock(&port)?;
        let warnings = head_warnings(&port, &superblock)?;
        let options = JournalOptions::default();
        let opened = Journal::open(Arc::clone(&port), options, Replay::InMemory, |_| Ok(()));
        let (journal, replay, refused) = match opened {
            Ok((journal, replay, ())) => (Some(journal), replay, None),
            Err(error) if error.is_corruption() => (None, ReplayReport::default(), Some(error)),
            Err(error) => return Err(error),
        };
        let layout = Arc::new(superblock.layout.clone());
        let tree = TreeReader::new(Arc::clone(&layout), &superblock);
        let mut source =
            Self { superblock, layout, replay, refused, warnings, port, journal, tree, table: None };
        if let Some(offset) = source.replay.torn_offset {
            let message = "pieces of groups that nothing says were durable; replay drops them";
            source.warnings.push(Finding::new(FindingKind::TornTail, offset, message));
        }
        Ok(source)
    }

    pub(super) fn status(&self) -> StoreStatus {
        let clean =
            self.superblock.state == StoreState::Clean && self.replay.was_clean && self.refused.is_none();
        if clean { StoreStatus::Clean } else { StoreStatus::NeedsReplay }
    }

    /// Reads a metadata block: from the journal, else as the last checkpoint left it.
    pub(super) fn leaf(&mut self, leaf: LeafAddress) -> Result<Leaf> {
        if let Some(content) = self.journal.as_ref().and_then(|j| j.overlay().get(BlockId::Metadata(leaf.0)))
        {
            return Ok(Leaf { bytes: Some(content), offset: self.layout.slot(0, leaf.0, 0).offset });
        }
        let (bytes, offset) = self.tree.leaf(&self.port, leaf.0)?;
        Ok(Leaf { bytes: bytes.map(Arc::new), offset })
    }

    pub(super) fn state(&mut self) -> Result<AllocatorState> {
        let leaf = self.leaf(self.layout.state_leaf())?;
        let Some(bytes) = leaf.bytes else { return Ok(AllocatorState::default()) };
        AllocatorState::decode(&bytes)
            .map_err(|reason| Error::corrupt(crate::error::Structure::AllocatorState, leaf.offset, reason))
    }

    /// A segment's record, and where it lies.
    pub(super) fn record(&mut self, segment: u32) -> Result<(SegmentRecord, u64)> {
        let (leaf, within) = self.layout.record_place(segment);
        if self.table.as_ref().is_none_or(|(cached, _)| *cached != leaf.0) {
            let read = self.leaf(leaf).map(Arc::new);
            self.table = Some((leaf.0, read));
        }
        let Some((_, block)) = &self.table else {
            return Err(Error::Internal("the segment table was not read"));
        };
        let block = Arc::clone(block.as_ref().map_err(Clone::clone)?);
        let offset = block.offset + u64::from(within);
        let Some(bytes) = &block.bytes else { return Ok((SegmentRecord::default(), offset)) };
        let record = bytes
            .get(within as usize..)
            .and_then(|rest| rest.first_chunk::<SEGMENT_RECORD_BYTES>())
            .ok_or("short block")
            .and_then(SegmentRecord::decode)
            .map_err(|reason| Error::corrupt(crate::error::Structure::SegmentRecord, offset, reason))?;
        Ok((record, offset))
    }

    /// Reads a range of the caller's space, as the journal has it.
    pub(super) fn caller(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let block_bytes = u64::from(self.layout.block_bytes());
        let (first, end) = (offset / block_bytes, (offset + len).div_ceil(block_bytes));
        let mut bytes = Vec::new();
        for block in first..end {
            let journaled = self.journal.as_ref().and_then(|j| j.overlay().get(BlockId::Caller(block)));
            match journaled {
                Some(content) => bytes.extend_from_slice(&content),
                None => {
                    let content =
                        self.port.read_vec(block * block_bytes, self.layout.block_bytes() as usize)?;
                    bytes.extend_from_slice(&content);
                }
            }
        }
        let start = usize::try_from(offset - first * block_bytes).unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(0);
        Ok(bytes.get(start..start + len).unwrap_or_default().to_vec())
    }

    pub(super) fn presence(&mut self, leaf: u64) -> Result<Presence> {
        self.tree.presence(&self.port, leaf)
    }

    pub(super) fn behind_damage(&mut self, leaf: u64) -> u64 {
        self.tree.behind_damage(&self.port, leaf)
    }

    pub(super) fn check_tree_ends(&mut self, found: impl FnMut(Error) -> Result<()>) -> Result<()> {
        self.tree.check_ends(&self.port, found)
    }

    /// Metadata blocks that the journal changes, in order.
    pub(super) fn journaled_leaves(&self) -> Vec<u64> {
        self.journal.as_ref().map(|journal| journal.overlay().metadata_blocks()).unwrap_or_default()
    }
}

/// What a power cut may leave behind in front of the journal, and what rot may do there without harm.
fn head_warnings(port: &Port, superblock: &Superblock) -> Result<Vec<Finding>> {
    let layout = &superblock.layout;
    let mut warnings = Vec::new();
    for copy in inspect_superblocks(port)? {
        if copy.content.is_err() {
            let message =
                "this copy is not readable; the other one is, and the next opening for writing renews it";
            warnings.push(Finding::new(FindingKind::Superblock, copy.offset, message));
        }
    }
    for copy in 0..WITNESS_COPIES {
        let offset = layout.witness_offset(copy);
        let block = port.read_vec(offset, layout.block_bytes() as usize)?;
        if !is_zero(&block) && Witness::decode(&superblock.store_id, offset, &block).is_none() {
            let message = "this note of the last durable LSN is not readable and is not relied on";
            warnings.push(Finding::new(FindingKind::Witness, offset, message));
        }
    }
    Ok(warnings)
}
