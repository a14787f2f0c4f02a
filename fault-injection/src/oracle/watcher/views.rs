//! The disk in two views: what readers see, and what is certainly on the medium.

use std::ops::Range;
use std::sync::Arc;

use freehold::device::Purpose;

/// The bytes of a disk.
#[derive(Clone, Debug)]
pub(super) struct Image(Vec<u8>);

fn index(range: Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

impl Image {
    /// `len` bytes from `offset`; `None` when they pass the end of the disk.
    pub(super) fn get(&self, offset: u64, len: u64) -> Option<&[u8]> {
        self.0.get(index(offset..offset.checked_add(len)?)?)
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Bytes that pass the end of the disk are left out, as the disk does.
    fn put(&mut self, offset: u64, data: &[u8]) {
        let end = (offset + data.len() as u64).min(self.len());
        if let Some(target) = index(offset..end).and_then(|range| self.0.get_mut(range)) {
            let (kept, _) = data.split_at(target.len());
            target.copy_from_slice(kept);
        }
    }

    fn flip(&mut self, offset: u64, mask: &[u8]) {
        let bytes = self.get(offset, mask.len() as u64).unwrap_or_default();
        let flipped: Vec<u8> = bytes.iter().zip(mask).map(|(byte, bits)| byte ^ bits).collect();
        self.put(offset, &flipped);
    }
}

/// A write that no flush has covered.
#[derive(Clone, Debug)]
pub(super) struct Unflushed {
    /// Its place in the trace.
    pub(super) event: usize,
    offset: u64,
    data: Arc<[u8]>,
    pub(super) purpose: Purpose,
}

impl Unflushed {
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.data.len() as u64
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        let own = self.range();
        own.start < range.end && range.start < own.end
    }

    /// The write in pieces of one sector each.
    fn by_sector(&self, sector_bytes: u64) -> impl Iterator<Item = Self> + '_ {
        let Range { start, end } = self.range();
        (start / sector_bytes..end.div_ceil(sector_bytes)).map(move |sector| {
            let from = start.max(sector * sector_bytes);
            let to = end.min((sector + 1) * sector_bytes);
            let data = index(from - start..to - start).and_then(|range| self.data.get(range));
            Self { offset: from, data: data.unwrap_or_default().into(), ..self.clone() }
        })
    }
}

/// Both views, and what lies between them.
#[derive(Clone, Debug)]
pub(super) struct Views {
    /// What readers see.
    pub(super) seen: Image,
    /// What is certainly on the medium.
    pub(super) medium: Image,
    sector_bytes: u64,
    pending: Vec<Unflushed>,
    /// Pieces of sectors that a failed flush has made the system take for clean. Only a later write of the
    /// same sector gets them onto the medium.
    forgotten: Vec<Unflushed>,
}

impl Views {
    pub(super) fn new(base: &[u8], sector_bytes: u32) -> Self {
        let image = Image(base.to_vec());
        Self {
            seen: image.clone(),
            medium: image,
            sector_bytes: u64::from(sector_bytes.max(1)),
            pending: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, event: usize, offset: u64, data: &Arc<[u8]>, purpose: Purpose) {
        self.seen.put(offset, data);
        self.pending.push(Unflushed { event, offset, data: Arc::clone(data), purpose });
    }

    /// A flush that keeps its promise. Gives the ranges that are on the medium now.
    pub(super) fn flush(&mut self) -> Vec<Range<u64>> {
        let pending = std::mem::take(&mut self.pending);
        let sector_bytes = self.sector_bytes;
        let renewed = |piece: &Unflushed| {
            let start = piece.offset / sector_bytes * sector_bytes;
            pending.iter().any(|write| write.touches(&(start..start + sector_bytes)))
        };
        let (with_them, left) = std::mem::take(&mut self.forgotten).into_iter().partition(renewed);
        self.forgotten = left;
        let with_them: Vec<Unflushed> = with_them;
        for write in with_them.iter().chain(&pending) {
            self.medium.put(write.offset, &write.data);
        }
        pending.iter().map(Unflushed::range).collect()
    }

    pub(super) fn fail_flush(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            self.forgotten.extend(write.by_sector(self.sector_bytes));
        }
    }

    pub(super) fn rot(&mut self, offset: u64, mask: &[u8]) {
        self.medium.flip(offset, mask);
        self.seen.flip(offset, mask);
        for write in self.forgotten.iter().chain(&self.pending) {
            self.seen.put(write.offset, &write.data);
        }
    }

    /// The writes for one of these purposes that a flush can still make durable, and has not.
    pub(super) fn pending(&self, purposes: &'static [Purpose]) -> impl Iterator<Item = &Unflushed> {
        self.pending.iter().filter(|write| purposes.contains(&write.purpose))
    }

    /// Whether readers see in this range what is on the medium whatever happens.
    pub(super) fn is_certain(&self, range: &Range<u64>) -> bool {
        !self.pending.iter().chain(&self.forgotten).any(|write| write.touches(range))
    }
}
