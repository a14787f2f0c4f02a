//! What a superblock stands for: its tree of metadata blocks, and the groups behind its tail.

mod extents;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use freehold::format::{
    BlockReference, BlockUpdate, GROUP_HEADER_BYTES, GroupHeader, Layout, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES,
    Payload, SUPERBLOCK_COPIES, Superblock, UpdateKind, block_checksum, content_checksum, decode_payload,
    headers_digest,
};

use self::extents::Extents;
use super::views::Image;

/// A block that groups change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Block {
    /// A metadata block, by its number.
    Leaf(u64),
    /// A block of the caller, by its number on the device.
    Caller(u64),
}

impl Block {
    const fn of(update: &BlockUpdate<'_>) -> Self {
        match update.kind {
            UpdateKind::Metadata => Self::Leaf(update.address),
            _ => Self::Caller(update.address),
        }
    }
}

/// A group that is whole.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) header: GroupHeader,
    bytes: Vec<u8>,
    /// What it changes, each once.
    pub(super) blocks: BTreeSet<Block>,
    extents: Extents,
}

impl Group {
    /// Header, payload and padding as a group of this store; `None` when they are not what was sealed.
    pub(super) fn decode(superblock: &Superblock, header: GroupHeader, bytes: Vec<u8>) -> Option<Self> {
        if !header.verify(&superblock.store_id, &bytes) {
            return None;
        }
        let mut group = Self { header, bytes, blocks: BTreeSet::new(), extents: Extents::default() };
        let layout = &superblock.layout;
        let payload = group.payload(layout)?;
        let extents = Extents::of(layout, payload.extents.as_ref())?;
        let blocks = payload.blocks.iter().map(Block::of).chain(extents.blocks()).collect();
        (group.blocks, group.extents) = (blocks, extents);
        Some(group)
    }

    /// Journal position behind it.
    pub(super) fn end(&self) -> u64 {
        self.header.position + self.bytes.len() as u64
    }

    /// Changes a block as the group does.
    pub(super) fn change(&self, superblock: &Superblock, block: Block, content: &mut [u8]) {
        self.extents.apply(block, content);
        // What does not fit is refused where the group is replayed.
        let _ = Self::put(&self.updates(&superblock.layout), block, content);
    }

    /// Patches a block, which may have no update; whether it is then what its checksum says.
    fn put(updates: &[BlockUpdate<'_>], block: Block, content: &mut [u8]) -> bool {
        let Some(update) = updates.iter().find(|update| Block::of(update) == block) else { return true };
        if update.kind == UpdateKind::CallerImage {
            content.fill(0);
        }
        let fits = update.patches.iter().all(|patch| patch.apply(content));
        fits && content_checksum(content) == update.checksum_after
    }

    fn payload(&self, layout: &Layout) -> Option<Payload<'_>> {
        let length = usize::try_from(self.header.length).ok()?;
        let payload = self.bytes.get(GROUP_HEADER_BYTES..length)?;
        decode_payload(payload, self.header.updates, layout.block_bytes()).ok()
    }

    fn updates(&self, layout: &Layout) -> Vec<BlockUpdate<'_>> {
        self.payload(layout).unwrap_or_default().blocks
    }
}

/// Finds a superblock copy, whatever the size of its block.
pub(super) fn find_superblock(image: &Image) -> Option<Superblock> {
    let mut block_bytes = MIN_BLOCK_BYTES;
    let mut places = vec![0];
    while block_bytes <= MAX_BLOCK_BYTES {
        places.push(Layout::superblock_offset_for(block_bytes, 1));
        block_bytes *= 2;
    }
    places.into_iter().find_map(|offset| {
        let front = image.get(offset, u64::from(MIN_BLOCK_BYTES))?;
        let size = Superblock::claimed_block_bytes(front)?;
        Superblock::decode(image.get(offset, u64::from(size))?, offset).ok()
    })
}

/// The valid copies of the superblock.
pub(super) fn copies(image: &Image, layout: &Layout) -> [Option<Superblock>; SUPERBLOCK_COPIES] {
    [0, 1].map(|copy| {
        let offset = layout.superblock_offset(copy);
        Superblock::decode(image.get(offset, u64::from(layout.block_bytes()))?, offset).ok()
    })
}

/// The references of a checksum tree.
#[derive(Clone, Debug, Default)]
struct Tree {
    /// Where the blocks lie that it refers to.
    slots: BTreeSet<u64>,
    /// References to the metadata blocks, by number.
    leaves: Vec<BlockReference>,
    /// A block of it that is not what its parent says.
    broken: Option<u64>,
}

