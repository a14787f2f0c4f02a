//! Goal: rule 7 and rule 11 where recovery itself is cut off. A group that was dropped stays dropped, whatever lies over its
//! pieces later; and a superblock that is older than the journal is refused.
//!
//! Method: a device in memory that keeps each write, so that an opening can be cut between any two of them, and the
//! pieces of a dropped group made whole again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::error::Structure;
use freehold::inspect::{GroupState, journal};
use freehold::{AllocRequest, Allocator, Error, FormatOptions, OpenOptions};

const SECTOR: usize = 512;
const LEN: usize = 512 << 10;

/// A device in memory that keeps what was written to it.
#[derive(Debug)]
struct Kept {
    inner: MemoryDevice,
    writes: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Kept {
    fn from_image(image: Vec<u8>) -> Arc<Self> {
        let inner = MemoryDevice::from_image(image, SECTOR as u32, SECTOR as u32);
        Arc::new(Self { inner, writes: Mutex::default() })
    }
}

impl Device for Kept {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.writes.lock().unwrap().push((offset, data.to_vec()));
        self.inner.write_at(offset, data, purpose)
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

async fn formatted(journal_bytes: u64) -> Arc<Kept> {
    let device = Kept::from_image(vec![0; LEN]);
    let options = FormatOptions::new().page_bytes(4096).journal_bytes(journal_bytes);
    options.format_device(device.clone()).await.unwrap();
    device
}

async fn open(device: &Arc<Kept>) -> freehold::Result<Allocator> {
    let device = Arc::clone(device) as Arc<dyn Device>;
    OpenOptions::new().open_device(device).await.map(|(store, _)| store)
}

/// A page with journaled content that takes several sectors of the journal.
async fn put(store: &Allocator, owner: u64) {
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(4096).owner(owner)).await.unwrap();
    let content: Vec<u8> = (0..1500_u64).map(|at| (at * 37 + owner) as u8).collect();
    txn.write(&extent, 0, &content).await.unwrap();
    txn.commit().await.unwrap();
}

fn sector(image: &[u8], offset: u64) -> &[u8] {
    &image[offset as usize..][..SECTOR]
}

#[tokio::test]
async fn a_dropped_group_never_becomes_whole_behind_the_group_that_is_written_again() {
    let device = formatted(64 << 10).await;
    let store = open(&device).await.unwrap();
    for owner in 1..=3 {
        put(&store, owner).await;
    }
    drop(store);
    let whole = device.inner.image();
    let groups = journal(Kept::from_image(whole.clone())).unwrap().groups;
    let last = groups.last().unwrap();
    assert_eq!((groups.len(), last.state), (3, GroupState::Valid));

    let mut torn = whole.clone();
    let lost = last.offset + SECTOR as u64;
    assert!(last.bytes > 2 * SECTOR as u64);
    torn[lost as usize..][..SECTOR].fill(0);
    let device = Kept::from_image(torn.clone());
    drop(open(&device).await.unwrap());

    let superblock = |offset: u64| [0, 2 * 4096].contains(&offset);
    let mut image = torn;
    let mut opened = false;
    for (offset, data) in device.writes.lock().unwrap().iter() {
        image[*offset as usize..][..data.len()].copy_from_slice(data);
        opened |= superblock(*offset);
        // A write that lies over the pieces, cut off, may put the lost sector back; anything else of it is lost again.
        let mut completed = image.clone();
        completed[lost as usize..][..SECTOR].copy_from_slice(sector(&whole, lost));
        let found = journal(Kept::from_image(completed)).unwrap().groups;
        let valid = found.iter().filter(|group| group.state == GroupState::Valid);
        let again =
            valid.filter(|group| group.position == last.position && group.first_lsn == last.first_lsn);
        assert!(!opened || again.count() == 0, "after the write at {offset}: {found:?}");
    }
    assert!(opened);
}

#[tokio::test]
async fn superblocks_older_than_the_journal_are_refused() {
    let device = formatted(32 << 10).await;
    let store = open(&device).await.unwrap();
    put(&store, 1).await;
    // Both copies of the superblock, and the witness that goes with them.
    let front = device.inner.image()[..4 * 4096].to_vec();
    for owner in 2..=60 {
        put(&store, owner).await;
    }
    drop(store);
    let mut image = device.inner.image();
    assert_ne!(image[..front.len()], front, "no checkpoint");
    drop(open(&Kept::from_image(image.clone())).await.unwrap());

    image[..front.len()].copy_from_slice(&front);
    match open(&Kept::from_image(image)).await {
        Err(Error::Corrupt { structure: Structure::JournalGroup, reason, .. }) => {
            assert!(reason.contains("newer than both copies"), "{reason}");
        }
        other => panic!("{:?}", other.err()),
    }
}

/// Symptom: an acknowledged transaction was gone, and recovery spoke of a torn tail. Cause: the write of a group had gone
/// to the place of the one before it, which it says was durable (F21).
#[tokio::test]
async fn a_group_that_lies_over_one_that_it_calls_durable_is_refused() {
    let device = formatted(64 << 10).await;
    let store = open(&device).await.unwrap();
    put(&store, 1).await;
    device.writes.lock().unwrap().clear();
    for owner in 2..=4 {
        put(&store, owner).await;
    }
    let groups = device.writes.lock().unwrap().clone();
    assert_eq!(groups.len(), 3, "one write a group");
    let image = device.inner.image();
    drop(store);
    // The last one fell on the one before it, or on the one before that.
    for hit in [1, 0] {
        let mut image = image.clone();
        let (own, bytes) = &groups[2];
        image[*own as usize..][..bytes.len()].fill(0);
        image[groups[hit].0 as usize..][..bytes.len()].copy_from_slice(bytes);
        match open(&Kept::from_image(image)).await {
            Err(Error::Corrupt { structure: Structure::JournalGroup, reason, .. }) => {
                assert!(reason.contains("was durable"), "{reason}");
            }
            other => panic!("{hit}: {:?}", other.err()),
        }
    }
}

/// Symptom: an idle store kept its journal for ever after a crash. Cause: the blocks of the last group did not count as dirty.
#[tokio::test]
async fn what_an_opening_takes_along_is_checkpointed_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    FormatOptions::new().page_bytes(4096).create(&path, 16 << 20).await.unwrap();
    let store = Allocator::open(&path).await.unwrap();
    put(&store, 1).await;
    drop(store);
    let options = OpenOptions::new().checkpoint_age(Duration::from_millis(1));
    let (store, report) = options.open(&path).await.unwrap();
    assert_eq!(report.transactions, 1);
    let began = Instant::now();
    while store.stats().journal.ring_used_bytes > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "no checkpoint");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
