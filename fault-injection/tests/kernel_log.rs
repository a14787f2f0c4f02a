//! Goal: what the kernel gets from a real file device is recovered from every cut, as what the simulated disk gets is.
//!
//! Method: `qemu-storage-daemon` exports a file through FUSE, under a driver that logs every write and every flush that
//! arrives, in order. A store on that file commits transactions; after each acknowledgement the length of the log is
//! noted. Then the log is cut at every entry, with subsets of what was not flushed, as a trace of the simulator would be.
//! Where the daemon or FUSE is missing, the test says so and passes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fault_injection::Rng;
use fault_injection::disk::{CowBase, CowDisk, CutWalker, Event, Sampling, Trace};
use fault_injection::executor;
use freehold::device::{Device, DeviceGeometry, Purpose};
use freehold::{AllocRequest, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;

const LEN: u64 = 512 << 10;
const SECTOR: u64 = 512;

struct Daemon {
    child: Child,
    export: PathBuf,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new("umount").arg(&self.export).stderr(Stdio::null()).status();
    }
}

/// Exports a blank disk; none when that is not possible here.
fn start(directory: &Path) -> Option<Daemon> {
    let [disk, log, export] = ["disk", "log", "export"].map(|name| directory.join(name));
    fs::File::create(&disk).unwrap().set_len(LEN).unwrap();
    for path in [&log, &export] {
        fs::File::create(path).unwrap();
    }
    let node = |text: String| ["--blockdev".to_owned(), text];
    let child = Command::new("qemu-storage-daemon")
        .args(node(format!("driver=file,node-name=disk,filename={}", disk.display())))
        .args(node(format!("driver=file,node-name=log,filename={}", log.display())))
        .args(node(
            "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1".to_owned(),
        ))
        .arg("--export")
        .arg(format!("type=fuse,id=e,node-name=logged,mountpoint={},writable=on", export.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let daemon = Daemon { child, export, log };
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if fs::metadata(&daemon.export).is_ok_and(|meta| meta.len() == LEN) {
            return Some(daemon);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Entries logged so far.
fn entries(log: &Path) -> u64 {
    let bytes = fs::read(log).unwrap();
    if bytes.len() < 512 { 0 } else { number(&bytes, 16) }
}

/// The log as a trace; and for each entry, the position of its first event.
fn trace(log: &Path) -> (Trace, Vec<usize>) {
    const MAGIC: u64 = 0x006a_7366_7773_6872;
    const FLUSH: u64 = 1;
    const FUA: u64 = 2;
    let bytes = fs::read(log).unwrap();
    assert_eq!((number(&bytes, 0), number(&bytes, 8)), (MAGIC, 1));
    let (mut trace, mut positions) = (Trace::default(), Vec::new());
    let sector = usize::try_from(SECTOR).unwrap();
    let mut at = sector;
    for _ in 0..number(&bytes, 16) {
        let [first, count, flags] = [0, 8, 16].map(|field| number(&bytes, at + field));
        at += sector;
        positions.push(trace.len());
        if flags & FLUSH != 0 {
            trace.push(Event::Flush);
        }
        if count > 0 {
            let len = usize::try_from(count * SECTOR).unwrap();
            let data = Arc::from(&bytes[at..at + len]);
            trace.push(Event::Write { offset: first * SECTOR, data, purpose: Purpose::Journal });
            at += len;
        }
        if flags & FUA != 0 {
            trace.push(Event::Flush);
        }
    }
    positions.push(trace.len());
    (trace, positions)
}

type States = Vec<Vec<ExtentInfo>>;

/// Commits transactions. Returns the extents after each, and how many entries the log had when it was acknowledged.
async fn work(daemon: &Daemon, direct_io: bool) -> (States, Vec<u64>) {
    let format = FormatOptions::new().page_bytes(4096).journal_bytes(32 << 10).direct_io(direct_io);
    format.open(&daemon.export).await.unwrap();
    let (store, _) = OpenOptions::new().direct_io(direct_io).open(&daemon.export).await.unwrap();
    let mut states: States = vec![Vec::new()];
    let mut acknowledged = vec![entries(&daemon.log)];
    for round in 0..24_u64 {
        let mut extents = states.last().unwrap().clone();
        let mut txn = store.begin();
        let request = AllocRequest::bytes(4096 * (1 + round % 3)).owner(round);
        let extent = txn.alloc(request).await.unwrap();
        txn.write(&extent, 100, &round.to_le_bytes()).await.unwrap();
        extents.push(ExtentInfo { extent, owner: round });
        if round % 3 == 2 {
            let victim = extents.remove(usize::try_from(round).unwrap() % 2);
            txn.free(&victim.extent).await.unwrap();
        }
        txn.commit().await.unwrap();
        if round % 7 == 6 {
            store.checkpoint().await.unwrap();
        }
        extents.sort_by_key(|info| info.extent.offset);
        states.push(extents);
        acknowledged.push(entries(&daemon.log));
    }
    // No orderly end: the power is cut.
    drop(store);
    (states, acknowledged)
}

/// Cuts at every event from the opening on. Returns how many states were recovered.
fn cut_everywhere(trace: &Trace, positions: &[usize], states: &States, acknowledged: &[u64]) -> u64 {
    let geometry = DeviceGeometry { len_bytes: LEN, sector_bytes: 512, physical_block_bytes: 4096 };
    let base = Arc::new(CowBase::new(vec![0; usize::try_from(LEN).unwrap()].into(), 512));
    let disk = Arc::new(CowDisk::new(Arc::clone(&base), 512, 4096));
    let mut walker = CutWalker::new(trace, base, &geometry);
    let marks: Vec<usize> =
        acknowledged.iter().map(|&count| positions[usize::try_from(count).unwrap()]).collect();
    let sampling = Sampling { exhaustive: 64, sampled: 16, torn: 4, garbage_blocks: 1 };
    let mut rng = Rng::new(1);
    let mut recovered = 0;
    for position in marks[0]..=trace.len() {
        let due = marks.iter().rposition(|&mark| mark <= position).unwrap();
        let begun = (due + 1).min(states.len() - 1);
        let cut = walker.cut_at(position);
        for choice in cut.choices(&sampling, &mut rng) {
            cut.apply(&choice, &disk).unwrap();
            let device = Arc::clone(&disk) as Arc<dyn Device>;
            let opened = executor::run(OpenOptions::new().open_device(device)).unwrap();
            let (store, _) = opened.unwrap_or_else(|error| panic!("{choice}: {error}\n{trace}"));
            let extents: Vec<ExtentInfo> = executor::run(store.extents().try_collect()).unwrap().unwrap();
            let found = states[due..=begun].iter().rposition(|state| *state == extents);
            let found = due + found.unwrap_or_else(|| panic!("{choice}: {extents:?} after {due} commits"));
            for info in &states[found] {
                let bytes = executor::run(store.read_at(&info.extent, 100, 8)).unwrap().unwrap();
                assert_eq!(bytes, info.owner.to_le_bytes(), "{choice}: {info:?}");
            }
            recovered += 1;
        }
    }
    recovered
}

#[test]
fn what_the_kernel_saw_is_recovered_from_every_cut() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for direct_io in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let Some(daemon) = start(directory.path()) else {
            eprintln!("skipped: qemu-storage-daemon cannot export a file through FUSE here");
            return;
        };
        let (states, acknowledged) = runtime.block_on(work(&daemon, direct_io));
        let (trace, positions) = trace(&daemon.log);
        let flushes = trace.events().iter().filter(|event| **event == Event::Flush).count();
        let recovered = cut_everywhere(&trace, &positions, &states, &acknowledged);
        println!(
            "direct I/O {direct_io}: {} events of the kernel, {flushes} of them flushes, {recovered} crash states",
            trace.len()
        );
        assert!(flushes >= states.len() && recovered > 500);
        // A cut in front of an acknowledged commit's flush cannot hold it: had the log no order, this would not fail.
        let mut early = acknowledged.clone();
        early.iter_mut().skip(1).for_each(|count| *count = count.saturating_sub(3));
        let judged = std::panic::catch_unwind(|| cut_everywhere(&trace, &positions, &states, &early));
        assert!(judged.is_err(), "an acknowledgement before its flush was not noticed");
    }
}
