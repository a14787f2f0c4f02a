//! An independent reader of a store: it knows `docs/FORMAT.md` and shares no code with the store.
//!
//! [`examine`] reads what counts, applies the journal in memory and counts everything again. A store that crashed is
//! as good as one that was closed. What the two readers both say about a disk was not misread by either of them.

mod bytes;
mod flaw;
mod journal;
mod layout;
mod recount;
mod replay;
mod superblock;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use freehold::device::Device;

pub use flaw::Flaw;

use journal::Ring;
use layout::Layout;
use replay::Replay;
use superblock::{Front, Superblock};

/// What the bytes of a store say, with its journal applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Sizes and places.
    pub shape: PictureShape,
    /// Whether it was closed in order.
    pub closed: bool,
    /// The recovery epoch.
    pub epoch: u64,
    /// Sequence of the superblock copy in force.
    pub sequence: u64,
    /// Number of the last checkpoint.
    pub generation: u64,
    /// Where replay starts.
    pub tail_position: u64,
    /// The last LSN whose effects are in the metadata without the journal.
    pub tail_lsn: u64,
    /// No LSN from here on was ever used when the superblock was written.
    pub next_lsn: u64,
    /// The last LSN whose effects are in the picture.
    pub last_lsn: u64,
    /// The last LSN that something on the device says was durable.
    pub durable_lsn: u64,
    /// A torn tail, which the picture leaves out.
    pub torn: Option<PictureTear>,
    /// The groups that count, in order.
    pub groups: Vec<PictureGroup>,
    /// What is allocated, by offset.
    pub extents: Vec<PictureExtent>,
    /// Bytes of extents and spans, as whole pages, and of items in use.
    pub used_bytes: u64,
    /// Bytes of the other usable pages, and of free items.
    pub free_bytes: u64,
    /// Bytes of regions that can be no item: their heads, and what is left over behind the last item.
    pub overhead_bytes: u64,
    /// A hash of the content of all leaves and of the heads of all regions: equal for stores of one shape that say the same, whatever slots, epochs and
    /// LSNs they have.
    pub logical: u128,
    /// The caller's blocks that are in the journal, by offset, as the journal leaves them.
    pub caller: BTreeMap<u64, Vec<u8>>,
}

/// Sizes and places of a store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureShape {
    /// Length of the store.
    pub device_bytes: u64,
    /// Unit of metadata.
    pub block_bytes: u64,
    /// Unit of allocation.
    pub page_bytes: u64,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Where the journal ring lies.
    pub ring_offset: u64,
    /// Length of the journal ring.
    pub ring_bytes: u64,
    /// Groups start at multiples of this.
    pub granule_bytes: u64,
    /// Where pages begin.
    pub data_offset: u64,
}

/// A group of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureGroup {
    /// Its position in the journal.
    pub position: u64,
    /// Its offset on the device.
    pub offset: u64,
    /// Length of header and payload in bytes.
    pub length: u64,
    /// LSN of its first transaction.
    pub first_lsn: u64,
    /// LSN of its last transaction.
    pub last_lsn: u64,
}

/// Where a torn tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureTear {
    /// Its position in the journal.
    pub position: u64,
    /// Its offset on the device.
    pub offset: u64,
}

/// An allocated extent: a run of pages, a span with its tail, or an item of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PictureExtent {
    /// First byte, from the start of the device.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Which of the extents that ever started here. Of an item, what its handle says.
    pub generation: u32,
    /// The caller's tag; zero for an item without one.
    pub owner: u64,
}

/// Reads a store, applies its journal in memory, and checks all that the format promises. The device is only read.
///
/// # Errors
/// The first flaw that is found.
pub fn examine(device: &dyn Device) -> Result<Picture, Flaw> {
    let front = Front::read(device)?;
    let superblock = &front.superblock;
    let layout = Layout::of(superblock)?;
    let leaves = tree::read_leaves(device, superblock, &layout)?;
    let ring = Ring::read(device, superblock, &layout)?;
    let scan = ring.scan(front.witness()?)?;
    let data_end = layout.usable.end * superblock.page_bytes;
    let has_extents = superblock.has_extents();
    let mut replay =
        Replay { device, layout: &layout, has_extents, data_end, leaves, caller: BTreeMap::new() };
    for group in &scan.groups {
        replay.apply(ring.payload(group), group.updates, ring.position(group.at))?;
    }
    let count = recount::recount(&layout, &replay.leaves, device, &replay.caller)?;
    let groups = scan.groups.iter().map(|group| {
        let position = ring.position(group.at);
        PictureGroup {
            position,
            offset: ring.offset(position),
            length: group.length as u64,
            first_lsn: group.first_lsn,
            last_lsn: group.last_lsn,
        }
    });
    Ok(Picture {
        shape: shape(superblock, &layout),
        closed: superblock.state == 1,
        epoch: superblock.epoch,
        sequence: superblock.sequence,
        generation: superblock.generation,
        tail_position: superblock.tail_position,
        tail_lsn: superblock.tail_lsn,
        next_lsn: superblock.next_lsn,
        last_lsn: scan.last_lsn,
        durable_lsn: scan.durable_lsn,
        torn: scan.torn.map(|position| PictureTear { position, offset: ring.offset(position) }),
        groups: groups.collect(),
        extents: count.extents,
        used_bytes: count.used_bytes,
        free_bytes: layout.usable_bytes() - count.used_bytes - count.overhead_bytes,
        overhead_bytes: count.overhead_bytes,
        logical: count.logical,
        caller: replay.caller,
    })
}

fn shape(superblock: &Superblock, layout: &Layout) -> PictureShape {
    PictureShape {
        device_bytes: superblock.device_bytes,
        block_bytes: superblock.block_bytes,
        page_bytes: superblock.page_bytes,
        segment_bytes: superblock.segment_bytes,
        ring_offset: layout.ring_offset,
        ring_bytes: superblock.ring_bytes,
        granule_bytes: superblock.granule,
        data_offset: layout.data_offset,
    }
}
