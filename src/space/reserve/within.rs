//! A segment that was loaded for a request is looked at first, before a search loads others and drops it again.

use std::collections::BTreeSet;

use super::{Request, Reserve, Wanted};
use crate::format::{HeaderKind, ItemClass};
use crate::space::segment::Content;
use crate::space::table::Space;

impl Space {
    /// What is asked for, in this loaded segment; of a span, with its tail there. Nothing is loaded but a region's head.
    pub fn reserve_within(&mut self, number: u32, request: &Request) -> Reserve {
        if request.at.is_some() {
            return self.reserve(request, &BTreeSet::new());
        }
        match request.wanted {
            Wanted::Buddy { order } => self.run_within(number, 1 << order, 1 << order, HeaderKind::Buddy),
            Wanted::Run { pages, align } => self.run_within(number, pages, align.max(1), HeaderKind::Extent),
            Wanted::Item { class, tagged } => {
                let open = self.index.open.get(&(class, tagged));
                let open = open.and_then(|open| open.range((number, 0)..=(number, u32::MAX)).next().copied());
                match open {
                    Some((_, region)) => self.take_item(number, region),
                    None => self.item_within(number, class, tagged),
                }
            }
            Wanted::Span { segments, tail_pages } => self.span_before(number, segments, tail_pages),
        }
    }

    /// The shortest free run that suffices.
    pub(super) fn run_within(&mut self, number: u32, pages: u32, align: u32, kind: HeaderKind) -> Reserve {
        let fits = |&(page, len): &(u32, u32)| page.next_multiple_of(align) + pages <= page + len;
        let fit = match self.segment(number).map(|segment| &segment.content) {
            Some(Content::Buddy(map)) => map.free_runs().filter(fits).min_by_key(|&(_, len)| len),
            Some(Content::Runs | Content::Slab(_)) => {
                let map = self.run_map(number);
                map.and_then(|map| map.free_runs().filter(fits).min_by_key(|&(_, len)| len))
            }
            _ => None,
        };
        let Some(page) = fit.map(|(page, _)| page.next_multiple_of(align)) else { return Reserve::Full };
        if self.take_pages(number, page, pages) {
            self.reserved_run(number, page, pages, kind)
        } else {
            Reserve::Full
        }
    }

    /// In a new region, if the segment is one of those with regions, and no other may have one of this kind; else a page,
    /// for which it was loaded.
    fn item_within(&mut self, number: u32, class: ItemClass, tagged: bool) -> Reserve {
        if !matches!(self.segment(number).map(|segment| &segment.content), Some(Content::Slab(_))) {
            return self.run_within(number, 1, 1, HeaderKind::Extent);
        }
        if self.cold_with_open((class, tagged)).is_some() {
            return Reserve::Full;
        }
        match self.layout().region_layout(class, tagged) {
            Some(layout) => self.new_region(number, layout),
            None => Reserve::Full,
        }
    }

    fn span_before(&mut self, number: u32, segments: u32, tail_pages: u32) -> Reserve {
        let Some(first) = number.checked_sub(segments) else { return Reserve::Full };
        let whole = (first..number).all(|n| self.index.empty.contains(&n) && self.layout().is_whole(n));
        if whole && self.is_tail_free(number, tail_pages) {
            self.take_span(first, segments, tail_pages)
        } else {
            Reserve::Full
        }
    }
}
