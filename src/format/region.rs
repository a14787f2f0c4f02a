//! Regions of items: classes of sizes, and the head in which a region keeps book of its items.
//!
//! A region is a run of pages of a segment of role `slab`, all of whose items are of one class. Its head lies in front
//! of the items, in the caller's space, for its size follows the class; it reaches the medium through the journal as
//! the items do, and its checksum is in the region's page header, under the checksum tree.

use std::ops::Range;

use super::content_checksum;

/// The smallest item.
pub const MIN_ITEM_BYTES: u64 = 16;
/// The largest item; those of a store are also at most half a page, and a region has room for four.
pub const MAX_ITEM_BYTES: u64 = 32 << 10;
/// The size that regions have where segments and journal are large enough.
pub const REGION_BYTES: u64 = 64 << 10;
/// Items of a region, at least and at most.
const MIN_ITEMS: u64 = 4;
const MAX_ITEMS: u64 = u16::MAX as u64;
/// Classes for each doubling of size.
const STEPS: u8 = 8;
/// Classes that share a bit of the segment record's `open_classes`.
const CLASSES_PER_BIT: u8 = 3;
/// Items start at a multiple of this, from the start of the region.
const ALIGNMENT: u64 = 16;

/// Bits of an item's mark: how often the place was given out, and how much of the item was not asked for.
const SLACK_BITS: u32 = 4;
const COUNT_BITS: u32 = 16 - SLACK_BITS;

/// A size of items: eight for each doubling, so that an item is at most an eighth larger than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemClass(u8);

impl ItemClass {
    /// How many there are.
    pub const COUNT: u8 = 89;

    /// The smallest class for so many bytes.
    #[must_use]
    pub fn for_bytes(bytes: u64) -> Option<Self> {
        if bytes == 0 || bytes > MAX_ITEM_BYTES {
            return None;
        }
        let bytes = bytes.max(MIN_ITEM_BYTES);
        let doubling = bytes.ilog2() - MIN_ITEM_BYTES.ilog2();
        let step = (MIN_ITEM_BYTES << doubling) / u64::from(STEPS);
        let steps = (bytes - (MIN_ITEM_BYTES << doubling)).div_ceil(step);
        // Eight steps up is the next doubling.
        u8::try_from(u64::from(doubling) * u64::from(STEPS) + steps).ok().map(Self)
    }

    /// The class with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number, smaller for smaller items.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Size of an item.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(STEPS + self.0 % STEPS) << (self.0 / STEPS + 1)
    }

    /// The bit of a segment record's `open_classes`.
    #[must_use]
    pub const fn open_bit(self) -> u32 {
        1 << (self.0 / CLASSES_PER_BIT)
    }

    /// The unit in which the slack of an item is noted.
    fn slack_unit(self) -> u64 {
        let step = 1_u64 << (self.0 / STEPS + 1);
        (step >> SLACK_BITS).max(1)
    }

    /// The slack of an item of which `asked` bytes were asked for, in units, rounded down.
    #[must_use]
    pub fn slack_for(self, asked: u64) -> u16 {
        let units = self.bytes().saturating_sub(asked) / self.slack_unit();
        u16::try_from(units.min((1 << SLACK_BITS) - 1)).unwrap_or(0)
    }
}

/// What a region's page header says in the place of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSummary {
    /// Size of its items.
    pub class: ItemClass,
    /// Whether its items have owner tags.
    pub tagged: bool,
    /// Items in use.
    pub used: u16,
    /// Content checksum of its head.
    pub checksum: u32,
}

impl RegionSummary {
    /// From the place of the owner: class (1 byte), flags (1), used (2), checksum (4).
    #[must_use]
    pub fn decode(owner: u64) -> Option<Self> {
        let [class, flags, used_low, used_high, checksum @ ..] = owner.to_le_bytes();
        let summary = Self {
            class: ItemClass::from_number(class)?,
            tagged: flags == 1,
            used: u16::from_le_bytes([used_low, used_high]),
            checksum: u32::from_le_bytes(checksum),
        };
        (flags <= 1 && summary.used > 0).then_some(summary)
    }

