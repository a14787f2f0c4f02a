//! Goal: the blob store of the examples loses nothing that it acknowledged when it is killed.
//!
//! Method: more than 1,000 real files are stored by a child process, which is then killed in the middle of puts and
//! deletes, again and again. The child says what it is about to do and what is done. After each kill the store is opened
//! here: acknowledged blobs are intact by hash, an operation that was announced but not acknowledged happened whole or not
//! at all, and what is allocated is exactly the index and the blobs.
//!
//! The child is this test's own executable, running the program's code: so it is always built, and never an old one.
//! A kill leaves the page cache alone; what a power loss takes is the business of `crashtest`.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::Allocator;
use freehold::device::FileDeviceOptions;

#[path = "../examples/blob_store"]
mod blob_store {
    pub(crate) mod error;
    pub(crate) mod program;
    pub(crate) mod slot;
    pub(crate) mod store;
    pub(crate) mod torture;
}

use blob_store::store::BlobStore;

const KILLS: u64 = 20;
const FILES: usize = 1800;
const MAX_FILE_BYTES: u64 = 256 << 10;
const SEED: u64 = 0x5EED;
/// Set for the child: the program's arguments, one a line.
const ARGUMENTS: &str = "FREEHOLD_BLOB_STORE_ARGUMENTS";

/// What may be stored under a name: nothing, or bytes with this hash.
type Content = Option<String>;

/// What was said about each name.
#[derive(Debug, Default)]
struct Model {
    /// What is there for certain.
    acknowledged: BTreeMap<String, String>,
    /// What an operation that is not acknowledged would leave.
    begun: BTreeMap<String, Content>,
    acknowledgements: u64,
}

impl Model {
    fn hear(&mut self, line: &str) {
        // The test harness prints lines of its own.
        let Some((verb, rest)) = line.split_once(' ') else { return };
        let blob = rest.rsplit_once(' ').map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        match (verb, blob) {
            ("putting", Some((name, hash))) => drop(self.begun.insert(name, Some(hash))),
            ("put", Some((name, hash))) => {
                assert_eq!(self.begun.remove(&name), Some(Some(hash.clone())), "{line}");
                self.acknowledged.insert(name, hash);
                self.acknowledgements += 1;
            }
            ("deleting", _) => drop(self.begun.insert(rest.to_owned(), None)),
            ("deleted", _) => {
                assert_eq!(self.begun.remove(rest), Some(None), "{line}");
                self.acknowledged.remove(rest);
                self.acknowledgements += 1;
            }
            _ => {}
        }
    }

    /// Compares a store with what was said, and goes on from what is there. Says how many operations were cut off.
    fn compare(&mut self, found: BTreeMap<String, String>) -> usize {
        let names: BTreeSet<&String> =
            self.acknowledged.keys().chain(found.keys()).chain(self.begun.keys()).collect();
        for name in names {
            let (is, was) = (found.get(name), self.acknowledged.get(name));
            let may_be = self.begun.get(name).is_some_and(|begun| begun.as_ref() == is);
            assert!(
                is == was || may_be,
                "{name}: found {is:?}, acknowledged {was:?}, begun {:?}",
                self.begun.get(name)
            );
        }
        self.acknowledged = found;
        std::mem::take(&mut self.begun).len()
    }
}

/// The child's side: does nothing unless it is told to.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments: Vec<String> = arguments.lines().map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(blob_store::program::run(&arguments)).unwrap();
}

