//! Traces of real stores are in order, also over failures of the disk.

mod broken;
mod edit;

use std::sync::Arc;

use freehold::device::Device;
use freehold::{Allocator, Extent, FormatOptions, OpenOptions};

use super::*;
use crate::allocator::{Shape, Subject};
use crate::campaign::chain::{Chain, OPERATIONS};
use crate::disk::{ErrorCode, Fault, FaultPlan, SimDisk, When};
use crate::executor;

const STORE_ID: [u8; 16] = *b"freehold watched";
const PAGE: usize = 4096;

/// A store on a simulated disk, with everything put into the trace that the harness knows.
struct Bench {
    disk: Arc<SimDisk>,
    store: Option<Allocator>,
    acknowledged: u64,
}

type Outcome = freehold::Result<()>;

impl Bench {
    fn new() -> Self {
        let disk = Arc::new(SimDisk::zeroed(256 << 10, 512, 512));
        Self { disk, store: None, acknowledged: 0 }
    }

    fn device(&self) -> Arc<dyn Device> {
        Arc::clone(&self.disk) as Arc<dyn Device>
    }

    fn format(&self) -> Outcome {
        let options = FormatOptions::new().page_bytes(4096).journal_bytes(32 << 10).store_id(STORE_ID);
        executor::run(options.format_device(self.device())).unwrap().map(drop)
    }

