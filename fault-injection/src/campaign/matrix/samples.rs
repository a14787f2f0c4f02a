//! Small stores as a shutdown or a power loss leaves them, to be damaged.

use std::sync::Arc;

use super::forge::Forge;
use super::trial::Trial;
use super::world::{Stop, World};
use crate::allocator::model::State;
use crate::allocator::{Operation, Plan, Request, Shape, Subject};
use crate::disk::{CowBase, CowDisk, Trace};
use crate::executor;
use crate::harness::{History, Progress, Subject as _};

/// How the store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Closed in order.
    Closed,
    /// The process died with groups in the journal, and nothing says yet that the last one was durable.
    Crashed,
    /// The process died when the store had been idle: the witness covers the last group.
    Idle,
}

impl Ending {
    pub(super) const ALL: [Self; 3] = [Self::Closed, Self::Crashed, Self::Idle];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed in order",
            Self::Crashed => "crashed",
            Self::Idle => "crashed when idle",
        }
    }
}

/// A store, and what is in it.
pub(super) struct Sample {
    pub(super) ending: Ending,
    pub(super) subject: Subject,
    pub(super) base: Arc<CowBase>,
    /// Everything that reached the disk, from the blank on.
    pub(super) trace: Trace,
    history: History<State>,
    progress: Progress,
}

fn commit(plan: Plan) -> Operation {
    Operation::Transact(vec![plan])
}

fn allocate(pages: u32, units: Vec<u32>) -> Operation {
    commit(Plan { alloc: vec![(Request::Pages(pages), units)], ..Plan::default() })
}

fn wish(request: Request) -> Operation {
    commit(Plan { alloc: vec![(request, Vec::new())], ..Plan::default() })
}

fn cells(cells: Vec<[u32; 3]>) -> Operation {
    commit(Plan { cells, ..Plan::default() })
}

/// Work that leaves something of everything: extents of several lengths, freed places, blocks in both slots, caller images
/// and deltas in the journal, several groups, one of them with several transactions.
fn work() -> Vec<Operation> {
    vec![
        allocate(1, vec![0]),
        allocate(2, Vec::new()),
        wish(Request::Span(0)),
        wish(Request::Item(200, true)),
        Operation::Transact(vec![Plan::allocating(1), Plan::allocating(1), Plan::allocating(3)]),
        Operation::Checkpoint,
        commit(Plan { free: vec![1], ..Plan::default() }),
        cells(vec![[0, 0, 2], [2, 0, 1]]),
        Operation::Checkpoint,
        // From here on in the journal: less than half of it, or a checkpoint is made.
        allocate(2, Vec::new()),
        cells(vec![[0, 0, 3]]),
        wish(Request::Item(200, true)),
        wish(Request::Item(500, false)),
        cells(vec![[0, 0, 4]]),
        commit(Plan { resize: vec![[0, 1]], ..Plan::default() }),
        commit(Plan { free: vec![3], cells: vec![[0, 0, 5]], ..Plan::default() }),
        Operation::Transact(vec![Plan::allocating(1), Plan { free: vec![2], ..Plan::default() }]),
        allocate(1, Vec::new()),
    ]
}

/// More than the ring holds, twice over.
pub(super) fn laps() -> Vec<Operation> {
    let pages = |at: u32| commit(Plan { pages: vec![[at, 0], [at + 1, 0]], ..Plan::default() });
    let mut operations = vec![allocate(1, vec![0]), allocate(1, Vec::new()), allocate(2, Vec::new())];
    for round in 0..12 {
        operations.extend([pages(round), cells(vec![[round, 0, round % 8]])]);
        if round % 4 == 1 {
            operations.push(Operation::Reopen);
        }
    }
    operations.push(Operation::Checkpoint);
    operations.extend([cells(vec![[0, 0, 1]]), cells(vec![[0, 0, 2]]), allocate(1, Vec::new())]);
    operations
}

impl Sample {
    /// The store that this work leaves.
    pub(super) fn of(operations: &[Operation], ending: Ending, id: [u8; 16]) -> Result<Self, String> {
        let subject = Subject { shape: Shape::TINY };
        let mut world = World::blank(subject);
        let fail = |stop: Stop| format!("a sample store cannot be made: {stop:?}");
        world.format_with(&subject.shape.format_options().store_id(id)).map_err(fail)?;
        world.open().map_err(fail)?;
        for operation in operations {
            world.apply(operation).map_err(fail)?;
        }
        if ending == Ending::Idle {
            world.apply(&Operation::Maintain).map_err(fail)?;
        }
        if ending == Ending::Closed {
            let store = world.store().map_err(fail)?;
            executor::run(store.close())
                .map_err(|stuck| fail(stuck.into()))?
                .map_err(|error| fail(error.into()))?;
        }
        world.session.store = None;
        let (base, trace) = (world.disk().freeze(), world.disk().trace());
        let sample = Self {
            ending,
            subject,
            base,
            trace,
            history: world.history().clone(),
            progress: world.progress(),
        };
        let groups = Forge::of(&sample.disk())?.scan.groups.len();
        if (ending == Ending::Closed) == (groups > 2) {
            return Err(format!("a store {} has {groups} groups in its journal", ending.name()));
        }
        Ok(sample)
    }

    /// The store of every other test.
    pub(super) fn usual(ending: Ending) -> Result<Self, String> {
        Self::of(&work(), ending, *b"freehold crashes")
    }

    /// A store with the same history and another identity.
    pub(super) fn twin(ending: Ending) -> Result<Self, String> {
        Self::of(&work(), ending, *b"freehold's twin.")
    }

    pub(super) fn trial(&self) -> Trial<'_> {
        Trial { subject: &self.subject, history: &self.history, progress: self.progress }
    }

    /// A disk with the store on it.
    pub(super) fn disk(&self) -> Arc<CowDisk> {
        self.subject.disk().cow(&self.base)
    }
}
