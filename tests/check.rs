//! Goal: `check` finds every contradiction in metadata whose checksums are right, and says which.
//!
//! Method: metadata is changed through the journal itself, so that every block and group is well formed and only the
//! meaning is wrong. Each sabotage is checked twice: while it is in the journal, and after a checkpoint put it in place.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use freehold::device::{Device, FileDeviceOptions, Port, SystemClock};
use freehold::format::{
    AllocatorState, HeaderKind, Layout, LeafAddress, PageHeader, Role, SEGMENT_RECORD_BYTES, SegmentRecord,
};
use freehold::inspect::{CheckReport, check};
use freehold::journal::{Appender, Journal, JournalOptions, Publisher, Replay};
use freehold::{AllocRequest, Allocator, Error, Extent, FormatOptions};
use rustc_hash::FxHashSet;

/// What is done to one metadata block: bytes at an offset.
struct Write(LeafAddress, u32, Vec<u8>);

/// One transaction that changes metadata as it likes.
struct Sabotage(Vec<Write>);

impl Publisher for Sabotage {
    fn publish(&self, _: u32, appender: &mut Appender<'_>) -> freehold::Result<()> {
        for Write(leaf, offset, bytes) in &self.0 {
            appender.bytes(*leaf, *offset, bytes);
        }
        Ok(())
    }
    fn durable(&self, _: &Port, _: u64) {}
    fn abandon(&self) {}
    fn spare(&self, _: &mut dyn FnMut(&FxHashSet<LeafAddress>)) {}
    fn hand_over(&self, settle: &mut dyn FnMut() -> Vec<(u64, Arc<Vec<u8>>)>) {
        settle();
    }
}

/// A store as it is, and what to do to it.
struct Target<'a> {
    journal: &'a Journal,
    layout: &'a Layout,
    extents: &'a [Extent],
    writes: Vec<Write>,
}

impl Target<'_> {
    fn bytes(&mut self, (leaf, offset): (LeafAddress, u32), bytes: Vec<u8>) {
        self.writes.push(Write(leaf, offset, bytes));
    }

    fn place(&self, extent: usize) -> (u32, u32) {
        let offset = self.extents[extent].offset;
        self.layout.page_at(offset - offset % 4096).unwrap()
    }

    fn bit(&mut self, segment: u32, page: u32, set: bool) {
        let (leaf, offset) = (self.layout.bitmap_leaf(segment, 0), page / 8);
        let before = self.writes.iter().rev().find(|write| (write.0, write.1) == (leaf, offset));
        let byte =
            before.map_or_else(|| self.journal.read_leaf(leaf).unwrap()[offset as usize], |write| write.2[0]);
        let mask = 1 << (page % 8);
        self.bytes((leaf, offset), vec![if set { byte | mask } else { byte & !mask }]);
    }

    fn header(&mut self, segment: u32, page: u32, header: PageHeader) {
        self.bytes(self.layout.header_place(segment, page), header.encode().to_vec());
    }

    fn extent_header(&self, extent: usize) -> PageHeader {
        let (segment, page) = self.place(extent);
        let (leaf, offset) = self.layout.header_place(segment, page);
        let block = self.journal.read_leaf(leaf).unwrap();
        PageHeader::decode(block[offset as usize..].first_chunk().unwrap()).unwrap()
    }

    fn record(&mut self, segment: u32, change: impl FnOnce(&mut SegmentRecord)) {
        let (leaf, offset) = self.layout.record_place(segment);
        let block = self.journal.read_leaf(leaf).unwrap();
        let bytes = block[offset as usize..].first_chunk::<SEGMENT_RECORD_BYTES>().unwrap();
        let mut record = SegmentRecord::decode(bytes).unwrap();
        change(&mut record);
        self.bytes((leaf, offset), record.encode().to_vec());
    }

    fn state(&mut self, change: impl FnOnce(&mut AllocatorState)) {
        let leaf = self.layout.state_leaf();
        let mut state = AllocatorState::decode(&self.journal.read_leaf(leaf).unwrap()).unwrap();
        change(&mut state);
        self.bytes((leaf, 0), state.encode().to_vec());
    }
}

fn read_only(path: &Path) -> Arc<dyn Device> {
    Arc::new(FileDeviceOptions::new().read_only(true).open(path).unwrap())
}

fn kinds(report: &CheckReport) -> BTreeSet<&'static str> {
    report.errors.iter().map(|error| error.kind.name()).collect()
}

