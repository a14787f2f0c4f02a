//! The group that is filling: which bytes of which blocks it touched, and who waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::marks::Marks;
use super::outcome::Teller;
use super::overlay::{BlockId, Overlay};
use crate::error::{Error, Result};
use crate::format::{PayloadEncoder, UpdateKind, content_checksum};

/// What a group changed of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Touch {
    /// First LSN of the group; of another group than the open one, the rest means nothing.
    group: u64,
    pub(super) marks: Marks,
    pub(super) image: bool,
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

    /// The group has changed nothing after all.
    pub(super) fn forget(&mut self) {
        self.group = 0;
    }
}

/// Transactions that will become durable together.
#[derive(Default)]
pub(super) struct OpenGroup {
    /// Blocks that it changed, each once. What it changed of them stands in the overlay.
    pub(super) touched: Vec<BlockId>,
    /// No other group has it.
    pub(super) first_lsn: u64,
    /// When its first transaction came.
    pub(super) since: Duration,
    pub(super) transactions: u32,
    /// Ring space claimed by the transactions.
    pub(super) granules: usize,
    pub(super) teller: Teller,
}

/// What becomes of one block: its content after the group, and which parts of it are new.
struct Update {
    kind: UpdateKind,
    address: u64,
    content: Arc<Vec<u8>>,
    marks: Marks,
}

/// A group whose content is fixed. It is encoded when it is its turn to be written, without the lock that appenders
/// need: they change copies of the blocks that it holds.
pub(super) struct ClosedGroup {
    updates: Vec<Update>,
    /// Ring space claimed by the transactions.
    granules: usize,
    pub(super) first_lsn: u64,
    pub(super) since: Duration,
    pub(super) transactions: u32,
    pub(super) teller: Teller,
}

/// The bytes of a group; only place and durable mark are still to come.
pub(super) struct EncodedGroup {
    /// Room for the header, payload, padding.
    pub(super) bytes: Vec<u8>,
    /// Header and payload.
    pub(super) length: u32,
    pub(super) updates: u32,
    /// Granules that were claimed and are not needed.
    pub(super) spare: usize,
}

impl ClosedGroup {
    pub(super) fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.transactions) - 1
    }

    /// Encodes the content, and lets go of it.
    pub(super) fn encode(&mut self, granule: u32) -> Result<EncodedGroup> {
        let mut updates = std::mem::take(&mut self.updates);
        updates.sort_unstable_by_key(|update| (update.kind, update.address));
        let mut encoder = PayloadEncoder::default();
        let mut ranges = Vec::new();
        for Update { kind, address, content, marks } in updates {
            marks.ranges_into(&mut ranges);
            encoder.push(kind, address, &content, &ranges, content_checksum(&content));
        }
        let (bytes, length, updates) = encoder.finish(granule);
        let spare = self
            .granules
            .checked_sub(bytes.len() / granule as usize)
            .ok_or(Error::Internal("a group outgrew the ring space claimed for it"))?;
        Ok(EncodedGroup { bytes, length, updates, spare })
    }
}

impl OpenGroup {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    /// Fixes the content, from the overlay as it is now.
    pub(super) fn close(self, overlay: &Overlay) -> Result<ClosedGroup> {
        let mut updates = Vec::with_capacity(self.touched.len());
        for id in self.touched {
            let taken = overlay.change(id, |block| {
                (Arc::clone(&block.content), std::mem::take(&mut block.touch.marks), block.touch.image)
            });
            let Some((content, marks, image)) = taken else {
                // Never issued: not committed.
                let error = Error::Internal("a touched block left the overlay");
                self.teller.tell(Err(error.clone()));
                return Err(error);
            };
            let (kind, address) = match (id, image) {
                (BlockId::Metadata(leaf), _) => (UpdateKind::Metadata, leaf),
                (BlockId::Caller(block), false) => (UpdateKind::CallerDelta, block),
                (BlockId::Caller(block), true) => (UpdateKind::CallerImage, block),
            };
            updates.push(Update { kind, address, content, marks });
        }
        Ok(ClosedGroup {
            updates,
            granules: self.granules,
            first_lsn: self.first_lsn,
            since: self.since,
            transactions: self.transactions,
            teller: self.teller,
        })
    }
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
        assert!(touch.image && touch.marks != Marks::default());
        assert!(touch.begin(9));
        assert!(!touch.image && touch.marks == Marks::default());
        touch.forget();
        assert!(touch.begin(9), "a block in which nothing changed is touched by the next change");
    }
}
