//! Crash tests of Freehold: the main job of the project.
//!
//! Exit codes: 0 without violations, 1 with some, 2 usage.

mod planted;
mod progress;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use fault_injection::campaign::explore::{self, Settings};
use fault_injection::campaign::replay;
use fault_injection::campaign::tally::Tally;
use fault_injection::kill::{KillOptions, run_child, run_kills};
use progress::Progress;
use summary::Summary;

/// Cuts the simulated power at every I/O of seeded workloads, recovers each state that may be left, and compares it
/// with a model; does the same inside recoveries; and kills real processes in mid-commit.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Operations in each workload.
    #[arg(long, default_value_t = explore::OPERATIONS, value_parser = operations)]
    ops: usize,
    /// Threads.
    #[arg(long, default_value_t = default_jobs())]
    jobs: usize,
    /// Real processes to kill.
    #[arg(long, default_value_t = 120)]
    kills: u64,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Goes back to one state, as printed with a violation, and tells its story.
    #[arg(long, value_name = "STATE")]
    replay: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plants bugs in a copy of the source, one at a time, and says whether the campaign catches each.
    Planted {
        /// Only those whose names contain one of these.
        names: Vec<String>,
        /// How long each may take to be caught, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Seed of the campaigns.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The process that gets killed.
    #[command(hide = true)]
    KillChild {
        /// The store.
        path: PathBuf,
        /// Its seed.
        #[arg(long)]
        seed: u64,
    },
}

fn operations(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err("a number from 1 to 1000".to_owned()),
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::KillChild { path, seed }) => Some(run_child(path, *seed).map(|()| true)),
        Some(Command::Planted { names, seconds, seed }) => Some(planted::run(names, *seconds, *seed)),
        None => None,
    };
    match done {
        None => {}
        Some(Ok(true)) => return ExitCode::SUCCESS,
        Some(Ok(false)) => return ExitCode::FAILURE,
        Some(Err(message)) => {
            eprintln!("crashtest: {message}");
            return ExitCode::FAILURE;
        }
    }
    let settings = Settings { seed: arguments.seed, operations: arguments.ops };
    match &arguments.replay {
        Some(state) => tell(&settings, state),
        None => campaign(&arguments, &settings),
    }
}

fn tell(settings: &Settings, state: &str) -> ExitCode {
    let address = match replay::parse(state) {
        Ok(address) => address,
        Err(message) => {
            eprintln!("crashtest: {message}");
            return ExitCode::from(2);
        }
    };
    match replay::replay(settings, &address) {
        Ok(story) => {
            print!("{story}");
            ExitCode::SUCCESS
        }
        Err(story) => {
            println!("{story}");
            ExitCode::FAILURE
        }
    }
}

fn campaign(arguments: &Arguments, settings: &Settings) -> ExitCode {
    let started = Instant::now();
    let length = Duration::from_secs(arguments.seconds);
    let tally = Tally::new(length);
    let next_chain = AtomicU64::new(0);
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("crashtest: cannot find its own program: {error}");
            return ExitCode::FAILURE;
        }
    };
    let kills = KillOptions { program, seed: arguments.seed, kills: arguments.kills };
    std::thread::scope(|scope| {
        let explorers: Vec<_> = (0..arguments.jobs.max(1))
            .map(|_| {
                scope.spawn(|| {
                    explore::run_chains(settings, &tally, || next_chain.fetch_add(1, Ordering::Relaxed));
                })
            })
            .collect();
        let killer = scope.spawn(|| run_kills(&kills, &tally));
        let progress = Progress::new(length);
        while !(explorers.iter().all(|thread| thread.is_finished()) && killer.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            progress.show(&tally, started.elapsed());
        }
        progress.finish();
    });
    let summary = Summary::new(settings, &tally, started.elapsed());
    if arguments.json {
        println!("{}", summary.json());
    } else {
        print!("{}", summary.text());
    }
    if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
