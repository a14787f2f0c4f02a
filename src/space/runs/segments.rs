//! The maps of the attached segments, and which of them have a run of each short length.
//!
//! 64 segments are a group, 64 groups a node of the lowest level, 64 nodes one of the next. Row `len` of a group has
//! the bits of its segments that have a run of `len` pages, and row `len` of a node the bits of those of its children
//! whose own row `len` is not zero.
//!
//! Invariants:
//! - The rows equal what is computed from the short lengths of the attached maps.
//! - `first[len]` is the lowest segment that has a run of `len` pages, or `u32::MAX`. Bit `len` of `lengths` is set if
//!   there is one.
//! - A group is there if and only if one of its segments is attached.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: rows are indexed by lengths below the fanout, segments of a group by less than the fanout, \
              and nodes by the positions that bits of the level above stand for"
)]

use super::{
    FANOUT, FANOUT_ORDER, RunMap, ones,
    rows::{Rows, bit},
};

/// Levels above the groups. The highest has one node.
const LEVELS: u32 = 3;

/// 64 segments; those that are not attached are left empty.
#[derive(Clone, Debug)]
struct Group {
    rows: Rows,
    maps: [Option<RunMap>; FANOUT as usize],
}

/// The attached segments.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    groups: Vec<Option<Box<Group>>>,
    levels: [Vec<Rows>; LEVELS as usize],
    first: [u32; FANOUT as usize],
    lengths: u64,
}

impl Default for Segments {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            levels: std::array::from_fn(|_| vec![Rows::EMPTY]),
            first: [u32::MAX; FANOUT as usize],
            lengths: 0,
        }
    }
}

impl Segments {
    /// One more than the highest number of a segment.
    pub(super) const MAX: u32 = FANOUT.pow(LEVELS + 1);

    /// Adds the map of a segment that is not attached and has a number below [`Self::MAX`].
    pub(super) fn attach(&mut self, segment: u32, map: RunMap) {
        let (group, place) = locate(segment);
        if self.groups.len() <= group {
            self.groups.resize(group + 1, None);
            let mut width = group + 1;
            for level in &mut self.levels {
                width = width.div_ceil(FANOUT as usize);
                level.resize(width, Rows::EMPTY);
            }
        }
        let lengths = map.short_lengths();
        let empty = || Box::new(Group { rows: Rows::EMPTY, maps: [const { None }; FANOUT as usize] });
        self.groups[group].get_or_insert_with(empty).maps[place] = Some(map);
        self.note(segment, lengths, lengths);
    }

    /// Removes a segment, and returns its map if it was attached.
    pub(super) fn detach(&mut self, segment: u32) -> Option<RunMap> {
        self.note(segment, self.map(segment)?.short_lengths(), 0);
        let (group, place) = locate(segment);
        let slot = self.groups.get_mut(group)?;
        let map = slot.as_mut()?.maps[place].take();
        if slot.iter().all(|group| group.maps.iter().all(Option::is_none)) {
            *slot = None;
        }
        map
    }

    /// The map of an attached segment.
    #[inline]
    pub(super) fn map(&self, segment: u32) -> Option<&RunMap> {
        let (group, place) = locate(segment);
        self.groups.get(group)?.as_ref()?.maps[place].as_ref()
    }

    /// The same, to be changed. Whoever changes its short lengths tells [`Self::note`].
    #[inline]
    pub(super) fn map_mut(&mut self, segment: u32) -> Option<&mut RunMap> {
        let (group, place) = locate(segment);
        self.groups.get_mut(group)?.as_mut()?.maps[place].as_mut()
    }

    /// All maps, in ascending order of segments.
    pub(super) fn maps(&self) -> impl Iterator<Item = (u32, &RunMap)> {
        let groups = (0_u32..).zip(&self.groups).filter_map(|(at, group)| Some((at, group.as_ref()?)));
        groups.flat_map(|(at, group)| {
            let maps = (at << FANOUT_ORDER..).zip(&group.maps);
            maps.filter_map(|(segment, map)| Some((segment, map.as_ref()?)))
        })
    }

