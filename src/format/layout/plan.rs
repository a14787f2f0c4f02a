//! From a few sizes to a layout: what was not asked for is chosen, and every size is checked before it is used.

use super::{Layout, TreeLevel};
use crate::device::DeviceGeometry;
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_REFERENCE_BYTES, HEAD_BLOCKS, MAX_BLOCK_BYTES, MAX_JOURNAL_BYTES, MAX_ORDER, MAX_PAGE_BYTES,
    MAX_SEGMENT_BYTES, MAX_SEGMENTS, MIN_BLOCK_BYTES, MIN_JOURNAL_BYTES, MIN_PAGE_BYTES, MIN_STORE_BYTES,
    PAGE_HEADER_BYTES, REGION_BYTES, SEGMENT_RECORD_BYTES,
};
use crate::media::Medium;

/// What `format` is asked for; what is `None` is chosen to suit.
#[derive(Clone, Copy, Debug)]
pub struct GeometryRequest {
    /// The device as it is.
    pub device: DeviceGeometry,
    /// The medium, which suggests the page size.
    pub medium: Medium,
    /// Page size in bytes.
    pub page_bytes: Option<u64>,
    /// Segment size in bytes.
    pub segment_bytes: Option<u64>,
    /// Size of the journal ring in bytes.
    pub journal_bytes: Option<u64>,
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidGeometry(reason.into())
}

impl Layout {
    /// Chooses what was left open, and lays the store out.
    ///
    /// # Errors
    /// [`Error::InvalidGeometry`] says which size does not work and why.
    pub fn plan(request: &GeometryRequest) -> Result<Self> {
        let device = request.device;
        if device.len_bytes < MIN_STORE_BYTES {
            return Err(invalid(format!(
                "{} bytes are too few, a store has at least {MIN_STORE_BYTES}",
                device.len_bytes
            )));
        }
        let narrow = |what: &str, value: u64| {
            u32::try_from(value).map_err(|_| invalid(format!("{what} of {value} bytes is too large")))
        };
        let page_bytes = match request.page_bytes {
            Some(bytes) => narrow("a page", bytes)?,
            None => {
                // A page is whole physical blocks, so that no write of one tears a neighbour.
                let physical = device.physical_block_bytes.min(MAX_BLOCK_BYTES);
                let least = device.sector_bytes.max(physical).max(MIN_PAGE_BYTES);
                let mut page = request.medium.page_bytes_for_sector(device.sector_bytes).max(least);
                // A large page on a small device would leave a handful of pages.
                while page > least && device.len_bytes / u64::from(page) < 256 {
                    page /= 2;
                }
                page
            }
        };
        if !page_bytes.is_power_of_two() {
            return Err(invalid(format!("a page of {page_bytes} bytes is no power of two")));
        }
        if page_bytes < device.sector_bytes {
            return Err(invalid(format!(
                "a page of {page_bytes} bytes is smaller than the device's sector of {}",
                device.sector_bytes
            )));
        }
        let block_bytes =
            device.sector_bytes.max(device.physical_block_bytes.min(page_bytes)).max(MIN_BLOCK_BYTES);
        let largest_segment = MAX_SEGMENT_BYTES.min(u64::from(page_bytes) << MAX_ORDER);
        let segment_bytes = request.segment_bytes.unwrap_or_else(|| {
            // A role has whole segments: a small share of the device, or the few items of a store of blobs would cost it much
            // (docs/AGEING.md).
            let share = (device.len_bytes / 64).max(1);
            let power = 1_u64 << share.ilog2();
            power.max(u64::from(page_bytes) * 16).min(largest_segment)
        });
        let ring_bytes = request.journal_bytes.unwrap_or_else(|| {
            let block = u64::from(block_bytes);
            (device.len_bytes / 64).clamp(MIN_JOURNAL_BYTES, 64 << 20).max(6 * block).next_multiple_of(block)
        });
        Self::from_sizes(
            device.len_bytes,
            device.sector_bytes,
            block_bytes,
            page_bytes,
            device.physical_block_bytes.clamp(device.sector_bytes, block_bytes),
            segment_bytes,
            ring_bytes,
        )
    }