/// The block that a reference stands for; `None` when that is not what lies there.
fn referenced<'i>(
    image: &'i Image,
    superblock: &Superblock,
    offset: u64,
    reference: BlockReference,
) -> Option<&'i [u8]> {
    let block = image.get(offset, u64::from(superblock.layout.block_bytes()))?;
    let found = block_checksum(&superblock.store_id, offset, reference.tag(), block);
    (found == reference.checksum).then_some(block)
}

impl Tree {
    fn read(image: &Image, superblock: &Superblock) -> Self {
        let layout = &superblock.layout;
        let mut tree = Self::default();
        let mut references = vec![superblock.root];
        for level in (0..=layout.interior().len()).rev() {
            let below = match level {
                0 => 0,
                1 => layout.leaf_count(),
                _ => layout.interior().get(level - 2).map_or(0, |level| level.blocks),
            };
            let mut children = Vec::new();
            for (number, &reference) in (0..).zip(&references) {
                let first = number * layout.fan_out();
                let end = usize::try_from((first + layout.fan_out()).min(below)).unwrap_or(0);
                if reference.is_present() {
                    let offset = layout.slot(level, number, reference.slot()).offset;
                    tree.slots.insert(offset);
                    if level > 0 {
                        match referenced(image, superblock, offset, reference) {
                            Some(block) => children.extend(block.as_chunks().0.iter().map(|bytes| {
                                BlockReference::decode(bytes).unwrap_or(BlockReference::ABSENT)
                            })),
                            None => tree.broken = Some(offset),
                        }
                    }
                }
                children.resize(end, BlockReference::ABSENT);
            }
            if level > 0 {
                references = children;
            }
        }
        tree.leaves = references;
        tree
    }

    fn reference(&self, leaf: u64) -> BlockReference {
        let found = usize::try_from(leaf).ok().and_then(|leaf| self.leaves.get(leaf));
        found.copied().unwrap_or(BlockReference::ABSENT)
    }
}

/// What the store is when this superblock is in force.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) superblock: Superblock,
    tree: Tree,
    /// The groups that recovery would find, in order.
    pub(super) groups: Vec<Group>,
    /// Journal position behind them.
    pub(super) end: u64,
    /// Of the last of them, or of the checkpoint.
    pub(super) last_lsn: u64,
}

impl Version {
    pub(super) fn read(image: &Image, superblock: Superblock) -> Self {
        let mut version = Self {
            tree: Tree::read(image, &superblock),
            groups: Vec::new(),
            end: superblock.tail_position,
            last_lsn: superblock.tail_lsn,
            superblock,
        };
        version.extend(image);
        version
    }

    /// Takes up the groups that were added behind the last one.
    pub(super) fn extend(&mut self, image: &Image) {
        while let Some(group) = self.group_at(image, self.end) {
            self.end = group.end();
            self.last_lsn = group.header.last_lsn();
            self.groups.push(group);
        }
    }

    fn group_at(&self, image: &Image, position: u64) -> Option<Group> {
        let layout = &self.superblock.layout;
        let ring_bytes = layout.ring_bytes();
        let place = position % ring_bytes;
        let front = image.get(layout.ring_offset() + place, GROUP_HEADER_BYTES as u64)?;
        let header = GroupHeader::peek(front, position, ring_bytes)?;
        let len = header.padded_bytes(layout.ring_granule_bytes());
        let room = self.superblock.tail_position + ring_bytes - position;
        if header.epoch != self.superblock.epoch || header.first_lsn <= self.last_lsn || len > room {
            return None;
        }
        let until_end = len.min(ring_bytes - place);
        let mut bytes = image.get(layout.ring_offset() + place, until_end)?.to_vec();
        bytes.extend_from_slice(image.get(layout.ring_offset(), len - until_end)?);
        Group::decode(&self.superblock, header, bytes)
    }

    /// Whether bytes of the ring hold groups that recovery would need.
    pub(super) fn needs_ring(&self, places: &Range<u64>) -> bool {
        let ring_bytes = self.superblock.layout.ring_bytes();
        let start = self.superblock.tail_position % ring_bytes;
        let end = start + (self.end - self.superblock.tail_position);
        let overlaps = |shift: u64| places.start + shift < end && start < places.end + shift;
        overlaps(0) || overlaps(ring_bytes)
    }

    /// The slot in this range that the tree refers to.
    pub(super) fn needs_slot(&self, range: &Range<u64>) -> Option<u64> {
        let block = u64::from(self.superblock.layout.block_bytes());
        let from = (range.start + 1).saturating_sub(block);
        self.tree.slots.range(from..range.end).next().copied()
    }

    /// The group that changes a block, if recovery would apply one.
    pub(super) fn group_with(&self, block: Block) -> Option<&Group> {
        self.groups.iter().rev().find(|group| group.blocks.contains(&block))
    }

