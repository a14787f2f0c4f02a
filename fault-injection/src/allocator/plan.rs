//! Transactions, before they meet a store: they name extents by where they come in a list, so that they make sense on
//! every store.

use std::fmt;
use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, Transaction};

use super::model::{Effects, Put};
use super::payload;
use crate::disk::{Event, SimDisk};
use crate::harness::Session;
use crate::rng::Rng;

/// A transaction. Picks are taken modulo the number of extents that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Extents to free.
    pub free: Vec<u32>,
    /// One more is freed when there are more extents than this.
    pub crowd: Option<u32>,
    /// Cells to journal: extent, page, unit.
    pub cells: Vec<[u32; 3]>,
    /// Whole pages to journal: extent, page.
    pub pages: Vec<[u32; 2]>,
    /// Extents to give another length: extent, pages.
    pub resize: Vec<[u32; 2]>,
    /// Extents to allocate, each written directly; and the units that get a journaled cell besides.
    pub alloc: Vec<(Request, Vec<u32>)>,
}

/// What kind of extent is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// So many pages.
    Pages(u32),
    /// A power of two of pages, aligned to its length.
    Aligned(u32),
    /// At most so many pages, in several extents if need be.
    Pieces(u32),
    /// So many pages at a page of the device, counted from the first one that can be had.
    At(u32, u32),
    /// An item of so many bytes, with or without an owner tag.
    Item(u32, bool),
    /// A segment and so many pages more.
    Span(u32),
}

impl Request {
    /// Sizes of items whose classes are multiples of 8.
    const ITEMS: [u32; 6] = [16, 24, 64, 200, 500, 900];

    fn any(rng: &mut Rng) -> Self {
        let draw = |rng: &mut Rng, below: u64| u32::try_from(rng.below(below)).unwrap_or(0);
        match rng.below(16) {
            0..=6 => Self::Pages(1 + draw(rng, 4)),
            7 | 8 => Self::Aligned(1 + draw(rng, 3)),
            9 => Self::Pieces(2 + draw(rng, 6)),
            10 => Self::At(draw(rng, 48), 1 + draw(rng, 3)),
            11 => Self::Span(draw(rng, 5)),
            // Half of them are of one kind, so that they share regions and get each other's places.
            _ if rng.chance(0.5) => Self::Item(64, false),
            _ => Self::Item(*rng.pick(&Self::ITEMS).unwrap_or(&16), rng.chance(0.4)),
        }
    }

    fn to_request(self, store: &Allocator) -> AllocRequest {
        let layout = store.layout();
        let page_bytes = u64::from(layout.page_bytes());
        let pages = |count: u32| AllocRequest::bytes(u64::from(count) * page_bytes);
        match self {
            Self::Pages(count) => pages(count),
            Self::Aligned(count) => pages(count).power_of_two(),
            Self::Pieces(count) => pages(count).max_extents(AllocRequest::MAX_EXTENTS),
            Self::At(page, count) => {
                let usable = layout.usable_pages().max(1);
                pages(count).at(layout.data_offset() + u64::from(page) % usable * page_bytes)
            }
            Self::Item(bytes, _) => AllocRequest::bytes(bytes.into()),
            Self::Span(more) => {
                AllocRequest::bytes(layout.segment_bytes() + u64::from(more) * page_bytes + 1)
            }
        }
    }

