//! Writing the payload of a group.

use super::super::{is_zero, write_varint};
use super::extents::ExtentsEncoder;
use super::{GROUP_HEADER_BYTES, MIN_FILL, Patch, UpdateKind};

/// A run of zeros of this length ends a patch of an image.
const MIN_ZERO_GAP: usize = 8;
/// A byte that is repeated so often gets a patch of its own: three bytes, and a second patch behind it takes up to four more.
const MIN_SPLIT: usize = 7;

/// Writes the payload of a group. Updates must come in order: extents, then blocks by kind and address.
#[derive(Debug)]
pub struct PayloadEncoder {
    bytes: Vec<u8>,
    previous: Option<(UpdateKind, u64)>,
    updates: u32,
}

/// What a group of one or some transactions takes, with its padding.
const USUAL_BYTES: usize = 4096;

impl Default for PayloadEncoder {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.resize(GROUP_HEADER_BYTES, 0);
        Self { bytes, previous: None, updates: 0 }
    }
}

impl PayloadEncoder {
    /// The most bytes that an update with `patches` patches of `changed` bytes in all can take.
    #[must_use]
    pub const fn update_bound(patches: usize, changed: usize) -> usize {
        // Kind, address, count, checksum; then gap and length of each patch. Splitting at fills and at gaps of zeros
        // saves at least what it adds.
        1 + 10 + 3 + 4 + patches * 6 + changed
    }

    /// The most bytes that what becomes of extents can take, beside its records.
    pub const EXTENTS_BOUND: usize = 1 + 10 + 8;
    /// The most bytes that a record can take.
    pub const EXTENT_BOUND: usize = 10 + 4 + 3 + 2 + 5 + 10;

    /// Adds what becomes of extents, if anything does. The digest is that of the blocks of their headers after the group.
    pub fn push_extents(&mut self, extents: &ExtentsEncoder, digest: u64) {
        debug_assert!(self.is_empty(), "extents come first");
        if !extents.is_empty() {
            self.updates = self.updates.saturating_add(1);
            extents.write(&mut self.bytes, digest);
        }
    }

    /// Adds an update of a block. `ranges` are sorted, disjoint and inside `block`.
    pub fn push(
        &mut self,
        kind: UpdateKind,
        address: u64,
        block: &[u8],
        ranges: &[(u32, u32)],
        checksum_after: u32,
    ) {
        let base = match self.previous {
            Some((previous_kind, previous)) if previous_kind == kind => previous,
            _ => 0,
        };
        self.previous = Some((kind, address));
        self.updates = self.updates.saturating_add(1);
        // Device 0: the only one so far.
        write_varint(&mut self.bytes, kind.code());
        write_varint(&mut self.bytes, address.wrapping_sub(base));

        if kind == UpdateKind::CallerImage {
            self.push_patches(image_patches(block).into_iter());
        } else {
            let patches = ranges.iter().filter_map(|&(start, end)| {
                let (start, end) = (start as usize, end as usize);
                block.get(start..end).map(|bytes| pieces(start, bytes))
            });
            self.push_patches(patches.flatten());
        }
        self.bytes.extend_from_slice(&checksum_after.to_le_bytes());
    }

    fn push_patches<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>> + Clone) {
        write_varint(&mut self.bytes, patches.clone().count() as u64);
        let mut end = 0;
        for patch in patches {
            match patch {
                Patch::Bytes { offset, bytes } => {
                    write_varint(&mut self.bytes, (offset - end) as u64);
                    write_varint(&mut self.bytes, (bytes.len() as u64) << 1);
                    self.bytes.extend_from_slice(bytes);
                    end = offset + bytes.len();
                }
                Patch::Fill { offset, len, byte } => {
                    write_varint(&mut self.bytes, (offset - end) as u64);
                    write_varint(&mut self.bytes, (len as u64) << 1 | 1);
                    self.bytes.push(byte);
                    end = offset + len;
                }
            }
        }
    }

    /// Bytes so far, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no update was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.updates == 0
    }

    /// The group with room for its header in front and zeros up to the granule, its length without padding, and the
    /// number of updates.
    #[must_use]
    pub fn finish(mut self, granule: u32) -> (Vec<u8>, u32, u32) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let padded = self.bytes.len().next_multiple_of(granule as usize);
        self.bytes.resize(padded, 0);
        (self.bytes, length, self.updates)
    }
}

/// The patches for bytes that changed: where one of them is repeated for long, it has a patch of its own. That is for bits; in an
/// image of what a caller wrote it would be chance.
fn pieces(offset: usize, bytes: &[u8]) -> impl Iterator<Item = Patch<'_>> + Clone {
    let (mut offset, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let (len, run) = long_run(rest)?;
        let (piece, after) = rest.split_at_checked(if len > 0 { len } else { run })?;
        let piece = patch(offset, piece);
        offset += rest.len() - after.len();
        rest = after;
        Some(piece)
    })
}

/// How many bytes are in front of the first that is repeated for long, and how long that is; `None` when there are no bytes.
fn long_run(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut front = 0;
    if bytes.len() > MIN_SPLIT {
        for run in bytes.chunk_by(|byte, next| byte == next) {
            if run.len() >= MIN_SPLIT {
                return Some((front, run.len()));
            }
            front += run.len();
        }
    }
    (!bytes.is_empty()).then_some((bytes.len(), 0))
}

fn patch(offset: usize, bytes: &[u8]) -> Patch<'_> {
    match bytes.split_first() {
        Some((&byte, rest)) if bytes.len() >= MIN_FILL && rest.iter().all(|&other| other == byte) => {
            Patch::Fill { offset, len: bytes.len(), byte }
        }
        _ => Patch::Bytes { offset, bytes },
    }
}

/// The parts of a block that are not zero.
fn image_patches(block: &[u8]) -> Vec<Patch<'_>> {
    let mut patches = Vec::new();
    let mut rest = block;
    let mut offset = 0;
    while let Some(zeros) = rest.iter().position(|&byte| byte != 0) {
        let (_, from) = rest.split_at_checked(zeros).unwrap_or((&[], &[]));
        offset += zeros;
        let len = from
            .windows(MIN_ZERO_GAP)
            .position(is_zero)
            .unwrap_or_else(|| from.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        let (bytes, after) = from.split_at_checked(len).unwrap_or((from, &[]));
        patches.push(patch(offset, bytes));
        offset += bytes.len();
        rest = after;
    }
    patches
}
