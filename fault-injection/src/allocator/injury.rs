//! Damage beyond what a power cut does: rot, lost writes, and records that do not belong where they lie.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port, Purpose};
use freehold::format::{GroupHeader, PayloadEncoder, UpdateKind, content_checksum};
use freehold::journal::{SuperblockPair, scan_journal};

use super::Subject;
use super::operation::GROUP_LIMIT;
use crate::disk::{CowDisk, Cut};
use crate::harness::{Damage, Injured, Run};
use crate::rng::Rng;

/// One injury to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injury {
    /// Bits of one byte flip (F16 to F19).
    Flip {
        /// Where.
        offset: u64,
        /// Which bits.
        mask: u8,
    },
    /// A block goes back to what it was before the run: the write to it was lost (F20).
    Revert {
        /// Where the block begins.
        offset: u64,
    },
    /// A block's bytes appear at another block's place (F21).
    Misdirect {
        /// Where from.
        from: u64,
        /// Where to.
        to: u64,
    },
    /// A whole, valid group of an earlier epoch follows the last group of the journal (F23): what is left of a tail
    /// that was dropped.
    StaleGroup,
}

impl fmt::Display for Injury {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { offset, mask } => write!(f, "bits {mask:#04x} of byte {offset} flip"),
            Self::Revert { offset } => write!(f, "the block at {offset} is what it was before the run"),
            Self::Misdirect { from, to } => write!(f, "the block at {from} stands at {to} too"),
            Self::StaleGroup => f.write_str("a valid group of the epoch before follows the journal's end"),
        }
    }
}

impl Injury {
    /// Any injury to the metadata of a store.
    #[must_use]
    pub fn any(metadata_bytes: u64, rng: &mut Rng) -> Self {
        let block = 4096;
        let blocks = (metadata_bytes / block).max(1);
        match rng.below(10) {
            0..=4 => Self::Flip { offset: rng.below(metadata_bytes.max(1)), mask: 1 << rng.below(8) },
            5 | 6 => Self::Revert { offset: rng.below(blocks) * block },
            7 => Self::Misdirect { from: rng.below(blocks) * block, to: rng.below(blocks) * block },
            _ => Self::StaleGroup,
        }
    }

    /// What a recovery of the injured image may come to; `ring` is where the journal lies.
    #[must_use]
    pub fn allows(&self, ring: &Range<u64>) -> Damage {
        match self {
            // A leftover is no damage: it must be passed over.
            Self::StaleGroup => Damage::None,
            Self::Revert { offset: to } | Self::Misdirect { to, .. } if ring.contains(to) => {
                Damage::LastGroup(GROUP_LIMIT)
            }
            _ => Damage::Some,
        }
    }

    /// How much one lost or misdirected write takes: a block of metadata, or in the journal, where a block may hold
    /// several groups and so the work of several writes, a physical block.
    fn len(&self, disk: &Arc<CowDisk>) -> usize {
        let in_ring = match self {
            Self::Revert { offset: to } | Self::Misdirect { to, .. } => {
                places(disk).is_some_and(|(_, ring)| ring.contains(to))
            }
            _ => false,
        };
        if in_ring { disk.geometry().physical_block_bytes as usize } else { 4096 }
    }

    /// Whether it hits a copy of the superblock.
    #[must_use]
    pub fn touches_superblock(&self) -> bool {
        let copies = |offset: u64| offset < 4096 || (8192..12288).contains(&offset);
        match *self {
            Self::Flip { offset, .. } | Self::Revert { offset } | Self::Misdirect { to: offset, .. } => {
                copies(offset)
            }
            Self::StaleGroup => false,
        }
    }

    /// Injures the image. `None` when there is nothing to injure.
    pub fn apply(&self, run: &Run<Subject>, disk: &Arc<CowDisk>) -> Option<()> {
        let block = self.len(disk);
        match *self {
            Self::Flip { offset, mask } => {
                let mut byte = [0];
                disk.read_at(offset, &mut byte).ok()?;
                disk.poke(offset, &byte.map(|byte| byte ^ mask)).ok()
            }
            Self::Revert { offset } => {
                let start = usize::try_from(offset).ok()?;
                let before = run.start.base.bytes().get(start..start + block)?;
                disk.poke(offset, before).ok()
            }
            Self::Misdirect { from, to } => {
                let mut bytes = vec![0; block];
                disk.read_at(from, &mut bytes).ok()?;
                disk.poke(to, &bytes).ok()
            }
            Self::StaleGroup => stale_group(disk),
        }
    }
}

impl Subject {
    /// Damages a crash state beyond what a power cut does.
    pub(super) fn damage(
        &self,
        run: &Run<Self>,
        cut: &Cut,
        disk: &Arc<CowDisk>,
        seed: u64,
    ) -> Option<Injured> {
        let (metadata_bytes, ring) = places(disk)?;
        let injury = Injury::any(metadata_bytes, &mut Rng::new(seed));
        // A copy of the superblock that is being replaced is not there; losing the other one is one fault too many.
        let replacing = cut.pending_writes().iter().any(|write| write.purpose() == Some(Purpose::Superblock));
        if replacing && injury.touches_superblock() {
            return None;
        }
        injury.apply(run, disk)?;
        Some(Injured { what: injury.to_string(), allows: injury.allows(&ring) })
    }
}

/// Where the metadata of the store on a disk ends, and where its journal lies.
pub(super) fn places(disk: &Arc<CowDisk>) -> Option<(u64, Range<u64>)> {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).ok()?;
    let layout = &pair.current().layout;
    Some((layout.data_offset(), layout.ring_offset()..layout.ring_offset() + layout.ring_bytes()))
}

/// Puts a group behind the journal's end that would be accepted but for its epoch: it frees everything in the first
/// bitmap block.
fn stale_group(disk: &Arc<CowDisk>) -> Option<()> {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).ok()?;
    if !pair.is_agreed() {
        // The epoch before may be that of the other copy, which counts when this one is lost: two faults at once.
        return None;
    }
    let superblock = pair.current();
    let layout = &superblock.layout;
    let scan = scan_journal(&port, superblock).ok()?;
    let epoch = superblock.epoch.checked_sub(1)?;
    let granule = layout.ring_granule_bytes();
    let used = scan.end_position - superblock.tail_position;
    if scan.torn.is_some() || used + u64::from(granule) > layout.ring_bytes() {
        return None;
    }
    let leaf = layout.bitmap_leaf(layout.first_segment(), 0);
    let blank = vec![0; layout.block_bytes() as usize];
    let mut encoder = PayloadEncoder::default();
    encoder.push(
        UpdateKind::Metadata,
        leaf.0,
        &blank,
        &[(0, layout.block_bytes())],
        content_checksum(&blank),
    );
    let (mut bytes, length, updates) = encoder.finish(granule);
    let header = GroupHeader {
        length,
        transactions: 1,
        epoch,
        position: scan.end_position,
        first_lsn: scan.last_lsn + 1,
        durable_lsn: scan.last_lsn,
        updates,
    };
    header.seal(&superblock.store_id, &mut bytes);
    let ring = freehold::journal::Ring::new(&port, layout);
    disk.poke(ring.offset(scan.end_position), &bytes).ok()
}
