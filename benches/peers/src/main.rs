//! Freehold beside what a program would use instead, doing the same work on the same file system: raw writes, SQLite,
//! redb, LMDB, fjall, and the engine of write-journal.
//!
//! `cargo run --release -p freehold-peers --features contenders -- --write` takes about twelve minutes, and writes
//! `docs/BENCHMARKS.md` and `docs/benchmarks`; `-- --quick` takes about three. Without features only the floor and
//! Freehold are built in. Progress goes to stderr, the page to stdout.

mod blobs;
#[cfg(feature = "write-journal")]
mod buddy;
mod contender;
mod driver;
#[cfg(any(test, feature = "fjall", feature = "lmdb", feature = "redb", feature = "sqlite"))]
mod free_map;
#[cfg(any(feature = "fjall", feature = "lmdb", feature = "redb", feature = "sqlite"))]
mod group_commit;
mod measure;
mod options;
mod probes;
mod reopen;
mod report;
mod rounds;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;

use contender::Kind;
use measure::Source;
use options::{Call, Options};
use report::{Figures, Machine};
use rounds::Results;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A directory whose files are in memory only.
const MEMORY: &str = "/dev/shm";

/// None where there is no such directory.
fn in_memory(options: &Options, runtime: &Arc<Runtime>) -> Result<Option<Results>, Failure> {
    let Ok(dir) = tempfile::tempdir_in(MEMORY) else { return Ok(None) };
    eprintln!("on files in memory");
    let plan = options.in_memory();
    Ok(Some(rounds::transactions(&plan, runtime, dir.path(), &Source::Process)?))
}

fn measure(options: &Options, runtime: &Arc<Runtime>) -> Result<Figures, Failure> {
    let started = Instant::now();
    let dir = tempfile::tempdir_in(&options.dir)?;
    let source = Source::under(dir.path())?;
    let machine = Machine::of(dir.path(), source != Source::Process)?;
    let transactions = rounds::transactions(&options.on_disk(), runtime, dir.path(), &source)?;
    let memory = in_memory(options, runtime)?;
    let blobs = rounds::blobs(options, runtime, dir.path(), &source)?;
    let with_freehold = options.kinds.contains(&Kind::Freehold);
    let probes = with_freehold.then(|| probes::probe(options, runtime, dir.path())).transpose()?;
    let kinds: Vec<_> = options.kinds.iter().copied().filter(|kind| !kind.is_floor()).collect();
    let mut openings = Vec::new();
    for &live in &options.reopened {
        let rounds = options.openings;
        openings.extend(reopen::rounds(&kinds, live, rounds, options.life, dir.path())?);
    }
    let (options, took) = (options.clone(), started.elapsed());
    Ok(Figures { options, machine, took, transactions, memory, blobs, probes, openings })
}

fn main() -> Result<(), Failure> {
    let runtime = Arc::new(Runtime::new()?);
    match options::parse(std::env::args().skip(1))? {
        Call::Live(life) => reopen::live(&life, &runtime),
        Call::Measure(options) => {
            let report = report::page(&measure(&options, &runtime)?);
            if options.write {
                report.write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs"))?;
            }
            Ok(())
        }
    }
}
