//! Pictures of stores that the real allocator made, and pictures that must not be.

mod classes;
mod extents;
mod forge;
mod hostile;
mod journals;
mod rejections;
mod roles;
mod spans;

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold::device::{Device, ManualClock};
use freehold::{AllocRequest, Allocator, Error, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;

use super::bytes::index;
use super::{Picture, PictureExtent, PictureShape, examine};
use crate::disk::{CowDisk, CutWalker, Sampling, SimDisk};
use crate::executor;
use crate::rng::Rng;

/// Length, sector, physical block, page, segment.
type Shape = (u64, u32, u32, u64, u64);

const SHAPES: [Shape; 6] = [
    (256 << 10, 512, 512, 4096, 64 << 10),
    (256 << 10, 4096, 4096, 4096, 32 << 10),
    (512 << 10, 512, 4096, 8192, 64 << 10),
    (1 << 20, 512, 512, 4096, 1 << 20),
    (4 << 20, 512, 8192, 8192, 4 << 20),
    ((256 << 10) + 4608, 512, 512, 4096, 64 << 10),
];

fn run<T>(future: impl Future<Output = freehold::Result<T>>) -> T {
    executor::run(future).unwrap().unwrap()
}

/// A store on a simulated disk, and what was put into it.
struct Bench {
    disk: Arc<SimDisk>,
    store: Option<Allocator>,
    live: Vec<ExtentInfo>,
    shape: PictureShape,
}

impl Bench {
    fn new(shape: Shape) -> Self {
        Self::with_ring(shape, 32 << 10)
    }

    fn with_ring((len, sector, physical, page, segment): Shape, ring: u64) -> Self {
        let disk = Arc::new(SimDisk::zeroed(len, sector, physical));
        let options = FormatOptions::new().page_bytes(page).segment_bytes(segment).journal_bytes(ring);
        let options = options.store_id(*b"checked by bytes").clock(Arc::new(ManualClock::default()));
        run(options.format_device(Arc::clone(&disk) as Arc<dyn Device>));
        let shape = examine(&*disk).unwrap().shape;
        Self { disk, store: None, live: Vec::new(), shape }
    }

    fn open(&mut self) {
        self.store = None;
        let device = Arc::clone(&self.disk) as Arc<dyn Device>;
        self.store = Some(run(OpenOptions::new().open_device(device)).0);
    }

    fn store(&self) -> Allocator {
        self.store.clone().unwrap()
    }

    fn picture(&self) -> Picture {
        examine(&*self.disk).unwrap()
    }

    /// A transaction that allocates extents with owners 7, 8 ... and writes into each of them.
    fn allocate(&mut self, pages: &[u64]) {
        let page = self.shape.page_bytes;
        let requests =
            pages.iter().zip(7..).map(|(&pages, owner)| (AllocRequest::bytes(pages * page), owner));
        self.allocate_all(&requests.collect::<Vec<_>>());
    }

    /// The same for requests with their owners.
    fn allocate_all(&mut self, requests: &[(AllocRequest, u64)]) {
        let mut transaction = self.store().begin();
        for &(request, owner) in requests {
            let extent = run(transaction.alloc(request.owner(owner)));
            run(transaction.write(&extent, extent.len / 2, &owner.to_le_bytes()));
            self.live.push(ExtentInfo { extent, owner });
        }
        run(transaction.commit());
    }

    fn free(&mut self, number: usize) {
        let mut transaction = self.store().begin();
        run(transaction.free(&self.live.remove(number).extent));
        run(transaction.commit());
    }
}

/// Compares the picture with what the open store says.
fn agree(bench: &Bench) -> Picture {
    let picture = bench.picture();
    let store = bench.store();
    let told: Vec<ExtentInfo> = run(store.extents().try_collect());
    let told: Vec<PictureExtent> = told
        .iter()
        .map(|ExtentInfo { extent, owner }| PictureExtent {
            offset: extent.offset,
            len: extent.len,
            generation: extent.generation,
            owner: *owner,
        })
        .collect();
    assert_eq!(picture.extents, told);
    let stats = store.stats();
    let shape = picture.shape;
    assert_eq!((picture.used_bytes, picture.free_bytes), (stats.allocated_bytes, stats.free_bytes));
    let fixed = shape.data_offset + shape.device_bytes % shape.page_bytes;
    assert_eq!(picture.overhead_bytes, stats.metadata_bytes - fixed);
    assert_eq!(picture.last_lsn, stats.journal.durable_lsn);
    for (&offset, block) in &picture.caller {
        let end = offset + block.len() as u64;
        for ExtentInfo { extent, .. } in &bench.live {
            let (from, to) = (extent.offset.max(offset), extent.end().min(end));
            if from < to {
                let read = run(store.read_at(extent, from - extent.offset, index(to - from)));
                let known = &block[index(from - offset)..index(to - offset)];
                assert!(read == *known, "the block at {offset} differs from {from} to {to}");
            }
        }
    }
    picture
}

/// One random step.
fn step(bench: &mut Bench, rng: &mut Rng) {
    match rng.below(12) {
        0 => run(bench.store().checkpoint()),
        1 => run(bench.store().maintain()),
        2 => bench.open(),
        3 => {
            run(bench.store().close());
            let picture = bench.picture();
            assert!(picture.closed && picture.groups.is_empty() && picture.torn.is_none());
            bench.open();
        }
        _ => transaction(bench, rng),
    }
}

/// Something for each role: items of all classes, runs with slack, and spans.
fn any_request(shape: &PictureShape, rng: &mut Rng) -> AllocRequest {
    let (page, segment) = (shape.page_bytes, shape.segment_bytes);
    match rng.below(16) {
        0..6 => AllocRequest::bytes(1 + rng.below(page / 2)),
        6..8 => AllocRequest::bytes(1 + rng.below(100)),
        8 => AllocRequest::bytes(segment + 1 + rng.below(2 * segment)),
        9..11 => AllocRequest::bytes(1 + rng.below(8 * page)).power_of_two(),
        _ => AllocRequest::bytes(rng.pick(&[1, 1, 2, 3, 8]).unwrap() * page - rng.below(page / 2)),
    }
}

fn transaction(bench: &mut Bench, rng: &mut Rng) {
    let store = bench.store();
    let mut transaction = store.begin();
    let mut live = bench.live.clone();
    rng.shuffle(&mut live);
    for _ in 0..rng.below(3 + live.len() as u64 / 4) {
        if let Some(info) = live.pop() {
            run(transaction.free(&info.extent));
        }
    }
    for _ in 0..1 + rng.below(3) {
        let owner = rng.below(3);
        let request = any_request(&bench.shape, rng).owner(owner);
        match executor::run(transaction.alloc(request)).unwrap() {
            Ok(extent) => live.push(ExtentInfo { extent, owner }),
            Err(Error::NoSpace { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..rng.below(3) {
        if let Some(ExtentInfo { extent, .. }) = rng.pick(&live) {
            let mut data = vec![0; 1 + rng.index(index(extent.len.min(3000)))];
            if rng.chance(0.5) {
                rng.bytes(&mut data);
            }
            let at = rng.below(extent.len - data.len() as u64 + 1);
            run(transaction.write(extent, at, &data));
        }
    }
    match executor::run(transaction.commit()).unwrap() {
        Ok(_) => bench.live = live,
        Err(Error::TransactionTooLarge { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn agrees_with_the_store_at_every_step() {
    let (mut most_groups, mut wrapped, mut bytes_of_caller) = (0, false, 0);
    for seed in 0..9 {
        let mut rng = Rng::new(seed as u64);
        // With a longer ring, regions are longer too.
        let shape = SHAPES[seed % SHAPES.len()];
        let ring = if seed >= SHAPES.len() && shape.0 > 256 << 10 { 128 << 10 } else { 32 << 10 };
        let mut bench = Bench::with_ring(shape, ring);
        bench.open();
        for _ in 0..250 {
            step(&mut bench, &mut rng);
            let picture = agree(&bench);
            assert_eq!(picture.torn, None);
            most_groups = most_groups.max(picture.groups.len());
            wrapped |= picture.groups.windows(2).any(|pair| pair[1].offset < pair[0].offset);
            bytes_of_caller += picture.caller.values().map(Vec::len).sum::<usize>();
        }
    }
    // Otherwise the walk has not been where it should.
    assert!(
        most_groups > 5 && wrapped && bytes_of_caller > 1 << 20,
        "{most_groups} {wrapped} {bytes_of_caller}"
    );
}

/// What a store said when it was at an LSN.
type Known = BTreeMap<u64, (u128, BTreeMap<u64, Vec<u8>>)>;

#[test]
fn every_crash_leaves_a_picture_that_was_once_true() {
    let (mut torn, mut states) = (0, 0);
    for seed in 0..6 {
        let mut rng = Rng::new(seed as u64);
        let mut bench = Bench::new(SHAPES[seed % SHAPES.len()]);
        bench.disk.restart_recording();
        let mut known = Known::new();
        let first = bench.picture();
        known.insert(first.last_lsn, (first.logical, first.caller));
        bench.open();
        for _ in 0..15 {
            step(&mut bench, &mut rng);
            let picture = agree(&bench);
            bench.disk.mark(picture.last_lsn);
            known.insert(picture.last_lsn, (picture.logical, picture.caller));
        }
        let (trace, base) = (bench.disk.trace(), bench.disk.base());
        let disk = CowDisk::new(Arc::clone(&base), 512, 4096);
        let mut walker = CutWalker::new(&trace, base, &bench.disk.geometry());
        let sampling = Sampling { exhaustive: 16, sampled: 12, torn: 4, garbage_blocks: 2 };
        for position in 0..=trace.len() {
            let cut = walker.cut_at(position);
            for choice in cut.choices(&sampling, &mut rng) {
                cut.apply(&choice, &disk).unwrap();
                let picture = examine(&disk).unwrap_or_else(|flaw| panic!("{seed} {choice}: {flaw}"));
                let acknowledged = cut.acknowledged().unwrap_or(0);
                assert!(picture.last_lsn >= acknowledged, "{seed} {choice}");
                let (logical, caller) = &known[&picture.last_lsn];
                assert_eq!(picture.logical, *logical, "{seed} {choice}");
                for (offset, block) in &picture.caller {
                    assert!(
                        caller.get(offset).is_none_or(|known| known == block),
                        "{seed} {choice} {offset}"
                    );
                }
                torn += usize::from(picture.torn.is_some());
                states += 1;
            }
        }
    }
    assert!(torn > 100, "{torn} of {states}");
}
