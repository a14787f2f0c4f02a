//! Transactions, before they meet a store: they name extents by where they come in a list, so that they make sense on
//! every store.

use std::fmt;
use std::sync::Arc;

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Extent, ExtentInfo, Transaction};

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
    /// Extents to allocate, in pages, each written directly; and the units that get a journaled cell besides.
    pub alloc: Vec<(u32, Vec<u32>)>,
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
        parts.extend(self.alloc.iter().map(|(pages, units)| {
            let cells = if units.is_empty() { String::new() } else { format!(" with {} cells", units.len()) };
            format!("allocate {pages} pages{cells}")
        }));
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

impl Plan {
    /// Allocates so many pages in one extent.
    #[must_use]
    pub fn allocating(pages: u32) -> Self {
        Self { alloc: vec![(pages, Vec::new())], ..Self::default() }
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
        // One that only frees is published at once; others may then ask for the space before it is durable.
        let least = u64::from(plan.free.is_empty() && plan.cells.is_empty());
        for _ in 0..least + rng.below(3 - least) {
            let pages = *rng.pick(&[1, 1, 1, 2, 3]).unwrap_or(&1);
            let units = (0..rng.below(2)).map(|_| draw(rng) % 8).collect();
            plan.alloc.push((pages, units));
        }
        plan
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
    alloc: Vec<Wanted>,
}

/// An extent to be allocated.
#[derive(Clone, Debug)]
struct Wanted {
    pages: u64,
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
        resolved.puts.push(Put { extent: info.extent, page: index(page, pages), unit, tag });
        written.push(info);
    }
    // Nobody else frees what this one writes.
    left.retain(|info| !written.contains(info));
    for (pages, units) in &plan.alloc {
        let tag = session.fresh(64);
        let cells = units.iter().map(|&unit| (index(unit, 8), session.fresh(64))).collect();
        resolved.alloc.push(Wanted { pages: u64::from(*pages), tag, cells });
    }
    resolved
}

impl Resolved {
    /// Whether nothing would be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.puts.is_empty() && self.alloc.is_empty()
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
                None => transaction.write(&put.extent, start, &payload::page(put.tag, len)).await?,
            }
            effects.puts.push(put);
        }
        for Wanted { pages, tag, cells } in &self.alloc {
            let extent = claim(&mut transaction, disk, pages * page_bytes, *tag).await?;
            for page in 0..extent.len / page_bytes {
                store.write_at(&extent, page * page_bytes, &payload::page(tag + page, len)).await?;
            }
            for &(unit, tag) in cells {
                transaction.write(&extent, payload::cell_offset(unit) as u64, &payload::cell(tag)).await?;
                effects.puts.push(Put { extent, page: 0, unit: Some(unit), tag });
            }
            effects.allocated.push((ExtentInfo { extent, owner: *tag }, *tag));
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

/// Allocates, and tells the disk's trace that somebody owns the space from here on.
pub(crate) async fn claim(
    transaction: &mut Transaction,
    disk: &Arc<SimDisk>,
    bytes: u64,
    owner: u64,
) -> freehold::Result<Extent> {
    let extent = transaction.alloc(AllocRequest::bytes(bytes).owner(owner)).await?;
    disk.annotate(Event::Claim { offset: extent.offset, len: extent.len });
    debug_assert!(extent.end() <= disk.geometry().len_bytes);
    Ok(extent)
}
