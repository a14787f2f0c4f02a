//! What a group makes of extents, with all that can be said of it before the blocks are looked at: the one who reads the
//! journal has time for that, while another one applies the groups before.

use super::append::BitsChange;
use super::batch::GroupView;
use super::extents::bits_of;
use crate::format::{
    ExtentChange, ExtentRecord, FEATURE_EXTENTS, Layout, LeafAddress, PAGE_HEADER_BYTES, PageHeader,
    PayloadError, PayloadPlace, PayloadReader, header_digest,
};

/// Changes that are kept for later, for some groups together. The groups of a window of the ring usually have fewer.
const MOST_AHEAD: usize = 1 << 17;

/// What becomes of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeaderChange {
    /// The page that it is of.
    pub(super) page: u64,
    /// Its block, and where in it.
    pub(super) leaf: LeafAddress,
    pub(super) offset: u32,
    /// Whether it is another one from now on; else nothing begins there any more, and its generation stays.
    begins: bool,
    bytes: [u8; PAGE_HEADER_BYTES],
    /// Of these bytes.
    digest: u64,
}

impl HeaderChange {
    /// Changes it; returns its digest.
    #[inline]
    pub(super) fn apply(&self, header: &mut [u8; PAGE_HEADER_BYTES]) -> u64 {
        if self.begins {
            *header = self.bytes;
            self.digest
        } else {
            PageHeader::end(header);
            header_digest(self.page, header)
        }
    }
}

/// What becomes of a header, or of bits of one block, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) header: Option<HeaderChange>,
    /// The block of the bits; there may be none.
    pub(super) bitmap: LeafAddress,
    pub(super) bits: BitsChange,
}

/// What is wrong with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Payload(PayloadError),
    /// What becomes of extents is not possible in this store.
    Extents(&'static str),
    /// An extent at this page is outside of the segments.
    Outside(u64),
}

impl From<PayloadError> for Unusable {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

/// How a group was read up to the end of its extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtentsRead {
    /// The digest of the blocks of their headers, if there are any.
    pub(super) digest: Option<u64>,
    /// What follows.
    pub(super) rest: PayloadPlace,
}

const TOO_MANY_BITS: &str = "a group changes more bits than twice as many as there are pages";

/// Decodes what groups make of extents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    layout: &'a Layout,
    /// Whether the store has the feature that groups may say that.
    may_have_extents: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(layout: &'a Layout, incompatible: u64) -> Self {
        Self { layout, may_have_extents: incompatible & FEATURE_EXTENTS != 0 }
    }

    /// Calls `each` with the changes of a group, in order.
    #[inline]
    pub(super) fn read<E: From<Unusable> + From<PayloadError>>(
        self,
        group: GroupView<'_>,
        mut each: impl FnMut(&Change) -> Result<(), E>,
    ) -> Result<ExtentsRead, E> {
        let mut reader = PayloadReader::new(group.payload(), group.header.updates);
        // In a group a page is given back at most once and taken at most once, in this order or the other: a region goes with its
        // last item, and comes again with one that was reserved. So there is an end to the bits.
        let mut pages = 2 * self.layout.page_count();
        let digest = reader.extents(|record| self.changes(&record, &mut pages, &mut each))?;
        Ok(ExtentsRead { digest, rest: reader.place() })
    }

    /// What a record changes: a header and bits, and more bits if there are some in another block.
    #[inline]
    fn changes<E: From<Unusable>>(
        self,
        record: &ExtentRecord,
        pages_left: &mut u64,
        each: &mut impl FnMut(&Change) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.may_have_extents {
            return Err(Unusable::Extents("what becomes of extents, in a store without that feature").into());
        }
        let &ExtentRecord { page: number, ref change } = record;
        let (segment, page) = self.layout.page_in_segment(number);
        let fits = page + change.reach() <= self.layout.pages_per_segment();
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < self.layout.segment_count());
        let Some(segment) = segment.filter(|_| fits) else { return Err(Unusable::Outside(number).into()) };
        let mut header = Some(self.header(number, segment, page, change));
        for (bitmap, bits) in bits_of(self.layout, segment, page, change) {
            *pages_left =
                pages_left.checked_sub(u64::from(bits.count)).ok_or(Unusable::Extents(TOO_MANY_BITS))?;
            each(&Change { header: header.take(), bitmap, bits })?;
        }
        if header.is_some() {
            let bits = BitsChange { first: 0, count: 0, set: false };
            each(&Change { header, bitmap: LeafAddress(0), bits })?;
        }
        Ok(())
    }

    #[inline]
    fn header(self, number: u64, segment: u32, page: u32, change: &ExtentChange) -> HeaderChange {
        let (leaf, offset) = self.layout.header_place(segment, page);
        let mut header = HeaderChange {
            page: number,
            leaf,
            offset,
            begins: false,
            bytes: [0; PAGE_HEADER_BYTES],
            digest: 0,
        };
        if let ExtentChange::Begin { header: new } | ExtentChange::Replace { header: new, .. } = change {
            header.begins = true;
            header.bytes = new.encode();
            header.digest = header_digest(number, &header.bytes);
        }
        header
    }
}

