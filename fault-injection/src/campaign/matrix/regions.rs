//! What each byte in front of the data area of a store is there for.

use std::ops::Range;
use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port};
use freehold::format::{
    GROUP_HEADER_BYTES, Layout, LeafAddress, PAGE_HEADER_BYTES, StructureLayout, read_varint, structures,
};
use freehold::journal::{ChecksumTree, ScannedGroup, SuperblockPair, scan_journal};

use super::sheet::FaultNumber;
use crate::disk::CowDisk;

const JOURNAL: FaultNumber = 16;
const SUPERBLOCK: FaultNumber = 17;
const METADATA: FaultNumber = 18;
const PADDING: FaultNumber = 19;

/// A byte of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The fault that damage to it stands for.
    pub(super) fault: FaultNumber,
    /// Whether it belongs to a header, a length or another field, and gets every value.
    pub(super) is_field: bool,
}

/// The map of a store.
pub(super) struct Regions {
    pub(super) places: Vec<Place>,
    /// Transactions in the last group of the journal.
    pub(super) last_group: usize,
}

impl Regions {
    /// Goes over the store on a disk.
    pub(super) fn of(disk: &Arc<CowDisk>) -> Result<Self, String> {
        let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
        let pair = SuperblockPair::read(&port).map_err(|error| error.to_string())?;
        let superblock = pair.current();
        let layout = &superblock.layout;
        let scan = scan_journal(&port, superblock).map_err(|error| error.to_string())?;
        let end = usize::try_from(layout.data_offset()).unwrap_or(0);
        let last = scan.groups.last().map_or(0, |group| group.header.transactions);
        let mut regions = Self {
            places: vec![Place { fault: PADDING, is_field: false }; end],
            last_group: usize::try_from(last).unwrap_or(0),
        };
        for copy in 0..2 {
            regions.structure("Superblock", layout.superblock_offset(copy), SUPERBLOCK);
            regions.structure("Witness", layout.witness_offset(copy), JOURNAL);
        }
        for group in &scan.groups {
            regions.group(group);
        }
        regions.tree(&port, superblock.store_id, &pair)?;
        Ok(regions)
    }

    fn mark(&mut self, range: Range<u64>, place: Place) {
        let range = usize::try_from(range.start).unwrap_or(0)..usize::try_from(range.end).unwrap_or(0);
        if let Some(places) = self.places.get_mut(range) {
            places.fill(place);
        }
    }

    /// Marks the fields of a structure; what is reserved stays padding.
    fn structure(&mut self, heading: &str, offset: u64, fault: FaultNumber) {
        let all = structures();
        let fields = all.iter().filter(|structure: &&StructureLayout| structure.heading == heading);
        for field in fields.flat_map(|structure| structure.fields) {
            // The state of a segment record is for later roles.
            let spare = field.name == "reserved" || (heading == "Segment record" && field.name == "state");
            if !spare {
                let start = offset + field.offset;
                self.mark(start..start + field.bytes, Place { fault, is_field: true });
            }
        }
    }

    /// A group: its header, the numbers and checksums of its payload, and the bytes that they are about.
    fn group(&mut self, group: &ScannedGroup) {
        let length = u64::from(group.header.length);
        self.mark(group.offset..group.offset + length, Place { fault: JOURNAL, is_field: false });
        let reserved = group.offset..group.offset + GROUP_HEADER_BYTES as u64;
        self.mark(reserved, Place { fault: PADDING, is_field: true });
        self.structure("Journal", group.offset, JOURNAL);
        let payload = group.bytes.get(GROUP_HEADER_BYTES..group.header.length as usize).unwrap_or(&[]);
        let mut rest = payload;
        let field = Place { fault: JOURNAL, is_field: true };
        for _ in 0..group.header.updates {
            let place = |rest: &[u8]| group.offset + (GROUP_HEADER_BYTES + payload.len() - rest.len()) as u64;
            let start = place(rest);
            let [_, _, patches] = [(); 3].map(|()| read_varint(&mut rest).unwrap_or(0));
            self.mark(start..place(rest), field);
            for _ in 0..patches {
                let start = place(rest);
                let [_, length] = [(); 2].map(|()| read_varint(&mut rest).unwrap_or(0));
                self.mark(start..place(rest), field);
                let taken = if length & 1 == 1 { 1 } else { usize::try_from(length >> 1).unwrap_or(0) };
                rest = rest.get(taken..).unwrap_or(&[]);
            }
            let start = place(rest);
            self.mark(start..start + 4, field);
            rest = rest.get(4..).unwrap_or(&[]);
        }
    }

    /// The tree, which has one block above the leaves in stores of this size, and the leaves that it refers to.
    fn tree(&mut self, port: &Port, store: [u8; 16], pair: &SuperblockPair) -> Result<(), String> {
        let superblock = pair.current();
        let layout = &superblock.layout;
        let field = Place { fault: METADATA, is_field: true };
        if superblock.root.is_present() {
            let root = layout.slot(layout.interior().len(), 0, superblock.root.slot()).offset;
            self.mark(root..root + layout.leaf_count() * 8, field);
        }
        let mut tree =
            ChecksumTree::new(Arc::new(layout.clone()), store, superblock.root, superblock.generation);
        for leaf in 0..layout.leaf_count() {
            let found = tree.leaf_offset(port, LeafAddress(leaf)).map_err(|error| error.to_string())?;
            if let Some(offset) = found {
                self.leaf(layout, LeafAddress(leaf), offset);
            }
        }
        Ok(())
    }

    fn leaf(&mut self, layout: &Layout, leaf: LeafAddress, offset: u64) {
        if leaf == layout.state_leaf() {
            self.structure("Allocator state", offset, METADATA);
            return;
        }
        for segment in 0..layout.segment_count() {
            let (table, within) = layout.record_place(segment);
            if table == leaf {
                self.structure("Segment record", offset + u64::from(within), METADATA);
            }
            if layout.bitmap_leaf(segment, 0) == leaf {
                let bytes = u64::from(layout.pages_per_segment().div_ceil(8));
                self.mark(offset..offset + bytes, Place { fault: METADATA, is_field: true });
            }
            if layout.header_leaf(segment, 0) == leaf {
                let pages = u64::from(layout.pages_per_segment());
                for page in 0..pages.min(u64::from(layout.headers_per_block())) {
                    self.structure("Page header", offset + page * PAGE_HEADER_BYTES as u64, METADATA);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Ending, Sample};
    use super::*;

    #[test]
    fn every_kind_of_place_is_there_and_fields_are_where_they_are() {
        let sample = Sample::usual(Ending::Crashed).unwrap();
        let regions = Regions::of(&sample.disk()).unwrap();
        for fault in [JOURNAL, SUPERBLOCK, METADATA, PADDING] {
            let count = regions.places.iter().filter(|place| place.fault == fault).count();
            assert!(count > 100, "F{fault}: {count}");
        }
        let fields =
            |range: Range<usize>| regions.places[range].iter().filter(|place| place.is_field).count();
        assert_eq!(
            (fields(0..4096), fields(4096..8192)),
            (162, 32),
            "168 bytes, 6 of them reserved; the witness"
        );
        assert_eq!(regions.last_group, 1);
        // Outside of what is referred to, a store is padding.
        assert!(regions.places.iter().filter(|place| place.fault == PADDING).count() > 64 << 10);
    }
}
