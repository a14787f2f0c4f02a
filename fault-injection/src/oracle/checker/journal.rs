//! Which groups of the ring count.

use freehold::device::Device;

use super::bytes::{crc_of, index, is_zero, part, read, rest, u32_at, u64_at};
use super::flaw::Flaw;
use super::layout::Layout;
use super::superblock::{Superblock, Witness};

const MAGIC: &[u8; 4] = b"FHGR";
const HEADER: usize = 64;
/// LSNs are below this.
const LSN_END: u64 = 1 << 62;

/// The ring, turned so that it begins at the tail and no group wraps around its end.
pub(super) struct Ring<'a> {
    superblock: &'a Superblock,
    ring_offset: u64,
    bytes: Vec<u8>,
}

/// A group that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Bytes behind the tail.
    pub at: usize,
    /// Length with header, without padding.
    pub length: usize,
    pub padded: usize,
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub durable_lsn: u64,
    pub updates: u32,
}

/// The journal from the tail to its end.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub groups: Vec<Group>,
    pub last_lsn: u64,
    /// The last LSN that something says was durable.
    pub durable_lsn: u64,
    /// Position of a torn tail.
    pub torn: Option<u64>,
}

impl<'a> Ring<'a> {
    pub(super) fn read(
        device: &dyn Device,
        superblock: &'a Superblock,
        layout: &Layout,
    ) -> Result<Self, Flaw> {
        let mut bytes = vec![0; index(superblock.ring_bytes)];
        let start = superblock.tail_position % superblock.ring_bytes;
        let (front, back) = bytes.split_at_mut(index(superblock.ring_bytes - start));
        read(device, layout.ring_offset + start, front)?;
        read(device, layout.ring_offset, back)?;
        Ok(Self { superblock, ring_offset: layout.ring_offset, bytes })
    }

    pub(super) fn position(&self, at: usize) -> u64 {
        self.superblock.tail_position + at as u64
    }

    /// Where a position lies on the device.
    pub(super) fn offset(&self, position: u64) -> u64 {
        self.ring_offset + position % self.superblock.ring_bytes
    }

    pub(super) fn payload(&self, group: &Group) -> &[u8] {
        part(&self.bytes, group.at + HEADER, group.length.saturating_sub(HEADER))
    }

    /// A whole group of this epoch, lap and place.
    fn group_at(&self, at: usize) -> Result<Option<Group>, Flaw> {
        let from = rest(&self.bytes, at);
        let position = self.position(at);
        let length = index(u32_at(from, 8).into());
        let padded = length.next_multiple_of(index(self.superblock.granule));
        if u64_at(from, 16) != self.superblock.epoch
            || u64_at(from, 24) != position
            || padded > from.len()
            || !self.is_sealed(from)
        {
            return Ok(None);
        }
        let (first_lsn, durable_lsn) = (u64_at(from, 32), u64_at(from, 40));
        let Some(more) = u64::from(u32_at(from, 12)).checked_sub(1) else {
            return Err(Flaw::group(position, "it has no transactions"));
        };
        let Some(last_lsn) = first_lsn.checked_add(more) else {
            return Err(Flaw::group(position, "its LSNs are past all numbers"));
        };
        if durable_lsn >= first_lsn {
            return Err(Flaw::group(position, "it was durable before it was written"));
        }
        if !is_zero(part(from, 52, 12)) || !is_zero(part(from, length, padded - length)) {
            return Err(Flaw::group(position, "reserved bytes or padding are not zero"));
        }
        let updates = u32_at(from, 48);
        Ok(Some(Group { at, length, padded, first_lsn, last_lsn, durable_lsn, updates }))
    }

    /// Whether these bytes begin with a group that is whole, of any epoch and lap.
    fn is_sealed(&self, from: &[u8]) -> bool {
        let length = index(u32_at(from, 8).into());
        let padded = length.next_multiple_of(index(self.superblock.granule));
        from.starts_with(MAGIC)
            && length >= HEADER
            && padded <= self.bytes.len() / 2
            && crc_of(&[&self.superblock.store_id, MAGIC, &[0; 4], part(from, 8, padded - 8)])
                == u32_at(from, 4)
    }