    fn open(&mut self) -> Outcome {
        self.store = None;
        self.disk.annotate(Event::Opening);
        let (store, _) = executor::run(OpenOptions::new().open_device(self.device())).unwrap()?;
        self.disk.annotate(Event::Opened);
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> Allocator {
        self.store.clone().unwrap()
    }

    fn acknowledge(&mut self) {
        self.acknowledged += 1;
        self.disk.mark(self.acknowledged << 1 | 1);
    }

    /// Allocates a page, writes it directly, and journals bytes in it.
    fn put(&mut self, free: Option<Extent>, fill: u8) -> freehold::Result<Extent> {
        let store = self.store();
        let disk = Arc::clone(&self.disk);
        let extent = executor::run(async {
            let mut transaction = store.begin();
            if let Some(extent) = free {
                transaction.free(&extent).await?;
            }
            let extent = transaction.alloc(4096).await?;
            disk.annotate(Event::Claim { offset: extent.offset, len: extent.len });
            store.write_at(&extent, 0, &[fill; PAGE]).await?;
            transaction.write(&extent, 100, &[fill + 1; 300]).await?;
            transaction.commit().await?;
            Ok(extent)
        })
        .unwrap()?;
        self.acknowledge();
        Ok(extent)
    }

    /// Journals bytes in a page that is there.
    fn change(&mut self, extent: &Extent, fill: u8) -> Outcome {
        let store = self.store();
        executor::run(async {
            let mut transaction = store.begin();
            transaction.write(extent, 200, &[fill; 50]).await?;
            transaction.commit().await.map(drop)
        })
        .unwrap()?;
        self.acknowledge();
        Ok(())
    }

    fn overwrite(&self, extent: &Extent, fill: u8) -> Outcome {
        let store = self.store();
        executor::run(async {
            store.write_at(extent, 0, &[fill; PAGE]).await?;
            store.sync_data().await
        })
        .unwrap()
    }

    fn checkpoint(&self) -> Outcome {
        executor::run(self.store().checkpoint()).unwrap()
    }

    fn maintain(&self) -> Outcome {
        executor::run(self.store().maintain()).unwrap()
    }

    /// Some of everything.
    fn work(&mut self) -> Outcome {
        let first = self.put(None, 10)?;
        let second = self.put(None, 20)?;
        self.checkpoint()?;
        self.change(&second, 30)?;
        self.change(&second, 31)?;
        self.maintain()?;
        self.checkpoint()?;
        // The space that is freed here is handed out right after.
        let third = self.put(Some(first), 40)?;
        let fourth = self.put(Some(third), 50)?;
        let fifth = self.put(Some(fourth), 60)?;
        // Over bytes that the journal still holds.
        self.change(&second, 65)?;
        self.overwrite(&second, 70)?;
        self.change(&second, 80)?;
        self.change(&fifth, 81)?;
        // The next opening finds groups to replay.
        self.open()?;
        self.change(&second, 90)?;
        self.put(None, 100)?;
        let closed = executor::run(self.store().close()).unwrap();
        self.store = None;
        closed
    }

    /// Goes on with a store that may have stopped.
    fn try_on(&mut self) {
        self.disk.annotate(Event::Label("tries on".into()));
        if self.store.is_some() {
            let _ = self.put(None, 110);
            let _ = self.checkpoint();
            let _ = self.maintain();
        }
    }

    fn watch(&self, trace: &Trace) -> Result<Watched, OutOfOrder> {
        watch(&self.disk.base(), trace, &self.disk.geometry())
    }
}

/// A formatted store that has worked, and what its disk saw.
fn worked() -> (Bench, Vec<Event>) {
    let mut bench = Bench::new();
    bench.format().unwrap();
    bench.open().unwrap();
    bench.work().unwrap();
    bench.open().unwrap();
    let events = bench.disk.trace().events().to_vec();
    (bench, events)
}

fn trace_of(events: &[Event]) -> Trace {
    let mut trace = Trace::default();
    trace.extend(events.iter().cloned());
    trace
}

#[test]
fn a_store_that_works_is_in_order() {
    let (bench, events) = worked();
    let watched = bench.watch(&trace_of(&events)).unwrap();
    let expected = Watched {
        groups: 13,
        restated: 1,
        in_place: 11,
        slots: 17,
        superblocks: 21,
        moved_tails: 7,
        witnesses: 7,
        direct: 7,
        acknowledgements: 12,
        claims: 6,
        openings: 3,
        failures: 0,
        after_poison: 0,
    };
    assert_eq!(watched, expected, "{}", trace_of(&events));
}

#[test]
fn chains_are_in_order() {
    let chains = if cfg!(debug_assertions) { 40 } else { 200 };
    let mut watched = Watched::default();
    for number in 0..chains {
        let mut chain = Chain::new(11, number, |rng| Subject { shape: Shape::any(rng) });
        while let Some(round) = chain.next(OPERATIONS) {
            let geometry = chain.subject().shape.disk.geometry();
            let found = watch(&round.start.base, &round.trace, &geometry);
            watched += found.unwrap_or_else(|broken| panic!("chain={number}: {broken}\n{}", round.trace));
        }
    }
    let enough = [
        (watched.groups, 100),
        (watched.restated, 5),
        (watched.in_place, 100),
        (watched.moved_tails, 40),
        (watched.direct, 200),
        (watched.failures, 1),
    ];
    assert!(enough.iter().all(|(found, each)| *found > each * chains), "{watched:?}");
}

/// Each call to the disk fails once; then the store is opened again and goes on.
#[test]
fn failures_and_what_comes_after_them_are_in_order() {
    let mut watched = Watched::default();
    let faults = [
        Fault::FailAfter { code: ErrorCode::Io, written_bytes: 40 },
        Fault::FailAfter { code: ErrorCode::NoSpace, written_bytes: 600 },
        Fault::Fail(ErrorCode::Io),
    ];
    for number in 0.. {
        let mut fired = 0;
        for fault in &faults {
            let mut bench = Bench::new();
            bench.format().unwrap();
            bench.disk.set_faults(FaultPlan::one(When::any().nth(number), fault.clone()));
            let _ = bench.open().and_then(|()| bench.work());
            bench.try_on();
            fired = bench.disk.faults_fired();
            bench.disk.set_faults(FaultPlan::none());
            bench.open().unwrap();
            bench.work().unwrap();
            let trace = bench.disk.trace();
            let found = bench.watch(&trace);
            watched += found.unwrap_or_else(|broken| panic!("call {number}: {broken}\n{trace}"));
        }
        if fired == 0 {
            assert!(number > 100, "{number}");
            break;
        }
    }
    assert!(watched.failures > 100 && watched.after_poison > 100, "{watched:?}");
}

#[test]
fn views_are_those_of_the_disk() {
    let mut rng = crate::rng::Rng::new(3);
    for _ in 0..100 {
        let disk = SimDisk::zeroed(8192, 512, 512);
        for _ in 0..30 {
            let fault = *rng.pick(&[None, None, Some(true), Some(false)]).unwrap();
            match fault {
                Some(true) => disk.set_faults(FaultPlan::one(When::any(), Fault::Fail(ErrorCode::Io))),
                Some(false) => disk.set_faults(FaultPlan::one(When::any(), Fault::LyingFlush)),
                None => disk.set_faults(FaultPlan::none()),
            };
            if rng.chance(0.3) {
                let _ = disk.flush();
            } else {
                let start = rng.index(8192);
                let data = vec![rng.next_u64().to_le_bytes()[0]; 1 + rng.index((8192 - start).min(2000))];
                let _ = disk.write_at(start as u64, &data, Purpose::CallerDirect);
            }
            if rng.chance(0.1) {
                disk.rot(rng.below(8000), &[0xf0, 1]);
            }
        }
        let mut watcher = Watcher {
            views: Views::new(disk.base().bytes(), 512),
            store: None,
            poisoned: None,
            watched: Watched::default(),
        };
        for (index, event) in disk.trace().events().iter().enumerate() {
            watcher.observe(index, event, false).unwrap();
        }
        assert!(watcher.views.medium.get(0, 8192) == Some(&*disk.durable_image()));
        assert!(watcher.views.seen.get(0, 8192) == Some(&*disk.image()));
    }
}

#[test]
fn nothing_to_watch() {
    let disk = SimDisk::zeroed(256 << 10, 512, 512);
    disk.write_at(0, &[1; 512], Purpose::Journal).unwrap();
    disk.flush().unwrap();
    assert_eq!(watch(&disk.base(), &disk.trace(), &disk.geometry()), Ok(Watched::default()));
}
