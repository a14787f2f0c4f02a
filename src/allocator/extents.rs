//! The stream of what is allocated.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::extent::{Extent, ExtentInfo};
use super::handle::{Allocator, Inner};
use super::validate::item;
use crate::error::{Error, Result, Structure};
use crate::format::{HeaderKind, Role};
use crate::space::Region;

/// How often a segment that changes while it is read is read again before commits are held up for it.
const ATTEMPTS: u32 = 8;

impl Allocator {
    /// All committed extents and items, in order of offset. Each segment is read as of one instant; commits between the
    /// segments may or may not be seen.
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
                    let extents = inner.offload(move |inner| inner.segment_extents(segment)).await?;
                    Ok(stream::iter(extents.into_iter().map(Ok)))
                }
            })
            .try_flatten()
    }
}

impl Inner {
    /// The extents of a segment as of one instant: read without a lock, and again if it changed meanwhile.
    fn segment_extents(&self, number: u32) -> Result<Vec<ExtentInfo>> {
        let now = |core: &super::handle::Core| {
            let segment = core.space.segment(number)?;
            Some((segment.version, segment.record, segment.in_flight == 0))
        };
        for _ in 0..ATTEMPTS {
            let before = now(&self.core());
            let Some((_, record, landed)) = before else { return Ok(Vec::new()) };
            if !landed {
                // Its blocks are about to change.
                std::thread::yield_now();
                continue;
            }
            let extents = self.read_extents(number, record.role);
            if now(&self.core()) == before {
                return extents;
            }
        }
        self.journal.between_groups(|| {
            // The one who writes groups waits for this: it is no time for patience.
            let found = now(&self.core_at_once());
            found.map_or(Ok(Vec::new()), |(_, record, _)| self.read_extents(number, record.role))
        })
    }

    fn read_extents(&self, number: u32, role: Role) -> Result<Vec<ExtentInfo>> {
        match role {
            Role::Unused => Ok(Vec::new()),
            Role::Buddy | Role::Extent => self.read_runs(number, &self.read_bitmap(number)?),
            Role::Slab => {
                let used = self.read_bitmap(number)?;
                let mut extents = self.read_runs(number, &used)?;
                extents.extend(self.read_items(number, &used)?);
                extents.sort_unstable_by_key(|info| info.extent.offset);
                Ok(extents)
            }
            Role::Span => {
                let header = self.read_header(number, 0)?;
                let found = {
                    let core = self.core_at_once();
                    let segments = core.space.segment(number).and_then(|entry| entry.record.span_segments());
                    segments.map(|segments| (segments, header))
                };
                let Some((segments, header)) = found.filter(|(_, header)| header.kind == HeaderKind::Span)
                else {
                    return Err(self.corrupt_header(number, 0, "a span without a header"));
                };
                let layout = self.layout();
                let len = u64::from(segments) * layout.segment_bytes()
                    + u64::from(header.pages) * u64::from(layout.page_bytes());
                let extent =
                    Extent { offset: layout.page_offset(number, 0), len, generation: header.generation };
                Ok(vec![ExtentInfo { extent, owner: header.owner }])
            }
        }
    }

    fn read_runs(&self, number: u32, used: &[u8]) -> Result<Vec<ExtentInfo>> {
        let layout = self.layout();
        let page_bytes = u64::from(layout.page_bytes());
        let is_used = |page: u32| used.get(page as usize / 8).is_some_and(|byte| byte >> (page % 8) & 1 == 1);
        let mut extents = Vec::new();
        let usable = layout.usable_range(number);
        let mut page = usable.start;
        while page < usable.end {
            if !is_used(page) {
                page += 1;
                continue;
            }
            let header = self.read_header(number, page)?;
            if header.kind == HeaderKind::None || header.pages == 0 {
                return Err(self.corrupt_header(number, page, "pages in use without a header"));
            }
            if !matches!(header.kind, HeaderKind::SpanTail | HeaderKind::Region) {
                let extent = Extent {
                    offset: layout.page_offset(number, page),
                    len: u64::from(header.pages) * page_bytes,
                    generation: header.generation,
                };
                extents.push(ExtentInfo { extent, owner: header.owner });
            }
            page += header.pages;
        }
        Ok(extents)
    }

    fn read_items(&self, number: u32, used: &[u8]) -> Result<Vec<ExtentInfo>> {
        let mut items = Vec::new();
        for (place, mut region) in self.read_regions(number, used)? {
            let start = self.layout().page_offset(number, place * self.layout().region_pages());
            let len = usize::try_from(region.layout().head_bytes()).unwrap_or(0);
            let head = self.read_blocking(start, len)?;
            let loaded: Result<(), &str> = Region::load(&mut region, head);
            loaded.map_err(|reason| Error::corrupt(Structure::Region, start, reason))?;
            for index in 0..region.layout().capacity() {
                let (Some(true), Some((mark, owner))) = (region.is_used(index), region.item(index)) else {
                    continue;
                };
                let found = item(&region, number, place, index, mark, owner, start);
                items.push(ExtentInfo { extent: found.extent, owner });
            }
        }
        Ok(items)
    }
}
