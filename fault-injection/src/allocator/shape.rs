//! Shapes of the stores under test.

use std::sync::Arc;

use freehold::FormatOptions;
use freehold::device::ManualClock;

use crate::harness::DiskShape;
use crate::rng::Rng;

/// The shape of a store. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The disk.
    pub disk: DiskShape,
    /// Page size of the store.
    pub page_bytes: u64,
    /// Size of a segment; none for what the store chooses, which comes to two or three of them.
    pub segment_bytes: Option<u64>,
    /// Size of the journal ring.
    pub journal_bytes: u64,
}

impl Shape {
    /// The smallest store there is, on a plain disk.
    pub const TINY: Self = Self {
        disk: DiskShape {
            len_bytes: 256 << 10,
            sector_bytes: 512,
            physical_block_bytes: 512,
            rewrites: false,
        },
        page_bytes: 4096,
        segment_bytes: None,
        journal_bytes: 32 << 10,
    };

    /// One of the shapes that the campaign explores: small stores on all sorts of disks.
    #[must_use]
    pub fn any(rng: &mut Rng) -> Self {
        let (sector_bytes, physical_block_bytes) =
            *rng.pick(&[(512, 512), (512, 4096), (4096, 4096), (512, 512)]).unwrap_or(&(512, 512));
        let (len_bytes, page_bytes) = *rng
            .pick(&[(256 << 10, 4096), (320 << 10, 4096), (512 << 10, 8192)])
            .unwrap_or(&(256 << 10, 4096));
        let rewrites = rng.chance(0.25);
        let disk = DiskShape { len_bytes, sector_bytes, physical_block_bytes, rewrites };
        // Spans need several empty segments, and segments change their roles the sooner the fewer pages they have.
        let segment_bytes = rng.chance(0.5).then_some(64 << 10);
        Self { disk, page_bytes, segment_bytes, ..Self::TINY }
    }

    /// Every store has the same identity, so that states of different runs can be equal.
    pub fn format_options(&self) -> FormatOptions {
        let options = match self.segment_bytes {
            Some(bytes) => FormatOptions::new().segment_bytes(bytes),
            None => FormatOptions::new(),
        };
        options
            .page_bytes(self.page_bytes)
            .journal_bytes(self.journal_bytes)
            .store_id(*b"freehold crashes")
            .clock(Arc::new(ManualClock::default()))
    }
}