    /// The short lengths of which there is a run, bit `len` for `len` pages.
    #[inline]
    pub(super) const fn lengths(&self) -> u64 {
        self.lengths
    }

    /// The lowest segment that has a run of `len` pages, which is one of [`Self::lengths`].
    #[inline]
    pub(super) const fn first(&self, len: u32) -> u32 {
        self.first[(len % FANOUT) as usize]
    }

    /// The segments that have a run of `len` pages, which is a short length, in ascending order.
    pub(super) fn having(&self, len: u32) -> impl Iterator<Item = (u32, &RunMap)> {
        self.maps().filter(move |(_, map)| map.short_lengths() & bit(len) != 0)
    }

    /// Bytes of everything but the bits and the rows of the attached maps.
    pub(super) fn index_bytes(&self) -> usize {
        let groups = self.groups.capacity() * size_of::<Option<Box<Group>>>()
            + self.groups.iter().flatten().count() * size_of::<Group>();
        let levels = self.levels.iter().map(|level| level.capacity() * size_of::<Rows>()).sum::<usize>();
        size_of::<Self>() + groups + levels
    }

    /// Notes that an attached segment now has, or no longer has, a run of the short lengths that `changed` names.
    /// `has` names those that it has.
    #[inline]
    pub(super) fn note(&mut self, segment: u32, changed: u64, has: u64) {
        // Most changes bring no length and take none away.
        if changed != 0 {
            self.note_changed(segment, changed, has);
        }
    }

    fn note_changed(&mut self, segment: u32, changed: u64, has: u64) {
        let (group, _) = locate(segment);
        let Some(group) = self.groups.get_mut(group).and_then(Option::as_mut) else { return };
        let mut passed_on = 0;
        for len in ones(changed) {
            let row = group.rows.row_mut(len);
            let first = &mut self.first[len as usize];
            if has & bit(len) != 0 {
                passed_on |= u64::from(*row == 0) << len;
                *row |= bit(segment);
                *first = segment.min(*first);
            } else {
                *row &= !bit(segment);
                passed_on |= u64::from(*row == 0) << len;
                if *first == segment {
                    // The group of the lowest segment is the lowest one that has any.
                    *first = (segment & !(FANOUT - 1)) + row.trailing_zeros();
                }
            }
        }
        if passed_on != 0 {
            self.note_group(segment, passed_on, has);
        }
    }

    /// Notes that the group of a segment now has, or no longer has, segments with runs of the short lengths that
    /// `changed` names.
    fn note_group(&mut self, segment: u32, changed: u64, has: u64) {
        for len in ones(changed) {
            let came = has & bit(len) != 0;
            let mut child = segment >> FANOUT_ORDER;
            for level in &mut self.levels {
                let row = level[(child >> FANOUT_ORDER) as usize].row_mut(len);
                let before = *row;
                *row = before & !bit(child) | u64::from(came) << (child % FANOUT);
                if before != 0 && *row != 0 {
                    break;
                }
                child >>= FANOUT_ORDER;
            }
            if came {
                self.lengths |= bit(len);
            } else {
                let lowest = self.lowest(len);
                self.first[len as usize] = lowest.unwrap_or(u32::MAX);
                self.lengths &= !(u64::from(lowest.is_none()) << len);
            }
        }
    }

    fn lowest(&self, len: u32) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let row = level[at as usize].row(len);
            if row == 0 {
                return None;
            }
            at = (at << FANOUT_ORDER) + row.trailing_zeros();
        }
        let group = self.groups[at as usize].as_ref()?;
        Some((at << FANOUT_ORDER) + group.rows.row(len).trailing_zeros())
    }
}

/// The group of a segment, and its place in that group.
#[inline]
const fn locate(segment: u32) -> (usize, usize) {
    ((segment >> FANOUT_ORDER) as usize, (segment % FANOUT) as usize)
}