    /// Lays a store out from the sizes in its superblock. Nothing is trusted: every size is checked before it is used.
    pub fn from_sizes(
        device_bytes: u64,
        sector_bytes: u32,
        block_bytes: u32,
        page_bytes: u32,
        ring_granule_bytes: u32,
        segment_bytes: u64,
        ring_bytes: u64,
    ) -> Result<Self> {
        if !(MIN_STORE_BYTES..=i64::MAX.unsigned_abs()).contains(&device_bytes) {
            return Err(invalid(format!("a device of {device_bytes} bytes is out of range")));
        }
        if !sector_bytes.is_power_of_two() || !(512..=MAX_BLOCK_BYTES).contains(&sector_bytes) {
            return Err(invalid(format!("sectors of {sector_bytes} bytes are not supported")));
        }
        if !block_bytes.is_power_of_two()
            || !(MIN_BLOCK_BYTES.max(sector_bytes)..=MAX_BLOCK_BYTES).contains(&block_bytes)
        {
            return Err(invalid(format!("metadata blocks of {block_bytes} bytes are not supported")));
        }
        if !page_bytes.is_power_of_two() || !(block_bytes..=MAX_PAGE_BYTES).contains(&page_bytes) {
            return Err(invalid(format!(
                "a page of {page_bytes} bytes must be a power of two from {block_bytes} to {MAX_PAGE_BYTES}"
            )));
        }
        if !ring_granule_bytes.is_power_of_two()
            || !(sector_bytes..=block_bytes).contains(&ring_granule_bytes)
        {
            return Err(invalid(format!("a journal granule of {ring_granule_bytes} bytes is not supported")));
        }
        let page = u64::from(page_bytes);
        let largest_segment = MAX_SEGMENT_BYTES.min(page << MAX_ORDER);
        if !segment_bytes.is_power_of_two() || !(page * 8..=largest_segment).contains(&segment_bytes) {
            return Err(invalid(format!(
                "a segment of {segment_bytes} bytes must be a power of two from {} to {largest_segment}",
                page * 8
            )));
        }
        let block = u64::from(block_bytes);
        if !ring_bytes.is_multiple_of(block) || !(MIN_JOURNAL_BYTES..=MAX_JOURNAL_BYTES).contains(&ring_bytes)
        {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes must be a multiple of {block} from {MIN_JOURNAL_BYTES} to {MAX_JOURNAL_BYTES}"
            )));
        }
        if ring_bytes >= device_bytes {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes does not fit into a device of {device_bytes}"
            )));
        }
        let segment_count = u32::try_from(device_bytes.div_ceil(segment_bytes))
            .ok()
            .filter(|&count| count <= MAX_SEGMENTS)
            .ok_or_else(|| invalid("too many segments; choose larger ones"))?;
        let pages_per_segment =
            u32::try_from(segment_bytes / page).map_err(|_| invalid("too many pages in a segment"))?;

        // Half the ring holds the largest transaction: the bits of a whole segment, and a whole block of the caller.
        let largest = u64::from(pages_per_segment) / 8 + block + 2048;
        if ring_bytes / 2 < largest {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes is too small for segments of {pages_per_segment} pages; make it {} at least",
                (2 * largest).next_multiple_of(block)
            )));
        }
        let pages = u64::from(pages_per_segment);
        let bitmap_blocks = pages.div_ceil(8).div_ceil(block);
        let header_blocks = (pages * PAGE_HEADER_BYTES as u64).div_ceil(block);
        let table_blocks = (u64::from(segment_count) * SEGMENT_RECORD_BYTES as u64).div_ceil(block);
        let too_large = || invalid("the metadata does not fit");
        let leaf_blocks = u64::from(segment_count)
            .checked_mul(bitmap_blocks + header_blocks)
            .and_then(|blocks| blocks.checked_add(1 + table_blocks))
            .ok_or_else(too_large)?;

        let fan_out = block / BLOCK_REFERENCE_BYTES as u64;
        let mut offset = HEAD_BLOCKS * block + ring_bytes;
        let mut interior = Vec::new();
        let mut blocks = leaf_blocks;
        loop {
            blocks = blocks.div_ceil(fan_out);
            interior.push(TreeLevel { offset, blocks });
            offset =
                blocks.checked_mul(2 * block).and_then(|b| b.checked_add(offset)).ok_or_else(too_large)?;
            if blocks == 1 {
                break;
            }
        }
        let leaves = TreeLevel { offset, blocks: leaf_blocks };
        let end =
            leaf_blocks.checked_mul(2 * block).and_then(|b| b.checked_add(offset)).ok_or_else(too_large)?;
        let metadata_pages = end.div_ceil(page);
        let page_count = device_bytes / page;
        if metadata_pages >= page_count {
            return Err(invalid(format!(
                "metadata and journal take {end} bytes, which leaves no page of {page_bytes} on a device of {device_bytes}"
            )));
        }
        Ok(Self {
            device_bytes,
            sector_bytes,
            block_bytes,
            page_bytes,
            ring_granule_bytes,
            segment_bytes,
            ring_bytes,
            segment_count,
            pages_per_segment,
            page_count,
            table_blocks,
            bitmap_blocks,
            header_blocks,
            region_pages: Self::region_pages_for(page, pages_per_segment, ring_bytes),
            leaves,
            interior,
            metadata_pages,
        })
    }

    /// A region is at least 64 KiB and four pages, at most half a segment, and small enough for its head to pass
    /// through the journal at once.
    fn region_pages_for(page: u64, pages_per_segment: u32, ring_bytes: u64) -> u32 {
        let wanted = (REGION_BYTES / page).max(4).min(u64::from(pages_per_segment / 2));
        let most = (ring_bytes / 8 / page).max(1);
        let pages = wanted.min(1 << most.ilog2());
        u32::try_from(pages).unwrap_or(1)
    }
}