/// Which of the extents is an item, and which a span of two segments with a tail.
const ITEM: usize = 4;
const SPAN: usize = 5;

/// A store with a segment that is partly in use by three extents, one that is full, one of items, and a span.
async fn store(path: &Path) -> Vec<Extent> {
    FormatOptions::new().page_bytes(4096).segment_bytes(128 << 10).create(path, 1 << 20).await.unwrap();
    let store = Allocator::open(path).await.unwrap();
    let mut extents = Vec::new();
    for bytes in [4096, 8192, 128 << 10, 4096, 100, 300_000] {
        let mut txn = store.begin();
        let owner = if bytes == 100 { 0 } else { bytes };
        extents.push(txn.alloc(AllocRequest::bytes(bytes).owner(owner)).await.unwrap());
        txn.commit().await.unwrap();
    }
    store.close().await.unwrap();
    extents
}

async fn sabotage(path: &Path, extents: &[Extent], close: bool, act: fn(&mut Target<'_>)) {
    let device: Arc<dyn Device> = Arc::new(FileDeviceOptions::new().open(path).unwrap());
    let port = Arc::new(Port::new(device, Arc::new(SystemClock::default()), false));
    let (journal, ..) = Journal::open(port, JournalOptions::default(), Replay::InPlace, |_| Ok(())).unwrap();
    let mut target = Target { journal: &journal, layout: journal.layout(), extents, writes: Vec::new() };
    act(&mut target);
    let writes = target.writes;
    for write in &writes {
        let Write(leaf, ..) = write;
        journal.read_leaf(*leaf).unwrap();
    }
    let permit = journal.claim_space(journal.record_bound(writes.len(), 8192, &[])).await.unwrap();
    journal.set_publisher(Arc::new(Sabotage(writes)));
    let (ticket, must_drive) = journal.join(permit, false).unwrap();
    if must_drive {
        journal.start_driving(None).await;
    }
    ticket.await.unwrap();
    if close {
        journal.close().unwrap();
    }
    while Arc::strong_count(&journal) > 1 {
        tokio::task::yield_now().await;
    }
}

type Case = (&'static str, &'static [&'static str], fn(&mut Target<'_>));

/// What is done, which kinds of errors follow from it, and how it is done.
const CASES: &[Case] = &[
    ("nothing", &[], |t| t.record(t.layout.first_segment(), |_| {})),
    ("a page in use that nobody owns", &["count", "leaked"], |t| {
        let (segment, page) = t.place(3);
        // Behind the last extent of the segment, with which all pages in front of it are in use.
        let page = page + 1;
        t.bit(segment, page, true);
    }),
    ("an extent with a free page", &["count", "page_header"], |t| {
        let (segment, page) = t.place(1);
        t.bit(segment, page + 1, false);
    }),
    ("a bit under the metadata area", &["bitmap"], |t| {
        let first = t.layout.first_segment();
        assert!(t.layout.usable_range(first).start > 0);
        t.bit(first, 0, true);
    }),
    ("a header that is gone", &["count", "leaked"], |t| {
        let (segment, page) = t.place(2);
        t.header(segment, page, PageHeader::default());
    }),
    ("a header under the metadata area", &["page_header"], |t| {
        let header = t.extent_header(0);
        t.header(t.layout.first_segment(), 0, header);
    }),
    ("an extent that is too long", &["overlap", "page_header"], |t| {
        let (segment, page) = t.place(0);
        let header = PageHeader { pages: 64, ..t.extent_header(0) };
        t.header(segment, page, header);
    }),
    ("two owners", &["count", "overlap"], |t| {
        let (segment, page) = t.place(1);
        let header = PageHeader { pages: 1, kind: HeaderKind::Extent, owner: 9, generation: 1, slack: 0 };
        t.header(segment, page + 1, header);
    }),
    ("a header from the future", &["generation"], |t| {
        let (segment, page) = t.place(0);
        let header = PageHeader { generation: 1000, ..t.extent_header(0) };
        t.header(segment, page, header);
    }),
    ("a header of an unknown kind", &["page_header"], |t| {
        let (segment, page) = t.place(0);
        t.bytes(t.layout.header_place(segment, page), vec![0xee; 16]);
    }),
    ("a wrong count of pages", &["count"], |t| t.record(t.place(0).0, |record| record.used_pages -= 1)),
    ("a wrong count of extents", &["count"], |t| t.record(t.place(0).0, |record| record.extents += 1)),
    ("a wrong class", &["class"], |t| t.record(t.place(0).0, |record| record.class = Some(0))),
    ("a full segment with a class", &["class"], |t| t.record(t.place(2).0, |record| record.class = Some(0))),
    ("a role that was lost", &["count", "role"], |t| {
        t.record(t.place(2).0, |record| {
            *record = SegmentRecord { generation: record.generation, ..SegmentRecord::default() };
        });
    }),
    ("a record of an unknown role", &["segment_record"], |t| {
        let (segment, _) = t.place(2);
        t.bytes(t.layout.record_place(segment), vec![0xee; SEGMENT_RECORD_BYTES]);
    }),
    ("a wrong sum of slack", &["count"], |t| t.record(t.place(0).0, |record| record.slack_bytes += 1)),
    ("a region that is gone", &["count", "leaked"], |t| {
        let (segment, page) = t.place(ITEM);
        t.header(segment, page, PageHeader::default());
    }),
    ("a region with another checksum", &["region"], |t| {
        let (segment, page) = t.place(ITEM);
        let header = t.extent_header(ITEM);
        t.header(segment, page, PageHeader { owner: header.owner ^ 1 << 40, ..header });
    }),
    ("a region with another number of items", &["region"], |t| {
        let (segment, page) = t.place(ITEM);
        let header = t.extent_header(ITEM);
        t.header(segment, page, PageHeader { owner: header.owner + (1 << 16), ..header });
    }),
    ("a region of a class that cannot be", &["page_header"], |t| {
        let (segment, page) = t.place(ITEM);
        let header = t.extent_header(ITEM);
        t.header(segment, page, PageHeader { owner: header.owner | 0xff, ..header });
    }),
    ("a wrong count of items", &["count"], |t| t.record(t.place(ITEM).0, |record| record.extents += 1)),
    ("wrong bytes in items", &["count"], |t| t.record(t.place(ITEM).0, |record| record.item_bytes += 2)),
    ("wrong room for items", &["count"], |t| t.record(t.place(ITEM).0, |record| record.capacity_bytes += 2)),
    ("wrong open classes", &["class"], |t| t.record(t.place(ITEM).0, |record| record.open_classes ^= 1)),
    ("a region in a segment of extents", &["count", "role"], |t| {
        t.record(t.place(ITEM).0, |record| {
            *record = SegmentRecord {
                role: Role::Extent,
                class: Some(5),
                item_bytes: 0,
                capacity_bytes: 0,
                open_classes: 0,
                ..*record
            };
        });
    }),
    ("a span that is too short", &["span"], |t| {
        t.record(t.place(SPAN).0, |record| record.capacity_bytes -= 1);
    }),
    ("a span beyond the frontier", &["span"], |t| {
        t.record(t.place(SPAN).0, |record| record.capacity_bytes = 1000);
    }),
    ("a role inside a span", &["count", "span"], |t| {
        t.record(t.place(SPAN).0 + 1, |record| {
            *record = SegmentRecord {
                role: Role::Extent,
                class: Some(4),
                generation: 1,
                used_pages: 1,
                extents: 1,
                ..SegmentRecord::default()
            };
        });
    }),
    ("a span without a header", &["span"], |t| t.header(t.place(SPAN).0, 0, PageHeader::default())),
    ("a tail without a span", &["span"], |t| {
        let (segment, _) = t.place(SPAN);
        t.header(
            segment + 2,
            0,
            PageHeader { owner: 0, generation: 1, kind: HeaderKind::SpanTail, pages: 11, slack: 0 },
        );
    }),
    ("a tail that is gone", &["leaked"], |t| t.header(t.place(SPAN).0 + 2, 0, PageHeader::default())),
    ("a frontier beyond the device", &["allocator_state"], |t| t.state(|state| state.frontier = 1_000_000)),
    ("a frontier that went back", &["frontier"], |t| {
        let (segment, _) = t.place(2);
        t.state(|state| state.frontier = segment);
    }),
    ("an unreadable state", &["allocator_state"], |t| t.bytes((t.layout.state_leaf(), 4), vec![0xee; 4])),
    ("a record beyond the frontier", &["frontier"], |t| {
        t.record(t.layout.segment_count() - 1, |record| record.generation = 1);
    }),
    ("a bitmap beyond the frontier", &["frontier"], |t| t.bit(t.layout.segment_count() - 1, 3, true)),
    ("a record under the metadata area", &["frontier"], |t| t.record(0, |record| record.generation = 1)),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_contradiction_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let extents = store(&original).await;
    let whole = check(read_only(&original), &mut |_| {}).unwrap();
    assert!(whole.ok && whole.warnings.is_empty(), "{whole:?}");
    let bytes: u64 = extents.iter().map(|extent| extent.len).sum();
    assert_eq!((whole.extents, whole.leaked_bytes, whole.allocated_bytes), (6, 0, bytes));

    for (what, expected, act) in CASES {
        for close in [false, true] {
            let path = dir.path().join("store");
            std::fs::copy(&original, &path).unwrap();
            sabotage(&path, &extents, close, *act).await;
            let before = std::fs::read(&path).unwrap();
            let report = check(read_only(&path), &mut |_| {}).unwrap();
            let context = format!("{what}, in place: {close}: {report:?}");
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            let found = kinds(&report);
            assert!(found.is_superset(&expected) && found.is_empty() == expected.is_empty(), "{context}");
            assert_eq!(report.ok, expected.is_empty(), "{context}");
            for error in &report.errors {
                assert!(error.offset < 1 << 20 && !error.message.is_empty(), "{context}");
            }
            if expected.contains("leaked") {
                assert!(report.leaked_bytes > 0, "{context}");
            }
            assert!(std::fs::read(&path).unwrap() == before, "{context}");
        }
    }
}

/// Its pages are all in use, so that no bit says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn an_extent_over_a_region_is_not_freed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = FormatOptions::new().page_bytes(4096).segment_bytes(256 << 10).journal_bytes(1 << 20);
    options.create(&path, 4 << 20).await.unwrap();
    let store = Allocator::open(&path).await.unwrap();
    let mut all = Vec::new();
    for bytes in [100, 2000] {
        let mut txn = store.begin();
        all.push(txn.alloc(bytes).await.unwrap());
        txn.commit().await.unwrap();
    }
    let mut txn = store.begin();
    txn.free(&all[0]).await.unwrap();
    txn.commit().await.unwrap();
    let region = |of: &Extent| of.offset / (64 << 10) * (64 << 10);
    let start = region(&all[0]);
    assert_eq!(start + (64 << 10), region(&all[1]), "the regions lie side by side");
    assert_eq!(start / (256 << 10), region(&all[1]) / (256 << 10), "in one segment");
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(64 << 10).at(start)).await.unwrap();
    txn.commit().await.unwrap();
    store.close().await.unwrap();
    drop(store);

    sabotage(&path, &[extent], true, |t| {
        let (segment, page) = t.place(0);
        let header = t.extent_header(0);
        t.header(segment, page, PageHeader { pages: 2 * header.pages, ..header });
    })
    .await;
    assert!(!check(read_only(&path), &mut |_| {}).unwrap().ok);
    let store = Allocator::open(&path).await.unwrap();
    let mut txn = store.begin();
    let found = txn.free(&Extent { len: 2 * extent.len, ..extent }).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
    assert_eq!(store.read_at(&all[1], 0, 10).await.unwrap().len(), 10);
}

#[tokio::test]
async fn counts_that_cannot_be_do_not_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let extents = store(&path).await;
    for (of, act) in [
        (ITEM, (|t| t.record(t.place(ITEM).0, |record| record.extents = u32::MAX)) as fn(&mut Target<'_>)),
        (0, |t| t.record(t.place(0).0, |record| record.extents = u32::MAX)),
        (0, |t| t.record(t.place(0).0, |record| record.slack_bytes = u32::MAX)),
    ] {
        let forged = dir.path().join("forged");
        std::fs::copy(&path, &forged).unwrap();
        sabotage(&forged, &extents, true, act).await;
        let Ok(store) = Allocator::open(&forged).await else { continue };
        let mut transaction = store.begin();
        let bytes = if of == ITEM { 100 } else { 100_000 };
        for bytes in [bytes, bytes, 4095] {
            // An answer, whatever it is.
            let _ = transaction.alloc(bytes).await;
        }
        let _ = transaction.free(&extents[of]).await;
        let _ = transaction.commit().await;
        assert!(!matches!(store.begin().alloc(4096).await, Err(Error::Poisoned { .. })), "{of}");
    }
}