    /// A block before any group.
    fn base(&self, image: &Image, block: Block) -> Result<Vec<u8>, String> {
        let layout = &self.superblock.layout;
        let block_bytes = u64::from(layout.block_bytes());
        let found = match block {
            Block::Caller(number) => image.get(number * block_bytes, block_bytes).map(<[u8]>::to_vec),
            Block::Leaf(leaf) => {
                let reference = self.tree.reference(leaf);
                if reference.is_present() {
                    let offset = layout.slot(0, leaf, reference.slot()).offset;
                    referenced(image, &self.superblock, offset, reference).map(<[u8]>::to_vec)
                } else {
                    Some(vec![0; usize::try_from(block_bytes).unwrap_or(0)])
                }
            }
        };
        found.ok_or_else(|| format!("{block:?} is not what its parent says"))
    }

    /// Applies the groups one by one, to the blocks that `wanted` names; `each` sees a block after each
    /// change.
    fn apply(
        &self,
        image: &Image,
        wanted: impl Fn(Block) -> bool,
        mut each: impl FnMut(&Group, Block, &[u8]),
    ) -> Result<BTreeMap<Block, Vec<u8>>, String> {
        let mut contents = BTreeMap::new();
        for group in &self.groups {
            let mut blocks = group.blocks.iter().copied().filter(|block| wanted(*block)).peekable();
            if blocks.peek().is_none() {
                continue;
            }
            let lsn = group.header.last_lsn();
            let updates = group.updates(&self.superblock.layout);
            let (mut headers, mut digest) = (group.extents.headers(), 0);
            for block in blocks {
                let mut content = match contents.remove(&block) {
                    Some(content) => content,
                    None => self.base(image, block)?,
                };
                group.extents.apply(block, &mut content);
                if let Some(first_page) = headers.remove(&block) {
                    digest ^= headers_digest(first_page, &content);
                }
                if !Group::put(&updates, block, &mut content) {
                    return Err(format!("{block:?} is not what the journal says it is after LSN {lsn}"));
                }
                each(group, block, &content);
                contents.insert(block, content);
            }
            // It can be told only when all blocks of headers are wanted.
            if headers.is_empty() && digest != group.extents.digest {
                return Err(format!("headers are not what the journal says they are after LSN {lsn}"));
            }
        }
        Ok(contents)
    }

    /// A block as recovery would make it.
    pub(super) fn content(&self, image: &Image, block: Block) -> Result<Vec<u8>, String> {
        let mut contents = self.apply(image, |other| other == block, |_, _, _| ())?;
        contents.remove(&block).map_or_else(|| self.base(image, block), Ok)
    }

    /// The LSN of the first group after which a block begins with `bytes`.
    ///
    /// # Errors
    /// No group says so; in words.
    pub(super) fn who_says(&self, image: &Image, block: Block, bytes: &[u8]) -> Result<u64, String> {
        let mut found = None;
        let mut nearest = None;
        self.apply(
            image,
            |other| other == block,
            |group, _, content| {
                let lsn = group.header.last_lsn();
                if content.starts_with(bytes) {
                    found.get_or_insert(lsn);
                }
                let differs = content.iter().zip(bytes).position(|(said, written)| said != written);
                nearest = Some((lsn, differs));
            },
        )?;
        found.ok_or_else(|| match nearest {
            Some((lsn, differs)) => format!(
                "byte {} of {block:?} is not what the durable groups say up to LSN {lsn}",
                differs.unwrap_or(0)
            ),
            None => format!("no durable group behind the tail changes {block:?}"),
        })
    }

    /// Whether recovery would come to the same from `other`, on the same image.
    ///
    /// # Errors
    /// What would be different, in words.
    pub(super) fn same_as(&self, other: &Self, image: &Image) -> Result<(), String> {
        if let Some(offset) = other.tree.broken {
            return Err(format!("the block at {offset} of the checksum tree is not what its parent says"));
        }
        let before = self.apply(image, |_| true, |_, _, _| ())?;
        let after = other.apply(image, |_| true, |_, _, _| ())?;
        let moved = (0..self.superblock.layout.leaf_count())
            .filter(|leaf| self.tree.reference(*leaf) != other.tree.reference(*leaf))
            .map(Block::Leaf);
        let blocks: BTreeSet<Block> = moved.chain(before.keys().chain(after.keys()).copied()).collect();
        for block in blocks {
            let old = before.get(&block).cloned().map_or_else(|| self.base(image, block), Ok)?;
            let new = after.get(&block).cloned().map_or_else(|| other.base(image, block), Ok)?;
            if let Some(at) = old.iter().zip(&new).position(|(old, new)| old != new) {
                return Err(format!("byte {at} of {block:?} would be another"));
            }
        }
        Ok(())
    }
}