    /// For the place of the owner.
    #[must_use]
    pub fn encode(&self) -> u64 {
        let [used_low, used_high] = self.used.to_le_bytes();
        let [a, b, c, d] = self.checksum.to_le_bytes();
        u64::from_le_bytes([self.class.number(), self.tagged.into(), used_low, used_high, a, b, c, d])
    }
}

/// Where everything lies in a region, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLayout {
    class: ItemClass,
    tagged: bool,
    capacity: u16,
    items: u64,
}

impl RegionLayout {
    /// The layout of a region of `region_bytes`; `None` when it has not room enough for items of the class.
    #[must_use]
    pub fn new(class: ItemClass, tagged: bool, region_bytes: u64) -> Option<Self> {
        let head = |items: u64| {
            let owners = if tagged { 8 * items } else { 0 };
            (owners + 2 * items + items.div_ceil(8)).next_multiple_of(ALIGNMENT)
        };
        let fits = |items: &u64| head(*items) + items * class.bytes() <= region_bytes;
        // In bits, as if the head were not rounded: at most a few too many.
        let item_bits = 8 * (class.bytes() + 2) + 1 + if tagged { 64 } else { 0 };
        let most = (region_bytes.saturating_mul(8) / item_bits).min(MAX_ITEMS);
        let items = (MIN_ITEMS..=most).rev().find(fits)?;
        Some(Self { class, tagged, capacity: u16::try_from(items).ok()?, items: head(items) })
    }

    /// Size of its items.
    #[must_use]
    pub const fn class(&self) -> ItemClass {
        self.class
    }

    /// Whether its items have owner tags.
    #[must_use]
    pub const fn tagged(&self) -> bool {
        self.tagged
    }

    /// How many items it has room for.
    #[must_use]
    pub const fn capacity(&self) -> u16 {
        self.capacity
    }

    /// Length of the head.
    #[must_use]
    pub const fn head_bytes(&self) -> u64 {
        self.items
    }

    /// Where an item lies.
    #[must_use]
    pub fn item_offset(&self, index: u16) -> u64 {
        self.items + u64::from(index) * self.class.bytes()
    }

    /// The item that begins at an offset.
    #[must_use]
    pub fn item_at(&self, offset: u64) -> Option<u16> {
        let within = offset.checked_sub(self.items)?;
        let index = u16::try_from(within / self.class.bytes()).ok().filter(|&index| index < self.capacity)?;
        within.is_multiple_of(self.class.bytes()).then_some(index)
    }

    fn marks(&self) -> usize {
        if self.tagged { 8 * usize::from(self.capacity) } else { 0 }
    }

    fn bits(&self) -> usize {
        self.marks() + 2 * usize::from(self.capacity)
    }

    /// Where an item's owner tag lies in the head.
    #[must_use]
    pub fn owner_range(&self, index: u16) -> Option<Range<usize>> {
        let start = 8 * usize::from(index);
        (self.tagged && index < self.capacity).then_some(start..start + 8)
    }

    /// Where an item's mark lies in the head.
    #[must_use]
    pub fn mark_range(&self, index: u16) -> Range<usize> {
        let start = self.marks() + 2 * usize::from(index);
        start..start + 2
    }

    /// Where an item's bit lies: the byte in the head, and the mask.
    #[must_use]
    pub fn bit(&self, index: u16) -> (usize, u8) {
        (self.bits() + usize::from(index / 8), 1 << (index % 8))
    }

    /// The checksum of a head.
    #[must_use]
    pub fn checksum(head: &[u8]) -> u32 {
        content_checksum(head)
    }

