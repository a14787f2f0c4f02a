//! The blob store of the examples as a subject of the harness.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fault_injection::executor;
use fault_injection::harness::{Allowed, DiskShape, Opened, Probe, Refusal, Session, Step, Subject};
use fault_injection::oracle::{Oracle, Violation};
use fault_injection::rng::{Rng, mix};
use freehold::device::{Device, ManualClock};
use freehold::{AllocRequest, Allocator, Extent, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};

use super::blob_store::error::Error;
use super::blob_store::slot::{SLOT_BYTES, Slot};
use super::blob_store::store::{BlobStore, INDEX_OWNER};

const NAMES: [&str; 4] = ["ant", "bee", "cat", "dog"];
const LENGTHS: [usize; 6] = [0, 1, 512, 4096, 5000, 9000];
/// An await that takes longer never ends: nothing waits for hardware here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A blob's bytes follow from a seed and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    seed: u64,
    len: usize,
}

impl Blob {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        Rng::new(self.seed).bytes(&mut bytes);
        bytes
    }
}

pub(crate) type Name = &'static str;
/// The model.
pub(crate) type Blobs = BTreeMap<Name, Blob>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Blobs of these lengths, all at once. Those that are there are replaced.
    Put(Vec<(Name, usize)>),
    Delete(Name),
    Checkpoint,
    /// Opening again, without closing: the process died.
    Reopen,
    Close,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(puts) => {
                let puts: Vec<String> = puts.iter().map(|(name, len)| format!("{name}, {len} B")).collect();
                write!(f, "put {}", puts.join(" | at the same time: "))
            }
            Self::Delete(name) => write!(f, "delete {name}"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Reopen => f.write_str("open again without closing"),
            Self::Close => f.write_str("close and open again"),
        }
    }
}

/// How a single blob is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// By the store.
    Store,
    /// By hand, as the store does it.
    Right,
    /// By hand, and the allocation has a transaction of its own.
    AllocatingApart,
    /// By hand, and the bytes come after the commit that names them.
    BytesLast,
}

/// The subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    pub(crate) sector_bytes: u32,
    pub(crate) replacing: Replacing,
}

/// The store while it is open. `put` spawns a task, so that it brings a runtime.
pub(crate) struct Live {
    runtime: Runtime,
    space: Allocator,
    blobs: BlobStore,
}

/// Where a blob lies: its slot is at an offset in an extent of the index, its bytes are in an extent with an owner tag.
struct Place {
    index: Extent,
    offset: u64,
    extent: Extent,
    owner: u64,
}

fn wait<T>(runtime: &Runtime, future: impl Future<Output = T>) -> Result<T, Violation> {
    let timed = runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await });
    timed.map_err(|_| Violation::new(Oracle::Awaits, format!("an await took more than {PATIENCE:?}")))
}

impl Live {
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Violation> {
        wait(&self.runtime, future)
    }

    /// Where a blob lies; none when it has no bytes to replace.
    async fn find(&self, name: Name) -> Result<Option<Place>, Error> {
        let slot = self.blobs.list().into_iter().find(|slot| slot.name == name);
        let Some(extent) = slot.and_then(|slot| slot.extent) else { return Ok(None) };
        let infos: Vec<_> = self.space.extents().try_collect().await?;
        let owner = infos.iter().find(|info| info.extent == extent).map_or(0, |info| info.owner);
        for index in infos.iter().filter(|info| info.owner == INDEX_OWNER).map(|info| info.extent) {
            let bytes = self.space.read_at(&index, 0, usize::try_from(index.len).unwrap()).await?;
            let is_it = |slot| Slot::decode(slot).ok().flatten().is_some_and(|slot| slot.name == name);
            if let Some(at) = bytes.chunks_exact(SLOT_BYTES).position(is_it) {
                return Ok(Some(Place { index, offset: (at * SLOT_BYTES) as u64, extent, owner }));
            }
        }
        Ok(None)
    }

    /// Replaces a blob around the store.
    async fn replace(&self, how: Replacing, at: Place, name: Name, data: &[u8]) -> Result<(), Error> {
        let space = &self.space;
        let mut txn = space.begin();
        let extent = txn.alloc(AllocRequest::bytes(data.len() as u64).owner(at.owner)).await?;
        if how != Replacing::BytesLast {
            space.write_at(&extent, 0, data).await?;
        }
        if how == Replacing::AllocatingApart {
            txn.commit().await?;
            txn = space.begin();
        }
        let (name, len, hash) = (name.to_owned(), data.len() as u64, blake3::hash(data));
        txn.free(&at.extent).await?;
        txn.write(&at.index, at.offset, &Slot { name, len, hash, extent: Some(extent) }.encode()).await?;
        txn.commit().await?;
        if how == Replacing::BytesLast {
            space.write_at(&extent, 0, data).await?;
            space.sync_data().await?;
        }
        Ok(())
    }
}

