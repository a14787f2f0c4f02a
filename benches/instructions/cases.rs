//! The operations that are counted. Everything is in memory, in one thread, and the same at each run.

use std::hint::black_box;
use std::sync::Arc;

use freehold::device::MemoryDevice;
use freehold::placement::{Area, Policy, Request, Source, place};
use freehold::{AllocRequest, Allocator, Extent, FormatOptions, OpenOptions};
use futures_util::future::join_all;

use super::Failure;

const STORE_BYTES: usize = 256 << 20;
const LIVE: usize = 2000;
const BLOB_BYTES: usize = 4 << 10;
const ENTRY_BYTES: u64 = 32;
/// Transactions in one group.
const TOGETHER: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Reserve,
    Claim,
    CommitAlone,
    CommitTogether,
    CommitItems,
    Put,
    Replay,
    Place,
}

impl Case {
    pub(crate) const ALL: [Self; 8] = [
        Self::Reserve,
        Self::Claim,
        Self::CommitAlone,
        Self::CommitTogether,
        Self::CommitItems,
        Self::Put,
        Self::Replay,
        Self::Place,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserve => "an extent reserved and dropped",
            Self::Claim => "an extent validated for a free that is dropped",
            Self::CommitAlone => "a replacement committed, alone in its group",
            Self::CommitTogether => "a replacement committed, 64 in a group",
            Self::CommitItems => "an item replaced and committed, 64 in a group",
            Self::Put => "a blob of 4 KiB written, flushed, and committed with its entry in an index",
            Self::Replay => "a replacement committed, and replayed at the next opening",
            Self::Place => "three legs placed, ten pieces each, on 64 sources with 1,000 areas",
        }
    }

    /// Runs the operation this many times, rounded down to what fits into groups.
    pub(crate) async fn run(self, times: u64) -> Result<(), Failure> {
        if self == Self::Place {
            return place_often(times);
        }
        let device = Arc::new(MemoryDevice::zeroed(STORE_BYTES));
        FormatOptions::new().page_bytes(4096).format_device(Arc::clone(&device) as _).await?;
        let open = OpenOptions::new();
        let (store, _) = open.open_device(Arc::clone(&device) as _).await?;
        let item = matches!(self, Self::CommitItems);
        let mut live = Live::fill(&store, item).await?;
        let times = usize::try_from(times)?;
        match self {
            Self::Reserve => {
                for _ in 0..times {
                    let bytes = live.size();
                    store.begin().alloc(bytes).await?;
                }
            }
            Self::Claim => {
                for _ in 0..times {
                    let extent = live.pick();
                    store.begin().free(&extent).await?;
                    live.extents.push(extent);
                }
            }
            Self::CommitAlone => live.replace(&store, times, 1).await?,
            Self::CommitTogether | Self::CommitItems => live.replace(&store, times, TOGETHER).await?,
            Self::Put => put_often(&store, &mut live, times).await?,
            Self::Replay => {
                store.checkpoint().await?;
                live.replace(&store, times, TOGETHER).await?;
                drop(store);
                open.open_device(device).await?;
            }
            Self::Place => {}
        }
        Ok(())
    }
}

/// Areas of 1 to 64 units, in a fixed disorder.
fn place_often(times: u64) -> Result<(), Failure> {
    let length = |source: u64, area: u64| 1 + (source * 29 + area * 41) % 64;
    let areas: Vec<Vec<Area>> = (0..64)
        .map(|source| (0..16).map(|area| Area::new(area * 100, area * 100 + length(source, area))).collect())
        .collect();
    let sources: Vec<Source<'_, usize>> =
        areas.iter().enumerate().map(|(handle, areas)| Source::new(handle, areas)).collect();
    let request = Request { stripes: 3, ..Request::new(1_500, Policy::Normal) };
    for _ in 0..times {
        black_box(place(black_box(&sources), black_box(&request))?);
    }
    Ok(())
}

/// Each put replaces a blob and its entry in the index. On a device that does not block each has its own flush and its own group.
async fn put_often(store: &Allocator, live: &mut Live, times: usize) -> Result<(), Failure> {
    let mut transaction = store.begin();
    let index = transaction.alloc(TOGETHER as u64 * ENTRY_BYTES).await?;
    transaction.commit().await?;
    let (index, data) = (&index, &[0xCD; BLOB_BYTES]);
    for _ in 0..times / TOGETHER {
        let puts = live.extents.drain(..TOGETHER).zip(0..).map(|(old, slot)| async move {
            let mut transaction = store.begin();
            let blob = transaction.alloc(BLOB_BYTES as u64).await?;
            store.write_at(&blob, 0, data).await?;
            transaction.write(index, slot * ENTRY_BYTES, &blob.to_bytes()).await?;
            transaction.free(&old).await?;
            transaction.commit().await?;
            Ok::<_, Failure>(blob)
        });
        for blob in join_all(puts.collect::<Vec<_>>()).await {
            live.extents.push(blob?);
        }
    }
    Ok(())
}

/// The live extents, and where chance comes from.
struct Live {
    extents: Vec<Extent>,
    random: u64,
    items: bool,
}

impl Live {
    async fn fill(store: &Allocator, items: bool) -> Result<Self, Failure> {
        let mut live = Self { extents: Vec::new(), random: 1, items };
        for _ in 0..LIVE / 100 {
            let mut transaction = store.begin();
            for _ in 0..100 {
                let request = live.request();
                live.extents.push(transaction.alloc(request).await?);
            }
            transaction.commit().await?;
        }
        Ok(live)
    }

    /// `SplitMix64`, by Sebastiano Vigna.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn size(&mut self) -> u64 {
        if self.items { 64 } else { 4096 + self.next() % (60 << 10) }
    }

    fn request(&mut self) -> AllocRequest {
        AllocRequest::bytes(self.size()).owner(7)
    }

    fn pick(&mut self) -> Extent {
        let at = usize::try_from(self.next() % self.extents.len() as u64).unwrap_or(0);
        self.extents.swap_remove(at)
    }

    async fn replace(&mut self, store: &Allocator, times: usize, together: usize) -> Result<(), Failure> {
        for _ in 0..times / together {
            let (mut commits, mut made) = (Vec::with_capacity(together), Vec::with_capacity(together));
            for _ in 0..together {
                let mut transaction = store.begin();
                let (old, request) = (self.pick(), self.request());
                made.push(transaction.alloc(request).await?);
                transaction.free(&old).await?;
                commits.push(transaction.commit());
            }
            for committed in join_all(commits).await {
                committed?;
            }
            self.extents.append(&mut made);
        }
        Ok(())
    }
}
