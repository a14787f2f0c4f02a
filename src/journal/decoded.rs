//! What a group makes of extents, with all that can be said of it before the blocks are looked at: the one who reads the
//! journal has time for that, while another one applies the groups before.

use super::append::BitsChange;
use super::batch::GroupView;
use super::extents::bits_of;
use crate::format::{
    ExtentChange, ExtentRecord, FEATURE_EXTENTS, Layout, LeafAddress, PAGE_HEADER_BYTES, PageHeader,
    PayloadError, PayloadPlace, PayloadReader, header_digest,
};

/// Changes that are kept for later, for some groups together. The groups of a window of the ring have fewer.
const MOST_AHEAD: usize = 1 << 17;

/// What becomes of a header.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug)]
pub(super) struct ExtentsRead {
    /// The digest of the blocks of their headers, if there are any.
    pub(super) digest: Option<u64>,
    /// What follows.
    pub(super) rest: PayloadPlace,
}

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
        // Each page changes once in a group, so there is an end to the bits.
        let mut pages = self.layout.page_count();
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
            *pages_left = pages_left
                .checked_sub(u64::from(bits.count))
                .ok_or(Unusable::Extents("a group changes more bits than there are pages"))?;
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
#[derive(Debug, Default)]
pub(super) struct Decoded {
    changes: Vec<Change>,
    /// For each group: where its changes end, and how it was read.
    groups: Vec<(usize, Result<ExtentsRead, Unusable>)>,
}

impl Decoded {
    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.groups.clear();
    }

    /// Decodes the next group, if that takes no more memory than it may; if not, later ones are not decoded either.
    pub(super) fn push(&mut self, group: GroupView<'_>, decoder: Decoder<'_>) -> bool {
        // A record has two bytes at least; its bits are seldom in two blocks.
        let most = self.changes.len() + group.payload().len() / 2;
        if most > MOST_AHEAD {
            return false;
        }
        let changes = &mut self.changes;
        let read = decoder.read(group, |change| {
            changes.push(*change);
            Ok(())
        });
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
