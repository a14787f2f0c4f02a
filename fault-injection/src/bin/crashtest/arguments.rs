//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fault_injection::campaign::chain::OPERATIONS;

/// Cuts the simulated power at every I/O of seeded workloads, recovers each state that may be left, and compares it
/// with a model; does the same inside recoveries; and kills real processes in mid-commit.
///
/// Without a subcommand: run. Exit codes: 0 without violations, 1 with some, 2 usage, 3 without violations but not all that
/// was asked for: an exhaustive run that is not complete, a campaign without a single crash state.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Random campaigns: long histories, cut everywhere.
    Run(RunArguments),
    /// Every sequence of a few operations on a tiny store, cut everywhere, every subset, every crash in recovery.
    Exhaustive(ExhaustiveArguments),
    /// Goes back to one state, as printed with a violation: shortens its history and tells the story.
    Replay(ReplayArguments),
    /// Every fault of the model at every I/O point; writes docs/FAULT-MATRIX.md.
    Matrix(MatrixArguments),
    /// Plants bugs in a copy of the source, one at a time, and says which oracles catch each.
    Planted(PlantedArguments),
    /// Kills real processes in mid-commit, with SIGKILL.
    Kill(KillArguments),
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

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 120)]
    pub(crate) seconds: u64,
    /// Operations in each workload.
    #[arg(long, default_value_t = OPERATIONS, value_parser = operations)]
    pub(crate) ops: usize,
    /// Threads.
    #[arg(long, default_value_t = default_jobs())]
    pub(crate) jobs: usize,
    /// Real processes to kill.
    #[arg(long, default_value_t = 120)]
    pub(crate) kills: u64,
    /// Prints the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Goes on after violations until the time is up, to see which oracles find some.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Writes a page about the run: HTML, with everything in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExhaustiveArguments {
    /// Operations in the longest sequence.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) length: u8,
    /// How long at most, in seconds; what is reached is printed, and the exit code is 3 if that is not everything.
    #[arg(long, default_value_t = 3600)]
    pub(crate) seconds: u64,
    /// Threads.
    #[arg(long, default_value_t = default_jobs())]
    pub(crate) jobs: usize,
    /// Prints the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes a page about the run: HTML, with everything in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The state: 'chain=0 round=2 cut=17 keep=all', say. Several words are joined.
    #[arg(required = true)]
    pub(crate) state: Vec<String>,
    /// Seed of the campaign.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Operations in each workload of the campaign.
    #[arg(long, default_value_t = OPERATIONS, value_parser = operations)]
    pub(crate) ops: usize,
    /// Tells the story as it was, without shortening the history first.
    #[arg(long)]
    pub(crate) as_is: bool,
    /// How long shortening may take, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PlantedArguments {
    /// Only those whose names contain one of these.
    pub(crate) names: Vec<String>,
    /// How long each may take to be caught, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Seed of the campaigns.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Prints one JSON object for each bug.
    #[arg(long)]
    pub(crate) json: bool,
    /// How long each campaign goes on in any case, to see which other oracles catch the bug, in seconds.
    #[arg(long, default_value_t = 10)]
    pub(crate) look_around: u64,
    /// Writes a page about all of them.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MatrixArguments {
    /// Everything but the kills of real processes follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads.
    #[arg(long, default_value_t = default_jobs())]
    pub(crate) jobs: usize,
    /// Only these faults: F9,F11.
    #[arg(long, value_delimiter = ',', value_name = "FAULTS")]
    pub(crate) only: Vec<String>,
    /// Real processes to kill, for F1.
    #[arg(long, default_value_t = 40)]
    pub(crate) kills: u64,
    /// Where the page goes: docs/FAULT-MATRIX.md if nothing is said, and nowhere for some of the faults only.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Prints the figures as JSON in place of the page.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes a page about the run: HTML, with everything in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArguments {
    /// Seed of the delays and of the processes.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many processes.
    #[arg(long, default_value_t = 500)]
    pub(crate) kills: u64,
    /// How long at most, in seconds.
    #[arg(long, default_value_t = 600)]
    pub(crate) seconds: u64,
    /// Prints the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
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
