//! Role `slab`: a segment with regions, each with items of one class. Pages that no region has are for extents.

use std::collections::BTreeMap;

use super::counters::Held;
use crate::format::{ItemClass, ItemMark, RegionLayout, RegionSummary};

/// The book-keeping of a loaded region.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The head as the journal has it.
    pub(super) bytes: Vec<u8>,
    /// Items that may be handed out: bit set.
    pub(super) available: Box<[u64]>,
    /// No word of `available` before this one has a bit.
    first: u16,
    /// How often each place was given out, reservations included. Never goes back while the region is in memory.
    pub(super) counts: Box<[u16]>,
}

/// A region in memory. It stays as long as an item of it is in use, reserved or pending.
#[derive(Clone, Debug)]
pub struct Region {
    pub(super) layout: RegionLayout,
    pub(super) generation: u32,
    /// Whether the journal has the region: it does while an item is in use.
    pub(super) on_disk: bool,
    /// Items in use as the journal has it.
    pub(super) used: u16,
    pub(super) reserved: u16,
    pub(super) pending: u16,
    /// Checksum of the head, to be compared when it is loaded.
    checksum: u32,
    pub(super) head: Option<Head>,
}

impl Region {
    /// A new one, of which nothing is on disk.
    pub(super) fn new(layout: RegionLayout, generation: u32) -> Self {
        let bytes = vec![0; usize::try_from(layout.head_bytes()).unwrap_or(0)];
        let mut region = Self {
            layout,
            generation,
            on_disk: false,
            used: 0,
            reserved: 0,
            pending: 0,
            checksum: 0,
            head: None,
        };
        region.take_head(bytes);
        region
    }

    /// One that was found on disk; its head is not loaded.
    #[must_use]
    pub fn found(layout: RegionLayout, generation: u32, summary: &RegionSummary) -> Self {
        Self {
            layout,
            generation,
            on_disk: true,
            used: summary.used,
            reserved: 0,
            pending: 0,
            checksum: summary.checksum,
            head: None,
        }
    }

    /// How it is laid out.
    #[must_use]
    pub const fn layout(&self) -> &RegionLayout {
        &self.layout
    }

