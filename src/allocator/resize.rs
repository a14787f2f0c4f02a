//! Growing and shrinking an extent where it is.

use std::sync::Arc;

use super::extent::Extent;
use super::handle::{Core, Inner, Resized};
use super::load::{Fault, Missing};
use super::publish::Own;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::PageHeader;
use crate::space::{Place, Release, Resize};

/// What becomes of a resize at once.
enum Outcome {
    /// Nothing changes.
    Same(Extent),
    /// What this transaction allocated is another.
    Reserved(Own),
    /// It takes effect when the transaction commits.
    Staged(Extent, Resize),
}

impl Transaction {
    /// Gives an extent another length, at least `bytes` bytes, where it is: a new handle for it, which is valid when the
    /// transaction commits, and within the transaction. The old handle is not any more: within the transaction at once, for
    /// others when it has committed. What is cut off is handed out again when that is durable.
    ///
    /// Runs of pages can grow into free pages right behind them, and shrink to at least a page. A power-of-two extent,
    /// an item and a span keep their length; giving them a length that rounds to the one they have is no error.
    ///
    /// # Errors
    /// [`Error::CannotResize`] when the space behind is not free, or the kind of extent does not allow it;
    /// [`Error::InvalidSize`] for no bytes; as [`free`](Self::free) for the handle.
    pub async fn resize(&mut self, extent: &Extent, bytes: u64) -> Result<Extent> {
        self.check_writable()?;
        if bytes == 0 {
            return Err(Error::InvalidSize("an extent has at least one byte".to_owned()));
        }
        if let Some(at) = self.intent.resized.iter().position(|(own, _)| own == extent) {
            return self.resize_again(at, bytes);
        }
        self.stage_resize(extent, bytes).await
    }

    /// Once more: from the length that the transaction gave it before.
    fn resize_again(&mut self, at: usize, bytes: u64) -> Result<Extent> {
        let Some((extent, resize)) = self.intent.resized.get_mut(at) else {
            return Err(Error::Internal("a resize is gone"));
        };
        let old = *extent;
        let place = Place::Run {
            segment: resize.segment,
            page: resize.page,
            pages: resize.new_pages,
            kind: resize.header.kind,
        };
        let inner = Arc::clone(&self.inner);
        let mut core = inner.core();
        let pages = inner.pages_for(&old, &place, bytes).map_err(Fault::into_error)?;
        let (own, now) = (resize.old_pages, resize.new_pages);
        if pages > now.max(own) {
            let from = now.max(own);
            if !core.space.reserve_growth(resize.segment, resize.page + from, pages - from) {
                return Err(refused(&old, bytes, "the space behind it is not free").into_error());
            }
        } else if now > pages.max(own) {
            let from = pages.max(own);
            core.space.unreserve_growth(resize.segment, resize.page + from, now - from);
        }
        resize.new_pages = pages;
        resize.asked = bytes;
        extent.len = u64::from(pages) * u64::from(inner.layout().page_bytes());
        let new = *extent;
        if let Some(resized) = core.resized.get_mut(&new.offset) {
            resized.extent = new;
        }
        drop(core);
        self.cut_staged(&old, &new);
        Ok(new)
    }

    /// What was staged for the part that goes has nowhere to go.
    fn cut_staged(&mut self, old: &Extent, new: &Extent) {
        let end = new.end();
        for write in &mut self.intent.staged {
            if (old.offset..old.end()).contains(&write.offset) {
                let len = usize::try_from(end.saturating_sub(write.offset)).unwrap_or(usize::MAX);
                write.data.truncate(len);
            }
        }
        self.intent.staged.retain(|write| !write.data.is_empty());
    }

    async fn stage_resize(&mut self, extent: &Extent, bytes: u64) -> Result<Extent> {
        let at = self.intent.allocated.iter().position(|own| own.extent == *extent);
        let own = at.and_then(|at| self.intent.allocated.get(at)).copied();
        let freed: Vec<Extent> = self.intent.freed.iter().map(|(freed, _)| *freed).collect();
        let outcome = self
            .inner
            .ask(|inner, core| {
                if freed.contains(extent) {
                    let reason = "this transaction frees it";
                    return Err(Error::NotAllocated { offset: extent.offset, reason }.into());
                }
                if let Some(own) = own {
                    inner.resize_reserved(core, own, bytes).map(Outcome::Reserved)
                } else {
                    inner.resize_committed(core, extent, bytes)
                }
            })
            .await?;
        let new = match outcome {
            Outcome::Same(extent) => extent,
            Outcome::Reserved(new) => {
                if let Some(own) = at.and_then(|at| self.intent.allocated.get_mut(at)) {
                    *own = new;
                }
                new.extent
            }
            Outcome::Staged(new, resize) => {
                self.intent.resized.push((new, resize));
                new
            }
        };
        self.cut_staged(extent, &new);
        Ok(new)
    }
}

fn refused(extent: &Extent, bytes: u64, reason: &'static str) -> Fault {
    Fault::Error(Error::CannotResize { offset: extent.offset, len: bytes, reason })
}

/// Why a kind of extent keeps its length.
fn keeps_length(place: &Place) -> Option<&'static str> {
    match place {
        Place::Run { kind: crate::format::HeaderKind::Extent, .. } => None,
        Place::Run { .. } => Some("a power-of-two extent keeps its length"),
        Place::Item { .. } => Some("an item keeps its length"),
        Place::Span { .. } => Some("a span keeps its length"),
    }
}

