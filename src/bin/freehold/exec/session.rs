//! The state of a script: the open store, the open transaction, and names.

use std::ops::Range;
use std::pin::pin;

use freehold::inspect::{InfoReport, StoreStatus};
use freehold::{Allocator, Error, Extent, Transaction};
use futures_util::TryStreamExt;

use super::alloc::Wanted;
use super::answer::{Answer, Area, Stat};
use super::command::{Command, Which};
use super::names::{Names, parts};

#[derive(Debug)]
pub(super) struct Session {
    store: Allocator,
    base: InfoReport,
    names: Names,
    /// The open transaction, and the names to go back to when it does not happen.
    open: Option<(Transaction, Names)>,
}

/// Why a command failed.
enum Refusal {
    Store(Error),
    Script(&'static str, String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

type Outcome = Result<Answer, Refusal>;

impl Session {
    pub(super) fn new(store: Allocator, base: InfoReport) -> Self {
        Self { store, base, names: Names::default(), open: None }
    }

    /// Ends in order. An open transaction is aborted.
    pub(super) async fn close(mut self) -> freehold::Result<()> {
        drop(self.open.take());
        self.store.close().await
    }

    pub(super) async fn run(&mut self, command: &Command) -> Answer {
        let op = command.op();
        let outcome = match command {
            Command::Begin => self.begin(),
            Command::Alloc(wanted) => self.alloc(wanted).await,
            Command::Free(which) => self.free(which).await,
            Command::Resize { name, bytes } => self.resize(name, *bytes).await,
            Command::Write { name, text } => self.write(name, text).await,
            Command::Put { name, text } => self.put(name, text).await,
            Command::Read { name, len } => self.read(name, *len).await,
            Command::Commit => self.commit().await,
            Command::Abort => self.abort(),
            Command::Checkpoint => {
                self.store.checkpoint().await.map(|()| Answer::done(op)).map_err(Refusal::from)
            }
            Command::Stat => Ok(self.stat()),
            Command::List => self.list().await,
            Command::Areas => self.areas().await,
            // These end the script, which is not for the session to do.
            Command::Crash | Command::Exit => Ok(Answer::done(op)),
        };
        outcome.unwrap_or_else(|refusal| match refusal {
            Refusal::Store(error) => Answer::failed(op, error.kind(), &error.to_string()),
            Refusal::Script(kind, message) => Answer::failed(op, kind, &message),
        })
    }

    /// What a name stands for.
    fn extents(&self, name: &str) -> Result<Vec<Extent>, Refusal> {
        let found = self.names.get(name).map(<[Extent]>::to_vec);
        found.ok_or_else(|| Refusal::Script("unknown_name", format!("no extent is named '{name}'")))
    }

    /// Makes changes in the open transaction; without one, in one of their own, whose LSN is returned.
    async fn change<T>(
        &mut self,
        changes: impl AsyncFnOnce(&mut Transaction) -> freehold::Result<T>,
    ) -> freehold::Result<(T, Option<u64>)> {
        match &mut self.open {
            Some((txn, _)) => Ok((changes(txn).await?, None)),
            None => {
                let mut txn = self.store.begin();
                let changed = changes(&mut txn).await?;
                Ok((changed, Some(txn.commit().await?.lsn)))
            }
        }
    }

    fn begin(&mut self) -> Outcome {
        if self.open.is_some() {
            return Err(Refusal::Script(
                "transaction_open",
                "commit or abort the open transaction first".to_owned(),
            ));
        }
        self.open = Some((self.store.begin(), self.names.clone()));
        Ok(Answer::done("begin"))
    }

    async fn alloc(&mut self, wanted: &Wanted) -> Outcome {
        let name = &wanted.name;
        if self.names.get(name).is_some() {
            return Err(Refusal::Script(
                "usage",
                format!("the name '{name}' is bound already; free it first"),
            ));
        }
        let near = match &wanted.near {
            Some(near) => self.extents(near)?.last().copied(),
            None => None,
        };
        let request = wanted.request(near);
        let allocate = async |txn: &mut Transaction| {
            if wanted.may_be_several() {
                txn.alloc_extents(request).await
            } else {
                Ok(vec![txn.alloc(request).await?])
            }
        };
        let (extents, lsn) = self.change(allocate).await?;
        self.names.bind(name, &extents);
        let (requested, owner) = (Some(wanted.bytes), Some(wanted.owner));
        Ok(Answer { requested, owner, lsn, ..Answer::about("alloc", name, &extents) })
    }

    async fn free(&mut self, which: &Which) -> Outcome {
        let (extents, name) = match which {
            Which::Name(name) => (self.extents(name)?, Some(name.clone())),
            Which::Offset(offset) => (vec![self.extent_at(*offset).await?], None),
        };
        let release = async |txn: &mut Transaction| {
            for extent in &extents {
                txn.free(extent).await?;
            }
            Ok(())
        };
        let ((), lsn) = self.change(release).await?;
        for extent in &extents {
            self.names.forget(extent);
        }
        Ok(Answer { name, lsn, generation: None, ..Answer::about("free", "", &extents) })
    }

    async fn resize(&mut self, name: &str, bytes: u64) -> Outcome {
        let extents = self.extents(name)?;
        let [extent] = extents.as_slice() else {
            let message = format!("'{name}' stands for {} extents; one can be resized", extents.len());
            return Err(Refusal::Script("usage", message));
        };
        let (resized, lsn) =
            self.change(async |txn: &mut Transaction| txn.resize(extent, bytes).await).await?;
        self.names.bind(name, &[resized]);
        Ok(Answer { requested: Some(bytes), lsn, ..Answer::about("resize", name, &[resized]) })
    }

    async fn extent_at(&self, offset: u64) -> Result<Extent, Refusal> {
        match self.store.extent_at(offset).await {
            Ok(info) => Ok(info.extent),
            // An extent that one transaction both made and freed leaves no trace in the store.
            Err(Error::InvalidExtent { .. }) if self.names.was_freed(offset) => {
                Err(Error::NotAllocated { offset, reason: "it was freed" }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self, name: &str, text: &str) -> Outcome {
        let extents = self.extents(name)?;
        for (extent, range) in parts(&extents, text.len() as u64)? {
            let ticket = self.store.write_at(&extent, 0, bytes_of(text, range)).await?;
            if let Some((txn, _)) = &mut self.open {
                txn.after(ticket);
            }
        }
        if self.open.is_none() {
            self.store.sync_data().await?;
        }
        Ok(Self::moved("write", name, &extents, text.len()))
    }

    async fn put(&mut self, name: &str, text: &str) -> Outcome {
        let extents = self.extents(name)?;
        let parts = parts(&extents, text.len() as u64)?;
        let stage = async |txn: &mut Transaction| {
            for (extent, range) in parts {
                txn.write(&extent, 0, bytes_of(text, range)).await?;
            }
            Ok(())
        };
        let ((), lsn) = self.change(stage).await?;
        Ok(Answer { lsn, ..Self::moved("put", name, &extents, text.len()) })
    }

    /// About bytes that were written or read.
    fn moved(op: &str, name: &str, extents: &[Extent], len: usize) -> Answer {
        let about = Answer::about(op, name, extents);
        Answer { bytes: Some(len as u64), generation: None, extents: None, ..about }
    }

    async fn read(&mut self, name: &str, len: u64) -> Outcome {
        let extents = self.extents(name)?;
        let mut bytes = Vec::new();
        for (extent, range) in parts(&extents, len)? {
            let part = match &self.open {
                Some((txn, _)) => txn.read_at(&extent, 0, range.len()).await?,
                None => self.store.read_at(&extent, 0, range.len()).await?,
            };
            bytes.extend_from_slice(&part);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { text: Some(text), ..Self::moved("read", name, &extents, bytes.len()) })
    }

    fn take_open(&mut self) -> Result<(Transaction, Names), Refusal> {
        let none = || Refusal::Script("no_transaction", "there is no open transaction; begin one".to_owned());
        self.open.take().ok_or_else(none)
    }

    async fn commit(&mut self) -> Outcome {
        let (txn, before) = self.take_open()?;
        let (needed, max) = (txn.journal_bytes(), self.store.max_transaction_bytes());
        if needed > max {
            // A commit would consume it. It stays open instead: a failed command changes nothing.
            self.open = Some((txn, before));
            return Err(Error::TransactionTooLarge { needed, max }.into());
        }
        match txn.commit().await {
            Ok(committed) => Ok(Answer { lsn: Some(committed.lsn), ..Answer::done("commit") }),
            Err(error) => {
                self.names = before;
                Err(error.into())
            }
        }
    }

    fn abort(&mut self) -> Outcome {
        let (txn, before) = self.take_open()?;
        txn.abort();
        self.names = before;
        Ok(Answer::done("abort"))
    }

    fn stat(&self) -> Answer {
        let stats = self.store.stats();
        let mut info = self.base.clone();
        info.state = StoreStatus::NeedsReplay;
        info.metadata_bytes = stats.metadata_bytes;
        info.allocated_bytes = stats.allocated_bytes;
        info.free_bytes = stats.free_bytes;
        info.extents = stats.extents;
        info.untouched_segments = stats.segments.untouched;
        info.last_lsn = stats.journal.durable_lsn;
        // Opening for writing began a new epoch, renewed what was damaged, and took the journal over.
        info.epoch += 1;
        info.torn_tail = false;
        info.warnings.clear();
        info.journal_transactions = stats.journal.transactions;
        info.roles.clear();
        let stat = Stat { info, reserved_bytes: stats.reserved_bytes, pending_bytes: stats.pending_bytes };
        Answer { stat: Some(stat), ..Answer::done("stat") }
    }

    async fn list(&self) -> Outcome {
        let mut extents = pin!(self.store.extents());
        let mut listed = Vec::new();
        while let Some(info) = extents.try_next().await? {
            listed.push(info.into());
        }
        Ok(Answer { extents: Some(listed), ..Answer::done("list") })
    }

    async fn areas(&self) -> Outcome {
        let mut areas = pin!(self.store.free_areas());
        let mut listed = Vec::new();
        while let Some(area) = areas.try_next().await? {
            listed.push(Area { offset: area.offset, bytes: area.len });
        }
        Ok(Answer { areas: Some(listed), ..Answer::done("areas") })
    }
}

/// The bytes of a text that go to one part.
fn bytes_of(text: &str, range: Range<usize>) -> &[u8] {
    text.as_bytes().get(range).unwrap_or_default()
}