    /// Its generation.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether its head is loaded.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.head.is_some()
    }

    /// The head as the journal has it, if it is loaded and on disk.
    #[must_use]
    pub fn head(&self) -> Option<&[u8]> {
        self.head.as_ref().filter(|_| self.on_disk).map(|head| head.bytes.as_slice())
    }

    pub(super) fn summary(&self) -> RegionSummary {
        let checksum = self.head.as_ref().map_or(self.checksum, |head| RegionLayout::checksum(&head.bytes));
        RegionSummary { class: self.layout.class(), tagged: self.layout.tagged(), used: self.used, checksum }
    }

    /// Takes the head as it was read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(&mut self, bytes: Vec<u8>) -> Result<(), &'static str> {
        self.layout.check(&bytes, &self.summary())?;
        self.take_head(bytes);
        Ok(())
    }

    /// Lets the free places of a head that was just read count on from `lead` lives after what it says.
    pub(super) fn advance(&mut self, lead: u16) {
        for index in 0..self.layout.capacity() {
            if self.is_used(index) == Some(false)
                && let Some(head) = &mut self.head
                && let Some(count) = head.counts.get_mut(usize::from(index))
            {
                *count = (0..lead).fold(*count, |count, _| ItemMark::next_count(count));
            }
        }
    }

    /// By how many lives a place is ahead of what the head says, at most: it was given out, and nothing came of it.
    pub(super) fn lead(&self) -> u16 {
        let Some(head) = &self.head else { return 0 };
        let leads = (0..).zip(&head.counts).map(|(index, &count)| {
            let said = self.mark_in(&head.bytes, index).count;
            ItemMark::lives_between(said, count)
        });
        leads.max().unwrap_or(0)
    }

    fn take_head(&mut self, bytes: Vec<u8>) {
        let capacity = self.layout.capacity();
        let mut available = vec![0_u64; usize::from(capacity).div_ceil(64)].into_boxed_slice();
        let mut counts = vec![0_u16; capacity.into()].into_boxed_slice();
        for (index, count) in (0..capacity).zip(&mut counts) {
            let (at, mask) = self.layout.bit(index);
            if bytes.get(at).is_some_and(|byte| byte & mask == 0)
                && let Some(word) = available.get_mut(usize::from(index / 64))
            {
                *word |= 1 << (index % 64);
            }
            *count = self.mark_in(&bytes, index).count;
        }
        self.head = Some(Head { bytes, available, first: 0, counts });
    }

    fn mark_in(&self, bytes: &[u8], index: u16) -> ItemMark {
        let mark = bytes.get(self.layout.mark_range(index)).and_then(|mark| mark.first_chunk());
        mark.map_or(ItemMark::default(), |mark| ItemMark::decode(*mark))
    }

    /// Whether an item is in use as the journal has it; `None` when the head is not loaded.
    #[must_use]
    pub fn is_used(&self, index: u16) -> Option<bool> {
        let head = self.head.as_ref()?;
        let (at, mask) = self.layout.bit(index);
        Some(head.bytes.get(at).is_some_and(|byte| byte & mask != 0))
    }

    /// Mark and owner of an item as the journal has them.
    #[must_use]
    pub fn item(&self, index: u16) -> Option<(ItemMark, u64)> {
        let head = self.head.as_ref()?;
        let owner = self.layout.owner_range(index).and_then(|range| head.bytes.get(range));
        let owner = owner.and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Some((self.mark_in(&head.bytes, index), owner))
    }

    /// Whether some item may be handed out.
    pub(super) fn has_room(&self) -> bool {
        self.used + self.reserved + self.pending < self.layout.capacity()
    }

    /// Whether the journal's version of it has a free item.
    pub(super) fn is_open(&self) -> bool {
        self.on_disk && self.used < self.layout.capacity()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.reserved == 0 && self.pending == 0
    }

    /// Whether there is nothing left to remember.
    pub(super) fn is_gone(&self) -> bool {
        !self.on_disk && self.is_idle()
    }

    /// Takes the lowest item that may be handed out; gives its generation.
    pub(super) fn take(&mut self) -> Option<(u16, u32)> {
        let head = self.head.as_mut()?;
        let mut words = (0_u16..).zip(&mut head.available).skip(head.first.into());
        let (word, bits) = words.find(|(_, bits)| **bits != 0)?;
        head.first = word;
        let index = word * 64 + u16::try_from(bits.trailing_zeros()).unwrap_or(0);
        *bits &= *bits - 1;
        let count = head.counts.get_mut(usize::from(index))?;
        *count = ItemMark::next_count(*count);
        self.reserved += 1;
        Some((index, ItemMark::generation(self.generation, *count)))
    }

    /// Makes an item available again.
    pub(super) fn give(&mut self, index: u16) {
        if let Some(head) = &mut self.head
            && let Some(word) = head.available.get_mut(usize::from(index / 64))
        {
            *word |= 1 << (index % 64);
            head.first = head.first.min(index / 64);
        }
    }

    /// Changes an item in the head. Returns what changed: places in the head.
    pub(super) fn write_item(
        &mut self,
        index: u16,
        used: bool,
        slack: u16,
        owner: u64,
    ) -> [Option<std::ops::Range<usize>>; 3] {
        let (at, mask) = self.layout.bit(index);
        let (mark_range, owner_range) = (self.layout.mark_range(index), self.layout.owner_range(index));
        let Some(head) = &mut self.head else { return [None, None, None] };
        if let Some(byte) = head.bytes.get_mut(at) {
            *byte = if used { *byte | mask } else { *byte & !mask };
        }
        let count = head.counts.get(usize::from(index)).copied().unwrap_or(0);
        // A free item keeps the count of its last life as the journal has it.
        let old = head.bytes.get(mark_range.clone()).and_then(|mark| mark.first_chunk());
        let old = old.map_or(ItemMark::default(), |mark| ItemMark::decode(*mark));
        let mark = if used { ItemMark { count, slack } } else { ItemMark { count: old.count, slack: 0 } };
        if let Some(place) = head.bytes.get_mut(mark_range.clone()) {
            place.copy_from_slice(&mark.encode());
        }
        if let Some(place) = owner_range.clone().and_then(|range| head.bytes.get_mut(range)) {
            place.copy_from_slice(&if used { owner } else { 0 }.to_le_bytes());
        }
        [Some(at..at + 1), Some(mark_range), owner_range]
    }

    /// What it holds back from others, in bytes.
    pub(super) fn held(&self, region_bytes: u64) -> Held {
        let class = self.layout.class().bytes();
        if self.on_disk {
            Held { reserved: u64::from(self.reserved) * class, pending: u64::from(self.pending) * class }
        } else if self.reserved > 0 {
            Held { reserved: region_bytes, pending: 0 }
        } else if self.pending > 0 {
            Held { reserved: 0, pending: region_bytes }
        } else {
            Held::default()
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let head = self.head.as_ref();
        size_of::<Self>()
            + head.map_or(0, |head| {
                head.bytes.len() + size_of_val(&*head.available) + size_of_val(&*head.counts)
            })
    }
}

/// The regions of a segment.
#[derive(Clone, Debug, Default)]
pub struct SlabSegment {
    pub(super) regions: BTreeMap<u32, Region>,
    /// For each bit of the record's `open_classes`, regions of such classes with a free item, as the journal has it.
    open: [u32; 32],
}

impl SlabSegment {
    /// A region that is in use.
    #[must_use]
    pub fn region(&self, region: u32) -> Option<&Region> {
        self.regions.get(&region)
    }

    /// Regions that the journal has, in ascending order.
    pub fn on_disk(&self) -> impl Iterator<Item = (u32, &Region)> {
        self.regions.iter().filter(|(_, region)| region.on_disk).map(|(number, region)| (*number, region))
    }

    /// Notes that a region of a class became, or is no longer, one with a free item.
    pub(super) fn count_open(&mut self, class: ItemClass, was: bool, is: bool) {
        if let Some(count) = self.open.get_mut(class.open_bit().trailing_zeros() as usize) {
            *count = (*count + u32::from(is)).saturating_sub(u32::from(was));
        }
    }

    /// The record's `open_classes`.
    pub(super) fn open_classes(&self) -> u32 {
        (0..).zip(&self.open).filter(|(_, count)| **count > 0).fold(0, |bits, (bit, _)| bits | 1_u32 << bit)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.regions.values().map(Region::memory_bytes).sum()
    }
}
