//! The rules of the caller's pages: what is handed out, and what is written directly.

use freehold::device::Purpose;
use freehold::format::{HeaderKind, Layout, PageHeader, Role, SegmentRecord};

use super::super::store::{Block, Group};
use super::super::views::{Unflushed, Views};
use super::{Breach, Check, Store, Write};

impl Store {
    pub(super) fn direct(&mut self, write: &Write<'_>) -> Check {
        if !write.lies_in(&self.caller_area()) {
            return Breach::because("place", "a direct write outside the pages");
        }
        if write.cut_short {
            self.cut_short.insert(write.event);
        }
        let block_bytes = self.block_bytes();
        let flying = self.flight.as_ref().and_then(|flight| flight.group.as_ref());
        for number in write.offset / block_bytes..write.range().end.div_ceil(block_bytes) {
            let block = Block::Caller(number);
            let live = self.valid().find_map(|version| version.group_with(block));
            if let Some(group) = live.or_else(|| flying.filter(|group| group.blocks.contains(&block))) {
                let message =
                    format!("replay of LSN {} would write over it in {block:?}", group.header.last_lsn());
                return Breach::because("direct", message);
            }
        }
        Ok(())
    }

    /// Data before pointer: what the new owner of a page wrote directly is durable before the group that says
    /// whose it is. Only for pages that are known to have been handed out.
    pub(super) fn data_first(&self, views: &Views, group: &Group) -> Check {
        let version = self.in_force()?;
        let page_bytes = u64::from(self.layout.page_bytes());
        let finished = |write: &&Unflushed| !self.cut_short.contains(&write.event);
        for write in views.pending(&[Purpose::CallerDirect]).filter(finished) {
            for page in write.range().start / page_bytes..write.range().end.div_ceil(page_bytes) {
                let at = page * page_bytes;
                if self.handed_out.get(&at).is_none_or(|claim| *claim >= write.event) {
                    continue;
                }
                let unreadable = |message| Breach { rule: "data", message };
                let before = |block| version.content(&views.medium, block).map_err(unreadable);
                let after = |block| {
                    let mut content = before(block)?;
                    group.change(&version.superblock, block, &mut content);
                    Ok(content)
                };
                let comes_into_use =
                    !is_in_use(&self.layout, at, before)? && is_in_use(&self.layout, at, after)?;
                if comes_into_use && !self.becomes_region(views, group, at)? {
                    let message = format!(
                        "LSN {} gives away the page at {at}, the write at event {} is not flushed",
                        group.header.last_lsn(),
                        write.event
                    );
                    return Breach::because("data", message);
                }
            }
        }
        Ok(())
    }

    /// Whether a group makes a page part of a region of items. Nothing of a region is written directly: what is not
    /// flushed there is of somebody who did not commit.
    fn becomes_region(&self, views: &Views, group: &Group, at: u64) -> Result<bool, Breach> {
        let Some((segment, page)) = self.layout.page_at(at) else { return Ok(false) };
        let first = page / self.layout.region_pages() * self.layout.region_pages();
        let (leaf, offset) = self.layout.header_place(segment, first);
        let version = self.in_force()?;
        let unreadable = |message| Breach { rule: "data", message };
        let mut content = version.content(&views.medium, Block::Leaf(leaf.0)).map_err(unreadable)?;
        group.change(&version.superblock, Block::Leaf(leaf.0), &mut content);
        let header = usize::try_from(offset).ok().and_then(|at| content.get(at..)?.first_chunk());
        let header = header.map(PageHeader::decode);
        Ok(matches!(header, Some(Ok(PageHeader { kind: HeaderKind::Region, .. }))))
    }

    /// Space went to a new owner, or was given to the disk.
    pub(in super::super) fn claimed(&mut self, views: &Views, event: usize, offset: u64, len: u64) -> Check {
        let page_bytes = u64::from(self.layout.page_bytes());
        let pages = (0..len.div_ceil(page_bytes)).map(|number| offset + number * page_bytes);
        let mut durable = std::mem::take(&mut self.durable);
        for at in pages.clone() {
            if self.layout.page_at(at).is_none() {
                return Breach::because("claim", format!("there is no page at {at}"));
            }
            let content = |block| {
                if let Some(content) = durable.get(&block) {
                    return Ok(Vec::clone(content));
                }
                let content = self.in_force()?.content(&views.medium, block);
                let content = content.map_err(|message| Breach { rule: "claim", message })?;
                durable.insert(block, content.clone());
                Ok(content)
            };
            if is_in_use(&self.layout, at, content)? {
                let message = format!("the page at {at} is in use as of the durable groups");
                return Breach::because("claim", message);
            }
        }
        self.durable = durable;
        self.handed_out.extend(pages.map(|at| (at, event)));
        Ok(())
    }
}

type Content = Result<Vec<u8>, Breach>;

/// Whether a page is in use as some metadata has it: by its bit, or as part of a span.
fn is_in_use(layout: &Layout, at: u64, mut content: impl FnMut(Block) -> Content) -> Result<bool, Breach> {
    let Some((segment, page)) = layout.page_at(at) else { return Ok(false) };
    let per_block = layout.pages_per_bitmap_block();
    let leaf = layout.bitmap_leaf(segment, u64::from(page / per_block));
    if is_set(&content(Block::Leaf(leaf.0))?, page % per_block) {
        return Ok(true);
    }
    // The first segment of a span has the record; those behind it have none.
    for head in (layout.first_segment()..=segment).rev() {
        let (leaf, offset) = layout.record_place(head);
        let block = content(Block::Leaf(leaf.0))?;
        let record = usize::try_from(offset).ok().and_then(|at| block.get(at..)?.first_chunk());
        if let Some(Ok(record)) = record.map(SegmentRecord::decode)
            && record.role != Role::Unused
        {
            return Ok(record.span_segments().is_some_and(|segments| head + segments > segment));
        }
    }
    Ok(false)
}

fn is_set(bitmap: &[u8], bit: u32) -> bool {
    let byte = usize::try_from(bit / 8).ok().and_then(|at| bitmap.get(at));
    byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}
