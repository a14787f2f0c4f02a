//! The updates of the groups, put onto the leaves and the caller's blocks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use freehold::device::Device;

use super::bytes::{content_checksum, index, read, u32_at};
use super::flaw::Flaw;
use super::layout::Layout;

const METADATA: u64 = 0;
const DELTA: u64 = 1;
const IMAGE: u64 = 2;

/// The state that groups work on.
pub(super) struct Replay<'a> {
    pub device: &'a dyn Device,
    pub layout: &'a Layout,
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
        let mut last = None;
        for _ in 0..updates {
            let (kind, address) = reader.place(last).ok_or_else(malformed)?;
            last = Some((kind, address));
            let (block, otherwise) = if kind == METADATA {
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
        if reader.rest.is_empty() { Ok(()) } else { Err(malformed()) }
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

/// Reads a payload. Everything is none when the bytes say something that cannot be.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// A LEB128 number in its shortest form.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// Kind and address of an update, which follow those of the one before.
    fn place(&mut self, last: Option<(u64, u64)>) -> Option<(u64, u64)> {
        let kind = self.number()?;
        let difference = self.number()?;
        // The bits above the kind name the device, which is 0.
        if ![METADATA, DELTA, IMAGE].contains(&kind) {
            return None;
        }
        match last {
            Some((before, address)) if before == kind => {
                (difference > 0).then_some((kind, address.checked_add(difference)?))
            }
            Some((before, _)) if before > kind => None,
            _ => Some((kind, difference)),
        }
    }

    /// Patches the block. Says whether it is then what its checksum says.
    fn update(&mut self, block: &mut [u8]) -> Option<bool> {
        let mut at = 0usize;
        for _ in 0..self.number()? {
            at = at.checked_add(index(self.number()?))?;
            let shape = self.number()?;
            let length = index(shape >> 1);
            let end = at.checked_add(length)?;
            let target = block.get_mut(at..end)?;
            if shape & 1 == 1 {
                target.fill(*self.take(1)?.first()?);
            } else {
                target.copy_from_slice(self.take(length)?);
            }
            at = end;
        }
        let checksum = u32_at(self.take(4)?, 0);
        Some(content_checksum(block) == checksum)
    }
}
