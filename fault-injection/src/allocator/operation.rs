//! What a workload does to the allocator.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use freehold::{AllocRequest, Allocator, Error, ExtentInfo};
use futures_util::future::join_all;

use super::model::Effects;
use super::plan::{Plan, Resolved, resolve};
use super::{Live, Subject, direct};
use crate::disk::{ErrorCode, Fault, FaultPlan, IoKind, When};
use crate::executor;
use crate::harness::{Allowed, Refusal, Session, Step};
use crate::oracle::{Oracle, Violation};
use crate::rng::Rng;

/// The most transactions of one operation, which may share a group.
pub const GROUP_LIMIT: usize = 6;

/// One thing that a workload does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Transactions that are committed at the same time, by as many tasks.
    Transact(Vec<Plan>),
    /// A transaction that is dropped.
    Abort(Plan),
    /// A commit whose future is dropped after so many polls.
    Abandon(Plan, u32),
    /// A caller that panics in the middle of a transaction.
    Panic(Plan),
    /// A direct write over a page of an extent.
    Overwrite([u32; 2]),
    /// Allocates until there is no space.
    Fill,
    /// Everything in place.
    Checkpoint,
    /// What a store does when it is idle.
    Maintain,
    /// Opening again, without closing: the process died.
    Reopen,
    /// Closing, and opening again.
    Close,
    /// A transaction, then a checkpoint, while the disk fails; then opening again.
    Fail {
        /// The transaction.
        plan: Plan,
        /// What fails, counted from 0 among the calls of its kind.
        nth: u64,
        /// Flushes only, or any call.
        flushes: bool,
        /// The answer.
        code: ErrorCode,
        /// Whether every such call fails from then on.
        for_ever: bool,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transact(plans) => {
                let plans: Vec<String> = plans.iter().map(Plan::to_string).collect();
                write!(f, "commit: {}", plans.join(" | at the same time: "))
            }
            Self::Abort(plan) => write!(f, "drop a transaction: {plan}"),
            Self::Abandon(plan, polls) => write!(f, "drop a commit after {polls} polls: {plan}"),
            Self::Panic(plan) => write!(f, "panic in a transaction: {plan}"),
            Self::Overwrite([pick, page]) => write!(f, "write page #{page} of extent #{pick} directly"),
            Self::Fill => f.write_str("allocate until the store is full"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Maintain => f.write_str("maintain"),
            Self::Reopen => f.write_str("open again without closing"),
            Self::Close => f.write_str("close and open again"),
            Self::Fail { plan, nth, flushes, code, for_ever } => write!(
                f,
                "commit and checkpoint while {} number {nth} {} with {code:?}: {plan}",
                if *flushes { "flush" } else { "call" },
                if *for_ever { "and all after it fail" } else { "fails" },
            ),
        }
    }
}

type Outcome = Result<(), Violation>;

fn broken(what: &str, error: &Error) -> Violation {
    Violation::new(Oracle::Conduct, format!("without any fault, {what} failed: {error}"))
}

impl Operation {
    /// Draws an operation.
    #[must_use]
    pub fn any(rng: &mut Rng) -> Self {
        let draw = |rng: &mut Rng| u32::try_from(rng.below(64)).unwrap_or(0);
        match rng.below(64) {
            0..=23 => Self::Transact(vec![Plan::any(rng)]),
            24 | 25 => Self::Transact(vec![Plan::clearing(rng), Plan::spanning(rng)]),
            26..=36 => {
                let tasks = 2 + rng.below(GROUP_LIMIT as u64 - 1);
                Self::Transact((0..tasks).map(|_| Plan::any(rng)).collect())
            }
            37..=39 => Self::Transact(vec![Plan::any_large(rng)]),
            40..=42 => Self::Abort(Plan::any(rng)),
            43..=45 => Self::Abandon(Plan::any(rng), 1 + draw(rng) % 2),
            46 => Self::Panic(Plan::any(rng)),
            47..=50 => Self::Overwrite([draw(rng), draw(rng)]),
            51 => Self::Fill,
            52..=54 => Self::Checkpoint,
            55..=57 => Self::Maintain,
            58 | 59 => Self::Reopen,
            60 => Self::Close,
            _ => {
                let flushes = rng.chance(0.5);
                Self::Fail {
                    plan: Plan::any(rng),
                    nth: rng.below(if flushes { 3 } else { 8 }),
                    flushes,
                    code: if rng.chance(0.7) { ErrorCode::Io } else { ErrorCode::NoSpace },
                    for_ever: rng.chance(0.3),
                }
            }
        }
    }
}

/// An operation under way.
pub(super) struct Applying<'a> {
    pub(super) subject: &'a Subject,
    pub(super) session: &'a mut Session<Subject>,
}

