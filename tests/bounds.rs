//! Goal: neither a fast writer nor a hostile ring makes the journal take more memory or time than it says; and what it allows to be
//! written it reads again.
//!
//! Method: a device in memory that counts what is read. Transactions of zeros take hardly any room in the ring and a
//! whole block each in the overlay; false groups that overlap claim to be long, so that each would be read at length.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold::device::{Device, DeviceGeometry, ManualClock, MemoryDevice, Port, Purpose};
use freehold::error::Structure;
use freehold::format::{COUNTERS_END, GROUP_HEADER_BYTES, GroupHeader, Superblock};
use freehold::journal::SuperblockPair;
use freehold::{AllocRequest, Error, FormatOptions, OpenOptions};

const RING: u64 = 1 << 20;

#[derive(Debug)]
struct Counting {
    inner: MemoryDevice,
    read_bytes: AtomicU64,
}

impl Counting {
    fn new(len: usize) -> Arc<Self> {
        Arc::new(Self { inner: MemoryDevice::zeroed(len), read_bytes: AtomicU64::new(0) })
    }
}

impl Device for Counting {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.inner.write_at(offset, data, purpose)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.preallocate(offset, len)
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn blocks_of_zeros_do_not_pile_up_in_memory() {
    const EXTENT: u64 = 256 << 10;
    const TRANSACTIONS: u64 = 640;
    let device = Arc::new(MemoryDevice::zeroed(256 << 20));
    FormatOptions::new().page_bytes(4096).journal_bytes(RING).format_device(device.clone()).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(device).await.unwrap();
    let mut most = 0;
    let zeros = vec![0; 256 << 10];
    for _ in 0..TRANSACTIONS {
        let mut txn = store.begin();
        let extent = txn.alloc(AllocRequest::bytes(EXTENT)).await.unwrap();
        txn.write(&extent, 0, &zeros).await.unwrap();
        txn.commit().await.unwrap();
        most = most.max(store.stats().journal.overlay_blocks);
    }
    // As much as the ring holds, or 16 MiB; twice that, and the transaction that passes the mark.
    let bound = 2 * (16 << 20) / 4096 + EXTENT / 4096;
    assert!(most <= bound + 64, "{most} blocks, at most {bound} are due");
    // Without the bound there would be all of them.
    assert!(TRANSACTIONS * EXTENT / 4096 > 4 * bound);
}

#[tokio::test]
async fn false_groups_are_not_read_for_ever() {
    let device = Counting::new(32 << 20);
    FormatOptions::new().page_bytes(4096).journal_bytes(RING).format_device(device.clone()).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
    drop(store);
    let port = Port::new(device.clone(), Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).unwrap();
    let superblock = pair.current();
    let layout = &superblock.layout;
    let granule = u64::from(layout.ring_granule_bytes());
    for at in (0..RING / 2).step_by(usize::try_from(granule).unwrap()) {
        let position = superblock.tail_position + at;
        let header = GroupHeader {
            length: u32::try_from(RING / 2).unwrap(),
            transactions: 1,
            epoch: superblock.epoch,
            position,
            first_lsn: superblock.next_lsn + 1,
            durable_lsn: superblock.next_lsn,
            updates: 0,
        };
        let mut bytes = vec![1; usize::try_from(RING / 2).unwrap()];
        header.seal(&superblock.store_id, &mut bytes);
        let offset = layout.ring_offset() + position % RING;
        device.write_at(offset, &bytes[..GROUP_HEADER_BYTES], Purpose::Journal).unwrap();
    }
    device.read_bytes.store(0, Ordering::Relaxed);
    let refused = OpenOptions::new().open_device(device.clone()).await;
    let read = device.read_bytes.load(Ordering::Relaxed);
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{:?}", refused.err());
    // A thousand false groups of half a ring each would be 512 rings.
    assert!(read < 32 * RING, "{read} bytes were read");
    assert!(read > 2 * RING, "{read} bytes only: the ring is not what this test thinks it is");
}

/// Symptom: a store refused to open after an acknowledged commit, for its journal had "more blocks than a journal is allowed to
/// gather". Cause: what was claimed of the ring did not grow with the blocks that changed a little each.
#[tokio::test]
async fn each_block_has_its_share_of_what_is_claimed() {
    const BLOCK: u64 = 64 << 10;
    const RING: u64 = 2 << 20;
    for extents in [1, 3, 4, 5, 50] {
        let device = Arc::new(MemoryDevice::from_image(vec![0; 256 << 20], 512, 64 << 10));
        let format = FormatOptions::new().page_bytes(BLOCK).segment_bytes(16 * BLOCK).journal_bytes(RING);
        format.format_device(device.clone()).await.unwrap();
        let (store, _) = OpenOptions::new().open_device(device).await.unwrap();
        assert_eq!(u64::from(store.layout().block_bytes()), BLOCK);
        let before = store.stats().journal.overlay_blocks;
        let mut txn = store.begin();
        for _ in 0..extents {
            txn.alloc(AllocRequest::bytes(15 * BLOCK)).await.unwrap();
        }
        let claimed = txn.journal_bytes();
        txn.commit().await.unwrap();
        let changed = store.stats().journal.overlay_blocks - before;
        assert!(changed > 2 * extents, "{changed} blocks changed");
        // Claims that fill the ring are for at most twelve times as many blocks as make a checkpoint due.
        let most = 12 * ((16 << 20) / BLOCK);
        assert!(changed * RING <= claimed * most, "{claimed} bytes are claimed for {changed} blocks");
    }
}

/// The store would be refused by the next opening, and what is committed after this one would be lost.
#[tokio::test]
async fn a_store_whose_counters_are_near_their_end_can_only_be_read() {
    let device = Counting::new(4 << 20);
    FormatOptions::new().page_bytes(4096).journal_bytes(RING).format_device(device.clone()).await.unwrap();
    let image = device.inner.image();
    let forged = |change: fn(&mut Superblock)| {
        let mut image = image.clone();
        for copy in [0, 8192_usize] {
            let block = &mut image[copy..copy + 4096];
            let mut superblock = Superblock::decode(block, copy as u64).unwrap();
            change(&mut superblock);
            block.copy_from_slice(&superblock.encode(copy as u64));
        }
        Arc::new(MemoryDevice::from_image(image, 512, 512))
    };
    let cases: [fn(&mut Superblock); 4] = [
        |superblock| superblock.next_lsn = COUNTERS_END - 1,
        |superblock| superblock.sequence = COUNTERS_END - 1,
        |superblock| superblock.generation = COUNTERS_END / 2,
        |superblock| superblock.tail_position = COUNTERS_END / 2,
    ];
    for (case, change) in cases.into_iter().enumerate() {
        let device = forged(change);
        let before = device.image();
        let refused = OpenOptions::new().open_device(device.clone()).await;
        let is_refused = matches!(refused, Err(Error::Corrupt { structure: Structure::Superblock, .. }));
        assert!(is_refused, "{case}: {:?}", refused.err());
        assert!(device.image() == before, "{case}: something was written");
        OpenOptions::new().read_only(true).open_device(device).await.unwrap();
    }
}
