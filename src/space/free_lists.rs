//! Free lists of segments, doubly linked through their records: for each class, the segments whose largest free run is
//! of that order. They are redundant with the bitmaps; a checker compares them.

use std::collections::BTreeSet;

use super::table::Space;

impl Space {
    /// Moves a segment to the list of its committed class, noting every record that changes.
    pub(super) fn relink(&mut self, number: u32, changed: &mut BTreeSet<u32>) {
        let Some(segment) = self.segment(number) else {
            return;
        };
        let old = segment.record;
        // The class of a segment that is not loaded cannot have changed.
        let Some(maps) = &segment.maps else {
            return;
        };
        let class = maps.committed.largest_order();
        if old.class == class {
            return;
        }
        if let Some(order) = old.class {
            match old.previous {
                Some(previous) => self.change_record(previous, changed, |record| record.next = old.next),
                None => self.set_head(order, old.next),
            }
            if let Some(next) = old.next {
                self.change_record(next, changed, |record| record.previous = old.previous);
            }
        }
        let next = class.and_then(|order| self.head(order));
        self.change_record(number, changed, |record| {
            record.class = class;
            record.previous = None;
            record.next = next;
        });
        if let Some(order) = class {
            if let Some(next) = next {
                self.change_record(next, changed, |record| record.previous = Some(number));
            }
            self.set_head(order, Some(number));
        }
    }
}