fn broken(error: &Error) -> Violation {
    Violation::new(Oracle::Conduct, format!("without any fault: {error}"))
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Space(freehold::Error::NotFreehold { .. }) => Refusal::NotFormatted,
        Error::Space(error) if error.is_corruption() => Refusal::Damaged(error.to_string()),
        Error::Damaged { .. } => Violation::new(Oracle::Payload, error.to_string()).into(),
        Error::Index { .. } | Error::Leaked { .. } => {
            Violation::new(Oracle::Recount, error.to_string()).into()
        }
        error => Violation::new(Oracle::Refusal, error.to_string()).into(),
    }
}

impl Store {
    fn put(&self, session: &mut Session<Self>, puts: &[(Name, usize)]) -> Result<(), Violation> {
        let first = session.fresh(puts.len() as u64);
        let new = |(&(name, len), seed)| (name, Blob { seed, len });
        let new: Vec<(Name, Blob)> = puts.iter().zip(first..).map(new).collect();
        // Nothing is promised about the order among them: any of them may be there.
        session.begin((1 << new.len()) - 1);
        let mut stored = Vec::new();
        for (answer, new) in self.put_all(session, &new)?.into_iter().zip(&new) {
            match answer {
                Ok(()) => stored.push(*new),
                // A full store is an answer.
                Err(Error::Space(freehold::Error::NoSpace { .. })) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        let before = session.state()?.clone();
        for set in 1_u32..1 << stored.len() {
            let chosen = stored.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
            let chosen: Blobs = chosen.map(|(_, new)| *new).collect();
            let step = Step::transaction(format!("stored: {chosen:?}"));
            let mut state = before.clone();
            state.extend(chosen);
            session.push(step, state);
        }
        session.acknowledge();
        Ok(())
    }

    fn put_all(
        &self,
        session: &mut Session<Self>,
        new: &[(Name, Blob)],
    ) -> Result<Vec<Result<(), Error>>, Violation> {
        let live = session.open_store()?;
        if let [(name, blob)] = new
            && self.replacing != Replacing::Store
            && blob.len > 0
            && let Some(place) = live.wait(live.find(name))?.map_err(|error| broken(&error))?
        {
            let answer = live.wait(live.replace(self.replacing, place, name, &blob.bytes()))?;
            // The store was passed by, so that it has to look again.
            let blobs = live.wait(BlobStore::open(live.space.clone()))?.map_err(|error| broken(&error))?;
            session.store.iter_mut().for_each(|live| live.blobs = blobs.clone());
            return Ok(vec![answer]);
        }
        let tasks = new.iter().map(|(name, blob)| live.blobs.put(name, blob.bytes()));
        Ok(live.wait(join_all(tasks))?.into_iter().map(|answer| answer.map(drop)).collect())
    }

    fn delete(session: &mut Session<Self>, name: Name) -> Result<(), Violation> {
        session.begin(1);
        let live = session.open_store()?;
        let was_there = live.wait(live.blobs.delete(name))?.map_err(|error| broken(&error))?;
        let mut state = session.state()?.clone();
        if state.remove(name).is_some() != was_there {
            return Err(Violation::new(Oracle::Conduct, format!("deleting {name} answered {was_there}")));
        }
        if was_there {
            session.push(Step::transaction(format!("deleted: {name}")), state);
        }
        session.acknowledge();
        Ok(())
    }
}

impl Subject for Store {
    type Operation = Operation;
    type Store = Live;
    type State = Blobs;

    fn disk(&self) -> DiskShape {
        DiskShape::new(384 << 10, self.sector_bytes, 4096)
    }

    fn blank(&self) -> Blobs {
        Blobs::new()
    }

    fn format(&self, device: Arc<dyn Device>) -> Result<(), Violation> {
        let clock = Arc::new(ManualClock::default());
        let options =
            FormatOptions::new().journal_bytes(32 << 10).store_id(*b"crashes of blobs").clock(clock);
        executor::run(options.format_device(device))?.map(drop).map_err(|error| broken(&error.into()))
    }

    fn open(&self, device: Arc<dyn Device>) -> Result<Opened<Live>, Refusal> {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let opening = async {
            let options = OpenOptions::new().clock(Arc::new(ManualClock::default()));
            let (space, report) = options.open_device(device).await?;
            let blobs = BlobStore::open(space.clone()).await?;
            Ok((space, blobs, report))
        };
        let (space, blobs, report) = wait(&runtime, opening)?.map_err(refusal)?;
        let store = Live { runtime, space, blobs };
        Ok(Opened { store, torn_tail: report.torn_tail, report: Box::new(report) })
    }

    fn apply(&self, session: &mut Session<Self>, operation: &Operation) -> Result<(), Violation> {
        match operation {
            Operation::Put(puts) => self.put(session, puts),
            Operation::Delete(name) => Self::delete(session, name),
            Operation::Checkpoint => {
                let live = session.open_store()?;
                live.wait(live.space.checkpoint())?.map_err(|error| broken(&error.into()))
            }
            Operation::Reopen => session.reopen(self),
            Operation::Close => {
                let live = session.open_store()?;
                live.wait(live.blobs.close())?.map_err(|error| broken(&error))?;
                session.reopen(self)
            }
        }
    }

    fn check(&self, live: &Live, allowed: &Allowed<'_, Blobs>) -> Result<usize, Refusal> {
        let mut found = BTreeMap::new();
        for slot in live.blobs.list() {
            let bytes = live.wait(live.blobs.get(&slot.name))?.map_err(refusal)?;
            found.insert(slot.name, bytes.unwrap_or_default());
        }
        live.wait(live.blobs.verify())?.map_err(refusal)?;
        let holds = |state: &Blobs| {
            let expected = state.iter().map(|(name, blob)| (*name, blob.bytes()));
            found.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).eq(expected)
        };
        let lengths: BTreeMap<_, _> = found.iter().map(|(name, bytes)| (name, bytes.len())).collect();
        allowed.states.iter().rposition(holds).ok_or_else(|| {
            let message = format!("found {lengths:?}, which is none of {:?}", allowed.states);
            Violation::new(Oracle::Model, message).into()
        })
    }

    fn any_operation(&self, rng: &mut Rng) -> Operation {
        let name = |rng: &mut Rng| *rng.pick(&NAMES).unwrap();
        let len = |rng: &mut Rng| *rng.pick(&LENGTHS).unwrap();
        match rng.below(16) {
            0..=6 => Operation::Put(vec![(name(rng), len(rng))]),
            7..=9 => {
                let (first, count) = (rng.index(NAMES.len()), 2 + rng.index(2));
                let names = NAMES.iter().cycle().skip(first).take(count);
                Operation::Put(names.map(|name| (*name, len(rng))).collect())
            }
            10..=12 => Operation::Delete(name(rng)),
            13 => Operation::Checkpoint,
            14 => Operation::Reopen,
            _ => Operation::Close,
        }
    }

    fn fingerprint(&self, state: &Blobs) -> u64 {
        let numbers =
            state.iter().flat_map(|(name, blob)| [name.as_bytes()[0].into(), blob.seed, blob.len as u64]);
        numbers.fold(0, |sum, number| mix(sum ^ number))
    }

    /// The recovered store takes a blob, closes and opens.
    fn live_on(&self, probe: &Probe<'_, Self>) -> Result<(), Violation> {
        let live = probe.store;
        let fail = |error: &Error| Violation::new(Oracle::SecondLife, format!("after recovery: {error}"));
        let added = match live.wait(live.blobs.put("elk", vec![7; 5000]))? {
            Err(Error::Space(freehold::Error::NoSpace { .. })) => 0,
            answer => answer.map(|_| 1).map_err(|error| fail(&error))?,
        };
        live.wait(live.blobs.close())?.map_err(|error| fail(&error))?;
        let again = self.open(Arc::clone(probe.disk) as Arc<dyn Device>);
        let again = again.map_err(|why| Violation::new(Oracle::SecondLife, format!("{why:?}")))?.store;
        let summary = again.wait(again.blobs.verify())?.map_err(|error| fail(&error))?;
        let expected = probe.run.history.state(probe.steps).map_or(0, Blobs::len) + added;
        if summary.blobs != expected {
            let message = format!("{} blobs in place of {expected} after a second life", summary.blobs);
            return Err(Violation::new(Oracle::SecondLife, message));
        }
        Ok(())
    }
}
