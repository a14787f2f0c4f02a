//! What is compared: one small interface, and what can be seen of free space through it.

use freehold::device::DeviceGeometry;
use freehold::format::{GeometryRequest, ItemClass, Layout};
use freehold::space::Place;
use freehold::{Medium, Result};
use std::sync::Arc;

use crate::buddies::Buddies;
use crate::product::Product;

/// An allocator in memory.
pub(crate) trait Store {
    /// Space in one piece.
    fn alloc(&mut self, asked: u64) -> Option<Place>;
    /// So many pages in one piece.
    fn alloc_pages(&mut self, pages: u32, asked: u64) -> Option<Place>;
    /// Gives back what [`alloc`](Self::alloc) gave for so many bytes.
    fn free(&mut self, place: &Place, asked: u64);
    /// Pages of the longest free run.
    fn longest(&self) -> u32;
    /// All free runs.
    fn shape(&self) -> Shape;
    /// Bytes that heads of regions take.
    fn overhead_bytes(&self) -> u64 {
        0
    }
}

/// The allocators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The product, blobs of at most half a page as items.
    Freehold,
    /// The product, all blobs in pages.
    FreeholdPages,
    /// Buddy blocks whose end is given back.
    TailBack,
    /// Buddy blocks as a whole.
    PowerOfTwo,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Freehold, Self::FreeholdPages, Self::TailBack, Self::PowerOfTwo];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Freehold => "Freehold",
            Self::FreeholdPages => "Freehold, pages only",
            Self::TailBack => "buddy, tail given back",
            Self::PowerOfTwo => "buddy, powers of two",
        }
    }

    /// An empty one. The product publishes and reclaims what it does, or only reserves, which places everything alike.
    pub(crate) fn open(self, layout: &Arc<Layout>, publish: bool) -> Result<Box<dyn Store>> {
        Ok(match self {
            Self::Freehold => Box::new(Product::new(layout, true, publish)?),
            Self::FreeholdPages => Box::new(Product::new(layout, false, publish)?),
            Self::TailBack => Box::new(Buddies::new(layout, true)),
            Self::PowerOfTwo => Box::new(Buddies::new(layout, false)),
        })
    }
}

/// A store of so many bytes, otherwise as `format` makes it; segments of a given size if there is one.
pub(crate) fn layout(store_bytes: u64, page_bytes: u64, segment_bytes: Option<u64>) -> Result<Arc<Layout>> {
    let device = DeviceGeometry { len_bytes: store_bytes, sector_bytes: 4096, physical_block_bytes: 4096 };
    let request = GeometryRequest {
        device,
        medium: Medium::Nvme,
        page_bytes: Some(page_bytes),
        segment_bytes,
        journal_bytes: None,
    };
    Ok(Arc::new(Layout::plan(&request)?))
}

pub(crate) fn usable_bytes(layout: &Layout) -> u64 {
    layout.usable_pages() * u64::from(layout.page_bytes())
}

/// Whole pages.
pub(crate) fn pages_of(layout: &Layout, bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(layout.page_bytes().into())).unwrap_or(u32::MAX)
}

/// The class of a blob that is small enough to be an item.
pub(crate) fn item_class(layout: &Layout, bytes: u64) -> Option<ItemClass> {
    ItemClass::for_bytes(bytes).filter(|&class| layout.region_layout(class, false).is_some())
}

/// Bytes that a blob needs when nothing is wasted but the rest of its last page. The same for all allocators, and so is
/// the fill that is counted in it.
pub(crate) fn demand(layout: &Layout, bytes: u64) -> u64 {
    let pages = u64::from(pages_of(layout, bytes)) * u64::from(layout.page_bytes());
    item_class(layout, bytes).map_or(pages, ItemClass::bytes)
}

/// Free runs, in pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) free: u64,
    pub(crate) runs: u64,
    pub(crate) longest: u64,
    /// Sum of the squares of the lengths.
    squares: f64,
    /// Pages of the largest segment.
    segment: u64,
}

impl Shape {
    pub(crate) fn new(layout: &Layout) -> Self {
        let usable = |segment| layout.usable_range(segment).len() as u64;
        let segment = (layout.first_segment()..layout.segment_count()).map(usable).max();
        Self { segment: segment.unwrap_or(0), ..Self::default() }
    }

    /// Adds a segment.
    pub(crate) fn add(&mut self, runs: impl Iterator<Item = (u32, u32)>) {
        for (_, len) in runs {
            let len = u64::from(len);
            self.free += len;
            self.runs += 1;
            self.longest = self.longest.max(len);
            self.squares += (len * len) as f64;
        }
    }

    /// As `FreeRuns::fragmentation`: 0 when there is one run, or all of them fill a segment, and near 1 when free space
    /// is dust.
    pub(crate) fn score(&self) -> f64 {
        let best = self.free as f64 * self.free.min(self.segment) as f64;
        if best > 0.0 { 1.0 - self.squares / best } else { 0.0 }
    }

    /// Mean length of a free run.
    pub(crate) fn mean(&self) -> f64 {
        self.free as f64 / (self.runs as f64).max(1.0)
    }
}