    /// Whether the extent has an owner tag.
    const fn is_tagged(self) -> bool {
        !matches!(self, Self::Item(_, false))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(count) => write!(f, "{count} pages"),
            Self::Aligned(count) => write!(f, "{count} pages as an aligned power of two"),
            Self::Pieces(count) => write!(f, "{count} pages in up to 8 extents"),
            Self::At(page, count) => write!(f, "{count} pages at page #{page}"),
            Self::Item(bytes, true) => write!(f, "an item of {bytes} bytes with an owner"),
            Self::Item(bytes, false) => write!(f, "an item of {bytes} bytes"),
            Self::Span(more) => write!(f, "a segment and {more} pages more"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.free.iter().map(|pick| format!("free extent #{pick}")));
        parts.extend(self.crowd.map(|most| format!("free one more if there are more than {most}")));
        parts.extend(self.cells.iter().map(|[pick, page, unit]| {
            format!("journal a cell in extent #{pick}, page #{page}, unit #{unit}")
        }));
        parts.extend(self.pages.iter().map(|[pick, page]| format!("journal page #{page} of extent #{pick}")));
        parts.extend(
            self.resize.iter().map(|[pick, pages]| format!("make extent #{pick} {pages} pages long")),
        );
        parts.extend(self.alloc.iter().map(|(request, units)| {
            let cells = if units.is_empty() { String::new() } else { format!(" with {} cells", units.len()) };
            format!("allocate {request}{cells}")
        }));
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

impl Plan {
    /// Allocates so many pages in one extent.
    #[must_use]
    pub fn allocating(pages: u32) -> Self {
        Self { alloc: vec![(Request::Pages(pages), Vec::new())], ..Self::default() }
    }

    /// Draws a transaction.
    #[must_use]
    pub fn any(rng: &mut Rng) -> Self {
        let draw = |rng: &mut Rng| u32::try_from(rng.below(64)).unwrap_or(0);
        // A small store fills up: the fuller it is, the more is freed.
        let crowd = Some(4 + u32::try_from(rng.below(6)).unwrap_or(0));
        let mut plan = Self { crowd, ..Self::default() };
        for _ in 0..rng.below(3) {
            plan.free.push(draw(rng));
        }
        for _ in 0..rng.below(3) {
            plan.cells.push([draw(rng), draw(rng), draw(rng)]);
        }
        if rng.chance(0.3) {
            plan.resize.push([draw(rng), 1 + draw(rng) % 5]);
        }
        // One that only frees or cuts is published at once; others may then ask for the space before it is durable.
        let least = u64::from(plan.free.is_empty() && plan.cells.is_empty() && plan.resize.is_empty());
        for _ in 0..least + rng.below(3 - least) {
            let request = Request::any(rng);
            let units = (0..rng.below(2)).map(|_| draw(rng) % 8).collect();
            plan.alloc.push((request, units));
        }
        plan
    }

    /// Draws a transaction that only frees: it is published before those at the same time allocate.
    #[must_use]
    pub fn clearing(rng: &mut Rng) -> Self {
        let draw = |rng: &mut Rng| u32::try_from(rng.below(64)).unwrap_or(0);
        Self { free: (0..1 + rng.below(3)).map(|_| draw(rng)).collect(), ..Self::default() }
    }

    /// Draws a transaction that wants whole segments, and takes those that were just freed if it is let.
    #[must_use]
    pub fn spanning(rng: &mut Rng) -> Self {
        let more = u32::try_from(rng.below(5)).unwrap_or(0);
        Self { alloc: vec![(Request::Span(more), Vec::new())], ..Self::default() }
    }

    /// Draws a transaction that journals whole pages, so that the ring wraps.
    #[must_use]
    pub fn any_large(rng: &mut Rng) -> Self {
        let draw = |rng: &mut Rng| u32::try_from(rng.below(64)).unwrap_or(0);
        let pages = (0..1 + rng.below(3)).map(|_| [draw(rng), draw(rng)]).collect();
        Self { pages, ..Self::default() }
    }
}

/// A transaction for the extents that are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    free: Vec<ExtentInfo>,
    puts: Vec<Put>,
    resize: Vec<Longer>,
    alloc: Vec<Wanted>,
}

/// An extent to be given another length.
#[derive(Clone, Copy, Debug)]
struct Longer {
    extent: Extent,
    pages: u64,
    tag: u64,
}

/// An extent to be allocated.
#[derive(Clone, Debug)]
struct Wanted {
    request: Request,
    tag: u64,
    /// Journaled cells in its first page: unit and tag.
    cells: Vec<(usize, u64)>,
}

/// Transactions that have nothing to do with each other.
pub(crate) fn resolve(
    plans: &[Plan],
    session: &mut Session<super::Subject>,
    live: &[ExtentInfo],
    page_bytes: u64,
) -> Vec<Resolved> {
    let crowd = live.len();
    let mut left = live.to_vec();
    plans.iter().map(|plan| resolve_one(plan, session, &mut left, crowd, page_bytes)).collect()
}

fn resolve_one(
    plan: &Plan,
    session: &mut Session<super::Subject>,
    left: &mut Vec<ExtentInfo>,
    crowd: usize,
    page_bytes: u64,
) -> Resolved {
    let mut resolved = Resolved::default();
    let index = |pick: u32, len: usize| usize::try_from(pick).unwrap_or(0) % len.max(1);
    let crowded = plan.crowd.filter(|&most| crowd as u64 > u64::from(most));
    for pick in plan.free.iter().chain(&crowded) {
        if !left.is_empty() {
            resolved.free.push(left.remove(index(*pick, left.len())));
        }
    }
    let mut written = Vec::new();
    let units = usize::try_from(page_bytes).unwrap_or(512) / payload::UNIT_BYTES;
    let cells = plan.cells.iter().map(|&[pick, page, unit]| (pick, page, Some(index(unit, units))));
    for (pick, page, unit) in cells.chain(plan.pages.iter().map(|&[pick, page]| (pick, page, None))) {
        let Some(info) = left.get(index(pick, left.len())).copied() else { continue };
        let pages = usize::try_from(info.extent.len / page_bytes).unwrap_or(1);
        let tag = session.fresh(64);
        // An item is written as a whole.
        let unit = unit.filter(|_| info.extent.len >= page_bytes);
        resolved.puts.push(Put { extent: info.extent, page: index(page, pages), unit, tag });
        written.push(info);
    }
    // Nobody else frees what this one writes.
    left.retain(|info| !written.contains(info));
    for &[pick, pages] in &plan.resize {
        let runs: Vec<_> =
            left.iter().filter(|info| info.extent.len.is_multiple_of(page_bytes)).copied().collect();
        let Some(info) = runs.get(index(pick, runs.len())).copied() else { continue };
        left.retain(|other| other.extent != info.extent);
        let tag = session.fresh(64);
        resolved.resize.push(Longer { extent: info.extent, pages: pages.into(), tag });
    }
    for (request, units) in &plan.alloc {
        let tag = session.fresh(64);
        let cells = units.iter().map(|&unit| (index(unit, 8), session.fresh(64))).collect();
        resolved.alloc.push(Wanted { request: *request, tag, cells });
    }
    resolved
}

impl Resolved {
    /// Whether nothing would be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.puts.is_empty() && self.resize.is_empty() && self.alloc.is_empty()
    }