/// Groups that were decoded before anybody applies them.
#[derive(Debug)]
pub(super) struct Decoded {
    changes: Vec<Change>,
    /// For each group: where its changes end, and how it was read.
    groups: Vec<(usize, Result<ExtentsRead, Unusable>)>,
    /// The most changes that are kept.
    most: usize,
}

impl Default for Decoded {
    fn default() -> Self {
        Self::of(MOST_AHEAD)
    }
}

/// Why a group is not decoded ahead.
enum Ahead {
    Unusable(Unusable),
    TooMany,
}

impl From<Unusable> for Ahead {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl From<PayloadError> for Ahead {
    fn from(error: PayloadError) -> Self {
        Self::Unusable(error.into())
    }
}

impl Decoded {
    /// Room for so many changes.
    pub(super) fn of(most: usize) -> Self {
        Self { changes: Vec::new(), groups: Vec::new(), most }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.groups.clear();
    }

    /// Decodes the next group, if there is room for its changes; if not, later ones are not to be decoded either.
    pub(super) fn push(&mut self, group: GroupView<'_>, decoder: Decoder<'_>) -> bool {
        let (changes, most) = (&mut self.changes, self.most);
        let before = changes.len();
        let read = decoder.read(group, |change| {
            if changes.len() >= most {
                return Err(Ahead::TooMany);
            }
            changes.push(*change);
            Ok(())
        });
        let read = match read {
            Ok(read) => Ok(read),
            Err(Ahead::Unusable(unusable)) => Err(unusable),
            Err(Ahead::TooMany) => {
                changes.truncate(before);
                return false;
            }
        };
        self.groups.push((changes.len(), read));
        true
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The changes of each group that was decoded, and how it was read.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&[Change], Result<ExtentsRead, Unusable>)> {
        let mut start = 0;
        self.groups.iter().map(move |&(end, read)| {
            let changes = self.changes.get(start..end).unwrap_or(&[]);
            start = end;
            (changes, read)
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use quickcheck::quickcheck;

    use super::*;
    use crate::device::DeviceGeometry;
    use crate::format::{
        ExtentsEncoder, GeometryRequest, GroupHeader, HeaderKind, PayloadEncoder, UpdateKind,
    };
    use crate::media::Medium;

    pub(in super::super) fn layout() -> Layout {
        let device = DeviceGeometry { len_bytes: 8 << 30, sector_bytes: 512, physical_block_bytes: 4096 };
        let (medium, segment_bytes) = (Medium::Nvme, Some(1 << 30));
        Layout::plan(&GeometryRequest {
            device,
            medium,
            page_bytes: None,
            segment_bytes,
            journal_bytes: None,
        })
        .unwrap()
    }

    /// A group with these records and an update of a block behind them.
    pub(in super::super) fn group(records: &[(u64, ExtentChange)]) -> (GroupHeader, Vec<u8>) {
        let (mut extents, mut encoder) = (ExtentsEncoder::default(), PayloadEncoder::default());
        records.iter().for_each(|(page, change)| extents.push(*page, change));
        encoder.push_extents(&extents, 7);
        encoder.push(UpdateKind::Metadata, 3, &[1; 8], &[(2, 4)], 1);
        let (bytes, length, updates) = encoder.finish(512);
        let header = GroupHeader {
            length,
            transactions: 1,
            epoch: 1,
            position: 0,
            first_lsn: 1,
            durable_lsn: 0,
            updates,
        };
        (header, bytes)
    }

    pub(in super::super) fn begin(pages: u32, owner: u64) -> ExtentChange {
        let header = PageHeader { owner, generation: 1, kind: HeaderKind::Extent, pages, slack: 0 };
        ExtentChange::Begin { header }
    }

    type Read = (Vec<Change>, Result<ExtentsRead, Unusable>);

    /// One after the other; and ahead, if that is possible.
    fn both(decoder: Decoder<'_>, header: GroupHeader, bytes: &[u8]) -> (Read, Option<Read>) {
        let group = GroupView { header, bytes, offset: 0 };
        let mut changes = Vec::new();
        let read = decoder.read(group, |change| {
            changes.push(*change);
            Ok(())
        });
        let mut decoded = Decoded::default();
        let ahead = decoded.push(group, decoder).then(|| {
            let (changes, read) = decoded.groups().next().unwrap();
            (changes.to_vec(), read)
        });
        ((changes, read), ahead)
    }

    quickcheck! {
        fn ahead_is_what_one_after_the_other_is(pages: Vec<(u32, u32)>, at: u16, to: u8) -> bool {
            let layout = layout();
            let record = |&(page, pages): &(u32, u32)| {
                let page = u64::from(page) % layout.page_count();
                let pages = 1 + pages % 100_000;
                (page, if pages % 3 == 0 { ExtentChange::End { pages } } else { begin(pages, page) })
            };
            let records: Vec<_> = pages.iter().map(record).collect();
            let (header, mut bytes) = group(&records);
            let good = both(Decoder::new(&layout, FEATURE_EXTENTS), header, &bytes);
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
            let bad = both(Decoder::new(&layout, FEATURE_EXTENTS), header, &bytes);
            good.1 == Some(good.0) && bad.1 == Some(bad.0)
        }
    }

    #[test]
    fn a_run_over_the_end_of_a_bitmap_block_changes_bits_in_both() {
        let layout = layout();
        let first = u64::from(layout.pages_per_segment()) + u64::from(layout.pages_per_bitmap_block()) - 3;
        let (header, bytes) = group(&[(first, begin(10, 9)), (first + 100, ExtentChange::End { pages: 0 })]);
        let ((changes, read), _) = both(Decoder::new(&layout, FEATURE_EXTENTS), header, &bytes);
        assert_eq!(read.unwrap().digest, Some(7));
        let bits: Vec<_> = changes.iter().map(|change| (change.bits.first, change.bits.count)).collect();
        assert_eq!(bits, [(layout.pages_per_bitmap_block() - 3, 3), (0, 7), (0, 0)]);
        assert_eq!(changes[1].bitmap, layout.bitmap_leaf(1, 1));
        let headers: Vec<_> = changes.iter().map(|change| change.header.map(|header| header.page)).collect();
        assert_eq!(headers, [Some(first), None, Some(first + 100)]);
    }

    #[test]
    fn what_cannot_be_in_the_store_is_refused() {
        let layout = layout();
        let refused = |records: &[(u64, ExtentChange)], features| {
            let (header, bytes) = group(records);
            let ((_, read), ahead) = both(Decoder::new(&layout, features), header, &bytes);
            assert_eq!(ahead.unwrap().1, read);
            read.err()
        };
        let all = layout.pages_per_segment();
        assert_eq!(refused(&[(0, begin(all, 1))], FEATURE_EXTENTS), None);
        assert_eq!(refused(&[(1, begin(all, 1))], FEATURE_EXTENTS), Some(Unusable::Outside(1)));
        let beyond = u64::from(layout.segment_count()) * u64::from(all);
        assert_eq!(refused(&[(beyond, begin(1, 1))], FEATURE_EXTENTS), Some(Unusable::Outside(beyond)));
        let without = "what becomes of extents, in a store without that feature";
        assert_eq!(refused(&[(0, begin(1, 1))], 0), Some(Unusable::Extents(without)));
        // All pages given back and taken, and one more.
        let whole: Vec<_> = (0..u64::from(layout.segment_count()))
            .map(|segment| segment * u64::from(all))
            .flat_map(|page| [(page, ExtentChange::End { pages: all }), (page, begin(all, 1))])
            .collect();
        assert_eq!(refused(&whole, FEATURE_EXTENTS), None);
        let more = [&whole[..], &[(5, ExtentChange::End { pages: 1 })]].concat();
        assert_eq!(refused(&more, FEATURE_EXTENTS), Some(Unusable::Extents(TOO_MANY_BITS)));
    }

    #[test]
    fn a_group_that_would_take_much_memory_is_not_decoded_ahead() {
        let layout = layout();
        let records: Vec<_> =
            (0..MOST_AHEAD as u64 + 1).map(|page| (page, ExtentChange::End { pages: 0 })).collect();
        let (header, bytes) = group(&records);
        let ((changes, _), ahead) = both(Decoder::new(&layout, FEATURE_EXTENTS), header, &bytes);
        assert_eq!((changes.len(), ahead), (records.len(), None));
        let (header, bytes) = group(&records[1..]);
        let (_, ahead) = both(Decoder::new(&layout, FEATURE_EXTENTS), header, &bytes);
        assert_eq!(ahead.unwrap().0.len(), MOST_AHEAD);
    }
}
