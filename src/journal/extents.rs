//! What a group makes of extents: headers change in the overlay, and the bits of their pages; the group gets a record of each.

use std::sync::Arc;

use super::append::{Appender, BitsChange};
use super::overlay::BlockId;
use crate::format::{ExtentChange, ExtentsEncoder, Layout, LeafAddress, header_digest, headers_digest};

/// What becomes of an extent.
#[derive(Clone, Copy, Debug)]
pub struct ExtentUpdate {
    /// Number of the segment.
    pub segment: u32,
    /// The page that the header is of, counted in the segment.
    pub page: u32,
    /// What changes.
    pub change: ExtentChange,
}

/// The records of a group that is being made.
#[derive(Debug, Default)]
pub(super) struct ExtentsMade {
    pub(super) records: ExtentsEncoder,
    /// The digests of the blocks whose headers changed, as they are now.
    pub(super) digest: u64,
}

impl ExtentsMade {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.digest = 0;
    }
}

/// The parts of a change of bits that lie in one bitmap block each.
#[inline]
pub(super) fn bits_of<'l>(
    layout: &'l Layout,
    segment: u32,
    page: u32,
    change: &ExtentChange,
) -> impl Iterator<Item = (LeafAddress, BitsChange)> + use<'l> {
    let per_block = layout.pages_per_bitmap_block();
    let (pages, set) = change.bits().unwrap_or((0..0, false));
    let (mut first, end) = (page + pages.start, page + pages.end);
    std::iter::from_fn(move || {
        if first >= end {
            return None;
        }
        // A power of two.
        let within = first & (per_block - 1);
        let count = (per_block - within).min(end - first);
        let leaf = layout.bitmap_leaf(segment, u64::from(first >> per_block.trailing_zeros()));
        first += count;
        Some((leaf, BitsChange { first: within, count, set }))
    })
}

impl Appender<'_> {
    /// Changes headers, and the bits of their pages. Where a group changes bytes of the same blocks of headers, too, it does that
    /// after all of these.
    pub fn extents(&mut self, updates: &[ExtentUpdate]) {
        let layout = &self.journal.layout;
        let mut bits = std::mem::take(&mut self.changes.bits);
        for &ExtentUpdate { segment, page, ref change } in updates {
            self.header(segment, page, change);
            bits.extend(bits_of(layout, segment, page, change));
        }
        // Many are in few blocks. Those of one block stay in order.
        bits.sort_by_key(|(leaf, _)| *leaf);
        for bits in bits.chunk_by(|(leaf, _), (next, _)| leaf == next) {
            if let Some((leaf, _)) = bits.first() {
                self.many_bits(*leaf, bits.iter().map(|(_, change)| *change));
            }
        }
        bits.clear();
        self.changes.bits = bits;
    }

    fn header(&mut self, segment: u32, page: u32, change: &ExtentChange) {
        let (journal, lsn) = (self.journal, self.last_lsn);
        let changes = &mut *self.changes;
        let number = journal.layout.device_page(segment, page);
        let (leaf, offset) = journal.layout.header_place(segment, page);
        let id = BlockId::Metadata(leaf.0);
        let changed = journal.overlay.change(id, |block| {
            // What follows from the content is the digest, and no checksum until the block is written in place.
            block.crc.forget();
            let content = Arc::make_mut(&mut block.content);
            let mut digest = block.digest.unwrap_or_else(|| {
                let first = number - u64::from(page % journal.layout.headers_per_block());
                headers_digest(first, content)
            });
            if block.touch.begin_extents(changes.group) {
                changes.extents.digest ^= digest;
            }
            if let Some(header) = content.get_mut(offset as usize..).and_then(|rest| rest.first_chunk_mut()) {
                let before = header_digest(number, header);
                change.apply_to_header(header);
                let difference = before ^ header_digest(number, header);
                changes.extents.digest ^= difference;
                digest ^= difference;
            }
            block.digest = Some(digest);
            changes.note_dirty(id, block, lsn);
        });
        changes.extents.records.push(number, change);
        if changed.is_none() {
            changes.note_missing();
        }
    }
}
