//! Layouts of stores of all sizes: nothing overlaps, bad sizes are named, hostile ones do not panic.

use super::*;
use crate::device::DeviceGeometry;
use crate::format::MIN_STORE_BYTES;
use crate::media::Medium;

fn device(len_bytes: u64, sector_bytes: u32) -> DeviceGeometry {
    DeviceGeometry { len_bytes, sector_bytes, physical_block_bytes: sector_bytes.max(4096) }
}

fn request(len_bytes: u64) -> GeometryRequest {
    GeometryRequest {
        device: device(len_bytes, 512),
        medium: Medium::Nvme,
        page_bytes: None,
        segment_bytes: None,
        journal_bytes: None,
    }
}

#[test]
fn smallest_store_has_pages() {
    let layout = Layout::plan(&request(MIN_STORE_BYTES)).unwrap();
    assert_eq!(layout.page_bytes(), 4096);
    assert_eq!(layout.segment_bytes(), 65536);
    assert!(layout.usable_pages() >= 20, "{layout:?}");
    assert_eq!(layout.metadata_bytes() + layout.usable_pages() * 4096, MIN_STORE_BYTES);
}

#[test]
fn structures_do_not_overlap() {
    for len in [MIN_STORE_BYTES, 1 << 20, 1 << 30, 16 << 40, (16 << 40) + 12345] {
        let layout = Layout::plan(&request(len)).unwrap();
        assert!(layout.superblock_offset(1) + u64::from(layout.block_bytes()) <= layout.witness_offset(1));
        let mut end = layout.ring_offset() + layout.ring_bytes();
        assert!(layout.witness_offset(1) < layout.ring_offset());
        for level in layout.interior() {
            assert_eq!(level.offset, end);
            end += level.blocks * 2 * u64::from(layout.block_bytes());
        }
        assert_eq!(layout.interior().last().unwrap().blocks, 1);
        assert_eq!(layout.slot(0, 0, 0).offset, end);
        let last = layout.segment_count() - 1;
        assert_eq!(
            layout.header_leaf(last, layout.header_blocks() - 1).0 + 1,
            layout.leaf_count(),
            "the last header block is the last leaf"
        );
        assert!(layout.slot(0, layout.leaf_count(), 0).offset <= layout.data_offset());
        let usable: u64 =
            (0..layout.segment_count().min(20_000)).map(|s| layout.usable_range(s).len() as u64).sum();
        assert_eq!(usable, layout.usable_pages());
    }
}

#[test]
fn offsets_and_pages_correspond() {
    let layout = Layout::plan(&request(1 << 30)).unwrap();
    let (segment, page) = layout.page_at(layout.data_offset()).unwrap();
    assert_eq!(layout.page_offset(segment, page), layout.data_offset());
    assert_eq!(segment, layout.first_segment());
    assert_eq!(layout.page_at(layout.data_offset() - 4096), None);
    assert_eq!(layout.page_at(layout.data_offset() + 1), None);
    assert_eq!(layout.page_at(1 << 30), None);
}

#[test]
fn half_a_page_at_the_end_is_not_usable() {
    let whole = Layout::plan(&request(1 << 20)).unwrap();
    let half = Layout::plan(&GeometryRequest { segment_bytes: Some(65536), ..request((1 << 20) + 2048) });
    assert_eq!(half.unwrap().page_count(), whole.page_count());
}

#[test]
fn bad_sizes_are_named() {
    let bad = |change: fn(&mut GeometryRequest)| {
        let mut request = request(1 << 30);
        change(&mut request);
        Layout::plan(&request).unwrap_err().to_string()
    };
    assert!(bad(|r| r.page_bytes = Some(5000)).contains("power of two"));
    assert!(bad(|r| r.page_bytes = Some(256)).contains("smaller than the device's sector"));
    assert!(bad(|r| r.page_bytes = Some(2048)).contains("must be a power of two from 4096"));
    assert!(bad(|r| r.page_bytes = Some(u64::MAX)).contains("too large"));
    assert!(bad(|r| r.journal_bytes = Some(2 << 30)).contains("does not fit"));
    assert!(bad(|r| r.journal_bytes = Some(u64::MAX)).contains("journal"));
    assert!(bad(|r| r.segment_bytes = Some(3 << 20)).contains("segment"));
    assert!(bad(|r| r.segment_bytes = Some(u64::MAX)).contains("segment"));
    assert!(bad(|r| r.device.len_bytes = 1000).contains("too few"));
    assert!(bad(|r| r.device.sector_bytes = 1 << 20).contains("sector"));
}

#[test]
fn hostile_sizes_never_panic() {
    for device in [0, 1, MIN_STORE_BYTES, u64::MAX, i64::MAX as u64] {
        for size in [0, 1, 512, 4096, 65536, 1 << 30, u32::MAX] {
            for big in [0, 1, 4096, 32768, 65536, 1 << 30, u64::MAX] {
                let _ = Layout::from_sizes(device, size, size, size, size, big, big);
                let _ = Layout::from_sizes(device, 512, 4096, 4096, 512, big, 32768);
            }
        }
    }
}

#[test]
fn a_page_is_whole_physical_blocks() {
    let page = |medium, physical: u32, len_bytes: u64| {
        let mut request = GeometryRequest { medium, ..request(len_bytes) };
        request.device.physical_block_bytes = physical;
        Layout::plan(&request).unwrap().page_bytes()
    };
    assert_eq!(page(Medium::Nvme, 512, 1 << 30), 4096);
    assert_eq!(page(Medium::Nvme, 16_384, 1 << 30), 16_384);
    assert_eq!(
        page(Medium::Hdd, 65_536, 4 << 20),
        65_536,
        "a small disk has small pages, but not that small"
    );
    assert_eq!(page(Medium::Hdd, 4096, 1 << 30), 262_144);
}
