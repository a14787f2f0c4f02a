//! Reserving for a transaction: at once where that is possible, else with the loading that it takes.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::extent::{AllocRequest, Extent};
use super::handle::{Core, Inner};
use super::load::{Fault, Missing};
use super::publish::Own;
use super::transaction::Transaction;
use crate::error::Result;
use crate::space::{Allocation, Request, Reservation, Reserve, Wanted};

/// A reservation that nobody else can see yet.
///
/// What its transaction knows is not here: with its key it takes a cache line.
#[derive(Clone, Debug)]
pub(super) struct Reserved {
    pub(super) extent: Extent,
    pub(super) owner: u64,
    /// Number of the last direct write into it.
    pub(super) data_number: u64,
    /// What was written into an item.
    pub(super) writes: Option<Box<ItemWrites>>,
    /// Its transaction is being committed: nothing more can be written into an item.
    pub(super) sealed: bool,
}

/// What was written into an item, in order: offset on the device, content. It goes through the journal.
#[derive(Clone, Debug, Default)]
pub(super) struct ItemWrites(pub(super) Vec<(u64, Vec<u8>)>);

impl Reserved {
    pub(super) fn new(extent: Extent, owner: u64) -> Self {
        Self { extent, owner, data_number: 0, writes: None, sealed: false }
    }

    /// What was written into it, if it is an item.
    pub(super) fn writes(&self) -> &[(u64, Vec<u8>)] {
        self.writes.as_deref().map_or(&[], |writes| &writes.0)
    }
}

/// What a reservation is for: whom, and how many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) owner: u64,
    pub(super) bytes: u64,
}

impl Transaction {
    /// Reserves, if nothing has to be loaded for it. Otherwise nothing has changed.
    #[inline]
    pub(super) fn reserve_at_once(&mut self, wanted: &Request, asked: Asked) -> Option<Extent> {
        let mut core = self.inner.core();
        let Reserve::Reserved(reservation) = core.space.reserve(wanted, &BTreeSet::new()) else {
            return None;
        };
        let own = self.inner.enter(&mut core, reservation, asked);
        drop(core);
        self.intent.allocated.push(own);
        Some(own.extent)
    }

    /// Reserves, loading what must be loaded for it; nothing when there is no place. It is rarely needed, and takes no room in
    /// the future of who waits for it.
    pub(super) fn reserve_and_load<'a>(
        &'a mut self,
        wanted: &'a Request,
        asked: Asked,
    ) -> Pin<Box<impl Future<Output = Result<Option<Extent>>> + Send + use<'a>>> {
        Box::pin(async move {
            let own = self.inner.reserve_and_load(wanted, asked).await?;
            self.intent.allocated.extend(own);
            Ok(own.map(|own| own.extent))
        })
    }

    /// Reserves one way or the other.
    pub(super) async fn reserve(&mut self, wanted: &Request, asked: Asked) -> Result<Option<Extent>> {
        match self.reserve_at_once(wanted, asked) {
            Some(extent) => Ok(Some(extent)),
            None => self.reserve_and_load(wanted, asked).await,
        }
    }

    /// Reserves the longest runs until they suffice; all of them, or nothing.
    pub(super) async fn reserve_pieces(&mut self, request: &AllocRequest) -> Result<Vec<Extent>> {
        let mut pieces = Pieces { transaction: self, extents: Vec::new() };
        let page_bytes = u64::from(pieces.transaction.inner.layout().page_bytes());
        let mut left = request.bytes;
        while left > 0 {
            if pieces.extents.len() >= request.max_extents as usize {
                return Err(request.no_space("free runs are too short for so few extents"));
            }
            let longest = pieces
                .transaction
                .inner
                .ask(|_, core| core.space.longest_run().map_err(|n| Fault::Missing(Missing::Segment(n))))
                .await?;
            let pages = left.div_ceil(page_bytes).min(longest.into());
            let pages = u32::try_from(pages).unwrap_or(u32::MAX);
            if pages == 0 {
                return Err(request.no_run());
            }
            let asked = left.min(u64::from(pages) * page_bytes);
            let wanted = Request {
                wanted: Wanted::Run { pages, align: 1 },
                at: None,
                near: None,
                group: request.group,
            };
            // Somebody else may have taken it: then the longest is another one.
            let asked_for = Asked { owner: request.owner, bytes: asked };
            if let Some(extent) = pieces.transaction.reserve(&wanted, asked_for).await? {
                pieces.extents.push(extent);
                left -= asked;
            }
        }
        Ok(std::mem::take(&mut pieces.extents))
    }

    /// Gives back what this transaction has reserved.
    pub(super) fn unreserve(&mut self, extent: &Extent) {
        let mut core = self.inner.core();
        self.intent.allocated.retain(|own| {
            let stays = own.extent != *extent;
            if !stays && core.reserved.remove(&extent.offset).is_some() {
                core.space.unreserve(&own.allocation.reservation);
            }
            stays
        });
    }
}

/// Extents that a transaction has reserved and that nobody was told of: given back when they are dropped.
struct Pieces<'a> {
    transaction: &'a mut Transaction,
    extents: Vec<Extent>,
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        for extent in &self.extents {
            self.transaction.unreserve(extent);
        }
    }
}

impl Inner {
    /// Asks for a place until it is there or there is none. A segment that was loaded for it is looked at first.
    async fn reserve_and_load(self: &Arc<Self>, wanted: &Request, asked: Asked) -> Result<Option<Own>> {
        let (mut tried, mut loaded) = (BTreeSet::new(), None);
        let reserve = |inner: &Inner, core: &mut Core| loop {
            let found = match loaded.take() {
                Some(number) if core.space.segment(number).is_some_and(|segment| !segment.is_cold()) => {
                    let found = core.space.reserve_within(number, wanted);
                    if found == Reserve::Full {
                        tried.insert(number);
                        continue;
                    }
                    loaded = Some(number);
                    found
                }
                _ => core.space.reserve(wanted, &tried),
            };
            match found {
                Reserve::Reserved(reservation) => {
                    return Ok(Some(inner.enter(core, reservation, asked)));
                }
                Reserve::Load(segment) => {
                    loaded = Some(segment);
                    return Err(Fault::Missing(Missing::Segment(segment)));
                }
                Reserve::LoadRegion(segment, region) => {
                    return Err(Fault::Missing(Missing::Region(segment, region)));
                }
                Reserve::Open(segment) => core.space.open_segments(segment),
                Reserve::Full => return Ok(None),
            }
        };
        self.ask(reserve).await
    }

    /// Notes what a transaction has reserved.
    #[inline]
    fn enter(&self, core: &mut Core, reservation: Reservation, asked: Asked) -> Own {
        let (offset, len) = reservation.place.range(self.layout());
        let extent = Extent { offset, len, generation: reservation.generation };
        core.reserved.insert(offset, Reserved::new(extent, asked.owner));
        if core.space.take_grown() {
            core.space.drop_cold(self.loaded_budget, reservation.place.segment());
        }
        Own { extent, allocation: Allocation { reservation, owner: asked.owner, asked: asked.bytes } }
    }
}
