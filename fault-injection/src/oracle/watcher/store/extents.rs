//! What the records of a group do to leaves.

use std::collections::BTreeMap;

use freehold::format::{ExtentChange, ExtentRecord, ExtentsUpdate, Layout};

use super::Block;

/// A run of bits of a leaf that is set or cleared.
#[derive(Clone, Debug)]
struct Bits {
    leaf: u64,
    first: u32,
    count: u32,
    set: bool,
}

/// A record, and where it takes effect.
#[derive(Clone, Debug)]
struct Effect {
    change: ExtentChange,
    /// The leaf with the header, and the header's place in it.
    leaf: u64,
    offset: usize,
    /// The page of the device that the first header in the leaf is of.
    first_page: u64,
    /// In bitmaps, one after the other.
    bits: Vec<Bits>,
}

impl Effect {
    /// None if the record is about something outside of the segments.
    fn of(layout: &Layout, record: &ExtentRecord) -> Option<Self> {
        let (segment, page) = layout.page_in_segment(record.page);
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < layout.segment_count())?;
        if page + record.change.reach() > layout.pages_per_segment() {
            return None;
        }
        let per_block = layout.pages_per_bitmap_block();
        let mut bits = Vec::new();
        if let Some((pages, set)) = record.change.bits() {
            let (mut at, end) = (page + pages.start, page + pages.end);
            while at < end {
                let leaf = layout.bitmap_leaf(segment, u64::from(at / per_block)).0;
                let count = (per_block - at % per_block).min(end - at);
                bits.push(Bits { leaf, first: at % per_block, count, set });
                at += count;
            }
        }
        let (leaf, offset) = layout.header_place(segment, page);
        let first_page = record.page - u64::from(page % layout.headers_per_block());
        let offset = usize::try_from(offset).ok()?;
        Some(Self { change: record.change, leaf: leaf.0, offset, first_page, bits })
    }

    fn apply(&self, leaf: u64, content: &mut [u8]) {
        let header = content.get_mut(self.offset..).and_then(|rest| rest.first_chunk_mut());
        if let Some(header) = header.filter(|_| leaf == self.leaf) {
            self.change.apply_to_header(header);
        }
        for Bits { first, count, set, .. } in self.bits.iter().filter(|bits| bits.leaf == leaf) {
            for bit in *first..first + count {
                let byte = usize::try_from(bit / 8).ok().and_then(|at| content.get_mut(at));
                let mask = 1 << (bit % 8);
                if let Some(byte) = byte {
                    *byte = if *set { *byte | mask } else { *byte & !mask };
                }
            }
        }
    }
}

/// What a group makes of extents.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents {
    effects: Vec<Effect>,
    /// That of all blocks of headers that it changes, before the group's other updates of them.
    pub(super) digest: u64,
}

impl Extents {
    /// None if a record is about something outside of the segments.
    pub(super) fn of(layout: &Layout, update: Option<&ExtentsUpdate>) -> Option<Self> {
        let Some(ExtentsUpdate { records, digest }) = update else { return Some(Self::default()) };
        let effects: Option<Vec<Effect>> = records.iter().map(|record| Effect::of(layout, record)).collect();
        Some(Self { effects: effects?, digest: *digest })
    }

    /// The blocks that it changes, some more than once.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> {
        let bits = self.effects.iter().flat_map(|effect| &effect.bits).map(|bits| bits.leaf);
        self.effects.iter().map(|effect| effect.leaf).chain(bits).map(Block::Leaf)
    }

    /// Changes a block.
    pub(super) fn apply(&self, block: Block, content: &mut [u8]) {
        if let Block::Leaf(leaf) = block {
            self.effects.iter().for_each(|effect| effect.apply(leaf, content));
        }
    }

    /// The leaves whose headers it changes, and the page that the first header in each is of.
    pub(super) fn headers(&self) -> BTreeMap<Block, u64> {
        self.effects.iter().map(|effect| (Block::Leaf(effect.leaf), effect.first_page)).collect()
    }
}