impl Inner {
    /// New length in pages, if it is a possible one for an extent of a segment.
    fn pages_for(&self, extent: &Extent, place: &Place, bytes: u64) -> Result<u32, Fault> {
        let page_bytes = u64::from(self.layout().page_bytes());
        if let Some(reason) = keeps_length(place) {
            return Err(refused(extent, bytes, reason));
        }
        u32::try_from(bytes.div_ceil(page_bytes))
            .ok()
            .filter(|&pages| pages <= self.layout().pages_per_segment())
            .ok_or_else(|| refused(extent, bytes, "a segment is smaller"))
    }

    /// Whether a length comes to the same space.
    fn rounds_to_same(&self, extent: &Extent, place: &Place, bytes: u64) -> bool {
        let page_bytes = u64::from(self.layout().page_bytes());
        match place {
            Place::Item { class, .. } => crate::format::ItemClass::for_bytes(bytes) == Some(*class),
            Place::Run { kind: crate::format::HeaderKind::Buddy, .. } => {
                bytes.div_ceil(page_bytes).checked_next_power_of_two() == Some(extent.len / page_bytes)
            }
            Place::Run { .. } | Place::Span { .. } => bytes.div_ceil(page_bytes) == extent.len / page_bytes,
        }
    }

    /// Reserves or gives back the difference of two lengths.
    fn change_tail(
        core: &mut Core,
        extent: &Extent,
        bytes: u64,
        (segment, page): (u32, u32),
        (old, new): (u32, u32),
    ) -> Result<(), Fault> {
        if new > old && !core.space.reserve_growth(segment, page + old, new - old) {
            return Err(refused(extent, bytes, "the space behind it is not free"));
        }
        Ok(())
    }

    fn resize_reserved(&self, core: &mut Core, own: Own, bytes: u64) -> Result<Own, Fault> {
        let page_bytes = u64::from(self.layout().page_bytes());
        let (extent, place) = (&own.extent, own.place());
        let mut changed = own;
        changed.allocation.asked = bytes;
        if !self.rounds_to_same(extent, &place, bytes) {
            let new_pages = self.pages_for(extent, &place, bytes)?;
            let Place::Run { segment, page, pages, kind } = place else {
                return Err(refused(extent, bytes, "it keeps its length"));
            };
            Self::change_tail(core, extent, bytes, (segment, page), (pages, new_pages))?;
            if new_pages < pages {
                core.space.unreserve_growth(segment, page + new_pages, pages - new_pages);
            }
            changed.allocation.reservation.place = Place::Run { segment, page, pages: new_pages, kind };
            changed.extent.len = u64::from(new_pages) * page_bytes;
        }
        let reserved = core.reserved.get_mut(&extent.offset);
        reserved.ok_or(Error::Internal("a reservation is gone"))?.extent = changed.extent;
        Ok(changed)
    }

    fn resize_committed(&self, core: &mut Core, extent: &Extent, bytes: u64) -> Result<Outcome, Fault> {
        let found = self.find_committed(core, extent)?;
        if core.claimed.contains(&extent.offset) {
            let reason = "this or another open transaction frees it or changes its length";
            return Err(Error::NotAllocated { offset: extent.offset, reason }.into());
        }
        let place = found.release.place;
        if self.rounds_to_same(extent, &place, bytes) && keeps_length(&place).is_some() {
            return Ok(Outcome::Same(*extent));
        }
        let new_pages = self.pages_for(extent, &place, bytes)?;
        let Place::Run { segment, page, pages, .. } = place else {
            return Err(refused(extent, bytes, "it keeps its length"));
        };
        if !core.space.pin(segment) {
            return Err(Fault::Missing(Missing::Segment(segment)));
        }
        if let Err(fault) = Self::change_tail(core, extent, bytes, (segment, page), (pages, new_pages)) {
            core.space.unpin(segment);
            return Err(fault);
        }
        let header: PageHeader = found.header;
        let resize = Resize { segment, page, old_pages: pages, new_pages, header, asked: bytes };
        let len = u64::from(new_pages) * u64::from(self.layout().page_bytes());
        let new = Extent { len, ..*extent };
        core.claimed.insert(extent.offset);
        core.resized.insert(extent.offset, Resized { extent: new, data_number: 0 });
        Ok(Outcome::Staged(new, resize))
    }

    /// Forgets a resize that was not committed.
    pub(super) fn undo_resize(&self, resize: &Resize) {
        let mut core = self.core();
        let offset = self.take_back_length(&mut core, resize);
        core.space.unpin(resize.segment);
        core.claimed.remove(&offset);
    }

    /// Makes the free of an extent of a resize of it: the transaction has it claimed, and its segment stays loaded.
    pub(super) fn free_resized(&self, resize: &Resize) -> (Extent, Release) {
        let page_bytes = u64::from(self.layout().page_bytes());
        let offset = self.take_back_length(&mut self.core(), resize);
        let Resize { segment, page, old_pages: pages, header, .. } = *resize;
        let len = u64::from(pages) * page_bytes;
        let release = Release {
            place: Place::Run { segment, page, pages, kind: header.kind },
            generation: header.generation,
            slack_bytes: header.slack_bytes(len, page_bytes),
        };
        (Extent { offset, len, generation: header.generation }, release)
    }

    /// Gives back what an extent was to grow by; returns where it begins.
    fn take_back_length(&self, core: &mut Core, resize: &Resize) -> u64 {
        let offset = self.layout().page_offset(resize.segment, resize.page);
        if resize.grows() {
            let (page, pages) = resize.difference();
            core.space.unreserve_growth(resize.segment, page, pages);
        }
        core.resized.remove(&offset);
        offset
    }
}
