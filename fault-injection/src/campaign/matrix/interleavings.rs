//! F29: many tasks on one store, polled in any order; some are dropped, some panic, checkpoints and a close come in
//! between. Whatever was acknowledged is there, and of the rest each transaction wholly or not at all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use freehold::device::Device;
use freehold::{AllocRequest, Allocator, Error, ExtentInfo};

use super::sheet::{Column, Sheet};
use super::trial::Trial;
use super::world::World;
use super::{Settings, Task};
use crate::allocator::model::{Effects, Put};
use crate::allocator::{Shape, Subject, payload};
use crate::disk::{CutWalker, Keep, SimDisk};
use crate::executor;
use crate::harness::{DiskShape, Progress, Subject as _};
use crate::oracle::Violation;
use crate::rng::Rng;

const ROUNDS: u64 = 1200;
const ROUNDS_OF_TASK: u64 = 100;
const WORKERS: u64 = 6;
const TRANSACTIONS: u64 = 5;
/// More polls than this, and somebody waits for what never comes.
const MOST_POLLS: u32 = 100_000;
const UNIT: usize = 3;

pub(super) fn tasks(settings: &Settings) -> Vec<Task> {
    (0..ROUNDS)
        .step_by(usize::try_from(ROUNDS_OF_TASK).unwrap_or(1))
        .map(|first| {
            let settings = settings.clone();
            Task::new(&[29], format!("F29: interleavings from {first}"), move |sheet| {
                for round in (first..first + ROUNDS_OF_TASK).step_by(settings.stride) {
                    play(round, &settings, sheet);
                }
            })
        })
        .collect()
}

/// What the tasks have done so far.
#[derive(Default)]
struct Log {
    /// Acknowledged transactions by LSN, and how long the trace was then.
    acknowledged: BTreeMap<u64, (Effects, usize)>,
    /// Begun and not acknowledged: they may be there.
    begun: BTreeMap<u64, Effects>,
    next: u64,
}

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Everybody comes to the end.
    Calm,
    /// Some tasks are dropped, some panic.
    Rough,
    /// The store is closed meanwhile.
    Closing,
}

fn play(round: u64, settings: &Settings, sheet: &mut Sheet) {
    let mut rng = Rng::new(settings.seed).fork_numbered("interleaving", round);
    let (sector_bytes, physical_block_bytes) =
        *rng.pick(&[(512, 512), (512, 4096), (4096, 4096)]).unwrap_or(&(512, 512));
    let disk = DiskShape::new(320 << 10, sector_bytes, physical_block_bytes);
    let subject = Subject { shape: Shape { disk, ..Shape::TINY } };
    let mood = *rng.pick(&[Mood::Calm, Mood::Rough, Mood::Rough, Mood::Closing]).unwrap_or(&Mood::Calm);
    let column = act(subject, mood, &mut rng, sheet).map_or_else(Column::Silent, |()| Column::Survived);
    sheet.enter(29, column, || format!("interleaving {round}, {mood:?}"));
}

fn act(subject: Subject, mood: Mood, rng: &mut Rng, sheet: &mut Sheet) -> Result<(), String> {
    let mut world = World::blank(subject);
    let fail = |stop| format!("{stop:?}");
    world.format().map_err(fail)?;
    world.open().map_err(fail)?;
    let formatted = world.history().steps().len();
    let log = Rc::new(RefCell::new(Log::default()));
    let store = world.store().map_err(fail)?;
    let mut jobs: Vec<Job> = (0..WORKERS)
        .map(|number| {
            let worker = Worker {
                store: store.clone(),
                disk: Arc::clone(world.disk()),
                log: Rc::clone(&log),
                rng: rng.fork_numbered("worker", number),
                mine: Vec::new(),
                tag: (number + 1) << 32,
                page_bytes: world.page_bytes(),
                may_panic: mood == Mood::Rough,
            };
            Box::pin(worker.run()) as Job
        })
        .collect();
    jobs.push(Box::pin(housekeeper(store.clone(), rng.fork("housekeeper"))));
    poll_all(&mut jobs, &store, mood, rng)?;
    drop(jobs);
    drop(store);
    let Log { acknowledged, begun, .. } = std::mem::take(&mut *log.borrow_mut());
    for (effects, _) in acknowledged.values() {
        world.push(effects).map_err(fail)?;
    }
    world.acknowledge();
    sheet.apart(29, "transactions acknowledged", acknowledged.len() as u64);
    sheet.apart(29, "commits left in the middle", begun.len() as u64);
    let begun: Vec<Effects> = begun.into_values().collect();
    world.leave_open(&begun).map_err(fail)?;
    if begun.is_empty() {
        let marks: Vec<usize> = acknowledged.values().map(|(_, position)| *position).collect();
        cut_meanwhile(&world, formatted, &marks, rng)?;
    }
    end(world, mood, rng)
}

