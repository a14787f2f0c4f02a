//! Freed space comes back when its free is durable.

use super::counters::Held;
use super::place::{Place, Release, Resize};
use super::table::Space;

impl Space {
    /// Makes freed space available: the transaction that freed it is durable (rule 3).
    pub fn reclaim(&mut self, releases: &[Release], resizes: &[Resize]) {
        for release in releases {
            match release.place {
                Place::Run { segment, page, pages, .. } => self.reclaim_pages(segment, page, pages),
                Place::Item { segment, region, index, .. } => {
                    self.change_region(segment, region, |region| {
                        region.give(index);
                        region.pending = region.pending.saturating_sub(1);
                    });
                }
                Place::Span { segment, segments, tail_pages } => {
                    let bytes = u64::from(segments) * self.layout().segment_bytes();
                    self.counters.count_held(Held { reserved: 0, pending: bytes }, Held::default());
                    self.leave_span(segment, segments);
                    if tail_pages > 0 {
                        self.reclaim_pages(segment + segments, 0, tail_pages);
                    }
                }
            }
        }
        for resize in resizes.iter().filter(|resize| resize.new_pages < resize.old_pages) {
            let (page, pages) = resize.difference();
            self.reclaim_pages(resize.segment, page, pages);
        }
    }

    fn reclaim_pages(&mut self, number: u32, page: u32, pages: u32) {
        self.give_pages(number, page, pages);
        let bytes = u64::from(pages) * u64::from(self.layout().page_bytes());
        self.counters.count_held(Held { reserved: 0, pending: bytes }, Held::default());
        if let Some(segment) = self.segment_mut(number) {
            segment.pending_pages = segment.pending_pages.saturating_sub(pages);
        }
        self.reindex(number);
    }
}
