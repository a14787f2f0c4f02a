//! Opening after a kill. A child process of this program fills a store, works, and is killed in the middle of it; the
//! next child opens what is left, tells how long that took, works, and is killed as well.

use std::io::{BufRead, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::Failure;
use crate::contender::Kind;
use crate::driver::Load;
use crate::measure::resident_bytes;

/// Tasks at work when the child is killed.
const TASKS: usize = 256;
/// A child's turns are short, so that the times that it keeps of each do not count as memory.
const TURN: Duration = Duration::from_millis(50);

/// What a child is told to do.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) kind: Kind,
    pub(crate) dir: PathBuf,
    pub(crate) live: usize,
}

/// What a child says of its opening.
#[derive(Clone, Copy, Debug)]
struct Told {
    ready_seconds: f64,
    list_seconds: f64,
    /// In memory before the store was opened.
    base_bytes: u64,
    found: usize,
}

/// How one opening went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// From the call that opens to the end of the first durable transaction.
    pub(crate) ready_seconds: f64,
    /// To the end of a list of everything that is live, behind that.
    pub(crate) list_seconds: f64,
    /// What memory grew by until the kill, the list and the tasks included.
    pub(crate) grown_bytes: f64,
    /// Extents that the list has, less the one of the first transaction.
    pub(crate) found: usize,
}

impl Told {
    fn to_line(self) -> String {
        let Self { ready_seconds, list_seconds, base_bytes, found } = self;
        format!("opened {ready_seconds} {list_seconds} {base_bytes} {found}")
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        if words.next() != Some("opened") {
            return None;
        }
        let mut number = || words.next()?.parse::<f64>().ok();
        let (ready_seconds, list_seconds) = (number()?, number()?);
        let (base_bytes, found) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { ready_seconds, list_seconds, base_bytes, found })
    }
}

/// The child: it says what it found, works, and never ends by itself.
pub(crate) fn live(life: &Life, runtime: &Arc<Runtime>) -> Result<(), Failure> {
    std::thread::spawn(|| {
        // The pipe ends when the parent does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let base_bytes = resident_bytes(std::process::id())?;
    let is_new = !life.dir.exists();
    let began = Instant::now();
    let mut store = life.kind.store(runtime, &life.dir, life.live)?;
    if is_new {
        store.fill(life.live)?;
    } else {
        store.first()?;
        let ready_seconds = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let found = store.list()?.saturating_sub(1);
        let list_seconds = began.elapsed().as_secs_f64();
        println!("{}", Told { ready_seconds, list_seconds, base_bytes, found }.to_line());
    }
    println!("working");
    loop {
        store.turn(Load::Tasks(TASKS), TURN)?;
    }
}

/// A child and what it says.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(life: &Life) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", life.kind.name(), "--live", &life.live.to_string(), "--dir"])
            .arg(&life.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String, Failure> {
        Ok(self.lines.next().ok_or("the child ended")??)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL. It fails only if the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fills a store in a child, and kills that at work.
fn fill(life: &Life, work: Duration) -> Result<(), Failure> {
    let mut child = Process::start(life)?;
    child.line()?;
    std::thread::sleep(work);
    Ok(())
}

/// Opens in a child what the one before left, and kills that at work.
fn open(life: &Life, work: Duration) -> Result<Opening, Failure> {
    let mut child = Process::start(life)?;
    let line = child.line()?;
    let told = Told::from_line(&line).ok_or_else(|| format!("the child says {line:?}"))?;
    child.line()?;
    std::thread::sleep(work);
    let Told { ready_seconds, list_seconds, base_bytes, found } = told;
    let grown_bytes = resident_bytes(child.child.id())?.saturating_sub(base_bytes) as f64;
    Ok(Opening { ready_seconds, list_seconds, grown_bytes, found })
}

/// All openings of one store.
#[derive(Clone, Debug)]
pub(crate) struct Openings {
    pub(crate) kind: Kind,
    pub(crate) live: usize,
    pub(crate) each: Vec<Opening>,
    /// Extents that were there too much or too little, over all openings.
    pub(crate) astray: usize,
}

/// Stores of so many extents of each of these, opened in turns.
pub(crate) fn rounds(
    kinds: &[Kind],
    live: usize,
    rounds: usize,
    work: Duration,
    dir: &Path,
) -> Result<Vec<Openings>, Failure> {
    let mut all = Vec::new();
    for &kind in kinds {
        let life = Life { kind, dir: dir.join(format!("{}-{live}", kind.name())), live };
        eprintln!("{live} live: filling {}", kind.name());
        fill(&life, work)?;
        all.push((life, live, Openings { kind, live, each: Vec::new(), astray: 0 }));
    }
    for round in 0..rounds {
        eprintln!("{live} live: opening, round {} of {rounds}", round + 1);
        for (life, expected, openings) in &mut all {
            let opening = open(life, work)?;
            openings.astray += opening.found.abs_diff(*expected);
            // Each transaction at work frees one and makes one; the first of each life only makes one.
            *expected = opening.found + 1;
            openings.each.push(opening);
        }
    }
    for (life, ..) in &all {
        std::fs::remove_dir_all(&life.dir)?;
    }
    Ok(all.into_iter().map(|(.., openings)| openings).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn an_opening_is_told_in_a_line() {
        let told = Told { ready_seconds: 0.25, list_seconds: 1.5, base_bytes: 4096, found: 7 };
        let line = told.to_line();
        assert_eq!(Told::from_line(&line).unwrap().to_line(), line);
        assert!(line.ends_with(" 4096 7") && Told::from_line("working").is_none());
    }
}