    /// Checks a head against its summary, or says what is wrong.
    pub fn check(&self, head: &[u8], summary: &RegionSummary) -> Result<(), &'static str> {
        if Self::checksum(head) != summary.checksum {
            return Err("checksum mismatch");
        }
        let capacity = usize::from(self.capacity);
        let bits = head.get(self.bits()..).unwrap_or_default();
        let beyond = (0_usize..).zip(bits).any(|(at, byte)| {
            let valid = capacity.saturating_sub(8 * at).min(8);
            u32::from(*byte) >> valid != 0
        });
        if beyond {
            return Err("bits beyond the region's capacity");
        }
        let used: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        if used != u32::from(summary.used) {
            return Err("another number of items in use than in the header");
        }
        for index in 0..self.capacity {
            let (at, mask) = self.bit(index);
            let set = head.get(at).is_some_and(|byte| byte & mask != 0);
            let mark = head.get(self.mark_range(index)).and_then(|mark| mark.first_chunk());
            let mark = mark.map_or(0, |mark| u16::from_le_bytes(*mark));
            let owner = self.owner_range(index).and_then(|range| head.get(range));
            if set && mark >> SLACK_BITS == 0 {
                return Err("an item in use that was never given out");
            }
            if !set
                && (mark & ((1 << SLACK_BITS) - 1) != 0
                    || owner.is_some_and(|owner| owner.iter().any(|&byte| byte != 0)))
            {
                return Err("a free item with an owner or slack");
            }
        }
        Ok(())
    }
}

/// What is noted of an item besides its bit: how often its place was given out in this life of the region, and slack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemMark {
    /// From 1 on; 12 bits, then from 1 again. Zero when the place was never given out.
    pub count: u16,
    /// In units of the class.
    pub slack: u16,
}

impl ItemMark {
    /// From the head.
    #[must_use]
    pub const fn decode(bytes: [u8; 2]) -> Self {
        let raw = u16::from_le_bytes(bytes);
        Self { count: raw >> SLACK_BITS, slack: raw & ((1 << SLACK_BITS) - 1) }
    }