/// Polls in random order until everybody has come to an end.
fn poll_all(jobs: &mut Vec<Job>, store: &Allocator, mood: Mood, rng: &mut Rng) -> Result<(), String> {
    let mut context = Context::from_waker(Waker::noop());
    let close_after = (mood == Mood::Closing).then(|| rng.below(200));
    for polls in 0..MOST_POLLS {
        if jobs.is_empty() {
            return Ok(());
        }
        if close_after == Some(u64::from(polls)) {
            let store = store.clone();
            jobs.push(Box::pin(async move { drop(store.close().await) }));
        }
        let at = rng.index(jobs.len());
        if mood == Mood::Rough && rng.chance(1.0 / 80.0) {
            drop(jobs.swap_remove(at));
            continue;
        }
        let Some(job) = jobs.get_mut(at) else { continue };
        match catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => drop(jobs.swap_remove(at)),
            // A panic of a worker, which is meant, carries its mark; any other is the store's.
            Err(panic) if panic.is::<Meant>() => drop(jobs.swap_remove(at)),
            Err(panic) => return Err(Violation::panic(&*panic).to_string()),
        }
    }
    Err("somebody waits for what never comes".to_owned())
}

/// Carried by panics that are meant.
struct Meant;

struct Worker {
    store: Allocator,
    disk: Arc<SimDisk>,
    log: Rc<RefCell<Log>>,
    rng: Rng,
    mine: Vec<ExtentInfo>,
    tag: u64,
    page_bytes: u64,
    may_panic: bool,
}

impl Worker {
    async fn run(mut self) {
        for _ in 0..TRANSACTIONS {
            match self.transact().await {
                Ok(()) | Err(Error::NoSpace { .. }) => {}
                // Somebody closed the store.
                Err(Error::Closed) => return,
                Err(error) => resume_unwind(Box::new(format!("without any fault: {error}"))),
            }
        }
    }

    async fn transact(&mut self) -> freehold::Result<()> {
        let mut transaction = self.store.begin();
        let mut effects = Effects::default();
        let mut left = self.mine.clone();
        if left.len() > 3 || (!left.is_empty() && self.rng.chance(0.4)) {
            let info = left.swap_remove(self.rng.index(left.len()));
            transaction.free(&info.extent).await?;
            effects.freed.push(info.extent);
        }
        if let Some(info) = self.rng.pick(&left).copied() {
            let put = Put { extent: info.extent, page: 0, unit: Some(UNIT), tag: self.fresh() };
            let offset = payload::cell_offset(UNIT) as u64;
            transaction.write(&info.extent, offset, &payload::cell(put.tag)).await?;
            effects.puts.push(put);
        }
        let len = usize::try_from(self.page_bytes).unwrap_or(0);
        for _ in 0..1 + self.rng.below(2) {
            let tag = self.fresh();
            let pages = 1 + self.rng.below(2);
            let extent = transaction.alloc(AllocRequest::bytes(pages * self.page_bytes).owner(tag)).await?;
            for page in 0..extent.len / self.page_bytes {
                self.store.write_at(&extent, page * self.page_bytes, &payload::page(tag + page, len)).await?;
            }
            effects.allocated.push((ExtentInfo { extent, owner: tag }, tag));
        }
        if self.rng.chance(0.1) {
            return Ok(());
        }
        if self.may_panic && self.rng.chance(0.05) {
            resume_unwind(Box::new(Meant));
        }
        let number = {
            let mut log = self.log.borrow_mut();
            log.next += 1;
            let number = log.next;
            log.begun.insert(number, effects.clone());
            number
        };
        let outcome = transaction.commit().await;
        let mut log = self.log.borrow_mut();
        if outcome.as_ref().is_err_and(Error::is_outcome_unknown) {
            return outcome.map(drop);
        }
        log.begun.remove(&number);
        effects.lsn = outcome?.lsn;
        self.mine = left;
        self.mine.extend(effects.allocated.iter().map(|(info, _)| *info));
        log.acknowledged.insert(effects.lsn, (effects, self.disk.position()));
        Ok(())
    }

