//! Groups that were read together, with the bytes that they lie in: what passes from the one who reads the journal to the one
//! who applies it. Buffers are used again and again.

use super::decoded::{Change, Decoded, Decoder, ExtentsRead, Unusable};
use super::ring::Ring;
use super::scan::ScannedGroup;
use crate::format::{GROUP_HEADER_BYTES, GroupHeader};

/// A group that counts, in the bytes of others.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupView<'a> {
    pub(super) header: GroupHeader,
    /// Header, payload and padding.
    pub(super) bytes: &'a [u8],
    /// Where it lies on the device.
    pub(super) offset: u64,
}

impl<'a> GroupView<'a> {
    pub(super) fn to_owned(self) -> ScannedGroup {
        ScannedGroup { header: self.header, bytes: self.bytes.to_vec(), offset: self.offset }
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        self.bytes.get(GROUP_HEADER_BYTES..self.header.length as usize).unwrap_or(&[])
    }
}

impl ScannedGroup {
    pub(super) fn view(&self) -> GroupView<'_> {
        GroupView { header: self.header, bytes: &self.bytes, offset: self.offset }
    }
}

#[derive(Debug)]
struct Found {
    header: GroupHeader,
    /// Where it was found.
    position: u64,
    /// Bytes with padding.
    len: u64,
    /// Where it lies on the device.
    offset: u64,
}

/// Groups that follow each other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What the ring had in memory when the groups were handed over, and from which position on.
    bytes: Vec<u8>,
    position: u64,
    groups: Vec<Found>,
    /// Some of them, from the first on.
    decoded: Decoded,
}

impl Batch {
    /// The groups, in order.
    pub(super) fn groups(&self) -> impl DoubleEndedIterator<Item = GroupView<'_>> + ExactSizeIterator {
        self.groups.iter().map(|&Found { header, position, len, offset }| {
            let index = |number| usize::try_from(number).unwrap_or(usize::MAX);
            let start = index(position - self.position);
            let bytes = self.bytes.get(start..).and_then(|rest| rest.get(..index(len))).unwrap_or(&[]);
            GroupView { header, bytes, offset }
        })
    }

    /// Decodes what groups make of extents, all but the last: nobody knows yet what becomes of that one.
    pub(super) fn decode(&mut self, decoder: Decoder<'_>) {
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        let last = self.groups.len().saturating_sub(1);
        let _ = self.groups().take(last).all(|group| decoded.push(group, decoder));
        self.decoded = decoded;
    }

    /// The groups that were decoded, in order: their changes of extents, and how they were read.
    pub(super) fn decoded(
        &self,
    ) -> impl Iterator<Item = (GroupView<'_>, &[Change], Result<ExtentsRead, Unusable>)> {
        self.groups().zip(self.decoded.groups()).map(|(group, (changes, read))| (group, changes, read))
    }

    /// The groups that were not, in order.
    pub(super) fn others(&self) -> impl DoubleEndedIterator<Item = GroupView<'_>> {
        self.groups().skip(self.decoded.len())
    }

    /// Adds the group that was just read.
    pub(super) fn note(&mut self, header: GroupHeader, position: u64, len: u64, offset: u64) {
        self.groups.push(Found { header, position, len, offset });
    }

    /// Before these bytes are read: hands the groups over if the bytes that they lie in would have to go.
    pub(super) fn make_room(
        self,
        ring: &mut Ring<'_>,
        position: u64,
        len: u64,
        sink: &mut dyn FnMut(Self) -> Self,
    ) -> Self {
        if ring.holds(position, len) { self } else { self.hand_over(ring, sink) }
    }

    /// Hands the groups over, with the bytes that the ring has read last.
    pub(super) fn hand_over(mut self, ring: &mut Ring<'_>, sink: &mut dyn FnMut(Self) -> Self) -> Self {
        if self.groups.is_empty() {
            return self;
        }
        (self.position, self.bytes) = ring.take_window();
        let mut spare = sink(self);
        ring.put_back(spare.position, std::mem::take(&mut spare.bytes));
        spare.groups.clear();
        spare.decoded.clear();
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::super::decoded::tests::{begin, group, layout};
    use super::*;
    use crate::format::FEATURE_EXTENTS;

    /// All groups come, once and in order, wherever decoding them ahead stops.
    #[test]
    fn groups_are_decoded_or_among_the_others() {
        let layout = layout();
        for most in 0..=10 {
            let mut batch = Batch { position: 4096, decoded: Decoded::of(most), ..Batch::default() };
            for lsn in 0..5 {
                let (header, bytes) = group(&[(lsn, begin(1, lsn)), (lsn + 100, begin(1, lsn))]);
                let position = batch.position + batch.bytes.len() as u64;
                batch.note(GroupHeader { first_lsn: lsn, ..header }, position, bytes.len() as u64, position);
                batch.bytes.extend(bytes);
            }
            batch.decode(Decoder::new(&layout, FEATURE_EXTENTS));
            let decoded: Vec<u64> = batch
                .decoded()
                .map(|(group, changes, read)| {
                    assert_eq!((changes.len(), read.is_ok()), (2, true));
                    let header = changes.first().and_then(|change| change.header);
                    assert_eq!(header.map(|header| header.page), Some(group.header.first_lsn));
                    group.header.first_lsn
                })
                .collect();
            let others: Vec<u64> = batch.others().map(|group| group.header.first_lsn).collect();
            // The last one is always among the others.
            assert_eq!(decoded.len(), (most / 2).min(4));
            assert_eq!([decoded, others].concat(), [0, 1, 2, 3, 4]);
        }
    }
}
