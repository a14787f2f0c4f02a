//! Where something lies, by segment; and what a transaction does there.

use crate::format::{HeaderKind, ItemClass, Layout, PageHeader};

/// Space of one extent, or of what one grows by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Pages of one segment.
    Run {
        /// Segment number.
        segment: u32,
        /// First page, counted in the segment.
        page: u32,
        /// How many.
        pages: u32,
        /// `Buddy` or `Extent`.
        kind: HeaderKind,
    },
    /// An item of a region.
    Item {
        /// Segment number.
        segment: u32,
        /// The region, counted in the segment.
        region: u32,
        /// The item, counted in the region.
        index: u16,
        /// Its size.
        class: ItemClass,
        /// Whether its region has owner tags.
        tagged: bool,
    },
    /// Whole segments, and pages at the beginning of the next.
    Span {
        /// The first of them.
        segment: u32,
        /// How many whole ones.
        segments: u32,
        /// Pages behind them.
        tail_pages: u32,
    },
}

impl Place {
    /// The segment in which it begins.
    #[must_use]
    pub const fn segment(&self) -> u32 {
        match *self {
            Self::Run { segment, .. } | Self::Item { segment, .. } | Self::Span { segment, .. } => segment,
        }
    }

    /// The last segment of which it has a part.
    #[must_use]
    pub const fn last_segment(&self) -> u32 {
        match *self {
            Self::Run { segment, .. } | Self::Item { segment, .. } => segment,
            Self::Span { segment, segments, tail_pages } => {
                segment + segments - if tail_pages == 0 { 1 } else { 0 }
            }
        }
    }

    /// Offset and length in bytes.
    #[must_use]
    pub fn range(&self, layout: &Layout) -> (u64, u64) {
        let page_bytes = u64::from(layout.page_bytes());
        match *self {
            Self::Run { segment, page, pages, .. } => {
                (layout.page_offset(segment, page), u64::from(pages) * page_bytes)
            }
            Self::Item { segment, region, index, class, tagged } => {
                let within =
                    layout.region_layout(class, tagged).map_or(0, |region| region.item_offset(index));
                (layout.page_offset(segment, region * layout.region_pages()) + within, class.bytes())
            }
            Self::Span { segment, segments, tail_pages } => {
                let whole = u64::from(segments) * layout.segment_bytes();
                (layout.page_offset(segment, 0), whole + u64::from(tail_pages) * page_bytes)
            }
        }
    }

    /// The kind that the page header has.
    #[must_use]
    pub const fn kind(&self) -> HeaderKind {
        match *self {
            Self::Run { kind, .. } => kind,
            Self::Item { .. } => HeaderKind::Region,
            Self::Span { .. } => HeaderKind::Span,
        }
    }
}

/// Space taken out of what may be handed out, for one open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Where.
    pub place: Place,
    /// Generation of the extent to be.
    pub generation: u32,
}

/// A reservation about to become an extent.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    /// The space.
    pub reservation: Reservation,
    /// The caller's tag.
    pub owner: u64,
    /// Bytes that were asked for.
    pub asked: u64,
}

/// An extent about to be freed, checked against its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Where.
    pub place: Place,
    /// Generation of its header, or of its region's.
    pub generation: u32,
    /// Bytes that were allocated and not asked for.
    pub slack_bytes: u64,
}

/// An extent that changes its length where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Segment number.
    pub segment: u32,
    /// First page, counted in the segment.
    pub page: u32,
    /// Length so far.
    pub old_pages: u32,
    /// Length from now on. The difference is reserved if it is longer.
    pub new_pages: u32,
    /// The header so far.
    pub header: PageHeader,
    /// Bytes that are asked for from now on.
    pub asked: u64,
}

impl Resize {
    /// The pages that come or go.
    #[must_use]
    pub fn difference(&self) -> (u32, u32) {
        let (short, long) = (self.old_pages.min(self.new_pages), self.old_pages.max(self.new_pages));
        (self.page + short, long - short)
    }

    /// What it takes, before or after, whichever is more.
    #[must_use]
    pub fn place(&self) -> Place {
        let pages = self.old_pages.max(self.new_pages);
        Place::Run { segment: self.segment, page: self.page, pages, kind: self.header.kind }
    }

    /// Whether it becomes longer.
    #[must_use]
    pub const fn grows(&self) -> bool {
        self.new_pages > self.old_pages
    }
}
