//! The journal, group by group.

use std::sync::Arc;

use super::finding::Finding;
use super::source::{read_port, read_superblock};
use crate::device::{Device, Port};
use crate::error::{Error, Result};
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, Payload, Superblock, decode_payload};
use crate::journal::{Ring, scan_journal};

/// What replay will do with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum GroupState {
    /// Apply it.
    Valid,
    /// Drop it: pieces of groups that nothing says were durable, as a power loss leaves them, or damage to the last groups.
    Torn,
    /// Refuse the journal: the group was durable, and is not readable.
    Damaged,
}

impl GroupState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Torn => "torn",
            Self::Damaged => "damaged",
        }
    }
}

/// One group, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupEntry {
    /// Position in the journal in bytes, counted without wrapping.
    pub position: u64,
    /// Offset on the device in bytes.
    pub offset: u64,
    /// LSN of the first transaction; `None` when the group is not readable.
    pub first_lsn: Option<u64>,
    /// LSN of the last transaction.
    pub last_lsn: Option<u64>,
    /// Transactions.
    pub transactions: u64,
    /// Bytes, header included.
    pub bytes: u64,
    /// Bytes with padding.
    pub padded_bytes: u64,
    /// Byte ranges written, and what became of extents, each of which is one.
    pub writes: u64,
    /// Updates: blocks changed, and one for all extents.
    pub updates: u64,
    /// What replay will do with it.
    pub state: GroupState,
}

/// The groups that replay would find.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct JournalReport {
    /// In the order of the journal; the last one may be torn or damaged.
    pub groups: Vec<GroupEntry>,
    /// Why replay refuses the journal.
    pub error: Option<Finding>,
}

/// Lists the groups after the tail.
///
/// # Errors
/// As [`info`](super::info()). A journal that replay refuses is in the report.
pub fn journal(device: Arc<dyn Device>) -> Result<JournalReport> {
    let port = read_port(device);
    let superblock = read_superblock(&port)?;
    let mut groups = Vec::new();
    match scan_journal(&port, &superblock) {
        Ok(scan) => {
            for group in &scan.groups {
                groups.push(valid(&superblock, &group.header, &group.bytes, group.offset));
            }
            if let Some(torn) = scan.torn {
                groups.push(unreadable(torn.position, torn.offset, GroupState::Torn));
            }
            Ok(JournalReport { groups, error: None })
        }
        Err(error) => {
            let finding = Finding::from_error(&error).ok_or(error)?;
            let position = read_until_damage(&port, &superblock, &mut groups)?;
            let ring = Ring::new(&port, &superblock.layout);
            groups.push(unreadable(position, ring.offset(position), GroupState::Damaged));
            Ok(JournalReport { groups, error: Some(finding) })
        }
    }
}

/// The groups in front of the damage. Returns the position behind them.
fn read_until_damage(port: &Port, superblock: &Superblock, groups: &mut Vec<GroupEntry>) -> Result<u64> {
    let layout = &superblock.layout;
    let granule = layout.ring_granule_bytes();
    let mut ring = Ring::new(port, layout);
    let mut position = superblock.tail_position;
    let mut last_lsn = superblock.tail_lsn;
    let end = position + layout.ring_bytes();
    while position < end {
        let front = ring.read(position, u64::from(granule))?;
        let Some(header) = GroupHeader::peek(front, position, layout.ring_bytes()) else { break };
        let padded = header.padded_bytes(granule);
        if header.epoch != superblock.epoch || header.first_lsn <= last_lsn || padded > end - position {
            break;
        }
        let offset = ring.offset(position);
        let bytes = ring.read(position, padded)?;
        if !header.verify(&superblock.store_id, bytes) || header.durable_lsn > last_lsn {
            break;
        }
        groups.push(valid(superblock, &header, bytes, offset));
        last_lsn = header.last_lsn();
        position += padded;
    }
    Ok(position)
}

fn valid(superblock: &Superblock, header: &GroupHeader, bytes: &[u8], offset: u64) -> GroupEntry {
    let payload = bytes.get(GROUP_HEADER_BYTES..header.length as usize).unwrap_or(&[]);
    let Payload { extents, blocks } =
        decode_payload(payload, header.updates, superblock.layout.block_bytes()).unwrap_or_default();
    let extents = extents.map_or(0, |update| update.records.len() as u64);
    let patches: u64 = blocks.iter().map(|update| update.patches.len() as u64).sum();
    GroupEntry {
        position: header.position,
        offset,
        first_lsn: Some(header.first_lsn),
        last_lsn: Some(header.last_lsn()),
        transactions: header.transactions.into(),
        bytes: header.length.into(),
        padded_bytes: bytes.len() as u64,
        writes: extents + patches,
        updates: header.updates.into(),
        state: GroupState::Valid,
    }
}

fn unreadable(position: u64, offset: u64, state: GroupState) -> GroupEntry {
    GroupEntry {
        position,
        offset,
        first_lsn: None,
        last_lsn: None,
        transactions: 0,
        bytes: 0,
        padded_bytes: 0,
        writes: 0,
        updates: 0,
        state,
    }
}

impl JournalReport {
    /// Why replay refuses the journal, as an error.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        let finding = self.error.as_ref()?;
        let structure = crate::error::Structure::JournalGroup;
        Some(Error::Corrupt { structure, offset: finding.offset, reason: finding.message.clone() })
    }
}