    /// For the head.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        (self.count << SLACK_BITS | self.slack).to_le_bytes()
    }

    /// The count of the next one at the same place.
    #[must_use]
    pub const fn next_count(count: u16) -> u16 {
        if count + 1 < 1 << COUNT_BITS { count + 1 } else { 1 }
    }

    /// How many times [`next_count`](Self::next_count) leads from one count to a later one.
    #[must_use]
    pub const fn lives_between(earlier: u16, later: u16) -> u16 {
        // Zero is only before the first one.
        if later >= earlier { later - earlier } else { later + (1 << COUNT_BITS) - 1 - earlier }
    }

    /// The generation of an item's handle: the lower bits of its region's, and its count.
    #[must_use]
    pub const fn generation(region: u32, count: u16) -> u32 {
        region << COUNT_BITS | count as u32
    }

    /// The slack in bytes.
    #[must_use]
    pub fn slack_bytes(self, class: ItemClass) -> u64 {
        u64::from(self.slack) * class.slack_unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_half_open_ranges_without_gaps() {
        let mut last = 0;
        for number in 0..ItemClass::COUNT {
            let class = ItemClass::from_number(number).unwrap();
            assert!(class.bytes() > last);
            assert_eq!(ItemClass::for_bytes(last + 1), Some(class));
            assert_eq!(ItemClass::for_bytes(class.bytes()), Some(class));
            if last >= MIN_ITEM_BYTES {
                assert!(
                    (class.bytes() - (last + 1)) * 8 <= class.bytes(),
                    "class of {} bytes",
                    class.bytes()
                );
            }
            last = class.bytes();
        }
        assert_eq!(last, MAX_ITEM_BYTES);
        assert_eq!(ItemClass::for_bytes(0), None);
        assert_eq!(ItemClass::for_bytes(MAX_ITEM_BYTES + 1), None);
        assert_eq!(ItemClass::from_number(ItemClass::COUNT), None);
        let sizes = [(1, 16), (16, 16), (17, 18), (32, 32), (33, 36), (32 << 10, 32 << 10)];
        for (asked, bytes) in sizes {
            assert_eq!(ItemClass::for_bytes(asked).map(ItemClass::bytes), Some(bytes), "{asked}");
        }
    }

    #[test]
    fn a_region_holds_its_head_and_its_items() {
        for number in 0..ItemClass::COUNT {
            let class = ItemClass::from_number(number).unwrap();
            for (tagged, bytes) in [(false, 4096), (true, 65536), (false, 1 << 20), (true, 64 << 20)] {
                let Some(layout) = RegionLayout::new(class, tagged, bytes) else {
                    assert!(class.bytes() * 4 + 10 * 4 + 17 > bytes);
                    continue;
                };
                let capacity = layout.capacity();
                assert!(layout.item_offset(capacity) <= bytes);
                let (last_bit, _) = layout.bit(capacity - 1);
                assert!(layout.mark_range(capacity - 1).end <= layout.bit(0).0);
                assert!((last_bit as u64) < layout.head_bytes());
                for index in [0, 1, capacity / 2, capacity - 1] {
                    assert_eq!(layout.item_at(layout.item_offset(index)), Some(index));
                    assert_eq!(layout.item_at(layout.item_offset(index) + 1), None);
                }
                assert_eq!(layout.item_at(layout.item_offset(capacity)), None);
                assert_eq!(layout.item_at(0), None);
            }
        }
        let sixteen = RegionLayout::new(ItemClass(0), false, 65536).unwrap();
        assert!(u64::from(sixteen.capacity()) * 16 > 65536 * 85 / 100);
    }

    #[test]
    fn heads_are_checked() {
        let layout = RegionLayout::new(ItemClass(8), true, 4096).unwrap();
        let mut head = vec![0; usize::try_from(layout.head_bytes()).unwrap()];
        let set = |head: &mut Vec<u8>, index: u16| {
            let (at, mask) = layout.bit(index);
            head[at] |= mask;
            head[layout.mark_range(index)].copy_from_slice(&ItemMark { count: 1, slack: 2 }.encode());
        };
        set(&mut head, 0);
        set(&mut head, layout.capacity() - 1);
        let summary = |head: &[u8], used| RegionSummary {
            class: ItemClass(8),
            tagged: true,
            used,
            checksum: RegionLayout::checksum(head),
        };
        assert_eq!(layout.check(&head, &summary(&head, 2)), Ok(()));
        assert!(layout.check(&head, &summary(&head, 3)).is_err());
        let mut rotten = head.clone();
        rotten[0] ^= 1;
        assert!(layout.check(&rotten, &summary(&head, 2)).is_err());
        let mut beyond = head.clone();
        let (at, mask) = layout.bit(layout.capacity() - 1);
        beyond[at] |= mask << 1;
        assert!(mask < 128, "the last byte has room");
        assert!(layout.check(&beyond, &summary(&beyond, 3)).is_err());
        let mut tagged = head.clone();
        tagged[layout.owner_range(1).unwrap()].fill(7);
        assert!(layout.check(&tagged, &summary(&tagged, 2)).is_err());
        let encoded = summary(&head, 2).encode();
        assert_eq!(RegionSummary::decode(encoded), Some(summary(&head, 2)));
        assert_eq!(RegionSummary::decode(encoded | 2 << 8), None);
        assert_eq!(RegionSummary::decode(encoded | 0xff), None);
    }

    #[test]
    fn marks_count_and_never_say_never() {
        let mark = ItemMark { count: 4095, slack: 15 };
        assert_eq!(ItemMark::decode(mark.encode()), mark);
        assert_eq!(ItemMark::next_count(4095), 1);
        assert_eq!(ItemMark::next_count(0), 1);
        assert_ne!(ItemMark::generation(0, 1), 0);
        let class = ItemClass::for_bytes(1000).unwrap();
        assert_eq!(class.bytes(), 1024);
        let slack = ItemMark { count: 1, slack: class.slack_for(1000) };
        assert_eq!(slack.slack_bytes(class), 24);
        let class = ItemClass::for_bytes(1).unwrap();
        assert_eq!(ItemMark { count: 1, slack: class.slack_for(1) }.slack_bytes(class), 15);
    }
}
