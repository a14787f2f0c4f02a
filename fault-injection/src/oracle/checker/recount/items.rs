//! How the items of one class lie in a region.

const LAST_CLASS: u8 = 88;
const MOST_ITEMS: usize = 65_535;
/// A class is one of a store if so many of its items fit into a region.
const LEAST_ITEMS: usize = 4;
const OWNER: usize = 8;
const MARK: usize = 2;
/// Items begin at a multiple of this.
const ALIGNMENT: usize = 16;

/// Sizes and places within a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Items {
    /// Length of an item.
    pub size: usize,
    pub capacity: usize,
    /// Behind the owners, if there are any.
    pub marks_at: usize,
    pub bits_at: usize,
    /// The end of the head.
    pub items_at: usize,
    /// A unit of slack, in bytes.
    pub slack_unit: usize,
}

impl Items {
    /// The items of a class, or none if regions of this store have no such class.
    pub(super) fn of(class: u8, tagged: bool, region_bytes: usize, page_bytes: usize) -> Option<Self> {
        let step = 2usize << (class / 8);
        let size = (8 + usize::from(class % 8)) * step;
        if class > LAST_CLASS || size > page_bytes / 2 {
            return None;
        }
        let fields = MARK + if tagged { OWNER } else { 0 };
        // Without what is rounded up, a little more fits than with it.
        let most = (region_bytes * 8 / (8 * (size + fields) + 1)).min(MOST_ITEMS);
        let head = |count: usize| (count * fields + count.div_ceil(8)).next_multiple_of(ALIGNMENT);
        let capacity = (LEAST_ITEMS..=most).rfind(|&count| head(count) + count * size <= region_bytes)?;
        let marks_at = if tagged { capacity * OWNER } else { 0 };
        Some(Self {
            size,
            capacity,
            marks_at,
            bits_at: marks_at + capacity * MARK,
            items_at: head(capacity),
            slack_unit: (step / 16).max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit() {
        let page = 4096;
        for region in [4096, 8192, 65_536] {
            for class in 0..=LAST_CLASS {
                for (tagged, fields) in [(false, 2), (true, 10)] {
                    let Some(items) = Items::of(class, tagged, region, page) else { continue };
                    let size = (8 + usize::from(class) % 8) << (class / 8 + 1);
                    assert_eq!(items.size, size);
                    let fits = |count: usize| {
                        (count * fields + count.div_ceil(8)).div_ceil(16) * 16 + count * size <= region
                    };
                    assert!(fits(items.capacity) && !fits(items.capacity + 1), "{class} {tagged} {region}");
                }
            }
        }
    }

    #[test]
    fn places_add_up() {
        let of = |class: u8, tagged: bool| {
            let items = Items::of(class, tagged, 32_768, 4096).unwrap();
            (items.size, items.capacity, items.marks_at, items.bits_at, items.items_at, items.slack_unit)
        };
        // 2 x 308 + 39 = 655 bytes of head; one more item would take 672 + 309 x 104 = 32808 bytes.
        assert_eq!(of(21, false), (104, 308, 0, 616, 656, 1));
        assert_eq!(of(21, true), (104, 287, 2296, 2870, 2912, 1));
        // 10 x 62 + 8 = 628 bytes of head.
        assert_eq!(of(40, true), (512, 62, 496, 620, 640, 4));
    }

    #[test]
    fn classes_of_a_store() {
        let of = |class: u8, region: usize, page: usize| Items::of(class, true, region, page).is_some();
        assert!(of(56, 65_536, 4096) && !of(57, 65_536, 4096), "half a page is the most");
        assert!(of(47, 4096, 4096) && !of(48, 4096, 4096), "four items fit");
        assert!(of(88, 1 << 20, 65_536) && !of(89, 1 << 20, 1 << 20), "there are 89 classes");
        let most = Items::of(0, false, 64 << 20, 16 << 20).unwrap();
        assert_eq!(most.capacity, 65_535);
    }
}
