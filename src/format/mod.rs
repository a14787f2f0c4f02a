//! Floor 3: every on-disk structure, one file each.
//!
//! All integers are little-endian. Each structure states the failure that each field guards against; sizes and offsets
//! are constants that the compiler adds up, and `docs/FORMAT.md` is tied to them by a test.
//!
//! Invariants of this floor: no I/O; no panic on any bytes; reserved bytes are written as zero and refused otherwise.

mod carry;
mod checksum;
mod fields;
mod group;
mod header;
mod layout;
mod reference;
mod region;
mod segment;
mod state;
mod superblock;
mod varint;
mod witness;

pub(crate) use carry::{Aligned, CARRIED_WORD, carried_crc};
pub(crate) use checksum::mixed_checksum;
pub use checksum::{block_checksum, content_checksum};
pub use fields::{Field, StructureLayout, structures};
pub use group::{
    BlockUpdate, ExtentChange, ExtentRecord, ExtentsEncoder, ExtentsUpdate, GROUP_HEADER_BYTES, GroupHeader,
    Patch, Payload, PayloadEncoder, PayloadError, PayloadPlace, PayloadReader, PayloadVisitor, UpdateKind,
    decode_payload, header_digest, headers_digest,
};
pub use header::{HeaderKind, PAGE_HEADER_BYTES, PageHeader, SLACK_UNITS};
pub use layout::{GeometryRequest, Layout, LeafAddress, SlotAddress, TreeLevel};
pub use reference::{BLOCK_REFERENCE_BYTES, BlockReference};
pub use region::{
    ItemClass, ItemMark, MAX_ITEM_BYTES, MIN_ITEM_BYTES, REGION_BYTES, RegionLayout, RegionSummary,
};
pub use segment::{Role, SEGMENT_RECORD_BYTES, SegmentRecord};
pub use state::AllocatorState;
pub use superblock::{COUNTERS_END, StoreState, Superblock, SuperblockError};
pub use varint::{read_varint, varint_len, write_varint};
pub use witness::Witness;

/// The format version that this build writes.
pub const FORMAT_VERSION: u32 = 2;
/// Incompatible feature: groups may have [updates of extents](ExtentsUpdate).
pub const FEATURE_EXTENTS: u64 = 1;
/// The incompatible features that this build knows.
pub const KNOWN_INCOMPATIBLE: u64 = FEATURE_EXTENTS;
/// Superblock copies per store.
pub const SUPERBLOCK_COPIES: usize = 2;
/// Blocks that hold the last durable LSN.
pub const WITNESS_COPIES: usize = 2;
/// Blocks in front of the journal ring: superblock, witness, superblock, witness.
pub const HEAD_BLOCKS: u64 = 4;
/// The smallest metadata block; real ones are also never below a sector or a physical block.
pub const MIN_BLOCK_BYTES: u32 = 4096;
/// The largest metadata block, and so the largest sector that is supported.
pub const MAX_BLOCK_BYTES: u32 = 65536;
/// The smallest page. One page is at least one metadata block, so that a torn block never touches two extents.
pub const MIN_PAGE_BYTES: u32 = 4096;
/// The largest page.
pub const MAX_PAGE_BYTES: u32 = 16 << 20;
/// The largest segment, and so the largest power-of-two extent.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// The most segments: their records are in memory while a store is open.
pub const MAX_SEGMENTS: u32 = 1 << 22;
/// The highest order of a run: 2^18 pages of 4 KiB are 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// The smallest store.
pub const MIN_STORE_BYTES: u64 = 256 << 10;
/// The smallest journal ring.
pub const MIN_JOURNAL_BYTES: u64 = 32 << 10;
/// The largest journal ring.
pub const MAX_JOURNAL_BYTES: u64 = 4 << 30;

/// 128 random bits that name a store. Mixed into every checksum, so that blocks of another store never match.
pub type StoreId = [u8; 16];

/// The store's id in the usual text form.
#[must_use]
pub fn format_store_id(id: &StoreId) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in id.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// An offset in a structure, as an index. Offsets are below 2^16 and known at compile time.
#[expect(clippy::cast_possible_truncation, reason = "offsets in structures are small")]
pub(crate) const fn index(offset: u64) -> usize {
    offset as usize
}

/// A size of a structure, for arithmetic with block sizes.
#[expect(clippy::cast_possible_truncation, reason = "sizes of structures are small")]
pub(crate) const fn narrow(size: usize) -> u32 {
    size as u32
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Equal to itself moved by one byte: a comparison of memory, which is fast in every profile.
    match bytes.split_first() {
        Some((&first, rest)) => first == 0 && bytes.starts_with(rest),
        None => true,
    }
}
