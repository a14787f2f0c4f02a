//! Goal: a journal that is read by one thread and applied by another comes to what it comes to without a second thread, and
//! is refused for the same reason, however many reasons there are.
//!
//! Method: a journal of several batches on a device in memory, whose calls may block or may not: only where they may there
//! is a second thread. Groups are changed and sealed again, so that nothing but what they say is wrong with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, ManualClock, MemoryDevice, Port, Purpose};
use freehold::format::{
    BlockUpdate, ExtentChange, ExtentRecord, ExtentsEncoder, GROUP_HEADER_BYTES, Patch, Payload,
    PayloadEncoder, StoreId, UpdateKind, decode_payload,
};
use freehold::journal::{ScannedGroup, SuperblockPair, scan_journal};
use freehold::{AllocRequest, Allocator, Error, FormatOptions, OpenOptions, ReplayReport};

const LEN: usize = 24 << 20;
const RING: u64 = 8 << 20;
/// More than four batches.
const GROUPS: usize = 300;

#[derive(Debug)]
struct Memory {
    inner: MemoryDevice,
    may_block: bool,
    reads: Mutex<Vec<Range<u64>>>,
}

impl Memory {
    fn new(image: Vec<u8>, may_block: bool) -> Arc<Self> {
        let inner = MemoryDevice::from_image(image, 512, 512);
        Arc::new(Self { inner, may_block, reads: Mutex::default() })
    }
}

impl Device for Memory {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.lock().unwrap().push(offset..offset + buf.len() as u64);
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.inner.write_at(offset, data, purpose)
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn may_block(&self) -> bool {
        self.may_block
    }
}

async fn open(device: &Arc<Memory>) -> freehold::Result<(Allocator, ReplayReport)> {
    let options = OpenOptions::new().checkpoint_age(Duration::from_secs(3600));
    options.open_device(Arc::clone(device) as Arc<dyn Device>).await
}

/// A store whose journal has so many groups, of some four KiB each.
async fn crashed(groups: usize) -> Vec<u8> {
    let device = Memory::new(vec![0; LEN], false);
    let format = FormatOptions::new().page_bytes(4096).journal_bytes(RING);
    format.format_device(Arc::clone(&device) as Arc<dyn Device>).await.unwrap();
    let (store, _) = open(&device).await.unwrap();
    let mut random = 1_u64;
    for owner in 0..groups as u64 {
        let mut transaction = store.begin();
        let extent = transaction.alloc(AllocRequest::bytes(4096).owner(owner)).await.unwrap();
        let content: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (random >> 56) as u8
        })
        .take(4096)
        .collect();
        transaction.write(&extent, 0, &content).await.unwrap();
        transaction.commit().await.unwrap();
    }
    device.inner.image()
}

fn scan(image: &[u8]) -> (StoreId, Vec<ScannedGroup>) {
    let port = Port::new(Memory::new(image.to_vec(), false), Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).unwrap();
    let scan = scan_journal(&port, pair.current()).unwrap();
    assert_eq!(scan.groups.len(), GROUPS);
    (pair.current().store_id, scan.groups)
}

/// The store's image with the change made to each of these groups, which are sealed again.
fn forged(image: &[u8], groups: &[usize], change: impl Fn(&mut ScannedGroup)) -> Vec<u8> {
    let mut image = image.to_vec();
    let (store, mut scanned) = scan(&image);
    for &number in groups {
        let group = &mut scanned[number];
        change(group);
        group.header.seal(&store, &mut group.bytes);
        image[group.offset as usize..][..group.bytes.len()].copy_from_slice(&group.bytes);
    }
    image
}

/// The first update has a kind that nobody knows.
fn of_no_kind(group: &mut ScannedGroup) {
    group.bytes[GROUP_HEADER_BYTES] = 7;
}

/// Where the extents of a group end, and updates of blocks begin.
fn end_of_extents(group: &ScannedGroup) -> usize {
    let payload = &group.bytes[GROUP_HEADER_BYTES..group.header.length as usize];
    let update = decode_payload(payload, group.header.updates, 4096).unwrap().extents.unwrap();
    let (mut extents, mut encoder) = (ExtentsEncoder::default(), PayloadEncoder::default());
    update.records.iter().for_each(|record| extents.push(record.page, &record.change));
    encoder.push_extents(&extents, update.digest);
    encoder.len()
}

