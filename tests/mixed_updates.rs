//! Goal: what becomes of extents, and bytes of the same blocks of page headers, can follow each other in the journal in any order: the digest of
//! the ones and the checksums of the others are those of the content.
//!
//! Method: a publisher of its own has a list of groups take effect, one after the other. The journal is replayed, first by a
//! reader; whatever it gives is compared with what the writer had.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use freehold::FormatOptions;
use freehold::device::{ManualClock, MemoryDevice, Port};
use freehold::format::{ExtentChange, HeaderKind, LeafAddress, PageHeader};
use freehold::journal::{Appender, ExtentUpdate, Journal, JournalOptions, Publisher, Replay};
use rustc_hash::FxHashSet;

#[derive(Clone, Copy)]
enum Step {
    Extent(u32, ExtentChange),
    /// Puts a header into its place, as bytes.
    Bytes(u32, PageHeader),
}

/// The groups to come.
struct Steps {
    groups: Mutex<VecDeque<Vec<Step>>>,
    segment: u32,
    place: fn(&Journal, u32, u32) -> (LeafAddress, u32),
    journal: std::sync::Weak<Journal>,
}

impl Publisher for Steps {
    fn publish(&self, _: u32, appender: &mut Appender<'_>) -> freehold::Result<()> {
        let journal = self.journal.upgrade().unwrap();
        for step in self.groups.lock().unwrap().pop_front().unwrap() {
            match step {
                Step::Extent(page, change) => {
                    appender.extents(&[ExtentUpdate { segment: self.segment, page, change }]);
                }
                Step::Bytes(page, header) => {
                    let (leaf, offset) = (self.place)(&journal, self.segment, page);
                    appender.bytes(leaf, offset, &header.encode());
                }
            }
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

fn open(device: &Arc<MemoryDevice>, replay: Replay) -> Arc<Journal> {
    let read_only = replay == Replay::InMemory;
    let port = Arc::new(Port::new(Arc::clone(device) as _, Arc::new(ManualClock::default()), read_only));
    Journal::open(port, JournalOptions::default(), replay, |_| Ok(())).unwrap().0
}

#[tokio::test]
async fn headers_may_change_either_way() {
    let device = Arc::new(MemoryDevice::zeroed(1 << 20));
    let format = FormatOptions::new().page_bytes(4096).segment_bytes(128 << 10);
    format.format_device(Arc::clone(&device) as _).await.unwrap();
    let journal = open(&device, Replay::InPlace);
    let segment = journal.layout().first_segment() + 1;
    let header =
        |pages, owner| PageHeader { owner, generation: 7, kind: HeaderKind::Extent, pages, slack: 3 };
    let begin = |page, pages| Step::Extent(page, ExtentChange::Begin { header: header(pages, 9) });
    let end = |page, pages| Step::Extent(page, ExtentChange::End { pages });
    let replace = |page, was_pages, pages| {
        Step::Extent(page, ExtentChange::Replace { was_pages, header: header(pages, 9) })
    };
    let groups = vec![
        vec![begin(0, 2), begin(8, 1)],
        vec![Step::Bytes(0, header(2, 1))],
        vec![end(8, 1), begin(10, 3)],
        vec![Step::Bytes(0, header(2, 2))],
        vec![replace(10, 3, 5)],
        // In one group, the bytes last.
        vec![begin(20, 4), Step::Bytes(0, header(2, 3))],
        vec![replace(10, 5, 1), end(20, 4)],
        vec![Step::Bytes(10, header(1, 4))],
        vec![begin(30, 1)],
    ];
    let place: fn(&Journal, u32, u32) -> _ =
        |journal, segment, page| journal.layout().header_place(segment, page);
    let (headers, bits) = (place(&journal, segment, 0).0, journal.layout().bitmap_leaf(segment, 0));
    for leaf in [headers, bits] {
        journal.read_leaf(leaf).unwrap();
    }
    let count = groups.len();
    journal.set_publisher(Arc::new(Steps {
        groups: Mutex::new(groups.into()),
        segment,
        place,
        journal: Arc::downgrade(&journal),
    }));
    for _ in 0..count {
        let permit = journal.claim_space(journal.record_bound(4, 400, &[])).await.unwrap();
        let (ticket, must_drive) = journal.join(permit, false).unwrap();
        if must_drive {
            journal.start_driving(None).await;
        }
        ticket.await.unwrap();
    }
    let content = [headers, bits].map(|leaf| journal.read_leaf(leaf).unwrap());
    // 0 and 1, 10, 30: what is there after all of it.
    assert_eq!(content[1][..5], [0b11, 0b100, 0, 0b0100_0000, 0]);
    drop(journal);
    for replay in [Replay::InMemory, Replay::InPlace, Replay::InPlace] {
        let replayed = open(&device, replay);
        let found = [headers, bits].map(|leaf| replayed.read_leaf(leaf).unwrap());
        assert!(found == content, "replay makes something else of it");
    }
}
