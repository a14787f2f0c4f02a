//! Starting children, killing them, and looking at what they leave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use freehold::{Allocator, ExtentInfo, FormatOptions};
use futures_util::TryStreamExt;

use super::PAGE_BYTES;
use super::lines::Line;
use crate::allocator::model::{Effects, State};
use crate::harness::Tally;
use crate::oracle::{Oracle, Violation};
use crate::rng::Rng;

/// How to kill.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// The program whose `kill-child` subcommand is run.
    pub program: std::path::PathBuf,
    /// Seed of the delays and of the children.
    pub seed: u64,
    /// How many processes.
    pub kills: u64,
}

const STORE_BYTES: u64 = 48 << 20;

/// Kills children one after the other, on one store. Broken rules go to the tally.
pub fn run_kills(options: &KillOptions, tally: &Tally) {
    let run = || -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = directory.path().join("store");
        let format = FormatOptions::new().page_bytes(PAGE_BYTES).journal_bytes(256 << 10);
        runtime.block_on(format.create(&path, STORE_BYTES)).map_err(|error| error.to_string())?;
        let mut state = State::default();
        let mut rng = Rng::new(options.seed).fork("kills");
        while tally.kills.get() < options.kills && !tally.is_over() {
            let told = kill_one(options, &path, &mut rng)?;
            tally.kills.add(1);
            state = runtime.block_on(judge(&path, state, told, rng.chance(0.3)))?;
        }
        Ok(())
    };
    if let Err(message) = run() {
        let message = format!("after {} kills: {message}", tally.kills.get());
        tally.fail(Violation::new(Oracle::Model, message), None);
    }
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a child for a random while, kills it, and returns all that it told.
fn kill_one(options: &KillOptions, path: &Path, rng: &mut Rng) -> Result<Vec<Line>, String> {
    let seed = rng.next_u64() >> 16;
    let child = Command::new(&options.program)
        .arg("kill-child")
        .arg(path)
        .args(["--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", options.program.display()))?;
    let mut child = Reaped(child);
    let output = child.0.stdout.take().ok_or("the child has no output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let first =
        receiver.recv_timeout(Duration::from_secs(30)).map_err(|_| "a child did not get ready".to_owned())?;
    if !matches!(Line::parse(&first), Some(Line::Ready)) {
        return Err(format!("a child began with '{first}'"));
    }
    std::thread::sleep(Duration::from_micros(500 + rng.below(40_000)));
    // SIGKILL, wherever it is.
    child.0.kill().map_err(|error| error.to_string())?;
    let status = child.0.wait().map_err(|error| error.to_string())?;
    let _ = reader.join();
    let lines: Option<Vec<Line>> = receiver.try_iter().map(|line| Line::parse(&line)).collect();
    let lines = lines.ok_or("a child told something unreadable")?;
    use std::os::unix::process::ExitStatusExt;
    if status.signal() != Some(9) {
        return Err(format!("a child ended by itself: {status}"));
    }
    Ok(lines)
}

/// Recovers the store and compares it with what was told; returns the state that it is in.
async fn judge(path: &Path, before: State, told: Vec<Line>, close: bool) -> Result<State, String> {
    let store = Allocator::open(path).await.map_err(|error| format!("recovery failed: {error}"))?;
    let extents: Vec<ExtentInfo> = store.extents().try_collect().await.map_err(|error| error.to_string())?;
    let mut begun: BTreeMap<u64, Effects> = BTreeMap::new();
    let mut state = before;
    for line in told {
        match line {
            Line::Ready => {}
            Line::Begin(number, effects) => {
                begun.insert(number, effects);
            }
            Line::Acknowledged(number) => {
                let effects = begun.remove(&number).ok_or("an acknowledgement of nothing")?;
                state = state.after(&effects, PAGE_BYTES);
            }
        }
    }
    // Those under way are wholly there or wholly not; the comparison below finds a part.
    for effects in begun.into_values() {
        if effects.allocated.iter().any(|(info, _)| extents.contains(info)) {
            state = state.after(&effects, PAGE_BYTES);
        }
    }
    let expected: Vec<ExtentInfo> = state.extents.values().map(|held| held.info).collect();
    if expected != extents {
        let missing: Vec<_> = expected.iter().filter(|info| !extents.contains(info)).collect();
        let foreign: Vec<_> = extents.iter().filter(|info| !expected.contains(info)).collect();
        return Err(format!("after a kill: missing {missing:?}, foreign {foreign:?}"));
    }
    for held in state.extents.values() {
        let extent = held.info.extent;
        let len = usize::try_from(extent.len).unwrap_or(0);
        let bytes = store.read_at(&extent, 0, len).await.map_err(|error| error.to_string())?;
        let page_bytes = usize::try_from(PAGE_BYTES).unwrap_or(1);
        for (page, expected) in bytes.chunks(page_bytes).zip(held.pages.iter()) {
            if let Some(at) = expected.mismatch(page) {
                return Err(format!("after a kill: byte {at} of a page of {extent:?} is another one"));
            }
        }
    }
    if close {
        store.close().await.map_err(|error| error.to_string())?;
    }
    Ok(state)
}