impl Applying<'_> {
    fn page_bytes(&self) -> u64 {
        self.subject.shape.page_bytes
    }

    fn store(&self) -> Result<Allocator, Violation> {
        self.session.open_store().map(|live| live.allocator.clone())
    }

    fn live(&self) -> Result<Vec<ExtentInfo>, Violation> {
        Ok(self.session.state()?.infos().collect())
    }

    fn resolve(&mut self, plans: &[Plan]) -> Result<Vec<Resolved>, Violation> {
        let (live, page_bytes) = (self.live()?, self.page_bytes());
        Ok(resolve(plans, self.session, &live, page_bytes))
    }

    fn push(&mut self, effects: &Effects) -> Outcome {
        let before = self.session.state()?;
        let mut handles = effects.allocated.iter().map(|(info, _)| info.extent);
        if let Some(extent) = handles.find(|extent| before.is_spent(extent)) {
            let message = format!("{extent:?} has the handle of one that was freed");
            return Err(Violation::new(Oracle::Conduct, message));
        }
        let state = before.after(effects, self.page_bytes());
        self.session.push(Step { text: effects.describe(), journaled: true }, state);
        Ok(())
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Transact(plans) => self.transact(plans),
            Operation::Abort(plan) => self.abort(plan, false),
            Operation::Panic(plan) => self.abort(plan, true),
            Operation::Abandon(plan, polls) => self.abandon(plan, *polls),
            Operation::Overwrite(place) => self.overwrite(*place),
            Operation::Fill => self.fill(),
            Operation::Checkpoint => {
                let store = self.store()?;
                executor::run(store.checkpoint())?.map_err(|error| broken("a checkpoint", &error))
            }
            Operation::Maintain => {
                let store = self.store()?;
                executor::run(store.maintain())?.map_err(|error| broken("maintenance", &error))
            }
            Operation::Reopen => self.session.reopen(self.subject),
            Operation::Close => {
                let store = self.store()?;
                executor::run(store.close())?.map_err(|error| broken("closing", &error))?;
                drop(store);
                self.session.reopen(self.subject)
            }
            Operation::Fail { plan, nth, flushes, code, for_ever } => {
                let when = if *flushes { When::kind(IoKind::Flush).nth(*nth) } else { When::any().nth(*nth) };
                let when = if *for_ever { when.for_ever() } else { when };
                self.fail(plan, FaultPlan::one(when, Fault::Fail(*code)))
            }
        }
    }

    /// So many transactions at once; they share groups.
    fn transact(&mut self, plans: &[Plan]) -> Outcome {
        let resolved = self.resolve(plans)?;
        let store = self.store()?;
        self.session.begin(resolved.len());
        let (disk, page_bytes) = (self.session.disk().clone(), self.page_bytes());
        let tasks = resolved.iter().filter(|plan| !plan.is_empty());
        let tasks = tasks.map(|plan| plan.commit(&store, &disk, page_bytes));
        let outcomes = executor::run(join_all(tasks))?;
        let mut committed = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(effects) => committed.push(effects),
                // A full store is an answer; the transaction left no trace.
                Err(Error::NoSpace { .. } | Error::TransactionTooLarge { .. }) => {}
                Err(error) => return Err(broken("a transaction", &error)),
            }
        }
        committed.sort_by_key(|effects| effects.lsn);
        for effects in &committed {
            self.push(effects)?;
        }
        self.session.acknowledge();
        Ok(())
    }

    /// A transaction that is dropped, or goes down with its caller.
    fn abort(&mut self, plan: &Plan, panics: bool) -> Outcome {
        let Some(resolved) = self.resolve(std::slice::from_ref(plan))?.pop() else { return Ok(()) };
        let store = self.store()?;
        let before = store.stats();
        let (disk, page_bytes) = (self.session.disk().clone(), self.page_bytes());
        if panics {
            let caller = async {
                let prepared = resolved.prepare(&store, &disk, page_bytes).await;
                // Unwinds with the transaction alive, and without a message of the panic handler.
                resume_unwind(Box::new(prepared.map(|(_, effects)| effects.lsn).unwrap_or_default()));
            };
            let _: Result<Result<(), _>, _> = catch_unwind(AssertUnwindSafe(|| executor::run(caller)));
        } else {
            drop(executor::run(resolved.prepare(&store, &disk, page_bytes))?);
        }
        let after = store.stats();
        if (before.free_bytes, before.reserved_bytes, before.allocated_bytes, before.pending_bytes)
            != (after.free_bytes, after.reserved_bytes, after.allocated_bytes, after.pending_bytes)
        {
            let message = format!("an abort left a trace: {before:?}, then {after:?}");
            return Err(Violation::new(Oracle::Conduct, message));
        }
        self.session.store.iter().for_each(Live::count_abort);
        Ok(())
    }

    /// A commit whose future is dropped after some polls: wholly there, or wholly gone.
    fn abandon(&mut self, plan: &Plan, polls: u32) -> Outcome {
        let Some(resolved) = self.resolve(std::slice::from_ref(plan))?.pop() else { return Ok(()) };
        let store = self.store()?;
        let before = store.stats().journal.durable_lsn;
        self.session.begin(1);
        let mut effects = None;
        let (disk, page_bytes) = (self.session.disk().clone(), self.page_bytes());
        let prepared = executor::run(resolved.prepare(&store, &disk, page_bytes))?;
        if let Ok((transaction, planned)) = prepared {
            effects = Some(planned);
            let _ = executor::run_at_most(transaction.commit(), polls);
        }
        let after = store.stats();
        if let Some(mut effects) = effects
            && after.journal.durable_lsn != before
        {
            effects.lsn = after.journal.durable_lsn;
            self.push(&effects)?;
        }
        if after.reserved_bytes != 0 || after.pending_bytes != 0 {
            let message = format!("an abandoned commit holds space: {after:?}");
            return Err(Violation::new(Oracle::Conduct, message));
        }
        self.session.acknowledge();
        self.session.store.iter().for_each(Live::count_abort);
        Ok(())
    }

    fn overwrite(&mut self, place: [u32; 2]) -> Outcome {
        let page_bytes = self.page_bytes();
        if direct::overwrite(self.session, place, page_bytes, |what, error| broken(what, &error))? {
            self.session.acknowledge();
        }
        Ok(())
    }

    /// Allocates until there is no space; the transaction keeps what it got.
    fn fill(&mut self) -> Outcome {
        let (store, page_bytes) = (self.store()?, self.page_bytes());
        let (transaction, mut effects) =
            direct::fill(self.session, page_bytes, |what, error| broken(what, &error))?;
        // Whoever is refused has changed nothing, and a full store can still commit.
        let stats = store.stats();
        let mut another = store.begin();
        let refused = executor::run(another.alloc(AllocRequest::bytes(page_bytes)))?;
        drop(another);
        if refused.is_ok() || store.stats().free_bytes != stats.free_bytes {
            return Err(Violation::new(Oracle::Conduct, "a full store gave space, or lost some"));
        }
        effects.lsn = executor::run(transaction.commit())?.map_err(|error| broken("a commit", &error))?.lsn;
        self.push(&effects)?;
        self.session.acknowledge();
        Ok(())
    }

    /// A transaction and a checkpoint during which the disk fails. The transaction is not acknowledged unless it was
    /// durable; after a failure of the journal nothing is written any more; reopening finds it, or finds it gone.
    fn fail(&mut self, plan: &Plan, faults: FaultPlan) -> Outcome {
        let Some(resolved) = self.resolve(std::slice::from_ref(plan))?.pop() else { return Ok(()) };
        let store = self.store()?;
        self.session.begin(1);
        let (disk, page_bytes) = (self.session.disk().clone(), self.page_bytes());
        disk.set_faults(faults);
        let prepared = executor::run(resolved.prepare(&store, &disk, page_bytes))?;
        let mut unknown = None;
        if let Ok((transaction, mut effects)) = prepared {
            match executor::run(transaction.commit())? {
                Ok(committed) => {
                    effects.lsn = committed.lsn;
                    self.push(&effects)?;
                    self.session.acknowledge();
                    // The fault may still hit the checkpoint.
                    let _ = executor::run(store.checkpoint())?;
                }
                Err(error) if error.is_outcome_unknown() => {
                    effects.lsn = u64::MAX;
                    unknown = Some(effects);
                }
                // Not committed.
                Err(_) => {}
            }
        }
        disk.set_faults(FaultPlan::none());
        self.is_stopped_or_works(&store)?;
        drop(store);
        self.after_failure(unknown)
    }

    /// A store whose journal has failed does nothing any more, although the disk works again.
    fn is_stopped_or_works(&self, store: &Allocator) -> Outcome {
        let stopped =
            executor::run(store.sync_data())?.is_err() || executor::run(store.checkpoint())?.is_err();
        if !stopped {
            return Ok(());
        }
        let counts = self.session.disk().counts();
        let again = executor::run(async {
            let mut transaction = store.begin();
            transaction.alloc(1).await?;
            transaction.commit().await
        })?;
        let _ = executor::run(store.maintain())?;
        let now = self.session.disk().counts();
        if again.is_ok() {
            return Err(Violation::new(Oracle::Conduct, "a stopped store went on"));
        }
        if (now.writes, now.flushes) != (counts.writes, counts.flushes) {
            return Err(Violation::new(Oracle::Conduct, "a stopped store went on writing"));
        }
        Ok(())
    }

    /// Opens again, and finds out what became of a commit with unknown outcome.
    fn after_failure(&mut self, unknown: Option<Effects>) -> Outcome {
        let before = self.session.state()?.clone();
        let mut states = vec![before.clone()];
        if let Some(effects) = &unknown {
            self.push(effects)?;
            states.push(self.session.state()?.clone());
        }
        self.session.reopen(self.subject)?;
        let Some(live) = &self.session.store else { return Ok(()) };
        let found = self.subject.compare(live, &Allowed { states: &states, acknowledged: 0 });
        let found = found.map_err(|refusal| match refusal {
            Refusal::Broken(violation) => violation,
            refusal => Violation::new(Oracle::Refusal, format!("after an I/O error: {refusal:?}")),
        })?;
        if let Some(effects) = unknown.filter(|_| found == 0) {
            let text = format!("opening again, without the {}", effects.describe());
            self.session.push(Step { text, journaled: true }, before);
        }
        self.session.acknowledge();
        Ok(())
    }
}