/// Runs the program, listening; kills it some time after it acknowledged `kill_after` operations.
fn run_child(model: &mut Model, arguments: &[&str], kill_after: Option<(u64, Duration)>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(ARGUMENTS, arguments.join("\n"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (before, mut killed, mut line) = (model.acknowledgements, false, Vec::new());
    // What is in the pipe was said before the child died. A line without its end was not.
    while output.read_until(b'\n', &mut line).unwrap() > 0 && line.ends_with(b"\n") {
        // In the same breath as a line of the test harness, the first one follows it without a break.
        let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
        let text = text.trim_end_matches('\n');
        model.hear(text.strip_prefix("test child ... ").unwrap_or(text));
        if let Some((acknowledgements, delay)) = kill_after
            && !killed
            && model.acknowledgements >= before + acknowledgements
        {
            std::thread::sleep(delay);
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(killed, kill_after.is_some(), "the program ended by itself: {status}");
    assert!(killed || status.success(), "{status}");
}

/// Opens the store as it was left, and compares everything in it: hashes, space, and what was said.
async fn examine(path: &Path, model: &mut Model) -> usize {
    // What `freehold check` does, on the store as the kill left it.
    let device = Arc::new(FileDeviceOptions::new().read_only(true).open(path).unwrap());
    let report = freehold::inspect::check(device, &mut |_| {}).unwrap();
    assert!(report.ok && report.leaked_bytes == 0, "{report:?}");
    let space = Allocator::open(path).await.unwrap();
    // Opening and verifying compare what is allocated with the index and the blobs.
    let store = BlobStore::open(space.clone()).await.unwrap();
    let summary = store.verify().await.unwrap();
    let stats = space.stats();
    assert_eq!((stats.reserved_bytes, stats.pending_bytes), (0, 0));
    assert_eq!(stats.allocated_bytes + stats.free_bytes + stats.metadata_bytes, stats.device_bytes);
    let found: BTreeMap<String, String> =
        store.list().into_iter().map(|slot| (slot.name, slot.hash.to_hex().to_string())).collect();
    assert_eq!(found.len(), summary.blobs);
    model.compare(found)
}

/// Files below `dir` that are not too large, in order of path.
fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if found.len() >= FILES || path.ends_with("target") || path.ends_with(".git") {
            continue;
        } else if facts.is_dir() {
            files_below(&path, found);
        } else if facts.is_file() && facts.len() <= MAX_FILE_BYTES {
            found.push(path);
        }
    }
}

/// Copies the sources of this project and of what it is built from, and adds files of awkward sizes, up to [`FILES`].
fn collect_files(target: &Path) {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let mut sources = Vec::new();
    for dir in ["src", "tests", "docs", "examples", "benches", "fault-injection"] {
        files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut sources);
    }
    if let Some(home) = home {
        files_below(&home.join("registry/src"), &mut sources);
    }
    sources.truncate(FILES - 100);
    for (number, source) in sources.iter().enumerate() {
        let dir = target.join(format!("{}", number % 37));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(source, dir.join(format!("{number} {}", source.file_name().unwrap().to_string_lossy())))
            .unwrap();
    }
    let sizes = [0, 1, 511, 512, 4095, 4096, 4097, 8191, 65_537, 262_143, 262_144];
    for number in sources.len()..FILES {
        let size = sizes.get(number % 20).copied().unwrap_or(number * 7919 % 30_000);
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + number * 17 + at / 251) as u8).collect();
        fs::write(target.join(format!("made {number}")), bytes).unwrap();
    }
}

#[tokio::test]
async fn a_blob_store_of_real_files_survives_twenty_kills() {
    let started = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let (path, files) = (dir.path().join("store"), dir.path().join("files"));
    fs::create_dir(&files).unwrap();
    collect_files(&files);
    let (store, source) = (path.to_str().unwrap(), files.to_str().unwrap());
    let mut model = Model::default();
    let mut cut_off = 0;

    // Killed while it is filled for the first time, then filled to the end.
    run_child(&mut model, &[store, "put", source], Some((FILES as u64 / 2, Duration::ZERO)));
    cut_off += examine(&path, &mut model).await;
    run_child(&mut model, &[store, "put", source], None);
    examine(&path, &mut model).await;
    assert_eq!(model.acknowledged.len(), FILES);

    for kill in 1..KILLS {
        let seed = (SEED + kill).to_string();
        // Not always the same distance from the last acknowledgement, and some kills soon after replay.
        let when = (1 + kill * 137 % 600, Duration::from_micros(kill * 7919 % 3000));
        run_child(&mut model, &[store, "torture", source, "--seed", &seed, "--tasks", "8"], Some(when));
        cut_off += examine(&path, &mut model).await;
        assert!(model.acknowledged.len() >= 1000, "{} blobs are left", model.acknowledged.len());
    }
    assert!(cut_off > 0, "no kill hit an operation");
    println!(
        "{KILLS} kills, {} acknowledgements, {cut_off} operations cut off, {} blobs at the end, {:?}",
        model.acknowledgements,
        model.acknowledged.len(),
        started.elapsed()
    );
}
