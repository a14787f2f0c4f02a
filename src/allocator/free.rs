//! What can be had: free space as areas, as a stream.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::handle::{Allocator, Core, Inner};
use super::load::{Fault, Missing};
use crate::error::Result;
use crate::space::Content;

/// Pages in a row that can be allocated, for example at a given place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FreeArea {
    /// First byte, from the start of the device.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Allocator {
    /// Free space as areas, in order of offset; one that goes on in the next segment is two. Each segment is read as of
    /// one instant. Regions of small items are not areas, whatever is free in them.
    ///
    /// ```
    /// # async fn list(store: freehold::Allocator) -> freehold::Result<()> {
    /// use futures_util::TryStreamExt;
    /// let mut areas = std::pin::pin!(store.free_areas());
    /// while let Some(area) = areas.try_next().await? {
    ///     println!("{} bytes from {} on", area.len, area.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn free_areas(&self) -> impl Stream<Item = Result<FreeArea>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        let numbers = inner.layout().first_segment()..inner.layout().segment_count();
        stream::iter(numbers)
            .then(move |segment| {
                let inner = Arc::clone(&inner);
                async move {
                    inner.journal.check_alive()?;
                    let areas = inner.ask(|inner, core| inner.segment_areas(core, segment)).await?;
                    Ok(stream::iter(areas.into_iter().map(Ok)))
                }
            })
            .try_flatten()
    }
}

impl Inner {
    fn segment_areas(&self, core: &Core, number: u32) -> Result<Vec<FreeArea>, Fault> {
        let layout = self.layout();
        let page_bytes = u64::from(layout.page_bytes());
        let area = |(page, pages): (u32, u32)| FreeArea {
            offset: layout.page_offset(number, page),
            len: u64::from(pages) * page_bytes,
        };
        let usable = layout.usable_range(number);
        let whole = || {
            let pages = usable.end - usable.start;
            if pages > 0 { vec![area((usable.start, pages))] } else { Vec::new() }
        };
        let Some(segment) = core.space.segment(number) else { return Ok(whole()) };
        if segment.is_cold() {
            return Err(Fault::Missing(Missing::Segment(number)));
        }
        Ok(match &segment.content {
            _ if segment.is_empty() => whole(),
            Content::Buddy(map) => map.free_runs().map(area).collect(),
            Content::Runs | Content::Slab(_) => {
                core.space.run_map(number).map(|map| map.free_runs().map(area).collect()).unwrap_or_default()
            }
            Content::Absent => whole(),
            Content::Span(_) => Vec::new(),
        })
    }
}