    /// Everything but the commit.
    pub(crate) async fn prepare(
        &self,
        store: &Allocator,
        disk: &Arc<SimDisk>,
        page_bytes: u64,
    ) -> freehold::Result<(Transaction, Effects)> {
        let mut transaction = store.begin();
        let mut effects = Effects::default();
        let len = usize::try_from(page_bytes).unwrap_or(0);
        for info in &self.free {
            transaction.free(&info.extent).await?;
            effects.freed.push(info.extent);
        }
        for &put in &self.puts {
            let start = put.page as u64 * page_bytes;
            match put.unit {
                Some(unit) => {
                    let offset = start + payload::cell_offset(unit) as u64;
                    transaction.write(&put.extent, offset, &payload::cell(put.tag)).await?;
                }
                None => {
                    let len = payload::part_len(&put.extent, put.page, len);
                    transaction.write(&put.extent, start, &payload::page(put.tag, len)).await?;
                }
            }
            effects.puts.push(put);
        }
        for &Longer { extent, pages, tag } in &self.resize {
            let new = match transaction.resize(&extent, pages * page_bytes).await {
                Ok(new) => new,
                // Something is behind it, or it is of a kind that keeps its length.
                Err(Error::CannotResize { .. }) => continue,
                Err(error) => return Err(error),
            };
            if new.len > extent.len {
                annotate(disk, extent.end(), new.len - extent.len);
            }
            for page in extent.len / page_bytes..new.len / page_bytes {
                store.write_at(&new, page * page_bytes, &payload::page(tag + page, len)).await?;
            }
            effects.resized.push((extent, new, tag));
        }
        for Wanted { request, tag, cells } in &self.alloc {
            let owner = if request.is_tagged() { *tag } else { 0 };
            let outcome = transaction.alloc_extents(request.to_request(store).owner(owner)).await;
            let extents = match (request, outcome) {
                (_, Ok(extents)) => extents,
                // The place is taken, or behind the last page.
                (Request::At(..), Err(Error::NoSpace { .. } | Error::InvalidExtent { .. })) => continue,
                // Segments in a row are hard to come by.
                (Request::Span(_), Err(Error::NoSpace { .. })) => continue,
                (_, Err(error)) => return Err(error),
            };
            let mut tag = *tag;
            for extent in &extents {
                if extent.len >= page_bytes {
                    annotate(disk, extent.offset, extent.len);
                }
                let parts = extent.len.div_ceil(page_bytes);
                for page in 0..parts {
                    let index = usize::try_from(page).unwrap_or(0);
                    let bytes = payload::page(tag + page, payload::part_len(extent, index, len));
                    store.write_at(extent, page * page_bytes, &bytes).await?;
                }
                effects.allocated.push((ExtentInfo { extent: *extent, owner }, tag));
                tag += parts;
            }
            let Some(first) = extents.first().filter(|first| first.len >= page_bytes) else { continue };
            for &(unit, tag) in cells {
                transaction.write(first, payload::cell_offset(unit) as u64, &payload::cell(tag)).await?;
                effects.puts.push(Put { extent: *first, page: 0, unit: Some(unit), tag });
            }
        }
        Ok((transaction, effects))
    }

    pub(crate) async fn commit(
        &self,
        store: &Allocator,
        disk: &Arc<SimDisk>,
        page_bytes: u64,
    ) -> freehold::Result<Effects> {
        let (transaction, mut effects) = self.prepare(store, disk, page_bytes).await?;
        effects.lsn = transaction.commit().await?.lsn;
        Ok(effects)
    }
}

/// Tells the disk's trace that somebody owns the space from here on.
fn annotate(disk: &Arc<SimDisk>, offset: u64, len: u64) {
    disk.annotate(Event::Claim { offset, len });
    debug_assert!(offset + len <= disk.geometry().len_bytes);
}

/// Allocates pages, and tells the disk's trace that somebody owns the space from here on.
pub(crate) async fn claim(
    transaction: &mut Transaction,
    disk: &Arc<SimDisk>,
    bytes: u64,
    owner: u64,
) -> freehold::Result<Extent> {
    let extent = transaction.alloc(AllocRequest::bytes(bytes).owner(owner)).await?;
    annotate(disk, extent.offset, extent.len);
    Ok(extent)
}
