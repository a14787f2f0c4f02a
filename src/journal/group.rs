//! A group: who waits for it, which bytes of which blocks it touched, and how that is written down.

use std::time::Duration;

use super::extents::ExtentsMade;
use super::marks::Marks;
use super::outcome::Teller;
use super::overlay::{BlockId, Overlay};
use crate::error::{Error, Result};
use crate::format::{PayloadEncoder, UpdateKind};

/// What a group changed of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Touch {
    /// First LSN of the group; of another group than the one that is being made, the rest means nothing.
    group: u64,
    pub(super) marks: Marks,
    pub(super) image: bool,
    /// First LSN of the group that last had records of extents in it.
    extents_group: u64,
}

impl Touch {
    /// Begins a change by the group that begins with this LSN. Whether it is the group's first of the block.
    pub(super) fn begin(&mut self, group: u64) -> bool {
        let first = self.group != group;
        if first {
            self.group = group;
            self.image = false;
            self.marks.clear();
        }
        first
    }

    /// Begins a change of extents by this group. Whether it is the group's first of the block.
    pub(super) fn begin_extents(&mut self, group: u64) -> bool {
        std::mem::replace(&mut self.extents_group, group) != group
    }

    /// The group has changed nothing after all.
    pub(super) fn forget(&mut self) {
        self.group = 0;
    }
}

/// Transactions that will become durable together. What they change is with the
/// [`Publisher`](super::publisher::Publisher) until it is their turn.
#[derive(Default)]
pub(super) struct Group {
    /// No other group has it.
    pub(super) first_lsn: u64,
    /// When its first transaction came.
    pub(super) since: Duration,
    pub(super) transactions: u32,
    /// Ring space claimed by the transactions.
    pub(super) granules: usize,
    /// Those that change the caller's space.
    pub(super) journaling: u32,
    /// What large ones claim beyond what a small one may: most of that can be images of blocks.
    pub(super) large_bytes: u64,
    pub(super) teller: Teller,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    pub(super) fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.transactions) - 1
    }
}

/// The bytes of a group; only place and durable mark are still to come.
pub(super) struct EncodedGroup {
    /// Room for the header, payload, padding.
    pub(super) bytes: Vec<u8>,
    /// Header and payload.
    pub(super) length: u32,
    pub(super) updates: u32,
}

/// Lists that each group makes anew, in the memory of those before.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    updates: Vec<(UpdateKind, u64, BlockId)>,
    ranges: Vec<(u32, u32)>,
}

/// Encodes what a group made of extents, and what it changed of the blocks that it touched, each of which is named once.
pub(super) fn encode(
    extents: &ExtentsMade,
    touched: &[BlockId],
    overlay: &Overlay,
    granule: u32,
    scratch: &mut Scratch,
) -> Result<EncodedGroup> {
    let gone = || Error::Internal("a touched block left the overlay");
    let Scratch { updates, ranges } = scratch;
    updates.clear();
    for &id in touched {
        updates.push(match id {
            BlockId::Metadata(leaf) => (UpdateKind::Metadata, leaf, id),
            BlockId::Caller(block) => {
                let image = overlay.change(id, |block| block.touch.image).ok_or_else(gone)?;
                let kind = if image { UpdateKind::CallerImage } else { UpdateKind::CallerDelta };
                (kind, block, id)
            }
        });
    }
    updates.sort_unstable();
    let mut encoder = PayloadEncoder::default();
    encoder.push_extents(&extents.records, extents.digest);
    for &(kind, address, id) in &*updates {
        let encoded = overlay.change(id, |block| {
            block.touch.marks.take_ranges(ranges);
            let checksum = block.crc.checksum(&block.content);
            encoder.push(kind, address, &block.content, ranges, checksum);
        });
        encoded.ok_or_else(gone)?;
    }
    let (bytes, length, updates) = encoder.finish(granule);
    Ok(EncodedGroup { bytes, length, updates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_of_another_group_means_nothing() {
        let mut touch = Touch::default();
        assert!(touch.begin(7));
        touch.marks.add(10, 20);
        touch.image = true;
        assert!(!touch.begin(7));
        assert!(touch.image && !touch.marks.is_empty());
        assert!(touch.begin(9));
        assert!(!touch.image && touch.marks.is_empty());
        touch.forget();
        assert!(touch.begin(9), "a block in which nothing changed is touched by the next change");
    }
}
