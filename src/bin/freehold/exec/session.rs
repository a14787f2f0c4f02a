//! The state of a script: the open store, the open transaction, and names.

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use freehold::inspect::{InfoReport, StoreStatus};
use freehold::{AllocRequest, Allocator, Error, Extent, Transaction};
use futures_util::TryStreamExt;

use super::answer::{Answer, Stat};
use super::command::{Command, Which};

/// What a script knows of extents.
#[derive(Clone, Debug, Default)]
struct Names {
    extents: HashMap<String, Extent>,
    /// Offsets at which this script freed an extent that nothing was allocated over since.
    freed: HashSet<u64>,
}

impl Names {
    fn bind(&mut self, name: &str, extent: Extent) {
        self.freed.retain(|offset| !(extent.offset..extent.end()).contains(offset));
        self.extents.insert(name.to_owned(), extent);
    }

    fn forget(&mut self, extent: &Extent) {
        self.extents.retain(|_, bound| bound != extent);
        self.freed.insert(extent.offset);
    }
}

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
            Command::Alloc { name, bytes, owner } => self.alloc(name, *bytes, *owner).await,
            Command::Free(which) => self.free(which).await,
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
            // These end the script, which is not for the session to do.
            Command::Crash | Command::Exit => Ok(Answer::done(op)),
        };
        outcome.unwrap_or_else(|refusal| match refusal {
            Refusal::Store(error) => Answer::failed(op, error.kind(), &error.to_string()),
            Refusal::Script(kind, message) => Answer::failed(op, kind, &message),
        })
    }

    fn extent(&self, name: &str) -> Result<Extent, Refusal> {
        let found = self.names.extents.get(name).copied();
        found.ok_or_else(|| Refusal::Script("unknown_name", format!("no extent is named '{name}'")))
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

    async fn alloc(&mut self, name: &str, bytes: u64, owner: u64) -> Outcome {
        if self.names.extents.contains_key(name) {
            return Err(Refusal::Script(
                "usage",
                format!("the name '{name}' is bound already; free it first"),
            ));
        }
        let request = AllocRequest::bytes(bytes).owner(owner);
        let (extent, lsn) = match &mut self.open {
            Some((txn, _)) => (txn.alloc(request).await?, None),
            None => {
                let mut txn = self.store.begin();
                let extent = txn.alloc(request).await?;
                (extent, Some(txn.commit().await?.lsn))
            }
        };
        self.names.bind(name, extent);
        Ok(Answer {
            name: Some(name.to_owned()),
            offset: Some(extent.offset),
            bytes: Some(extent.len),
            requested: Some(bytes),
            owner: Some(owner),
            generation: Some(extent.generation),
            lsn,
            ..Answer::done("alloc")
        })
    }

    async fn free(&mut self, which: &Which) -> Outcome {
        let (extent, name) = match which {
            Which::Name(name) => (self.extent(name)?, Some(name.clone())),
            Which::Offset(offset) => (self.extent_at(*offset).await?, None),
        };
        let lsn = match &mut self.open {
            Some((txn, _)) => {
                txn.free(&extent).await?;
                None
            }
            None => {
                let mut txn = self.store.begin();
                txn.free(&extent).await?;
                Some(txn.commit().await?.lsn)
            }
        };
        self.names.forget(&extent);
        Ok(Answer { name, offset: Some(extent.offset), bytes: Some(extent.len), lsn, ..Answer::done("free") })
    }

    async fn extent_at(&self, offset: u64) -> Result<Extent, Refusal> {
        match self.store.extent_at(offset).await {
            Ok(info) => Ok(info.extent),
            // An extent that one transaction both made and freed leaves no trace in the store.
            Err(Error::InvalidExtent { .. }) if self.names.freed.contains(&offset) => {
                Err(Error::NotAllocated { offset, reason: "it was freed" }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self, name: &str, text: &str) -> Outcome {
        let extent = self.extent(name)?;
        let ticket = self.store.write_at(&extent, 0, text.as_bytes()).await?;
        match &mut self.open {
            Some((txn, _)) => txn.after(ticket),
            None => self.store.sync_data().await?,
        }
        Ok(Self::written("write", name, &extent, text))
    }

    async fn put(&mut self, name: &str, text: &str) -> Outcome {
        let extent = self.extent(name)?;
        let lsn = match &mut self.open {
            Some((txn, _)) => {
                txn.write(&extent, 0, text.as_bytes()).await?;
                None
            }
            None => {
                let mut txn = self.store.begin();
                txn.write(&extent, 0, text.as_bytes()).await?;
                Some(txn.commit().await?.lsn)
            }
        };
        Ok(Answer { lsn, ..Self::written("put", name, &extent, text) })
    }

    fn written(op: &str, name: &str, extent: &Extent, text: &str) -> Answer {
        Answer {
            name: Some(name.to_owned()),
            offset: Some(extent.offset),
            bytes: Some(text.len() as u64),
            ..Answer::done(op)
        }
    }

    async fn read(&mut self, name: &str, len: u64) -> Outcome {
        let extent = self.extent(name)?;
        let refused =
            Error::InvalidExtent { offset: extent.offset, len, reason: "the range ends beyond the extent" };
        let len = usize::try_from(len).ok().filter(|_| len <= extent.len).ok_or(refused)?;
        let bytes = match &self.open {
            Some((txn, _)) => txn.read_at(&extent, 0, len).await?,
            None => self.store.read_at(&extent, 0, len).await?,
        };
        Ok(Answer {
            name: Some(name.to_owned()),
            offset: Some(extent.offset),
            bytes: Some(bytes.len() as u64),
            text: Some(String::from_utf8_lossy(&bytes).into_owned()),
            ..Answer::done("read")
        })
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
        Ok(Answer { listed: Some(listed), ..Answer::done("list") })
    }
}
