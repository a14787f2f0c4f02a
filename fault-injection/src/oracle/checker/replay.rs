//! The updates of the groups, put onto the leaves and the caller's blocks.

mod bits;
mod extents;
mod reader;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use freehold::device::Device;

use self::extents::Extents;
use self::reader::Reader;
use super::bytes::{index, read};
use super::flaw::Flaw;
use super::layout::Layout;

const METADATA: u64 = 0;
const DELTA: u64 = 1;
const IMAGE: u64 = 2;
const EXTENTS: u64 = 3;

/// The state that groups work on.
pub(super) struct Replay<'a> {
    pub device: &'a dyn Device,
    pub layout: &'a Layout,
    /// Whether groups may have updates of extents.
    pub has_extents: bool,
    /// The end of the last whole page.
    pub data_end: u64,
    /// All leaves, one after the other.
    pub leaves: Vec<u8>,
    /// The caller's blocks, by offset.
    pub caller: BTreeMap<u64, Vec<u8>>,
}

impl Replay<'_> {
    /// Applies the payload of the group at this position.
    pub(super) fn apply(&mut self, payload: &[u8], updates: u32, position: u64) -> Result<(), Flaw> {
        let malformed = || Flaw::group(position, "its payload is not a sequence of updates");
        let mut reader = Reader { rest: payload };
        let mut unsealed = BTreeSet::new();
        let mut last = None;
        for number in 0..updates {
            let kind = reader.number().ok_or_else(malformed)?;
            if kind == EXTENTS && number == 0 && self.has_extents {
                let extents = Extents::read(&mut reader).ok_or_else(malformed)?;
                unsealed = self.extents(&extents, position)?;
                if extents.digest != self.digest(&extents) {
                    let what = "page headers are not what the journal makes of them";
                    return Err(Flaw::group(position, what));
                }
                continue;
            }
            let address = reader.address(kind, last).ok_or_else(malformed)?;
            last = Some((kind, address));
            let (block, otherwise) = if kind == METADATA {
                unsealed.remove(&address);
                let what = "it is not what the journal makes of it";
                let otherwise = Flaw::Inconsistent { structure: "leaf", number: address, what };
                (self.leaf(address, position)?, otherwise)
            } else {
                let offset = address.saturating_mul(self.layout.block as u64);
                let otherwise = Flaw::Damaged { what: "block of the caller", offset };
                (self.caller_block(kind, offset, position)?, otherwise)
            };
            if !reader.update(block).ok_or_else(malformed)? {
                return Err(otherwise);
            }
        }
        if !reader.rest.is_empty() {
            return Err(malformed());
        }
        if !unsealed.is_empty() {
            return Err(Flaw::group(position, "it changes bits, but does not say what their leaf is then"));
        }
        Ok(())
    }

    fn leaf(&mut self, number: u64, position: u64) -> Result<&mut [u8], Flaw> {
        let start = index(number).saturating_mul(self.layout.block);
        let leaf = self.leaves.get_mut(start..start.saturating_add(self.layout.block));
        leaf.ok_or_else(|| Flaw::group(position, "it changes a leaf that there is not"))
    }

    /// The block that a delta or an image starts from.
    fn caller_block(&mut self, kind: u64, offset: u64, position: u64) -> Result<&mut [u8], Flaw> {
        if offset < self.layout.data_offset || offset >= self.data_end {
            return Err(Flaw::group(position, "it changes a block outside of the pages"));
        }
        match self.caller.entry(offset) {
            Entry::Occupied(known) => {
                let block = known.into_mut();
                if kind == IMAGE {
                    block.fill(0);
                }
                Ok(block)
            }
            Entry::Vacant(missing) => {
                let mut block = vec![0; self.layout.block];
                if kind == DELTA {
                    read(self.device, offset, &mut block)?;
                }
                Ok(missing.insert(block))
            }
        }
    }
}
