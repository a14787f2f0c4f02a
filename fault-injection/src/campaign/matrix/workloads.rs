//! The fixed workloads that faults are injected into.

use std::sync::Arc;

use super::Settings;
use super::world::{Stop, World};
use crate::allocator::{Operation, Plan, Shape, Subject};
use crate::campaign::chain::{Chain, OPERATIONS};
use crate::disk::Event;
use crate::harness::{Address, DiskShape, Run, Source};
use crate::rng::Rng;

/// Sector and physical block of the disks, in bytes.
const DISKS: [(u32, u32); 3] = [(512, 512), (512, 4096), (4096, 4096)];

/// A run that the harness recorded, ready to be cut, and what leads back to it.
pub struct Recorded {
    /// The store.
    pub subject: Subject,
    /// What was run.
    pub run: Run<Subject>,
    /// The address of the run, for `crashtest replay`.
    pub address: Address,
}

/// The runs that are cut: the first rounds of chains that the random campaign has too.
pub(super) fn recorded(settings: &Settings) -> Vec<Recorded> {
    let mut all = Vec::new();
    for disk in DISKS {
        let mut wanted = settings.chains;
        for number in 0..1000 {
            if wanted == 0 {
                break;
            }
            let mut chain = Chain::new(settings.seed, number, |rng| Subject { shape: Shape::any(rng) });
            let shape = chain.subject().shape.disk;
            if (shape.sector_bytes, shape.physical_block_bytes) != disk {
                continue;
            }
            let Some(first) = chain.next(OPERATIONS) else { continue };
            if !is_rich(&first.operations, wanted.is_multiple_of(2)) {
                continue;
            }
            wanted -= 1;
            let subject = *chain.subject();
            let second = if settings.is_brief() { None } else { chain.next(OPERATIONS) };
            for (round, run) in std::iter::once(first).chain(second).enumerate() {
                let source = Source::Chain { chain: number, round: round as u64 };
                all.push(Recorded { subject, run, address: Address::of(source) });
            }
        }
    }
    all
}

/// Whether a run has what makes trouble: a full store or a wrapped ring, checkpoints, and openings.
fn is_rich(operations: &[Operation], full: bool) -> bool {
    let has = |wanted: fn(&Operation) -> bool| operations.iter().any(wanted);
    let large = |operation: &Operation| matches!(operation, Operation::Transact(plans) if plans.iter().any(|plan| !plan.pages.is_empty()));
    let opened = has(|operation| matches!(operation, Operation::Close | Operation::Reopen));
    let extreme = if full { has(|operation| matches!(operation, Operation::Fill)) } else { has(large) };
    extreme && opened && has(|operation| matches!(operation, Operation::Checkpoint | Operation::Maintain))
}

/// Operations for a disk that may fail.
pub(super) struct Workload {
    pub(super) number: usize,
    pub(super) subject: Subject,
    pub(super) operations: Vec<Operation>,
}

/// One workload for each kind of disk, each with checkpoints, a wrapped ring, a full store and openings.
pub(super) fn workloads(settings: &Settings) -> Vec<Arc<Workload>> {
    let shapes = DISKS.iter().map(|&(sector_bytes, physical_block_bytes)| {
        let (len_bytes, page_bytes) = match (sector_bytes, physical_block_bytes) {
            (512, 512) => (256 << 10, 4096),
            (512, _) => (320 << 10, 4096),
            _ => (512 << 10, 8192),
        };
        let disk = DiskShape::new(len_bytes, sector_bytes, physical_block_bytes);
        Subject { shape: Shape { disk, page_bytes, ..Shape::TINY } }
    });
    let shapes: Vec<Subject> = shapes.take(if settings.is_brief() { 1 } else { DISKS.len() }).collect();
    let length = if settings.is_brief() { 4 } else { 18 };
    (0..settings.workloads)
        .flat_map(|round| shapes.iter().map(move |subject| (round, *subject)))
        .enumerate()
        .map(|(number, (round, subject))| {
            let mut rng = Rng::new(settings.seed).fork_numbered("matrix", number as u64);
            let operations = operations(&mut rng, length, round % 2 == 1);
            Arc::new(Workload { number, subject, operations })
        })
        .collect()
}

fn operations(rng: &mut Rng, length: usize, closes: bool) -> Vec<Operation> {
    let mut operations = Vec::new();
    while operations.len() < length {
        let operation = Operation::any(rng);
        let suits = matches!(
            operation,
            Operation::Transact(_)
                | Operation::Abort(_)
                | Operation::Overwrite(_)
                | Operation::Checkpoint
                | Operation::Maintain
        );
        if suits {
            operations.push(operation);
        }
    }
    let large = |rng: &mut Rng| Operation::Transact(vec![Plan::any_large(rng)]);
    let many = Operation::Transact((0..3).map(|_| Plan::any(rng)).collect());
    let opening = if closes { Operation::Close } else { Operation::Reopen };
    let special = [
        (length / 4, vec![Operation::Fill, many]),
        (length / 2, vec![large(rng), large(rng), Operation::Checkpoint, large(rng)]),
        (3 * length / 4, vec![opening, Operation::Maintain]),
    ];
    for (at, more) in special.into_iter().rev() {
        operations.splice(at..at, more);
    }
    operations
}

impl Workload {
    /// Formatting, opening, and one for each operation.
    pub(super) fn stages(&self) -> usize {
        self.operations.len() + 2
    }

    /// What a stage is, in words.
    pub(super) fn stage_name(&self, stage: usize) -> String {
        match stage.checked_sub(2).and_then(|at| self.operations.get(at)) {
            Some(operation) => format!("operation {} ({operation})", stage - 2),
            None => if stage == 0 { "formatting" } else { "opening" }.to_owned(),
        }
    }

    /// Goes through one stage.
    pub(super) fn stage(&self, world: &mut World, stage: usize) -> Result<(), Stop> {
        match stage {
            0 => world.format(),
            1 => world.open(),
            _ => self.operations.get(stage - 2).map_or(Ok(()), |operation| world.apply(operation)),
        }
    }

    /// Whether a stage opens the store.
    pub(super) fn opens(&self, stage: usize) -> bool {
        let operation = stage.checked_sub(2).and_then(|at| self.operations.get(at));
        stage == 1 || matches!(operation, Some(Operation::Reopen | Operation::Close))
    }

    /// Goes through all stages on a disk without faults.
    pub(super) fn run_clean(
        &self,
        mut world: World,
        mut after: impl FnMut(&World, usize),
    ) -> Result<World, String> {
        for stage in 0..self.stages() {
            if let Err(stop) = self.stage(&mut world, stage) {
                return Err(format!("without any fault, {} failed: {stop:?}", self.stage_name(stage)));
            }
            after(&world, stage);
        }
        Ok(world)
    }
}

/// How far the history had come at a position of a trace.
pub(super) fn progress_at(events: &[Event], position: usize) -> crate::harness::Progress {
    let mut progress = crate::harness::Progress::default();
    for event in events.iter().take(position) {
        if let Event::Mark(mark) = event {
            progress.observe(*mark);
        }
    }
    progress
}
