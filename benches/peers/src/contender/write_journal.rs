//! The engine of write-journal under a buddy: each transaction writes the header of the block that it makes, and
//! clears that of the block that it frees. What is free, split or joined is known from that, so that nothing else is
//! journaled: as few bytes as such an allocator can do with.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold::Extent;
use tokio::task::JoinHandle;
use write_journal::WriteJournal;

use super::{Clients, Contender};
use crate::Failure;
use crate::buddy::Buddy;
use crate::workload::{PAGE_BYTES, Pool};

const JOURNAL_BYTES: u64 = 1 << 20;
/// One per page, in a table behind the journal: order and a mark for the first page of a block, else zero.
const HEADER_BYTES: u64 = 8;
const MARK: u64 = 1 << 32;
/// The table is read in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
const IN_FLIGHT: usize = 64;

/// The journal, the table behind it, and the buddy that says what is free.
pub(crate) struct Journaled {
    journal: Arc<WriteJournal>,
    file: File,
    pages: u64,
    buddy: Mutex<Buddy>,
}

fn place(extent: &Extent) -> u64 {
    JOURNAL_BYTES + extent.offset / PAGE_BYTES * HEADER_BYTES
}

fn order(extent: &Extent) -> u32 {
    (extent.len / PAGE_BYTES).ilog2()
}

fn header(extent: &Extent) -> [u8; 8] {
    (MARK | u64::from(order(extent))).to_be_bytes()
}

/// Reads the whole table.
fn load(file: &File, pages: u64) -> Result<Vec<Extent>, Failure> {
    let (mut live, mut page) = (Vec::new(), 0);
    let bytes = usize::try_from(pages * HEADER_BYTES)?;
    let mut piece = vec![0; bytes.min(PIECE_BYTES)];
    while page < pages {
        file.read_exact_at(&mut piece, JOURNAL_BYTES + page * HEADER_BYTES)?;
        for header in piece.as_chunks().0 {
            let header = u64::from_be_bytes(*header);
            if header & MARK != 0 {
                let len = PAGE_BYTES << (header ^ MARK);
                live.push(Extent { offset: page * PAGE_BYTES, len, generation: 0 });
            }
            page += 1;
        }
    }
    Ok(live)
}

impl Journaled {
    fn take(&self, bytes: u64) -> Result<Extent, Failure> {
        let pages = bytes.div_ceil(PAGE_BYTES).next_power_of_two();
        let mut buddy = self.buddy.lock().unwrap_or_else(PoisonError::into_inner);
        let page = buddy.take(pages.ilog2()).ok_or("the buddy is full")?;
        Ok(Extent { offset: page * PAGE_BYTES, len: pages * PAGE_BYTES, generation: 0 })
    }

    fn give(&self, extent: &Extent) {
        let mut buddy = self.buddy.lock().unwrap_or_else(PoisonError::into_inner);
        buddy.give(extent.offset / PAGE_BYTES, order(extent));
    }

    /// Not begun before everything is known: the engine waits for each transaction that was begun.
    async fn commit(journal: Arc<WriteJournal>, freed: Option<Extent>, made: Extent) {
        let mut transaction = journal.begin_transaction();
        transaction.write(place(&made), header(&made).to_vec());
        if let Some(freed) = freed {
            transaction.write(place(&freed), vec![0; 8]);
        }
        journal.commit_transaction(transaction).await;
    }

    /// Waits for the oldest.
    async fn join(&self, in_flight: &mut InFlight, pool: &mut Pool) -> Result<bool, Failure> {
        let Some((commit, freed, made)) = in_flight.pop_front() else { return Ok(false) };
        commit.await?;
        if let Some(freed) = freed {
            self.give(&freed);
        }
        pool.live.push(made);
        Ok(true)
    }
}

type InFlight = VecDeque<(JoinHandle<()>, Option<Extent>, Extent)>;

impl Contender for Journaled {
    async fn open(dir: &Path, capacity: u64) -> Result<Self, Failure> {
        let path = dir.join("journaled");
        let pages = capacity / PAGE_BYTES;
        let is_new = !path.exists();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        if is_new {
            file.set_len(JOURNAL_BYTES + pages * HEADER_BYTES)?;
            // Written in full, so that commits never make the file system allocate blocks.
            file.write_all_at(&vec![0; usize::try_from(JOURNAL_BYTES)?], 0)?;
            file.sync_all()?;
        }
        let journal = WriteJournal::open(&path, 0, JOURNAL_BYTES).await;
        if is_new {
            journal.format_device().await;
        } else {
            journal.recover().await;
        }
        let used: Vec<(u64, u32)> =
            load(&file, pages)?.iter().map(|block| (block.offset / PAGE_BYTES, order(block))).collect();
        Ok(Self { journal, file, pages, buddy: Mutex::new(Buddy::without(pages, &used)?) })
    }

    async fn transact(&self, freed: Option<Extent>, bytes: u64, _: Clients) -> Result<Extent, Failure> {
        let made = self.take(bytes)?;
        Self::commit(Arc::clone(&self.journal), freed, made).await;
        if let Some(freed) = freed {
            self.give(&freed);
        }
        Ok(made)
    }

    /// Past the journal: there, each header would be a synchronous write of its own.
    async fn fill(&self, sizes: &[u64]) -> Result<Vec<Extent>, Failure> {
        let made: Vec<Extent> = sizes.iter().map(|&bytes| self.take(bytes)).collect::<Result<_, _>>()?;
        for extent in &made {
            self.file.write_all_at(&header(extent), place(extent))?;
        }
        self.file.sync_all()?;
        Ok(made)
    }

    async fn rush(&self, pool: &mut Pool, time: Duration) -> Result<u64, Failure> {
        let (started, mut operations) = (Instant::now(), 0);
        let mut in_flight = InFlight::new();
        // There is always something left to free.
        let most = IN_FLIGHT.min(pool.live.len() / 2);
        while started.elapsed() < time {
            let (freed, bytes) = pool.choose();
            let made = self.take(bytes)?;
            let commit = tokio::spawn(Self::commit(Arc::clone(&self.journal), freed, made));
            in_flight.push_back((commit, freed, made));
            operations += 1;
            if in_flight.len() >= most {
                self.join(&mut in_flight, pool).await?;
            }
        }
        while self.join(&mut in_flight, pool).await? {}
        Ok(operations)
    }

    async fn live(&self) -> Result<Vec<Extent>, Failure> {
        load(&self.file, self.pages)
    }
}
