//! The stream of what is allocated.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::extent::{Extent, ExtentInfo};
use super::handle::{Allocator, Inner};
use crate::error::{Error, Result, Structure};
use crate::format::HeaderKind;

impl Allocator {
    /// All committed extents, in order of offset. Each segment is read as of one instant; commits between the segments
    /// may or may not be seen.
    ///
    /// ```
    /// # async fn list(store: freehold::Allocator) -> freehold::Result<()> {
    /// use futures_util::TryStreamExt;
    /// let mut extents = std::pin::pin!(store.extents());
    /// while let Some(info) = extents.try_next().await? {
    ///     println!("{} bytes at {} belong to {}", info.extent.len, info.extent.offset, info.owner);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn extents(&self) -> impl Stream<Item = Result<ExtentInfo>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        let numbers = inner.core().space.segment_numbers();
        stream::iter(numbers)
            .then(move |segment| {
                let inner = Arc::clone(&inner);
                async move {
                    inner.journal.check_alive()?;
                    inner.ensure_loaded(segment).await?;
                    let extents = inner.offload(move |inner| inner.segment_extents(segment)).await?;
                    Ok(stream::iter(extents.into_iter().map(Ok)))
                }
            })
            .try_flatten()
    }
}

impl Inner {
    fn segment_extents(&self, number: u32) -> Result<Vec<ExtentInfo>> {
        let layout = self.layout();
        let page_bytes = u64::from(layout.page_bytes());
        // Headers are brought into memory first, so that the lock is not held while the device is read.
        let used: Vec<(u32, u32)> = {
            let core = self.core();
            let maps = core.space.segment(number).and_then(|segment| segment.maps.as_ref());
            maps.map(|maps| maps.committed.used_runs().collect()).unwrap_or_default()
        };
        let per_block = layout.headers_per_block();
        for (start, len) in used {
            for block in start / per_block..=(start + len - 1) / per_block {
                self.journal.read_leaf(layout.header_leaf(number, block.into()))?;
            }
        }
        let core = self.core();
        let Some(segment) = core.space.segment(number) else { return Ok(Vec::new()) };
        let mut extents = Vec::with_capacity(segment.record.extents as usize);
        let Some(maps) = &segment.maps else { return Ok(extents) };
        for (start, len) in maps.committed.used_runs() {
            let mut page = start;
            while page < start + len {
                let header = self.read_header(number, page)?;
                if header.kind == HeaderKind::None || header.pages > start + len - page {
                    let (leaf, offset) = layout.header_place(number, page);
                    let offset = self.journal.leaf_offset(leaf) + u64::from(offset);
                    return Err(Error::corrupt(
                        Structure::PageHeader,
                        offset,
                        "pages in use without a header",
                    ));
                }
                let extent = Extent {
                    offset: layout.page_offset(number, page),
                    len: u64::from(header.pages) * page_bytes,
                    generation: header.generation,
                };
                extents.push(ExtentInfo { extent, owner: header.owner });
                page += header.pages;
            }
        }
        Ok(extents)
    }
}
