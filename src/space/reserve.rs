//! Reserving: in memory only, first the class that fits best, then the lowest segment, then the lowest address.

use super::table::Space;

/// Pages taken out of what may be handed out, for one open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Segment number.
    pub segment: u32,
    /// First page, counted in the segment.
    pub page: u32,
    /// 2^order pages.
    pub order: u8,
    /// Generation of the extent to be.
    pub generation: u32,
}

impl Reservation {
    /// Length in pages.
    #[must_use]
    pub fn pages(&self) -> u32 {
        1 << self.order
    }
}

/// What came of trying to reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Done.
    Reserved(Reservation),
    /// This segment's bitmap must be loaded first.
    Load(u32),
    /// This segment, the first beyond the frontier, must be prepared first.
    Open(u32),
    /// No run is long enough.
    Full,
}

impl Space {
    /// Reserves 2^order pages.
    pub fn reserve(&mut self, order: u8) -> Reserve {
        if order > self.layout().max_order() {
            return Reserve::Full;
        }
        let Some(number) = self.best_segment(order) else {
            let next = self.memory_frontier();
            return if next < self.layout().segment_count() { Reserve::Open(next) } else { Reserve::Full };
        };
        let Some(segment) = self.segment_mut(number) else {
            return Reserve::Full;
        };
        let Some(maps) = &mut segment.maps else {
            return Reserve::Load(number);
        };
        let Some(page) = maps.available.take(order) else {
            return Reserve::Full;
        };
        let pages = 1 << order;
        segment.reserved_pages += pages;
        // Zero means that nothing was ever allocated.
        segment.last_generation = segment.last_generation.wrapping_add(1).max(1);
        let reservation = Reservation { segment: number, page, order, generation: segment.last_generation };
        self.reindex(number);
        self.count_reserved(pages, 0);
        Reserve::Reserved(reservation)
    }

    /// Gives a reservation back, as if it had never been.
    pub fn unreserve(&mut self, reservation: &Reservation) {
        let pages = reservation.pages();
        if let Some(segment) = self.segment_mut(reservation.segment)
            && let Some(maps) = &mut segment.maps
            && maps.available.set_free(reservation.page, pages)
        {
            segment.reserved_pages = segment.reserved_pages.saturating_sub(pages);
            self.reindex(reservation.segment);
            self.count_reserved(0, pages);
        }
    }
}
