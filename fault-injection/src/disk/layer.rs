//! A small set of changed chunks over a shared, immutable image.

#![expect(
    clippy::indexing_slicing,
    reason = "callers check ranges against the length of the disk; chunk numbers and slots are made here from them"
)]

use std::ops::Range;
use std::sync::Arc;

use super::hash::chunk_hash;
use super::to_usize;

/// A shared image with the hashes of its chunks, computed once.
#[derive(Clone)]
pub struct CowBase {
    bytes: Arc<[u8]>,
    chunk_bytes: usize,
    hashes: Arc<[u128]>,
    total: u128,
}

impl std::fmt::Debug for CowBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CowBase").field("len", &self.bytes.len()).field("hash", &self.total).finish()
    }
}

impl CowBase {
    /// Takes an image, which later changes copy in chunks of `chunk_bytes` (at least 1; usually the sector size).
    /// Hashes can be compared between images of one chunk size only.
    #[must_use]
    pub fn new(bytes: Arc<[u8]>, chunk_bytes: u32) -> Self {
        let chunk_bytes = to_usize(u64::from(chunk_bytes.max(1)));
        let hashes: Arc<[u128]> =
            bytes.chunks(chunk_bytes).zip(0..).map(|(chunk, number)| chunk_hash(number, chunk)).collect();
        let total = hashes.iter().fold(0, |sum: u128, hash| sum.wrapping_add(*hash));
        Self { bytes, chunk_bytes, hashes, total }
    }

    /// The image.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the image has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The content hash: equal for equal images.
    #[must_use]
    pub const fn hash(&self) -> u128 {
        self.total
    }

    fn chunk_range(&self, chunk: usize) -> Range<usize> {
        let start = chunk * self.chunk_bytes;
        start..(start + self.chunk_bytes).min(self.bytes.len())
    }
}

/// Changed chunks over a [`CowBase`]. Reset through the list of changed chunks, so its cost follows what was touched
/// and not the size of the image; its memory is kept.
#[derive(Debug)]
pub(super) struct Layer {
    base: Arc<CowBase>,
    /// For each chunk its slot plus one, or 0 for the base's.
    index: Vec<u32>,
    /// For each slot its chunk.
    chunks: Vec<usize>,
    /// For each slot its bytes.
    arena: Vec<u8>,
    /// For each slot its hash, once computed.
    hashes: Vec<Option<u128>>,
}

impl Layer {
    pub(super) fn new(base: Arc<CowBase>) -> Self {
        let index = vec![0; base.hashes.len()];
        Self { base, index, chunks: Vec::new(), arena: Vec::new(), hashes: Vec::new() }
    }

    pub(super) const fn base(&self) -> &Arc<CowBase> {
        &self.base
    }

    /// Forgets all changes.
    pub(super) fn clear(&mut self) {
        for &chunk in &self.chunks {
            self.index[chunk] = 0;
        }
        self.chunks.clear();
        self.arena.clear();
        self.hashes.clear();
    }

    /// Forgets all changes and goes over to another image.
    pub(super) fn rebase(&mut self, base: &Arc<CowBase>) {
        self.clear();
        if !Arc::ptr_eq(&self.base, base) {
            self.base = Arc::clone(base);
            self.index.resize(self.base.hashes.len(), 0);
        }
    }

    fn slot_range(&self, slot: usize, within: usize, len: usize) -> Range<usize> {
        let start = slot * self.base.chunk_bytes + within;
        start..start + len
    }

