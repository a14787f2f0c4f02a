//! The free areas of one source while something is placed on it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Area;

/// With fewer areas than this, looking at all of them is quicker than keeping them in order.
const SCANNED_AREAS: usize = 32;
/// After so many looks at all areas, they are put in order of their lengths.
const SCANS: u32 = 8;

/// An area in the order of lengths; of equals the one that comes first is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u128);

impl Key {
    fn new(units: u64, start: u64) -> Self {
        Self(u128::from(units) << 64 | u128::from(!start))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is put together of two halves")]
    fn area(self) -> Area {
        let (units, start) = ((self.0 >> 64) as u64, !(self.0 as u64));
        Area::new(start, start + units)
    }
}

/// Free areas in ascending order, none touching another. The caller's list is not copied before something is taken.
#[derive(Clone, Debug)]
pub(super) struct Free<'a> {
    /// Areas that are used up stay in the list, empty.
    areas: Cow<'a, [Area]>,
    /// Made when it pays.
    by_length: Option<BTreeSet<Key>>,
    scans: u32,
    largest: Option<Area>,
    units: u64,
}

impl<'a> Free<'a> {
    /// `areas` must be ascending, not empty, and not touching each other; their units must fit 64 bits.
    pub(super) fn new(areas: Cow<'a, [Area]>) -> Self {
        let units = areas.iter().map(|area| area.units()).sum();
        let mut free = Self { areas, by_length: None, scans: 0, largest: None, units };
        free.largest = free.find_largest();
        free
    }

    /// Free units in all.
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// The longest area, the first of those.
    pub(super) fn largest(&self) -> Option<Area> {
        self.largest
    }

    /// The areas that are left, in ascending order.
    pub(super) fn areas(&self) -> impl Iterator<Item = Area> + Clone {
        self.areas.iter().copied().filter(|area| area.start < area.end)
    }

    fn find_largest(&self) -> Option<Area> {
        if let Some(index) = &self.by_length {
            return index.last().map(|key| key.area());
        }
        // The first of equals.
        let longest = self.areas.iter().map(|area| area.units()).max().filter(|&units| units > 0)?;
        self.areas.iter().copied().find(|area| area.units() == longest)
    }

    /// The shortest area of at least so many units, the first of those.
    pub(super) fn smallest_holding(&mut self, units: u64) -> Option<Area> {
        self.largest.filter(|largest| largest.units() >= units)?;
        self.scanned();
        if let Some(index) = &self.by_length {
            let length = index.range(Key::new(units, u64::MAX)..).next()?.area().units();
            return index.range(..=Key::new(length, 0)).next_back().map(|key| key.area());
        }
        let mut best: Option<Area> = None;
        for &area in self.areas.iter() {
            if area.units() >= units && best.is_none_or(|best| area.units() < best.units()) {
                best = Some(area);
            }
        }
        best
    }

    /// The area that begins with this unit.
    pub(super) fn starting_at(&self, start: u64) -> Option<Area> {
        let at = self.areas.partition_point(|area| area.end <= start);
        self.areas.get(at).copied().filter(|area| area.start == start)
    }

    /// Takes units from the low end of the area that begins with `start`; fewer if it has not so many.
    pub(super) fn take(&mut self, start: u64, units: u64) -> u64 {
        let at = self.areas.partition_point(|area| area.end <= start);
        let Some(area) = self.areas.to_mut().get_mut(at).filter(|area| area.start == start) else {
            return 0;
        };
        let before = *area;
        let taken = units.min(before.units());
        area.start += taken;
        let rest = area.units();
        self.units -= taken;
        if let Some(index) = &mut self.by_length {
            index.remove(&Key::new(before.units(), start));
            if rest > 0 {
                index.insert(Key::new(rest, start + taken));
            }
        }
        if self.largest == Some(before) {
            self.scanned();
            self.largest = self.find_largest();
        }
        taken
    }

    /// Undoes the last [`Self::take`] of so many units from this start that was not undone.
    pub(super) fn give_back(&mut self, start: u64, units: u64) {
        let taken_to = start + units;
        // An area that was used up is found too: its end is where it was.
        let at = self.areas.partition_point(|area| area.end < taken_to);
        let Some(area) = self.areas.to_mut().get_mut(at).filter(|area| area.start == taken_to) else {
            return;
        };
        let rest = area.units();
        area.start = start;
        let whole = *area;
        self.units += units;
        if let Some(index) = &mut self.by_length {
            index.remove(&Key::new(rest, taken_to));
            index.insert(Key::new(whole.units(), start));
        }
        let order = |area: Area| (area.units(), std::cmp::Reverse(area.start));
        if self.largest.is_none_or(|largest| order(whole) > order(largest)) {
            self.largest = Some(whole);
        }
    }

    /// Counts a look at all areas, and puts them in order once there were many.
    fn scanned(&mut self) {
        if self.by_length.is_some() || self.areas.len() < SCANNED_AREAS {
            return;
        }
        self.scans += 1;
        if self.scans > SCANS {
            self.by_length = Some(self.areas().map(|area| Key::new(area.units(), area.start)).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use quickcheck::quickcheck;

    use super::{Area, Free};

    /// What the answers must be, by looking at everything.
    fn shortest(areas: &[Area], units: u64) -> Option<Area> {
        areas
            .iter()
            .copied()
            .filter(|area| area.units() >= units)
            .min_by_key(|area| (area.units(), area.start))
    }

    quickcheck! {
        /// In order or not, whatever was taken and given back.
        fn answers_are_those_of_a_look_at_all_areas(lengths: Vec<u8>, calls: Vec<(u8, u8)>) -> bool {
            let mut end = 0;
            let areas = lengths.iter().cycle().take(lengths.len().min(1) * 80).map(|&length| {
                let start = end + 1;
                end = start + u64::from(length % 32) + 1;
                Area::new(start, end)
            });
            let areas: Vec<Area> = areas.collect();
            let mut free = Free::new(Cow::Borrowed(&areas));
            let mut model = areas.clone();
            // Enough looks for the areas to be put in order.
            calls.iter().chain(&calls).chain(&calls).all(|&(kind, units)| {
                let units = u64::from(units % 40) + 1;
                let at = match kind % 3 {
                    0 => free.largest(),
                    1 => free.smallest_holding(units),
                    _ => model.get(usize::from(kind) % model.len().max(1)).copied(),
                };
                if let Some(area) = at {
                    let taken = free.take(area.start, units);
                    if kind % 5 == 0 {
                        free.give_back(area.start, taken);
                    } else {
                        let place = model.iter_mut().find(|place| place.start == area.start);
                        place.into_iter().for_each(|place| place.start += taken);
                        model.retain(|area| area.units() > 0);
                    }
                }
                let longest = model.iter().map(|area| area.units()).max();
                let start = model.first().map_or(0, |area| area.start);
                free.largest() == longest.and_then(|units| shortest(&model, units))
                    && free.smallest_holding(units) == shortest(&model, units)
                    && free.areas().eq(model.iter().copied())
                    && free.units() == model.iter().map(|area| area.units()).sum::<u64>()
                    && free.starting_at(start) == model.first().copied()
            })
        }
    }
}
