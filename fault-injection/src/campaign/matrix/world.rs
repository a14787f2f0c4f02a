//! A workload under way on a disk that may fail at any call: what was acknowledged, what may be there, and what the
//! call said.

use std::sync::Arc;

use freehold::device::{Device, ManualClock};
use freehold::{Allocator, Error, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;
use futures_util::future::join_all;

use super::trial::Trial;
use crate::allocator::model::{Effects, State};
use crate::allocator::plan::{Plan, Resolved, resolve};
use crate::allocator::{Live, Operation, Subject, direct, payload};
use crate::disk::{CowBase, SimDisk};
use crate::executor;
use crate::harness::{Allowed, History, Progress, Refusal, Session, Start, Step, Subject as _};
use crate::oracle::{Oracle, Violation};

/// Why a workload does not go on.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// A call was refused.
    Error(Error),
    /// A rule was broken.
    Broken(Violation),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

impl From<executor::Stuck> for Stop {
    fn from(stuck: executor::Stuck) -> Self {
        Self::Broken(stuck.into())
    }
}

type Done = Result<(), Stop>;

/// The disk, the store while it is open, and the history.
pub(super) struct World {
    pub(super) subject: Subject,
    pub(super) session: Session<Subject>,
    device: Arc<dyn Device>,
    acknowledged: usize,
    cached_blocks: Option<usize>,
}

/// A full store, or a transaction that does not fit: answers, not errors.
const fn is_answer(error: &Error) -> bool {
    matches!(error, Error::NoSpace { .. } | Error::TransactionTooLarge { .. })
}

impl World {
    /// A blank disk.
    pub(super) fn blank(subject: Subject) -> Self {
        Self::on(subject, subject.disk().blank())
    }

    /// A disk that holds something, but no store of this history.
    pub(super) fn on(subject: Subject, base: Arc<CowBase>) -> Self {
        let session = Session::new(&subject, &Start { base, state: None, serial: 64 });
        let device = session.device();
        Self { subject, session, device, acknowledged: 0, cached_blocks: None }
    }

    /// The store does its I/O through another device, which stands before the disk.
    pub(super) fn through(self, device: impl FnOnce(&Arc<SimDisk>) -> Arc<dyn Device>) -> Self {
        let device = device(self.session.disk());
        Self { device, ..self }
    }

    /// The store keeps hardly any metadata in memory, so that it reads often.
    pub(super) fn forgetful(self) -> Self {
        Self { cached_blocks: Some(0), ..self }
    }

    pub(super) fn disk(&self) -> &Arc<SimDisk> {
        self.session.disk()
    }

    pub(super) fn history(&self) -> &History<State> {
        self.session.history()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { acknowledged: self.acknowledged, started: self.history().steps().len() }
    }

    pub(super) fn trial(&self) -> Trial<'_> {
        Trial { subject: &self.subject, history: self.history(), progress: self.progress() }
    }

    pub(super) fn store(&self) -> Result<Allocator, Stop> {
        Ok(self.session.open_store()?.allocator.clone())
    }

    pub(super) fn acknowledge(&mut self) {
        self.session.acknowledge();
        self.acknowledged = self.history().steps().len();
    }

    pub(super) fn state(&self) -> Result<State, Stop> {
        Ok(self.session.state()?.clone())
    }

    pub(super) fn push(&mut self, effects: &Effects) -> Done {
        let state = self.session.state()?.after(effects, self.page_bytes());
        self.session.push(Step { text: effects.describe(), journaled: true }, state);
        Ok(())
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.subject.shape.page_bytes
    }

    /// Makes the store.
    pub(super) fn format(&mut self) -> Done {
        self.format_with(&self.subject.shape.format_options().force(true))
    }

    /// Makes the store in a certain way.
    pub(super) fn format_with(&mut self, options: &FormatOptions) -> Done {
        if self.history().steps().is_empty() {
            self.session.begin(1);
            let state = self.state()?;
            self.session.push(Step { text: "format".to_owned(), journaled: false }, state);
        }
        executor::run(options.format_device(Arc::clone(&self.device)))??;
        self.acknowledge();
        Ok(())
    }

    /// Opens the store, after whatever was open is gone.
    pub(super) fn open(&mut self) -> Done {
        self.session.store = None;
        let options = OpenOptions::new().clock(Arc::new(ManualClock::default()));
        let options = match self.cached_blocks {
            Some(blocks) => options.cached_blocks(blocks),
            None => options,
        };
        let (allocator, _) = executor::run(options.open_device(Arc::clone(&self.device)))??;
        self.session.store = Some(Live::new(allocator));
        Ok(())
    }

    /// Lists the store and reads the first page of everything.
    pub(super) fn look(&self) -> Done {
        let store = self.store()?;
        let extents: Vec<ExtentInfo> = executor::run(store.extents().try_collect())??;
        for info in &extents {
            let len = payload::part_len(&info.extent, 0, 4096);
            executor::run(store.read_at(&info.extent, 0, len))??;
        }
        Ok(())
    }

    /// Which of the states that may be there the open store holds; that one is it from here on.
    pub(super) fn settle(&mut self) -> Done {
        let states = self.history().states().get(self.acknowledged..).unwrap_or(&[]).to_vec();
        let Some(live) = &self.session.store else { return Ok(()) };
        let found = self.subject.check(live, &Allowed { states: &states, acknowledged: 0 });
        let found = found.map_err(|refusal| match refusal {
            Refusal::Broken(violation) => violation,
            refusal => Violation::new(Oracle::Refusal, format!("after an I/O error: {refusal:?}")),
        })?;
        if found + 1 != states.len()
            && let Some(state) = states.into_iter().nth(found)
        {
            let text = "opening again, without what was not acknowledged".to_owned();
            self.session.push(Step { text, journaled: true }, state);
        }
        self.acknowledge();
        Ok(())
    }

    /// Does one thing. After an error, what may be there all the same is in the history, not acknowledged.
    pub(super) fn apply(&mut self, operation: &Operation) -> Done {
        match operation {
            Operation::Transact(plans) => self.transact(plans),
            Operation::Abort(plan) => self.abort(plan),
            Operation::Overwrite(place) => self.overwrite(*place),
            Operation::Fill => self.fill(),
            Operation::Checkpoint => Ok(executor::run(self.store()?.checkpoint())??),
            Operation::Maintain => Ok(executor::run(self.store()?.maintain())??),
            Operation::Reopen => self.open(),
            Operation::Close => {
                if self.session.store.is_some() {
                    executor::run(self.store()?.close())??;
                }
                self.open()
            }
            Operation::Abandon(..) | Operation::Panic(_) | Operation::Fail { .. } => Ok(()),
        }
    }

    fn resolve(&mut self, plans: &[Plan]) -> Result<Vec<Resolved>, Stop> {
        let live: Vec<ExtentInfo> = self.session.state()?.infos().collect();
        let page_bytes = self.page_bytes();
        Ok(resolve(plans, &mut self.session, &live, page_bytes))
    }

    fn transact(&mut self, plans: &[Plan]) -> Done {
        let resolved = self.resolve(plans)?;
        let store = self.store()?;
        self.session.begin(resolved.len());
        let (disk, page_bytes) = (Arc::clone(self.disk()), self.page_bytes());
        let tasks = resolved.iter().filter(|plan| !plan.is_empty()).map(|plan| {
            let (store, disk) = (&store, &disk);
            async move {
                let prepared = plan.prepare(store, disk, page_bytes).await;
                let (transaction, mut effects) = prepared.map_err(|error| (None, error))?;
                match transaction.commit().await {
                    Ok(committed) => {
                        effects.lsn = committed.lsn;
                        Ok(effects)
                    }
                    Err(error) => Err((error.is_outcome_unknown().then_some(effects), error)),
                }
            }
        });
        let outcomes = executor::run(join_all(tasks))?;
        let (mut committed, mut unknown, mut cause) = (Vec::new(), Vec::new(), None);
        for outcome in outcomes {
            match outcome {
                Ok(effects) => committed.push(effects),
                Err((_, error)) if is_answer(&error) => {}
                Err((effects, error)) => {
                    unknown.extend(effects);
                    cause.get_or_insert(error);
                }
            }
        }
        committed.sort_by_key(|effects| effects.lsn);
        for effects in &committed {
            self.push(effects)?;
        }
        self.acknowledge();
        self.leave_open(&unknown)?;
        cause.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Transactions whose outcome is unknown: each is wholly there or wholly not.
    pub(super) fn leave_open(&mut self, unknown: &[Effects]) -> Done {
        let (before, page_bytes) = (self.state()?, self.page_bytes());
        let subsets = 1_usize << unknown.len().min(8);
        self.session.begin(subsets - 1);
        for subset in 1..subsets {
            let there = unknown.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
            let state = there.fold(before.clone(), |state, (_, effects)| state.after(effects, page_bytes));
            let text = format!("outcome unknown: {subset:#b} of {}", unknown.len());
            self.session.push(Step { text, journaled: true }, state);
        }
        Ok(())
    }

    fn abort(&mut self, plan: &Plan) -> Done {
        let Some(resolved) = self.resolve(std::slice::from_ref(plan))?.pop() else { return Ok(()) };
        let (store, disk) = (self.store()?, Arc::clone(self.disk()));
        match executor::run(resolved.prepare(&store, &disk, self.page_bytes()))? {
            Err(error) if !is_answer(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn overwrite(&mut self, place: [u32; 2]) -> Done {
        let page_bytes = self.page_bytes();
        if direct::overwrite(&mut self.session, place, page_bytes, |_, error| Stop::Error(error))? {
            self.acknowledge();
        }
        Ok(())
    }

    fn fill(&mut self) -> Done {
        let page_bytes = self.page_bytes();
        let (transaction, mut effects) =
            direct::fill(&mut self.session, page_bytes, |_, error| Stop::Error(error))?;
        match executor::run(transaction.commit())? {
            Ok(committed) => {
                effects.lsn = committed.lsn;
                self.push(&effects)?;
                self.acknowledge();
                Ok(())
            }
            Err(error) => {
                if error.is_outcome_unknown() {
                    self.leave_open(&[effects])?;
                }
                Err(error.into())
            }
        }
    }
}