    /// Whether a whole group lies here that was written under a later superblock.
    fn is_newer(&self, at: usize) -> bool {
        let from = rest(&self.bytes, at);
        let position = u64_at(from, 24);
        let ring = self.superblock.ring_bytes;
        let in_place = position % ring == self.position(at) % ring;
        let later = position >= self.position(0) + ring || u64_at(from, 16) > self.superblock.sequence + 1;
        // It may lie across the tail, which no group of this lap does.
        in_place && later && self.is_sealed(&[from, part(&self.bytes, 0, at)].concat())
    }

    /// Whether a group begins here, with damage in one field of its header at most. A leftover of an earlier lap differs
    /// in two: its position and its LSN.
    fn begins(&self, at: usize, last_lsn: u64) -> bool {
        let from = rest(&self.bytes, at);
        let agree = [
            from.starts_with(MAGIC),
            u64_at(from, 16) == self.superblock.epoch,
            u64_at(from, 24) == self.position(at),
            u64_at(from, 32) > last_lsn && u64_at(from, 32) < LSN_END,
        ];
        !from.is_empty() && agree.into_iter().filter(|&agrees| agrees).count() >= 3
    }

    fn damaged(&self, at: usize) -> Flaw {
        Flaw::Damaged { what: "group", offset: self.offset(self.position(at)) }
    }

    /// Goes through the journal.
    pub(super) fn scan(&self, witness: Option<Witness>) -> Result<Scan, Flaw> {
        let tail_lsn = self.superblock.tail_lsn;
        let mut scan = Scan { last_lsn: tail_lsn, durable_lsn: tail_lsn, ..Scan::default() };
        let mut end = 0;
        while let Some(group) = self.group_at(end)?.filter(|group| group.first_lsn > scan.last_lsn) {
            if group.durable_lsn > scan.last_lsn {
                return Err(self.damaged(end));
            }
            if !scan.groups.is_empty() && group.durable_lsn < scan.last_lsn {
                return Err(Flaw::group(self.position(end), "two groups were in flight at a time"));
            }
            scan.last_lsn = group.last_lsn;
            scan.durable_lsn = scan.durable_lsn.max(group.durable_lsn);
            scan.groups.push(group);
            end += group.padded;
        }
        let granule = index(self.superblock.granule);
        if let Some(newer) = (end..self.bytes.len()).step_by(granule).find(|&at| self.is_newer(at)) {
            return Err(self.damaged(newer));
        }
        let behind = self.behind(end, &scan)?;
        if behind
            .max(witness.map(|witness| witness.durable_lsn))
            .is_some_and(|durable| durable > scan.last_lsn)
        {
            return Err(self.damaged(end));
        }
        if let Some(witness) = witness {
            self.check_witness(witness, &scan)?;
            scan.durable_lsn = scan.durable_lsn.max(witness.durable_lsn);
        }
        scan.torn = (behind.is_some() || self.begins(end, scan.last_lsn)).then(|| self.position(end));
        Ok(scan)
    }

    /// What the groups behind the end know to be durable; none if there are no groups.
    fn behind(&self, end: usize, scan: &Scan) -> Result<Option<u64>, Flaw> {
        let granule = index(self.superblock.granule);
        let mut durable = None;
        for at in (end..self.bytes.len()).step_by(granule).skip(1) {
            if let Some(group) = self.group_at(at)?
                && group.first_lsn > scan.last_lsn
            {
                durable = durable.max(Some(group.durable_lsn));
            }
        }
        Ok(durable)
    }

    /// A note that names the last LSN of a group also names the end of that group.
    fn check_witness(&self, witness: Witness, scan: &Scan) -> Result<(), Flaw> {
        let noted = scan.groups.iter().find(|group| group.last_lsn == witness.durable_lsn);
        match noted {
            Some(group) if self.position(group.at + group.padded) != witness.position => {
                let what = "it does not end where the witness says";
                Err(Flaw::group(self.position(group.at), what))
            }
            _ => Ok(()),
        }
    }
}