/// The first update of a block is of one that does not exist.
fn of_no_block(group: &mut ScannedGroup) {
    let block = end_of_extents(group);
    assert_eq!(group.bytes[block], 0, "metadata");
    group.bytes[block + 1] = 0x7f;
}

/// An extent begins behind the segments: its page has a number of as many bytes.
fn of_no_segment(group: &mut ScannedGroup) {
    let page = &mut group.bytes[GROUP_HEADER_BYTES + 2..];
    assert!(page[0] >= 0x80 && page[1] < 0x80, "two bytes");
    (page[0], page[1]) = (0xfe, 0x7f);
}

/// The group, with other records of extents, and with some of its updates of blocks.
fn rewritten(
    group: &mut ScannedGroup,
    change: impl Fn(&mut Vec<ExtentRecord>),
    stays: impl Fn(&BlockUpdate<'_>) -> bool,
) {
    let payload = &group.bytes[GROUP_HEADER_BYTES..group.header.length as usize];
    let Payload { extents, blocks } = decode_payload(payload, group.header.updates, 4096).unwrap();
    let mut update = extents.unwrap();
    change(&mut update.records);
    let (mut extents, mut encoder) = (ExtentsEncoder::default(), PayloadEncoder::default());
    update.records.iter().for_each(|record| extents.push(record.page, &record.change));
    encoder.push_extents(&extents, update.digest);
    for update in blocks.iter().filter(|update| stays(update)) {
        let mut block = vec![0; 4096];
        let ranges: Vec<(u32, u32)> = update
            .patches
            .iter()
            .map(|patch| {
                assert!(patch.apply(&mut block));
                match *patch {
                    Patch::Bytes { offset, bytes } => (offset as u32, (offset + bytes.len()) as u32),
                    Patch::Fill { offset, len, .. } => (offset as u32, (offset + len) as u32),
                }
            })
            .collect();
        encoder.push(update.kind, update.address, &block, &ranges, update.checksum_after);
    }
    let padded = group.bytes.len();
    let (bytes, length, updates) = encoder.finish(1);
    (group.header.length, group.header.updates, group.bytes) = (length, updates, bytes);
    assert!(group.bytes.len() <= padded, "no room in the padding");
    group.bytes.resize(padded, 0);
}

/// The group's extent is so long that it reaches out of its segment.
fn of_no_room(group: &mut ScannedGroup) {
    let longer = |records: &mut Vec<ExtentRecord>| {
        let ExtentChange::Begin { header } = &mut records[0].change else { panic!("an extent that begins") };
        header.pages = 1 << 18;
    };
    rewritten(group, longer, |_| true);
}

/// Nothing says what the bitmap is after the group.
fn of_bits_without_a_checksum(group: &mut ScannedGroup) {
    rewritten(group, |_| {}, |update| !update.patches.is_empty());
}

/// Bits of the same segment change again and again.
fn of_more_bits_than_pages(group: &mut ScannedGroup, pages: u32) {
    let padded = group.bytes.len();
    // They take the place of what the caller wrote, and as much of it as that did.
    for count in (2 * LEN / 4096 / pages as usize..).step_by(50) {
        let often = |records: &mut Vec<ExtentRecord>| {
            let first = records[0].page / u64::from(pages) * u64::from(pages);
            let end = ExtentRecord { page: first, change: ExtentChange::End { pages } };
            records.extend(std::iter::repeat_n(end, count));
        };
        let mut forged = group.clone();
        rewritten(&mut forged, often, |update| update.kind == UpdateKind::Metadata);
        if forged.header.length as usize > padded - 512 {
            *group = forged;
            return;
        }
    }
}

/// Page headers are not what their digest says.
fn of_other_headers(group: &mut ScannedGroup) {
    let end = end_of_extents(group);
    group.bytes[end - 1] ^= 1;
}

/// Block and checksum of the last update do not belong together.
fn of_another_block(group: &mut ScannedGroup) {
    group.bytes[group.header.length as usize - 1] ^= 1;
}

#[tokio::test]
async fn a_second_thread_makes_no_difference() {
    let image = crashed(GROUPS).await;
    let mut found = Vec::new();
    for may_block in [false, true] {
        let device = Memory::new(image.clone(), may_block);
        let (store, report) = open(&device).await.unwrap();
        assert_eq!((report.records, report.transactions), (GROUPS as u64, GROUPS as u64));
        assert_eq!(store.stats().extents, GROUPS as u64);
        drop(store);
        let mut opened = device.inner.image();
        // Witnesses are written when there is nothing else to do.
        for witness in [1, 3] {
            opened[witness * 4096..][..4096].fill(0);
        }
        found.push((report, opened));
    }
    assert_eq!(found[0].0, found[1].0);
    assert!(found[0].1 == found[1].1, "another image");
}

#[tokio::test]
async fn the_reason_for_a_refusal_is_the_first_one() {
    let image = crashed(GROUPS).await;
    let groups = scan(&image).1;
    let at = |number: usize| groups[number].offset;
    let kind = GROUP_HEADER_BYTES as u64 + 1;
    let port = Port::new(Memory::new(image.clone(), false), Arc::new(ManualClock::default()), true);
    let per_segment = SuperblockPair::read(&port).unwrap().current().layout.pages_per_segment();
    let mut damaged = forged(&image, &[100], of_no_kind);
    damaged[at(250) as usize + 100] ^= 1;
    let of_another_block = forged(&image, &[5], of_another_block);
    let cases = [
        ("the first of two", forged(&image, &[200, 100], of_no_kind), at(100) + kind, "unknown kind"),
        ("the reader's", damaged, at(250), "was durable by the group at offset"),
        ("a block's", of_another_block.clone(), at(5), "is not what the journal says"),
        (
            "a group's before a block's",
            forged(&of_another_block, &[200], of_no_block),
            at(200),
            " does not exist",
        ),
        ("an extent's", forged(&image, &[150, 100], of_no_segment), at(100), "outside of the segments"),
        ("an extent's length", forged(&image, &[150, 100], of_no_room), at(100), "outside of the segments"),
        ("a bitmap's", forged(&image, &[150, 100], of_bits_without_a_checksum), at(100), "no checksum says"),
        (
            "too many bits'",
            forged(&image, &[150, 100], |group| of_more_bits_than_pages(group, per_segment)),
            at(100),
            "more bits than",
        ),
        (
            "the headers' of a group, which are compared at once",
            forged(&of_another_block, &[200, 100], of_other_headers),
            at(100),
            "page headers are not",
        ),
        (
            "that a group cannot be decoded before what it says",
            forged(&image, &[200], |group| {
                of_no_block(group);
                group.header.updates += 1;
            }),
            at(200) + u64::from(groups[200].header.length),
            "bad number",
        ),
        (
            "the last group's",
            forged(&image, &[GROUPS - 1], of_no_kind),
            at(GROUPS - 1) + kind,
            "unknown kind",
        ),
    ];
    for (case, image, offset, reason) in cases {
        for may_block in [false, true, true, true] {
            match open(&Memory::new(image.clone(), may_block)).await {
                Err(Error::Corrupt { offset: found, reason: why, .. }) => {
                    assert!(why.contains(reason) && found == offset, "{case}, {may_block}: {found} {why}");
                }
                other => panic!("{case}, {may_block}: {:?}", other.err()),
            }
        }
    }
}

#[tokio::test]
async fn hardly_anything_of_the_ring_is_read_twice() {
    // What a few groups leave of the first window, and the group at the edge of each window.
    for (groups, again) in [(3, 0), (GROUPS, GROUPS as u64 * 4500 / (256 << 10) * 4500)] {
        let device = Memory::new(crashed(groups).await, false);
        let (store, _) = open(&device).await.unwrap();
        let ring = store.layout().ring_offset()..store.layout().ring_offset() + RING;
        let reads = device.reads.lock().unwrap();
        let read: u64 =
            reads.iter().filter(|read| ring.contains(&read.start)).map(|read| read.end - read.start).sum();
        assert!((RING..=RING + again).contains(&read), "{groups}: {read}");
    }
}

#[tokio::test]
async fn extents_without_the_feature_are_refused() {
    let mut image = crashed(3).await;
    let port = Port::new(Memory::new(image.clone(), false), Arc::new(ManualClock::default()), true);
    let mut superblock = SuperblockPair::read(&port).unwrap().current().clone();
    superblock.incompatible = 0;
    for copy in [0, 1] {
        let offset = superblock.layout.superblock_offset(copy);
        let block = superblock.encode(offset);
        image[offset as usize..][..block.len()].copy_from_slice(&block);
    }
    match open(&Memory::new(image, false)).await {
        Err(Error::Corrupt { reason, .. }) => assert!(reason.contains("without that feature"), "{reason}"),
        other => panic!("{:?}", other.err()),
    }
}
