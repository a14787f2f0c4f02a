//! The group that is filling: which bytes of which blocks it touched, and who waits for it.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::append::Completion;
use super::overlay::{BlockId, Overlay};
use crate::error::{Error, Result};
use crate::format::{PayloadEncoder, UpdateKind, content_checksum};

/// Changed parts of one block: sorted, disjoint, not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(SmallVec<[(u32, u32); 4]>);

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn add(&mut self, start: u32, end: u32) {
        let from = self.0.partition_point(|&(_, other_end)| other_end < start);
        let to = self.0.partition_point(|&(other_start, _)| other_start <= end);
        let (mut start, mut end) = (start, end);
        if let Some(touched) = self.0.get(from..to)
            && let (Some(&(first, _)), Some(&(_, last))) = (touched.first(), touched.last())
        {
            start = start.min(first);
            end = end.max(last);
        }
        match self.0.get_mut(from) {
            Some(range) if from < to => {
                *range = (start, end);
                self.0.drain(from + 1..to);
            }
            _ => self.0.insert(from, (start, end)),
        }
    }

    pub(super) fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }
}

/// What a group changed of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Touch {
    /// First LSN of the group; of another group than the open one, the rest means nothing.
    group: u64,
    ranges: Ranges,
    image: bool,
}

impl Touch {
    /// Notes that the group that begins with this LSN changed `start..end`. With `image`, the journal gets the whole
    /// block. Whether it is the group's first change of the block.
    pub(super) fn add(&mut self, group: u64, start: u32, end: u32, image: bool) -> bool {
        let first = self.group != group;
        if first {
            self.group = group;
            self.image = false;
            self.ranges.0.clear();
        }
        self.ranges.add(start, end);
        self.image |= image;
        first
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
    pub(super) completions: Vec<Completion>,
}

/// What becomes of one block: its content after the group, and which parts of it are new.
struct Update {
    kind: UpdateKind,
    address: u64,
    content: Arc<Vec<u8>>,
    ranges: Ranges,
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
    pub(super) completions: Vec<Completion>,
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
        for Update { kind, address, content, ranges } in updates {
            encoder.push(kind, address, &content, ranges.as_slice(), content_checksum(&content));
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
                (Arc::clone(&block.content), std::mem::take(&mut block.touch.ranges), block.touch.image)
            });
            let (content, ranges, image) =
                taken.ok_or(Error::Internal("a touched block left the overlay"))?;
            let (kind, address) = match (id, image) {
                (BlockId::Metadata(leaf), _) => (UpdateKind::Metadata, leaf),
                (BlockId::Caller(block), false) => (UpdateKind::CallerDelta, block),
                (BlockId::Caller(block), true) => (UpdateKind::CallerImage, block),
            };
            updates.push(Update { kind, address, content, ranges });
        }
        Ok(ClosedGroup {
            updates,
            granules: self.granules,
            first_lsn: self.first_lsn,
            since: self.since,
            transactions: self.transactions,
            completions: self.completions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn a_touch_of_another_group_means_nothing() {
        let mut touch = Touch::default();
        assert!(touch.add(7, 10, 20, true));
        assert!(!touch.add(7, 30, 40, false));
        assert_eq!((touch.ranges.as_slice(), touch.image), (&[(10, 20), (30, 40)][..], true));
        assert!(touch.add(9, 0, 5, false));
        assert_eq!((touch.ranges.as_slice(), touch.image), (&[(0, 5)][..], false));
    }

    quickcheck! {
        fn ranges_are_the_union(parts: Vec<(u8, u8)>) -> bool {
            let mut ranges = Ranges::default();
            let mut model = [false; 300];
            for (start, len) in parts {
                let (start, end) = (u32::from(start), u32::from(start) + u32::from(len % 40) + 1);
                ranges.add(start, end);
                model[start as usize..end as usize].fill(true);
            }
            let covered: usize = ranges.as_slice().iter().map(|&(s, e)| (e - s) as usize).sum();
            covered == model.iter().filter(|&&set| set).count()
                && ranges.as_slice().windows(2).all(|pair| pair[0].1 < pair[1].0)
                && ranges.as_slice().iter().all(|&(s, e)| model[s as usize..e as usize].iter().all(|&set| set))
        }
    }
}
