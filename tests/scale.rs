//! Goal: a large device costs what is used of it, in file blocks, in memory, and in time; and arithmetic holds up to its
//! very end.
//!
//! Method: a sparse file of 16 TiB; a device that keeps only the blocks that were written, as long as a store can be.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use freehold::device::{Device, DeviceGeometry, Purpose};
use freehold::{AllocRequest, Allocator, Error, Extent, FormatOptions, OpenOptions};
use roles::{balanced, extents, sound};

const PAGE: u64 = 4096;
const BLOCK: u64 = 4096;
const GIB: u64 = 1 << 30;

/// Blocks that were written.
#[derive(Debug)]
struct Sparse {
    blocks: Mutex<HashMap<u64, Box<[u8]>>>,
    len: u64,
}

impl Sparse {
    fn new(len: u64) -> Arc<Self> {
        Arc::new(Self { blocks: Mutex::new(HashMap::new()), len })
    }

    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let count = (BLOCK as usize - within).min(len - done);
            let piece = (count > 0).then_some((at / BLOCK, within, done..done + count));
            done += count;
            piece
        })
    }
}

impl Device for Sparse {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry { len_bytes: self.len, sector_bytes: 512, physical_block_bytes: 4096 }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let blocks = self.blocks.lock().unwrap();
        for (number, within, range) in Self::pieces(offset, buf.len()) {
            let len = range.len();
            match blocks.get(&number) {
                Some(block) => buf[range].copy_from_slice(&block[within..within + len]),
                None => buf[range].fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], _: Purpose) -> io::Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut blocks = self.blocks.lock().unwrap();
        for (number, within, range) in Self::pieces(offset, data.len()) {
            let len = range.len();
            let block = blocks.entry(number).or_insert_with(|| vec![0; BLOCK as usize].into());
            block[within..within + len].copy_from_slice(&data[range]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn may_block(&self) -> bool {
        false
    }
}

async fn sparse(len: u64, page: u64, segment: u64) -> (Arc<Sparse>, Allocator) {
    let device = Sparse::new(len);
    let format = FormatOptions::new().page_bytes(page).segment_bytes(segment).journal_bytes(1 << 20);
    format.format_device(device.clone()).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
    (device, store)
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_tebibytes_in_a_sparse_file() {
    use std::os::unix::fs::MetadataExt;
    const SPREAD: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe");
    // The largest file of ext4 is a block shorter.
    let makes = |len: &u64| std::fs::File::create(&path).and_then(|file| file.set_len(*len)).is_ok();
    let Some(len) = [16 << 40, (16 << 40) - PAGE].into_iter().find(makes) else {
        eprintln!("skipped: no sparse file of 16 TiB here");
        return;
    };
    std::fs::remove_file(&path).unwrap();
    let path = dir.path().join("store");
    let used = || std::fs::metadata(&path).unwrap().blocks() * 512;
    let created = FormatOptions::new().page_bytes(PAGE).create(&path, len).await.unwrap();
    let layout = created.layout;
    assert_eq!((layout.segment_bytes(), layout.device_bytes()), (GIB, len));
    // The journal is written in full, and it is 64 MiB.
    assert!(used() < 80 << 20, "{} bytes after formatting", used());
    let formatted = used();

    let store = Allocator::open(&path).await.unwrap();
    let first = u64::from(layout.first_segment()) + 1;
    let step = (u64::from(layout.segment_count()) - 1 - first) / (SPREAD - 1);
    let mut all = Vec::new();
    for chunk in (0..SPREAD).collect::<Vec<_>>().chunks(20) {
        let mut txn = store.begin();
        for number in chunk {
            let offset = (first + number * step) * GIB + number * PAGE;
            let extent = txn.alloc(AllocRequest::bytes(3 * PAGE).owner(offset).at(offset)).await.unwrap();
            assert_eq!(extent.offset, offset);
            txn.write(&extent, 0, &offset.to_le_bytes()).await.unwrap();
            all.push(extent);
        }
        txn.commit().await.unwrap();
    }
    let last = len - PAGE;
    let mut txn = store.begin();
    let end = txn.alloc(AllocRequest::bytes(1).owner(last).at(last)).await.unwrap();
    let span = txn.alloc(AllocRequest::bytes(5 * GIB + 1)).await.unwrap();
    assert_eq!(span.len, 5 * GIB + PAGE);
    txn.commit().await.unwrap();
    store.write_at(&end, PAGE - 8, &last.to_le_bytes()).await.unwrap();
    store.sync_data().await.unwrap();
    balanced(&store.stats());
    let stats = store.stats();
    drop(store);

    let store = Allocator::open(&path).await.unwrap();
    let again = store.stats();
    assert_eq!(
        (again.allocated_bytes, again.free_bytes, again.extents),
        (stats.allocated_bytes, stats.free_bytes, SPREAD + 2)
    );
    for extent in &all {
        assert_eq!(store.read_at(extent, 0, 8).await.unwrap(), extent.offset.to_le_bytes());
    }
    assert_eq!(store.read_at(&end, PAGE - 8, 8).await.unwrap(), last.to_le_bytes());
    assert_eq!(extents(&store).await.len() as u64, SPREAD + 2);
    let mut txn = store.begin();
    for extent in all.iter().chain([&end, &span]) {
        txn.free(extent).await.unwrap();
    }
    txn.commit().await.unwrap();
    assert_eq!((store.stats().allocated_bytes, store.stats().extents), (0, 0));
    store.close().await.unwrap();
    // Metadata of some 200 segments, a few blocks each with the tree above.
    assert!(used() - formatted < 200 * 40 * BLOCK, "{} bytes more", used() - formatted);
}

#[tokio::test]
async fn the_very_end_of_a_long_device() {
    // More segments than there can be, however large: an answer, and no overflow.
    for len in [1 << 62, i64::MAX as u64, u64::MAX] {
        let format = FormatOptions::new().page_bytes(16 << 20).segment_bytes(GIB);
        let error = format.format_device(Sparse::new(len)).await.unwrap_err();
        assert!(matches!(error, Error::InvalidGeometry(_)), "{error}");
    }
    // A recount looks at every page below the frontier: it is for the first of them, with 2^17 segments of 64 pages.
    for (len, page) in [(1 << 47, 16 << 20), ((1 << 45) + 12345, PAGE)] {
        let (device, store) = sparse(len, page, GIB).await;
        let end = len / page * page;
        let mut txn = store.begin();
        let last = txn.alloc(AllocRequest::bytes(page).owner(u64::MAX).at(end - page)).await.unwrap();
        let near = txn.alloc(AllocRequest::bytes(page).near(last)).await.unwrap();
        assert_eq!(last.end(), end);
        txn.write(&last, page - 8, b"the end.").await.unwrap();
        for bad in [end, end - 1, len - 1, len, u64::MAX - page + 1, u64::MAX] {
            assert!(matches!(
                txn.alloc(AllocRequest::bytes(1).at(bad)).await,
                Err(Error::InvalidExtent { .. })
            ));
            let extent = Extent { offset: bad, len: page, generation: 1 };
            assert!(matches!(txn.free(&extent).await, Err(Error::InvalidExtent { .. })));
            assert!(matches!(store.extent_at(bad).await, Err(Error::InvalidExtent { .. })));
            txn.alloc(AllocRequest::bytes(page).near(extent)).await.unwrap();
        }
        assert!(matches!(txn.resize(&last, 2 * page).await, Err(Error::CannotResize { .. })));
        assert!(matches!(txn.resize(&last, u64::MAX).await, Err(Error::CannotResize { .. })));
        // Most of the device at once.
        let span = txn.alloc(AllocRequest::bytes(len / 2)).await.unwrap();
        assert!(span.end() <= last.offset);
        store.write_at(&span, span.len - 8, b"far away").await.unwrap();
        txn.commit().await.unwrap();
        balanced(&store.stats());
        assert_eq!(store.read_at(&last, page - 8, 8).await.unwrap(), b"the end.");
        let stats = store.stats();
        drop(store);
        if page > PAGE {
            sound(device.clone(), &stats);
        }
        let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
        assert_eq!(store.stats().extents, stats.extents);
        assert_eq!(store.read_at(&span, span.len - 8, 8).await.unwrap(), b"far away");
        assert_eq!(store.read_at(&last, page - 8, 8).await.unwrap(), b"the end.");
        let mut txn = store.begin();
        for extent in [&last, &near, &span] {
            txn.free(extent).await.unwrap();
        }
        txn.commit().await.unwrap();
        balanced(&store.stats());
        store.close().await.unwrap();
        if page > PAGE {
            sound(device, &store.stats());
        }
    }
}

#[tokio::test]
async fn maps_leave_memory_when_there_are_too_many() {
    const BUDGET: usize = 1 << 20;
    let (device, store) = sparse(90 * GIB, PAGE, GIB).await;
    drop(store);
    let options = OpenOptions::new().loaded_bytes(BUDGET);
    let (store, _) = options.open_device(device.clone()).await.unwrap();
    // One map with its index is some 66 KiB; what is in use at the moment comes to that.
    let most = BUDGET as u64 + (300 << 10);
    let bounded = |store: &Allocator, when: &str| {
        let loaded = store.stats().loaded_bytes;
        assert!(loaded <= most, "{loaded} bytes of maps {when}");
    };
    let first = u64::from(store.layout().first_segment()) + 1;
    let mut all = Vec::new();
    for number in 0..80 {
        let offset = (first + number) * GIB + 64 * PAGE;
        let mut txn = store.begin();
        let request = AllocRequest::bytes((1 + number % 16) * PAGE).owner(number + 1).at(offset);
        let extent = txn.alloc(if number % 3 == 0 { request.power_of_two() } else { request }).await.unwrap();
        txn.write(&extent, 0, &number.to_le_bytes()).await.unwrap();
        txn.commit().await.unwrap();
        all.push(extent);
        bounded(&store, "while segments are first used");
    }
    // And items of many kinds, whose heads are large.
    for number in 0..120_u64 {
        let mut txn = store.begin();
        let request = AllocRequest::bytes(16 + number % 90 * 20).owner(u64::from(number % 2 == 0) * 5);
        all.push(txn.alloc(request).await.unwrap());
        txn.commit().await.unwrap();
        bounded(&store, "while items are allocated");
    }
    balanced(&store.stats());
    let stats = store.stats();
    drop(store);
    sound(device.clone(), &stats);
    let (store, _) = options.open_device(device.clone()).await.unwrap();
    let mut model = all.clone();
    model.sort_unstable();
    assert_eq!(extents(&store).await.iter().map(|info| info.extent).collect::<Vec<_>>(), model);
    for (number, extent) in (0_u64..).zip(&all[..80]) {
        assert_eq!(store.read_at(extent, 0, 8).await.unwrap(), number.to_le_bytes());
    }
    bounded(&store, "after reading");
    for (number, extent) in all.iter().enumerate().rev() {
        let mut txn = store.begin();
        if number % 2 == 0 {
            txn.free(extent).await.unwrap();
        } else if number < 80 && number % 3 != 0 {
            txn.resize(extent, extent.len + PAGE).await.unwrap();
        }
        txn.commit().await.unwrap();
        bounded(&store, "while extents are freed");
    }
    for pages in [1, 5, 100, 1 << 18] {
        let mut txn = store.begin();
        txn.alloc(AllocRequest::bytes(pages * PAGE)).await.unwrap();
        txn.alloc(AllocRequest::bytes(pages * PAGE).power_of_two()).await.unwrap();
        txn.commit().await.unwrap();
        bounded(&store, "while more is allocated");
    }
    let stats = store.stats();
    balanced(&stats);
    assert_eq!(stats.extents, 100 + 8);
    store.close().await.unwrap();
    sound(device, &stats);
}
