//! Writes that no flush has covered yet, sector by sector.

use std::sync::Arc;

use freehold::device::Purpose;

use super::to_usize;
use super::trace::zeroed_sectors;

#[derive(Clone, Debug)]
enum Data {
    Bytes(Arc<[u8]>),
    /// A discard; the sectors that it turned into zeros carry it as a version.
    Zeros(u64),
}

/// A write, or a discard, that may or may not be on the medium.
#[derive(Clone, Debug)]
pub struct PendingWrite {
    event: usize,
    offset: u64,
    data: Data,
    purpose: Option<Purpose>,
    clean: bool,
}

impl PendingWrite {
    /// Its position in the trace.
    #[must_use]
    pub const fn event(&self) -> usize {
        self.event
    }

    /// Where it begins, in bytes from the start of the disk.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.data {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Zeros(len) => *len,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it was for; none for a discard.
    #[must_use]
    pub const fn purpose(&self) -> Option<Purpose> {
        self.purpose
    }

    /// Whether it goes where recovery does not look: into the caller's pages, or into blocks that nothing refers to yet.
    #[must_use]
    pub(super) const fn is_aside(&self) -> bool {
        use Purpose::{CallerCheckpoint, CallerDirect, ChecksumTree, Metadata};
        matches!(self.purpose, Some(CallerCheckpoint | CallerDirect | ChecksumTree | Metadata))
    }

    /// Whether a failed flush has made the system forget it: no later flush makes it durable.
    #[must_use]
    pub const fn is_forgotten(&self) -> bool {
        self.clean
    }
}

/// A sector with its pending versions: numbers of writes, ascending.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) sector: u64,
    pub(super) versions: Vec<usize>,
}

/// All pending writes and the sectors that they touch, ordered by sector.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    sector_bytes: u64,
    zeros: Arc<[u8]>,
    writes: Vec<PendingWrite>,
    units: Vec<Unit>,
}

impl Pending {
    pub(super) fn new(sector_bytes: u32) -> Self {
        let sector_bytes = u64::from(sector_bytes.max(1));
        let zeros = vec![0; to_usize(sector_bytes)].into();
        Self { sector_bytes, zeros, writes: Vec::new(), units: Vec::new() }
    }

    pub(super) const fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    pub(super) fn writes(&self) -> &[PendingWrite] {
        &self.writes
    }

    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    pub(super) fn unit_of(&self, sector: u64) -> Option<&Unit> {
        let at = self.units.binary_search_by_key(&sector, |unit| unit.sector).ok()?;
        self.units.get(at)
    }

    pub(super) fn clear(&mut self) {
        self.writes.clear();
        self.units.clear();
    }

    fn touch(&mut self, sectors: impl Iterator<Item = u64>) {
        let number = self.writes.len();
        // Most writes are sequential, so the place after the last one found is tried first.
        let mut hint = usize::MAX;
        for sector in sectors {
            let found = match self.units.get(hint).map(|unit| unit.sector.cmp(&sector)) {
                Some(std::cmp::Ordering::Equal) => Ok(hint),
                _ => self.units.binary_search_by_key(&sector, |unit| unit.sector),
            };
            let at = match found {
                Ok(at) => at,
                Err(at) => {
                    self.units.insert(at, Unit { sector, versions: Vec::with_capacity(1) });
                    at
                }
            };
            if let Some(unit) = self.units.get_mut(at) {
                unit.versions.push(number);
            }
            hint = at + 1;
        }
    }

    pub(super) fn write(&mut self, event: usize, offset: u64, data: &Arc<[u8]>, purpose: Purpose) {
        let end = offset + data.len() as u64;
        self.touch(offset / self.sector_bytes..end.div_ceil(self.sector_bytes));
        let data = Data::Bytes(Arc::clone(data));
        self.writes.push(PendingWrite { event, offset, data, purpose: Some(purpose), clean: false });
    }

    pub(super) fn discard(&mut self, event: usize, offset: u64, len: u64, salt: u64) {
        self.touch(zeroed_sectors(offset, len, salt, self.sector_bytes));
        let data = Data::Zeros(len);
        self.writes.push(PendingWrite { event, offset, data, purpose: None, clean: false });
    }

    /// The bytes that a write puts into a sector, and where.
    pub(super) fn piece(&self, write: usize, sector: u64) -> (u64, &[u8]) {
        let start = sector * self.sector_bytes;
        match self.writes.get(write).map(|write| (write.offset, &write.data)) {
            None => (start, &[]),
            Some((_, Data::Zeros(_))) => (start, &self.zeros),
            Some((offset, Data::Bytes(bytes))) => {
                let from = start.max(offset);
                let to = (start + self.sector_bytes).min(offset + bytes.len() as u64);
                let range = to_usize(from - offset)..to_usize(to.saturating_sub(offset));
                (from, bytes.get(range).unwrap_or_default())
            }
        }
    }

    /// Writes the first `count` versions of a sector, leaving out those that a later one hides.
    pub(super) fn put(&self, unit: &Unit, count: usize, sink: &mut impl FnMut(u64, &[u8])) {
        let kept = unit.versions.get(..count).unwrap_or(&unit.versions);
        let whole = |&write: &usize| self.piece(write, unit.sector).1.len() as u64 == self.sector_bytes;
        let first = kept.iter().rposition(whole).unwrap_or(0);
        for &write in kept.iter().skip(first) {
            let (offset, bytes) = self.piece(write, unit.sector);
            sink(offset, bytes);
        }
    }

    /// A flush that works: every sector written since the last failed flush is written back as a whole. A sector
    /// whose last writes were forgotten by a failed flush stays as uncertain as it was.
    pub(super) fn flush(&mut self, sink: &mut impl FnMut(u64, &[u8])) {
        let forgotten = |unit: &Unit| {
            let last = unit.versions.last().and_then(|&write| self.writes.get(write));
            last.is_some_and(PendingWrite::is_forgotten)
        };
        for unit in self.units.iter().filter(|unit| !forgotten(unit)) {
            self.put(unit, unit.versions.len(), sink);
        }
        if !self.writes.iter().any(PendingWrite::is_forgotten) {
            self.clear();
            return;
        }
        let keep: Vec<bool> = self.units.iter().map(forgotten).collect();
        let mut keep = keep.into_iter();
        self.units.retain(|_| keep.next().unwrap_or(false));
        self.compact();
    }

    /// Drops writes that no sector refers to any more.
    fn compact(&mut self) {
        let mut used = vec![false; self.writes.len()];
        for &write in self.units.iter().flat_map(|unit| &unit.versions) {
            if let Some(flag) = used.get_mut(write) {
                *flag = true;
            }
        }
        let mut next = 0;
        let places: Vec<usize> = used
            .iter()
            .map(|&used| {
                next += usize::from(used);
                next.saturating_sub(1)
            })
            .collect();
        for write in self.units.iter_mut().flat_map(|unit| &mut unit.versions) {
            *write = places.get(*write).copied().unwrap_or(0);
        }
        let mut used = used.into_iter();
        self.writes.retain(|_| used.next().unwrap_or(false));
    }

    /// A flush that fails: what it should have written is taken for clean.
    pub(super) fn fail_flush(&mut self) {
        for write in &mut self.writes {
            write.clean = true;
        }
    }

    /// Whether a byte of the disk has a pending version.
    pub(super) fn covers(&self, offset: u64) -> bool {
        self.unit_of(offset / self.sector_bytes).is_some_and(|unit| {
            unit.versions.iter().any(|&write| {
                let (start, bytes) = self.piece(write, unit.sector);
                (start..start + bytes.len() as u64).contains(&offset)
            })
        })
    }
}
