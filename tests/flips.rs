//! Goal: no damage of a single byte in the metadata of a store goes unnoticed and leads to a wrong state.
//!
//! Method: a small store with a checkpoint behind it and groups in its journal is cut off as by a power loss. Then every
//! byte in front of the first page, and of the head of a region of items, is changed, one at a time, and the store is opened for reading and checked. Opening
//! must fail with a typed error, or give the right extents and data, or report a torn tail and give the state before
//! the last group. `check` may be content only when opening works.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::io;
use std::sync::Arc;

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::inspect::check;
use freehold::{AllocRequest, Allocator, Extent, ExtentInfo, FormatOptions, OpenOptions, ReplayReport};
use futures_util::TryStreamExt;

const LEN: usize = 320 << 10;

const GEOMETRY: DeviceGeometry =
    DeviceGeometry { len_bytes: LEN as u64, sector_bytes: 512, physical_block_bytes: 4096 };

fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    let end = start.checked_add(len).filter(|&end| end <= LEN).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(start..end)
}

/// An image with one byte changed, without copying it.
#[derive(Debug)]
struct Flipped {
    image: Arc<Vec<u8>>,
    at: usize,
    mask: u8,
}

impl Device for Flipped {
    fn geometry(&self) -> DeviceGeometry {
        GEOMETRY
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = range(offset, buf.len())?;
        buf.copy_from_slice(&self.image[range.clone()]);
        if range.contains(&self.at) {
            buf[self.at - range.start] ^= self.mask;
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8], _: Purpose) -> io::Result<()> {
        panic!("nothing may be written");
    }

    fn flush(&self) -> io::Result<()> {
        panic!("nothing may be flushed");
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        panic!("nothing may be discarded");
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        panic!("nothing may be reserved");
    }

    fn may_block(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

/// What a program sees: extents, and the first bytes of each.
type State = Vec<(ExtentInfo, Vec<u8>)>;

async fn observe(store: &Allocator) -> freehold::Result<State> {
    let mut state = Vec::new();
    for info in store.extents().try_collect::<Vec<_>>().await? {
        let bytes = store.read_at(&info.extent, 0, 16).await?;
        state.push((info, bytes));
    }
    Ok(state)
}

struct Sample {
    image: Arc<Vec<u8>>,
    /// The first byte that is not metadata.
    end: usize,
    /// The head of a region that no group in the journal changes.
    head: std::ops::Range<usize>,
    /// After the last group.
    last: State,
    /// After the last group but one.
    before: State,
    report: ReplayReport,
}

async fn one(store: &Allocator, bytes: u64, owner: u64, text: &[u8]) -> Extent {
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(bytes).owner(owner)).await.unwrap();
    txn.write(&extent, 0, text).await.unwrap();
    txn.commit().await.unwrap();
    extent
}

async fn sample() -> Sample {
    let device = Arc::new(MemoryDevice::from_image(
        vec![0; LEN],
        GEOMETRY.sector_bytes,
        GEOMETRY.physical_block_bytes,
    ));
    let created = FormatOptions::new()
        .page_bytes(4096)
        .store_id([0x5a; 16])
        .clock(Arc::new(freehold::device::ManualClock::default()))
        .format_device(Arc::clone(&device) as Arc<dyn Device>)
        .await
        .unwrap();
    let (store, _) = OpenOptions::new().open_device(Arc::clone(&device) as Arc<dyn Device>).await.unwrap();
    let gone = one(&store, 4096, 1, b"freed later").await;
    let kept = one(&store, 8192, 2, b"kept").await;
    store.checkpoint().await.unwrap();
    one(&store, 5000, 3, b"journaled").await;
    one(&store, 40_000, 6, b"more than a segment").await;
    let item = one(&store, 300, 0, b"its region's head is in place").await;
    store.checkpoint().await.unwrap();
    let mut txn = store.begin();
    txn.free(&gone).await.unwrap();
    txn.write(&kept, 4, b" and changed").await.unwrap();
    txn.commit().await.unwrap();
    one(&store, 100, 4, b"small").await;
    let before = observe(&store).await.unwrap();
    one(&store, 200, 5, b"the last one").await;
    let last = observe(&store).await.unwrap();
    // The power is cut here.
    let image = Arc::new(device.image());
    drop(store);

    let whole = Arc::new(Flipped { image: Arc::clone(&image), at: 0, mask: 0 });
    let (store, report) = OpenOptions::new().open_device(whole).await.unwrap();
    assert_eq!(observe(&store).await.unwrap(), last);
    assert!(report.records >= 3 && !report.torn_tail, "{report:?}");
    let end = usize::try_from(created.layout.data_offset()).unwrap();
    assert_eq!((item.len, last.len()), (320, 6));
    let start = usize::try_from(item.offset).unwrap();
    Sample { image, end, head: start / 4096 * 4096..start, last, before, report }
}

async fn flip_all(mask: impl Fn(usize) -> u8) {
    let sample = sample().await;
    let (mut refused, mut torn, mut right) = (0, 0, 0);
    for at in (0..sample.end).chain(sample.head.clone()) {
        let mask = mask(at);
        let place = format!("byte {at} xor {mask:#x}");
        let device: Arc<dyn Device> = Arc::new(Flipped { image: Arc::clone(&sample.image), at, mask });
        let outcome = async {
            let (store, report) = OpenOptions::new().open_device(Arc::clone(&device)).await?;
            Ok::<_, freehold::Error>((observe(&store).await?, report))
        };
        let opened = match outcome.await {
            Ok((state, report)) if report.torn_tail => {
                // A leftover of the lap before, right behind the end, with another LSN: it looks like the beginning of
                // a group, and nothing is lost with it.
                let behind_the_end = state == sample.last;
                assert!(behind_the_end || state == sample.before, "{place}: {state:?}");
                torn += usize::from(!behind_the_end);
                true
            }
            Ok((state, report)) => {
                assert_eq!(state, sample.last, "{place}");
                assert_eq!(report, sample.report, "{place}");
                right += 1;
                true
            }
            Err(error) => {
                assert!(error.is_corruption() || !error.kind().is_empty(), "{place}: {error}");
                assert_ne!(error.kind(), "internal", "{place}: {error}");
                refused += 1;
                false
            }
        };
        match check(device, &mut |_| {}) {
            Ok(checked) => {
                assert_eq!(checked.ok, checked.errors.is_empty(), "{place}");
                assert!(opened || !checked.ok, "{place}: check is content with what cannot be opened");
                if checked.ok && !checked.torn_tail {
                    assert_eq!(checked.extents, sample.last.len() as u64, "{place}");
                }
                assert_eq!(checked.leaked_bytes, 0, "{place}: {checked:?}");
            }
            Err(error) => assert!(!opened, "{place}: {error}"),
        }
    }
    // The test itself must reach every outcome.
    assert!(refused > 0 && torn > 0 && right > 0, "{refused} refused, {torn} torn, {right} right");
}

#[tokio::test]
async fn one_bit_of_every_byte() {
    flip_all(|at| 1 << (at % 8)).await;
}

#[tokio::test]
async fn all_bits_of_every_byte() {
    flip_all(|_| 0xff).await;
}
