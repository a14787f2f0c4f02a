#![allow(clippy::float_cmp, reason = "the scores compared are exact")]

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::*;
use crate::allocator::{AllocRequest, FormatOptions, OpenOptions};
use crate::device::{Device, MemoryDevice};
use crate::inspect;

const PAGE: u64 = 4096;

fn count(lengths: &[u32]) -> RunCount {
    let mut count = RunCount::default();
    lengths.iter().for_each(|&len| count.add(len, 1));
    count
}

fn score_of(lengths: &[u32], segment: u64) -> f64 {
    let histogram = count(lengths).histogram;
    score(histogram.pages.iter().sum(), histogram.squares, segment)
}

#[test]
fn the_score_is_that_of_the_definition() {
    // Nothing; one run, however short; runs that fill a segment.
    for lengths in [&[][..], &[0], &[1], &[7], &[256], &[256, 256, 256]] {
        assert_eq!(score_of(lengths, 256), 0.0, "{lengths:?}");
    }
    // 1 - (1 + 9) / (4 * 4), and with a smaller segment 1 - (1 + 9) / (4 * 3).
    assert_eq!(score_of(&[1, 3], 256), 0.375);
    assert!((score_of(&[1, 3], 3) - 1.0 / 6.0).abs() < 1e-12);
    let dust = score_of(&[1; 1000], 256);
    assert!(dust > 0.996 && dust < 1.0, "{dust}");
    // The largest device, all free: the squares need more than 64 bits.
    let mut all = RunCount::default();
    all.add(1 << 18, 1 << 22);
    let pages = all.histogram.pages.iter().sum();
    assert_eq!((score(pages, all.histogram.squares, 1 << 18), pages), (0.0, 1 << 40));
}

#[test]
fn runs_are_counted_by_order() {
    let mut counted = count(&[1, 2, 3, 4, 7, 8, 1 << 18]);
    counted.add(5, 10);
    counted.add(0, 10);
    let Histogram { runs, pages, .. } = counted.histogram;
    assert_eq!((runs[..4].to_vec(), pages[..4].to_vec()), (vec![1, 2, 12, 1], vec![1, 5, 61, 8]));
    assert_eq!((runs[18], pages[18], counted.longest), (1, 1 << 18, 1 << 18));
}

async fn store(len: usize) -> (Arc<MemoryDevice>, Allocator) {
    let device = Arc::new(MemoryDevice::zeroed(len));
    let options = FormatOptions::new().page_bytes(PAGE).segment_bytes(256 << 10).journal_bytes(64 << 10);
    options.format_device(Arc::clone(&device) as Arc<dyn Device>).await.unwrap();
    let store = open(&device).await;
    (device, store)
}

async fn open(device: &Arc<MemoryDevice>) -> Allocator {
    OpenOptions::new().open_device(Arc::clone(device) as Arc<dyn Device>).await.unwrap().0
}

/// The stats, after they were compared with the counters of the store, and with its free areas if all are known.
async fn consistent(store: &Allocator) -> SpaceStats {
    let stats = store.space_stats();
    assert_eq!(stats.free_bytes, store.stats().free_bytes);
    assert_eq!(stats.runs.run_bytes + stats.unloaded_free_bytes + stats.free_item_bytes, stats.free_bytes);
    let sum = stats.runs.histogram.iter().map(|bucket| bucket.bytes).sum::<u64>();
    assert_eq!(sum, stats.runs.run_bytes, "{stats:?}");
    if stats.unloaded_free_bytes == 0 {
        let areas: Vec<_> = store.free_areas().try_collect().await.unwrap();
        let mut expected = RunCount::default();
        areas.iter().for_each(|area| expected.add(u32::try_from(area.len / PAGE).unwrap(), 1));
        assert_eq!(stats.runs, expected.finish(store.layout()));
    }
    stats
}

#[tokio::test(flavor = "current_thread")]
async fn an_open_store_agrees_with_its_areas_and_with_the_device() {
    let (device, store) = store(4 << 20).await;
    let fresh = consistent(&store).await;
    assert_eq!((fresh.untouched_bytes, fresh.runs.run_bytes), (fresh.free_bytes, fresh.free_bytes));
    assert_eq!(fresh.runs.largest_run_bytes, 256 << 10);

    let mut txn = store.begin();
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(txn.alloc(3 * PAGE).await.unwrap());
    }
    let items = [100, 1000].map(AllocRequest::bytes);
    for request in [items[0], items[0], items[1], AllocRequest::bytes(2 * PAGE).power_of_two()] {
        txn.alloc(request).await.unwrap();
    }
    let span = txn.alloc((256 << 10) + 2 * PAGE).await.unwrap();
    consistent(&store).await;
    txn.commit().await.unwrap();
    let mut txn = store.begin();
    for run in runs.iter().step_by(2) {
        txn.free(run).await.unwrap();
    }
    consistent(&store).await;
    txn.commit().await.unwrap();
    let holes = consistent(&store).await;
    // What lies between two that are left: three pages, in the bucket from two pages on.
    assert!(holes.runs.histogram[1].runs >= 8, "{holes:?}");
    assert!(holes.runs.fragmentation > fresh.runs.fragmentation, "{holes:?}");
    assert!(holes.free_item_bytes > 0 && holes.untouched_bytes < holes.runs.run_bytes, "{holes:?}");

    store.close().await.unwrap();
    let report = inspect::stat(Arc::clone(&device) as Arc<dyn Device>).unwrap();
    assert_eq!((report.runs, report.untouched_bytes), (holes.runs.clone(), holes.untouched_bytes));
    assert_eq!(report.free_item_bytes, holes.free_item_bytes);

    // Nothing is loaded at first; freeing the span loads the segment of its tail, which is that of the other runs.
    let store = open(&device).await;
    let cold = consistent(&store).await;
    assert!(cold.unloaded_free_bytes > 0 && cold.free_item_bytes == holes.free_item_bytes, "{cold:?}");
    assert_eq!(cold.runs.run_bytes + cold.unloaded_free_bytes, holes.runs.run_bytes);
    let mut txn = store.begin();
    txn.free(&span).await.unwrap();
    txn.commit().await.unwrap();
    let warmer = consistent(&store).await;
    assert!(warmer.unloaded_free_bytes < cold.unloaded_free_bytes, "{warmer:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn segments_that_were_never_used_are_not_looked_at_one_by_one() {
    for len in [1 << 20, (1 << 20) + 4096, (1 << 20) + 100, (2 << 20) - 4096, 300 << 10] {
        let (_, store) = store(len).await;
        let layout = store.layout();
        let mut each = RunCount::default();
        let numbers = layout.first_segment()..layout.segment_count();
        numbers.clone().for_each(|number| each.add(usable_pages(layout, number), 1));
        let mut all = RunCount::default();
        all.add_segments(layout, &numbers);
        assert_eq!(all.finish(layout), each.finish(layout), "{len}");
        assert_eq!(all.finish(layout).run_bytes, store.stats().free_bytes, "{len}");
    }
}
