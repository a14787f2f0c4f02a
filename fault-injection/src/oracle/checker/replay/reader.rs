//! Numbers and patches of a payload.

use super::super::bytes::{content_checksum, index, u32_at};
use super::{DELTA, IMAGE, METADATA};

/// Reads a payload. Everything is none when the bytes say something that cannot be.
pub(super) struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// A LEB128 number in its shortest form.
    pub(super) fn number(&mut self) -> Option<u64> {
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

    /// Address of an update of a block, which follows that of the one before.
    pub(super) fn address(&mut self, kind: u64, last: Option<(u64, u64)>) -> Option<u64> {
        let difference = self.number()?;
        // The bits above the kind name the device, which is 0.
        if ![METADATA, DELTA, IMAGE].contains(&kind) {
            return None;
        }
        match last {
            Some((before, address)) if before == kind => {
                if difference > 0 {
                    address.checked_add(difference)
                } else {
                    None
                }
            }
            Some((before, _)) if before > kind => None,
            _ => Some(difference),
        }
    }

    /// Patches the block. Says whether it is then what its checksum says.
    pub(super) fn update(&mut self, block: &mut [u8]) -> Option<bool> {
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
