//! Where to look for space: which segments and regions have some. Follows from the segments; kept up to date.

use std::collections::{BTreeMap, BTreeSet};

use super::segment::{Content, Segment, order_of_run};
use super::table::Space;
use crate::format::{ItemClass, MAX_ORDER, Role};

const ORDERS: usize = MAX_ORDER as usize + 1;

/// Segments by the order of the longest run that can be had.
#[derive(Clone, Debug, Default)]
pub(super) struct ByClass([BTreeSet<u32>; ORDERS]);

impl ByClass {
    /// Moves a segment. Only its new place is known, so all places are looked at; there are 19.
    fn set(&mut self, number: u32, class: Option<u8>) {
        for (order, segments) in (0_u8..).zip(&mut self.0) {
            if Some(order) == class {
                segments.insert(number);
            } else if !segments.is_empty() {
                segments.remove(&number);
            }
        }
    }

    /// The lowest segment of the smallest class from `order` on.
    pub(super) fn best(&self, order: u8) -> Option<u32> {
        self.0.get(usize::from(order)..)?.iter().find_map(|segments| segments.first().copied())
    }

    /// The segments of each class from `order` on.
    pub(super) fn from(&self, order: u8) -> impl Iterator<Item = &BTreeSet<u32>> {
        self.0.iter().skip(order.into())
    }

    /// The segments of each class, the largest class first.
    pub(super) fn descending(&self) -> impl Iterator<Item = (u8, &BTreeSet<u32>)> {
        (0_u8..).zip(&self.0).collect::<Vec<_>>().into_iter().rev()
    }
}

/// What kind of item: class and whether it has an owner tag.
pub(super) type ItemKind = (ItemClass, bool);

/// The index over all segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Loaded segments of role `buddy`.
    pub(super) buddy: ByClass,
    /// Segments that are not loaded.
    pub(super) cold_buddy: ByClass,
    pub(super) cold_extent: ByClass,
    /// Those of role `slab`, by their longest run of pages.
    pub(super) cold_slab_runs: ByClass,
    pub(super) cold_slab: BTreeSet<u32>,
    /// Regions with an item to hand out: segment and region.
    pub(super) open: BTreeMap<ItemKind, BTreeSet<(u32, u32)>>,
    /// Loaded segments of role `slab` that may have room for one more region.
    pub(super) roomy: BTreeSet<u32>,
    /// Segments below the frontier of memory with nothing in them.
    pub(super) empty: BTreeSet<u32>,
}

impl Index {
    pub(super) fn set_open(&mut self, kind: ItemKind, place: (u32, u32), open: bool) {
        if open {
            self.open.entry(kind).or_default().insert(place);
        } else if let Some(places) = self.open.get_mut(&kind) {
            places.remove(&place);
            if places.is_empty() {
                self.open.remove(&kind);
            }
        }
    }
}

fn set(members: &mut BTreeSet<u32>, number: u32, belongs: bool) {
    if belongs {
        members.insert(number);
    } else {
        members.remove(&number);
    }
}

impl Space {
    /// The largest order that a free run in a cold segment may have. The records of those with regions say nothing of it.
    pub(super) fn cold_class(&self, number: u32) -> Option<u8> {
        let segment = self.segment(number)?;
        match segment.known_longest {
            Some(longest) => order_of_run(longest),
            None if segment.record.role == Role::Slab => {
                let usable = u32::try_from(self.layout().usable_range(number).len()).unwrap_or(0);
                order_of_run(usable.saturating_sub(segment.record.used_pages))
            }
            None => segment.record.class,
        }
    }

    /// Takes in a segment that is not in the index yet, and has nothing in memory.
    pub(super) fn index_new(&mut self, number: u32) {
        let usable = !self.layout().usable_range(number).is_empty();
        let Some(segment) = self.segment_mut(number) else { return };
        if usable && segment.is_empty() {
            segment.listed_empty = true;
            self.index.empty.insert(number);
            return;
        }
        let role = segment.record.role;
        let class = self.cold_class(number);
        match role {
            Role::Buddy => self.index.cold_buddy.set(number, class),
            Role::Extent => self.index.cold_extent.set(number, class),
            Role::Slab => {
                self.index.cold_slab_runs.set(number, class);
                self.index.cold_slab.insert(number);
            }
            Role::Unused | Role::Span => {}
        }
    }

    /// Brings the index in step with a segment whose pages, state or content changed.
    #[inline]
    pub(super) fn reindex(&mut self, number: u32) {
        if self.segment(number).is_some_and(|segment| !segment.is_in_place()) {
            self.reindex_changed(number);
        }
    }

    pub(super) fn reindex_changed(&mut self, number: u32) {
        let usable = !self.layout().usable_range(number).is_empty();
        let Some(segment) = self.segment_mut(number) else { return };
        let empty = usable && segment.is_empty();
        let newly = segment.listed_empty != empty;
        segment.listed_empty = empty;
        let buddy = match &segment.content {
            Content::Buddy(map) => Some(map.largest_order()),
            _ => None,
        };
        if newly {
            set(&mut self.index.empty, number, empty);
        }
        if let Some(class) = buddy {
            self.index.buddy.set(number, class);
        }
    }

    /// Brings the index in step with a segment that was loaded, dropped, or given another role.
    pub(super) fn reindex_content(&mut self, number: u32) {
        let Some(segment) = self.segment(number) else { return };
        let cold = |role: Role, segment: &Segment| {
            if segment.is_cold() && segment.record.role == role { self.cold_class(number) } else { None }
        };
        let (buddy, extent) = (cold(Role::Buddy, segment), cold(Role::Extent, segment));
        let slab_runs = cold(Role::Slab, segment);
        let slab = segment.is_cold() && segment.record.role == Role::Slab;
        let is_buddy = matches!(segment.content, Content::Buddy(_));
        let roomy = matches!(&segment.content, Content::Slab(_)) && self.has_region_room(number);
        self.index.cold_buddy.set(number, buddy);
        self.index.cold_extent.set(number, extent);
        self.index.cold_slab_runs.set(number, slab_runs);
        set(&mut self.index.cold_slab, number, slab);
        set(&mut self.index.roomy, number, roomy);
        if !is_buddy {
            self.index.buddy.set(number, None);
        }
        self.reindex(number);
    }

    /// Whether a segment of role `slab` has a free run as long as a region. It may lie so that no region fits.
    pub(super) fn has_region_room(&self, number: u32) -> bool {
        self.slab_runs.map(number).is_some_and(|map| map.longest() >= self.layout().region_pages())
    }

    /// Brings the index in step with a region; one that is not there any more is taken out by its kind.
    pub(super) fn reindex_region(&mut self, number: u32, region: u32, kind: ItemKind) {
        let Some(Content::Slab(slab)) = self.segment(number).map(|segment| &segment.content) else { return };
        let open = slab.region(region).is_some_and(super::slab::Region::has_room);
        self.index.set_open(kind, (number, region), open);
    }
}
