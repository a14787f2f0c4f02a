//! Goal: neither a fast writer nor a hostile ring makes the journal take more memory or time than it says.
//!
//! Method: a device in memory that counts what is read. Transactions of zeros take hardly any room in the ring and a
//! whole block each in the overlay; false groups that overlap claim to be long, so that each would be read at length.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold::device::{Device, DeviceGeometry, ManualClock, MemoryDevice, Port, Purpose};
use freehold::format::{GROUP_HEADER_BYTES, GroupHeader};
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