    /// Size of a chunk in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.base.chunk_bytes
    }

    /// The hash of a chunk as it is now.
    pub(super) fn hash_of(&mut self, chunk: usize) -> u128 {
        let Some(slot) = (self.index[chunk] as usize).checked_sub(1) else { return self.base.hashes[chunk] };
        if let Some(hash) = self.hashes[slot] {
            return hash;
        }
        let bytes = &self.arena[self.slot_range(slot, 0, self.base.chunk_range(chunk).len())];
        let hash = chunk_hash(chunk as u64, bytes);
        self.hashes[slot] = Some(hash);
        hash
    }

    /// Number of chunks that were written.
    pub(super) const fn changed_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The range must lie within the disk.
    pub(super) fn read(&self, range: Range<usize>, buf: &mut [u8]) {
        let Range { start, end } = range;
        buf.copy_from_slice(&self.base.bytes[start..end]);
        if self.chunks.is_empty() || start == end {
            return;
        }
        let size = self.base.chunk_bytes;
        for chunk in start / size..=(end - 1) / size {
            let slot = self.index[chunk];
            if slot == 0 {
                continue;
            }
            let from = start.max(chunk * size);
            let to = end.min((chunk + 1) * size);
            let source = self.slot_range(slot as usize - 1, from - chunk * size, to - from);
            buf[from - start..to - start].copy_from_slice(&self.arena[source]);
        }
    }

    /// The range that starts here must lie within the disk.
    pub(super) fn write(&mut self, mut at: usize, mut data: &[u8]) {
        let size = self.base.chunk_bytes;
        while !data.is_empty() {
            let chunk = at / size;
            let within = at % size;
            let (piece, rest) = data.split_at(data.len().min(size - within));
            let slot = match self.index[chunk] {
                0 => self.add(chunk),
                slot => slot as usize - 1,
            };
            let range = self.slot_range(slot, within, piece.len());
            self.arena[range].copy_from_slice(piece);
            self.hashes[slot] = None;
            at += piece.len();
            data = rest;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an image has far fewer than 2^32 chunks")]
    fn add(&mut self, chunk: usize) -> usize {
        let slot = self.chunks.len();
        self.chunks.push(chunk);
        self.hashes.push(None);
        self.arena.extend_from_slice(&self.base.bytes[self.base.chunk_range(chunk)]);
        // The last chunk of an image may be short; its slot is not.
        self.arena.resize((slot + 1) * self.base.chunk_bytes, 0);
        self.index[chunk] = slot as u32 + 1;
        slot
    }

    fn slots(&self) -> impl Iterator<Item = (usize, Range<usize>, &[u8])> {
        self.chunks.iter().enumerate().map(|(slot, &chunk)| {
            let range = self.base.chunk_range(chunk);
            (chunk, range.clone(), &self.arena[self.slot_range(slot, 0, range.len())])
        })
    }

    fn refresh_hashes(&mut self) {
        for slot in 0..self.chunks.len() {
            if self.hashes[slot].is_none() {
                let chunk = self.chunks[slot];
                let bytes = &self.arena[self.slot_range(slot, 0, self.base.chunk_range(chunk).len())];
                self.hashes[slot] = Some(chunk_hash(chunk as u64, bytes));
            }
        }
    }

    /// The content hash. Costs what was written since it was last asked for.
    pub(super) fn hash(&mut self) -> u128 {
        self.refresh_hashes();
        let changes = self.chunks.iter().zip(&self.hashes);
        changes.fold(self.base.total, |sum, (&chunk, hash)| {
            sum.wrapping_sub(self.base.hashes[chunk]).wrapping_add(hash.unwrap_or_default())
        })
    }

    /// The content as a new image.
    pub(super) fn image(&self) -> Arc<[u8]> {
        let mut bytes = Arc::clone(&self.base.bytes);
        if !self.chunks.is_empty() {
            let target = Arc::make_mut(&mut bytes);
            for (_, range, changed) in self.slots() {
                target[range].copy_from_slice(changed);
            }
        }
        bytes
    }

    /// The content as a new base; only what changed is hashed.
    pub(super) fn freeze(&mut self) -> Arc<CowBase> {
        if self.chunks.is_empty() {
            return Arc::clone(&self.base);
        }
        let total = self.hash();
        let mut hashes = Arc::clone(&self.base.hashes);
        let target = Arc::make_mut(&mut hashes);
        for (&chunk, hash) in self.chunks.iter().zip(&self.hashes) {
            target[chunk] = hash.unwrap_or_default();
        }
        Arc::new(CowBase { bytes: self.image(), chunk_bytes: self.base.chunk_bytes, hashes, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn agrees_with_a_plain_vector() {
        let mut rng = Rng::new(5);
        let mut model = vec![0u8; 5000];
        rng.bytes(&mut model);
        let mut layer = Layer::new(Arc::new(CowBase::new(Arc::from(&model[..]), 512)));
        let original = model.clone();
        for _ in 0..500 {
            let start = rng.index(5000);
            let end = start + rng.index(5001 - start);
            if rng.chance(0.5) {
                let mut data = vec![0; end - start];
                rng.bytes(&mut data);
                model[start..end].copy_from_slice(&data);
                layer.write(start, &data);
            } else {
                let mut buf = vec![0; end - start];
                layer.read(start..end, &mut buf);
                assert_eq!(buf, model[start..end]);
            }
            assert_eq!(layer.hash(), CowBase::new(Arc::from(&model[..]), 512).hash());
        }
        assert_eq!(*layer.image(), model[..]);
        let frozen = layer.freeze();
        assert_eq!(**frozen.bytes(), model[..]);
        assert_eq!(frozen.hash(), layer.hash());
        assert_eq!(*frozen.hashes, *CowBase::new(Arc::from(&model[..]), 512).hashes);
        layer.clear();
        assert_eq!(*layer.image(), original[..]);
        assert_eq!(layer.changed_chunks(), 0);
    }

    #[test]
    fn rebase_follows_the_length() {
        let mut layer = Layer::new(Arc::new(CowBase::new(Arc::from([1; 2048]), 512)));
        layer.write(2000, &[9; 48]);
        layer.rebase(&Arc::new(CowBase::new(Arc::from([2; 700]), 512)));
        layer.write(690, &[7; 10]);
        let image = layer.image();
        assert_eq!(image.len(), 700);
        assert_eq!((image[689], image[690], image[699]), (2, 7, 7));
        layer.rebase(&Arc::new(CowBase::new(Arc::from([3; 4096]), 512)));
        let mut buf = [0; 4096];
        layer.read(0..4096, &mut buf);
        assert_eq!(buf, [3; 4096]);
    }
}