    fn fresh(&mut self) -> u64 {
        self.tag += 64;
        self.tag
    }
}

/// Checkpoints and idle moments.
async fn housekeeper(store: Allocator, mut rng: Rng) {
    for _ in 0..6 {
        for _ in 0..rng.below(20) {
            let mut once = false;
            std::future::poll_fn(|_| {
                if std::mem::replace(&mut once, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        let done = if rng.chance(0.6) { store.checkpoint().await } else { store.maintain().await };
        if let Err(error) = done
            && !matches!(error, Error::Closed)
        {
            resume_unwind(Box::new(format!("without any fault: {error}")));
        }
    }
}

/// Power fails at some instants meanwhile: what was acknowledged by then is there, with all before it.
fn cut_meanwhile(world: &World, formatted: usize, marks: &[usize], rng: &mut Rng) -> Result<(), String> {
    let (trace, base) = (world.disk().trace(), world.disk().base());
    let disk = world.subject.disk().cow(&base);
    let points: Vec<usize> = trace.io_points().collect();
    let mut walker = CutWalker::new(&trace, base, &world.subject.disk().geometry());
    for at in rng.sample(points.len(), 24) {
        let Some(&position) = points.get(at) else { continue };
        // LSNs are in the order of durability, acknowledgements may be heard in another.
        let last = marks.iter().rposition(|&mark| mark <= position);
        let Some(last) = last else { continue };
        let progress =
            Progress { acknowledged: formatted + last + 1, started: world.history().steps().len() };
        let trial = Trial { progress, ..world.trial() };
        let cut = walker.cut_at(position);
        for keep in [Keep::None, Keep::All, Keep::Seed(rng.next_u64())] {
            let choice = cut.choice(keep);
            cut.apply(&choice, &disk).map_err(|error| error.to_string())?;
            if let Column::Silent(why) = trial.recovered(Arc::clone(&disk) as Arc<dyn Device>) {
                return Err(format!("power cut, {choice}: {why}"));
            }
        }
    }
    Ok(())
}

/// The end: in memory, after a kill, after a power cut, and after closing in order.
fn end(mut world: World, mood: Mood, rng: &mut Rng) -> Result<(), String> {
    let subject = world.subject;
    let judge = |world: &World, how: &str| -> Result<(), String> {
        for base in [world.disk().freeze(), world.disk().freeze_durable()] {
            match world.trial().recovered(subject.disk().cow(&base) as Arc<dyn Device>) {
                Column::Recovered => {}
                other => return Err(format!("{how}: {other:?}")),
            }
        }
        Ok(())
    };
    judge(&world, "power cut at the end")?;
    if mood == Mood::Closing {
        world.open().map_err(|stop| format!("opening: {stop:?}"))?;
    }
    world.settle().map_err(|stop| format!("in memory: {stop:?}"))?;
    if rng.chance(0.5) {
        let store = world.store().map_err(|stop| format!("{stop:?}"))?;
        let closed = executor::run(store.close()).map_err(|stuck| stuck.to_string())?;
        closed.map_err(|error| format!("closing: {error}"))?;
    }
    judge(&world, "after the end")
}
