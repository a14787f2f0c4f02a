//! Symptom: a store on write-journal 0.15.2 is cut off after the journal write of a commit, and a transaction whose commit
//! could have been acknowledged a moment later is missing after `recover()`, without a word; the journal is blank then.
//!
//! Cause: `recover()` reads header and entries into one buffer and walks it from byte 36, the end of the header, while the
//! position is below the length *of the entries*. An entry that starts in the last 36 bytes of the entry area is never
//! applied. The blank header is written over the journal all the same, so that the bytes are gone for good.
//!
//! Fix: Freehold takes write-journal's `Transaction` as a staging type only, and keeps a journal of its own. The same writes,
//! handed over and committed, are all there when the file is opened as it was at the moment of the acknowledgement.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use freehold::{Allocator, FormatOptions};
use write_journal::WriteJournal;

const HEADER_BYTES: usize = 36;
const JOURNAL_BYTES: u64 = 4096;
const FILE_BYTES: usize = 64 << 10;

/// The writes of one transaction: offset and bytes.
type Writes = Vec<(u64, Vec<u8>)>;

/// `count` writes of `len` bytes, none of them zero, a KiB apart.
fn writes(count: u64, len: usize) -> Writes {
    (0..count).map(|number| (number * 1024, vec![0xA0 | number as u8; len])).collect()
}

/// The journal as the commit loop of write-journal leaves it before it writes in place: a BLAKE3 hash of what follows, the
/// length of the entries, and the entries with their offsets and lengths, all big-endian.
fn journal_of(writes: &Writes) -> Vec<u8> {
    let mut entries = Vec::new();
    for (offset, data) in writes {
        entries.extend((JOURNAL_BYTES + offset).to_be_bytes());
        entries.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        entries.extend(data);
    }
    let mut hashed = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
    hashed.extend(entries);
    let mut journal = blake3::hash(&hashed).as_bytes().to_vec();
    journal.extend(hashed);
    journal
}

/// How many of the writes are in the file.
fn applied(file: &[u8], start: u64, writes: &Writes) -> usize {
    let there = |(offset, data): &&(u64, Vec<u8>)| file[(start + offset) as usize..].starts_with(data);
    writes.iter().filter(there).count()
}

/// Recovers from a journal that holds these writes; says how many were applied, and whether the journal is blank.
async fn recovered_by_write_journal(path: &Path, writes: &Writes) -> (usize, bool) {
    let mut file = vec![0; FILE_BYTES];
    let journal = journal_of(writes);
    file[..journal.len()].copy_from_slice(&journal);
    std::fs::write(path, &file).unwrap();

    let opened = WriteJournal::open(path, 0, JOURNAL_BYTES).await;
    opened.recover().await;
    let file = std::fs::read(path).unwrap();
    let blank = file[..HEADER_BYTES] == opened.generate_blank_state()[..];
    (applied(&file, JOURNAL_BYTES, writes), blank)
}

/// Commits the writes as a transaction of write-journal handed over to Freehold, and says how many of them are there in
/// a copy of the file that was made when the commit was acknowledged.
async fn recovered_by_freehold(dir: &Path, writes: &Writes) -> usize {
    let (path, cut) = (dir.join("store"), dir.join("cut"));
    FormatOptions::new().page_bytes(4096).create(&path, 16 << 20).await.unwrap();
    let store = Allocator::open(&path).await.unwrap();
    let mut txn = store.begin();
    let extent = txn.alloc(FILE_BYTES as u64).await.unwrap();
    store.write_at(&extent, 0, &vec![0; FILE_BYTES]).await.unwrap();
    txn.commit().await.unwrap();

    let mut theirs = freehold::Transaction::staging(0);
    for (offset, data) in writes {
        theirs.write_with_overlay(extent.offset + offset, data.clone());
    }
    let mut txn = store.begin();
    txn.adopt(theirs).await.unwrap();
    txn.commit().await.unwrap();
    std::fs::copy(&path, &cut).unwrap();
    let in_place = std::fs::read(&cut).unwrap();
    assert_eq!(applied(&in_place, extent.offset, writes), 0, "nothing is in place before a checkpoint");
    drop(store);

    let (store, report) = freehold::OpenOptions::new().open(&cut).await.unwrap();
    assert_eq!(report.transactions, 2);
    let bytes = store.read_at(&extent, 0, FILE_BYTES).await.unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(cut).unwrap();
    applied(&bytes, 0, writes)
}

#[tokio::test(flavor = "multi_thread")]
async fn write_journal_loses_the_end_of_a_transaction_and_freehold_does_not() {
    let dir = tempfile::tempdir().unwrap();
    for (count, len, kept) in [(1, 8, 0), (10, 8, 9), (10, 1, 8)] {
        let writes = writes(count, len);
        let lossy = recovered_by_write_journal(&dir.path().join("write-journal"), &writes).await;
        assert_eq!(lossy, (kept, true), "{count} writes of {len} bytes, recovered by write-journal");
        let whole = recovered_by_freehold(dir.path(), &writes).await;
        assert_eq!(whole, writes.len(), "{count} writes of {len} bytes, recovered by Freehold");
    }
}

/// The crafted journal is the one that write-journal writes: an entry far from the end is found in it.
#[tokio::test(flavor = "multi_thread")]
async fn write_journal_accepts_the_journal_that_this_test_makes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("write-journal");
    let writes = vec![(0, vec![7; 8]), (1024, vec![9; 100])];
    // The second entry starts at byte 20 of 132.
    assert_eq!(recovered_by_write_journal(&path, &writes).await, (2, true));
    assert_eq!(recovered_by_write_journal(&path, &vec![(0, vec![])]).await, (1, true));
}
