//! The group that is filling: which bytes of which blocks it touched, and who waits for it.

use std::collections::BTreeMap;

use super::append::Completion;
use super::overlay::{BlockId, Overlay};
use crate::error::{Error, Result};
use crate::format::{PayloadEncoder, UpdateKind, content_checksum};

/// Changed parts of one block: sorted, disjoint, not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u32, u32)>);

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
        self.0.splice(from..to.max(from), [(start, end)]);
    }

    pub(super) fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[derive(Debug, Default)]
struct Touch {
    ranges: Ranges,
    image: bool,
}

/// Transactions that will become durable together.
#[derive(Default)]
pub(super) struct OpenGroup {
    touched: BTreeMap<BlockId, Touch>,
    pub(super) first_lsn: u64,
    pub(super) transactions: u32,
    /// Ring space claimed by the transactions.
    pub(super) granules: usize,
    pub(super) completions: Vec<Completion>,
}

/// A group whose content is fixed; only place and durable mark are still to come.
pub(super) struct ClosedGroup {
    /// Room for the header, payload, padding.
    pub(super) bytes: Vec<u8>,
    /// Header and payload.
    pub(super) length: u32,
    pub(super) updates: u32,
    pub(super) first_lsn: u64,
    pub(super) transactions: u32,
    pub(super) completions: Vec<Completion>,
}

impl ClosedGroup {
    pub(super) fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.transactions) - 1
    }
}

impl OpenGroup {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    /// Notes that bytes of a block changed. With `image`, the journal gets the whole block.
    pub(super) fn touch(&mut self, id: BlockId, start: u32, end: u32, image: bool) {
        let touch = self.touched.entry(id).or_default();
        touch.ranges.add(start, end);
        touch.image |= image;
    }

    /// Fixes the content, from the overlay as it is now. Returns the group and the granules that it does not need.
    pub(super) fn close(self, overlay: &Overlay, granule: u32) -> Result<(ClosedGroup, usize)> {
        let mut updates = Vec::with_capacity(self.touched.len());
        for (id, touch) in &self.touched {
            let content = overlay.get(*id).ok_or(Error::Internal("a touched block left the overlay"))?;
            let (kind, address) = match (*id, touch.image) {
                (BlockId::Metadata(leaf), _) => (UpdateKind::Metadata, leaf),
                (BlockId::Caller(block), false) => (UpdateKind::CallerDelta, block),
                (BlockId::Caller(block), true) => (UpdateKind::CallerImage, block),
            };
            updates.push((kind, address, content, &touch.ranges));
        }
        updates.sort_by_key(|&(kind, address, ..)| (kind, address));
        let mut encoder = PayloadEncoder::default();
        for (kind, address, content, ranges) in updates {
            encoder.push(kind, address, &content, ranges.as_slice(), content_checksum(&content));
        }
        let (bytes, length, updates) = encoder.finish(granule);
        let spare = self
            .granules
            .checked_sub(bytes.len() / granule as usize)
            .ok_or(Error::Internal("a group outgrew the ring space claimed for it"))?;
        let group = ClosedGroup {
            bytes,
            length,
            updates,
            first_lsn: self.first_lsn,
            transactions: self.transactions,
            completions: self.completions,
        };
        Ok((group, spare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

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
