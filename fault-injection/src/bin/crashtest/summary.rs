//! What a campaign came to.

use std::fmt::Write as _;

use fault_injection::allocator::proof::Proof;
use fault_injection::campaign::chain::{OPERATIONS, Settings};
use fault_injection::harness::{Class, Counter, PHASES, Tally, phase_name};
use fault_injection::oracle::Oracle;
use serde::Serialize;

use crate::Ending;

#[derive(Debug, Serialize)]
pub(crate) struct Violation {
    pub(crate) oracle: &'static str,
    pub(crate) message: String,
    pub(crate) replay: String,
    seconds: f64,
    distinct_states: u64,
}

#[derive(Debug, Serialize)]
struct ClassSummary {
    class: &'static str,
    made: u64,
    distinct: u64,
}

#[derive(Debug, Serialize)]
struct PhaseSummary {
    phase: &'static str,
    io_points: u64,
    cut: u64,
    states: u64,
}

#[derive(Debug, Serialize)]
struct OracleSummary {
    oracle: &'static str,
    /// Whether it rejected its bait at the beginning of the run.
    proved: bool,
    violations: u64,
}

/// How far an exhaustive run came at one length.
#[derive(Debug, Serialize)]
pub(crate) struct Bound {
    pub(crate) length: usize,
    pub(crate) sequences: u64,
    pub(crate) due: u64,
    pub(crate) merged: u64,
    pub(crate) all: u64,
    pub(crate) complete: bool,
    #[serde(skip)]
    pub(crate) words: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    command: &'static str,
    seed: u64,
    operations: usize,
    jobs: usize,
    seconds: f64,
    workloads: u64,
    workload_operations: u64,
    io_points: u64,
    io_points_cut: u64,
    crash_states: u64,
    distinct_states: u64,
    distinct_per_second_per_job: f64,
    classes: Vec<ClassSummary>,
    phases: Vec<PhaseSummary>,
    cuts_exhausted: u64,
    cuts_sampled: u64,
    recoveries: u64,
    recoveries_by_depth: Vec<u64>,
    damaged_recoveries: u64,
    refusals: u64,
    earlier_states: u64,
    second_lives: u64,
    closer_looks: u64,
    kills: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bounds: Vec<Bound>,
    oracles: Vec<OracleSummary>,
    violations: usize,
    pub(crate) failures: Vec<Violation>,
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

impl Summary {
    pub(crate) fn new(
        command: &'static str,
        settings: &Settings,
        jobs: usize,
        tally: &Tally,
        proofs: &[Proof],
    ) -> Self {
        let seconds = tally.elapsed().as_secs_f64();
        let failures: Vec<Violation> = tally
            .failures()
            .into_iter()
            .map(|failure| Violation {
                oracle: failure.violation.oracle.name(),
                message: failure.violation.message,
                replay: match failure.address {
                    Some(address) => replay_command(settings, &format!("'{address}'")),
                    None => format!("crashtest kill --seed {} # depends on timing", settings.seed),
                },
                seconds: failure.after.as_secs_f64(),
                distinct_states: failure.distinct_states,
            })
            .collect();
        let phase = |at: usize| -> Option<PhaseSummary> {
            let io_points = tally.io_points.get(at)?.get();
            (io_points > 0).then(|| PhaseSummary {
                phase: phase_name(at),
                io_points,
                cut: tally.io_points_cut.get(at).map_or(0, Counter::get),
                states: tally.states_by_phase.get(at).map_or(0, Counter::get),
            })
        };
        let class = |class: Class| ClassSummary {
            class: class.name(),
            made: tally.crash_states.get(class as usize).map_or(0, Counter::get),
            distinct: tally.distinct_states.get(class as usize).map_or(0, Counter::get),
        };
        let oracle = |oracle: Oracle| OracleSummary {
            oracle: oracle.name(),
            proved: proofs.iter().any(|proof| proof.oracle == oracle && proof.rejected),
            violations: tally.rejections(oracle),
        };
        Self {
            command,
            seed: settings.seed,
            operations: settings.operations,
            jobs,
            seconds,
            workloads: tally.runs.get(),
            workload_operations: tally.operations.get(),
            io_points: sum(&tally.io_points),
            io_points_cut: sum(&tally.io_points_cut),
            crash_states: tally.all_crash_states(),
            distinct_states: tally.all_distinct(),
            distinct_per_second_per_job: tally.all_distinct() as f64 / seconds / jobs.max(1) as f64,
            classes: Class::ALL.map(class).into_iter().collect(),
            phases: (0..PHASES).filter_map(phase).collect(),
            cuts_exhausted: tally.cuts_exhausted.get(),
            cuts_sampled: tally.cuts_sampled.get(),
            recoveries: tally.recoveries.get(),
            recoveries_by_depth: tally.recoveries_by_depth.iter().map(Counter::get).collect(),
            damaged_recoveries: tally.damaged_recoveries.get(),
            refusals: tally.refusals.get(),
            earlier_states: tally.earlier.get(),
            second_lives: tally.lives.get(),
            closer_looks: tally.probes.get(),
            kills: tally.kills.get(),
            bounds: Vec::new(),
            oracles: Oracle::ALL.map(oracle).into_iter().collect(),
            violations: failures.len(),
            failures,
        }
    }

    /// Whether nothing was tried.
    pub(crate) fn is_empty(&self) -> bool {
        self.crash_states == 0
    }

    /// How the command ends; `open` says what is left to do, if no rule was broken.
    pub(crate) fn ending(&self, open: impl FnOnce() -> Option<String>) -> Ending {
        match self.violations {
            0 => open().map_or(Ending::Good, Ending::Incomplete),
            _ => Ending::Broken,
        }
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", self.json());
        } else {
            print!("{}", self.text());
        }
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let _ =
            writeln!(text, "{}, seed {}, {} jobs, {:.1} s", self.command, self.seed, self.jobs, self.seconds);
        let mut row = |name: &str, value: u64, meaning: &str| {
            let _ = writeln!(text, "{name:<18}{value:>12}  {meaning}");
        };
        if self.workloads > 0 {
            row(
                "workloads",
                self.workloads,
                "each formatted, or continued from a crash state of the one before",
            );
            row("  operations", self.workload_operations, "of all workloads");
            row("I/O points", self.io_points, "writes and flushes of the workloads");
            row("  of them cut", self.io_points_cut, "power failed there at least once");
            row("cuts, all states", self.cuts_exhausted, "every subset of the unflushed sectors");
            row("cuts, sampled", self.cuts_sampled, "too many subsets: prefixes, whole writes, random ones");
            row("crash states", self.crash_states, "images that a power cut may leave");
            row("  distinct", self.distinct_states, "by what recovery reads");
            for class in &self.classes {
                let meaning =
                    Class::ALL.iter().find(|known| known.name() == class.class).map(|known| known.meaning());
                row(&format!("    {}", class.class), class.distinct, meaning.unwrap_or_default());
            }
            row("recoveries", self.recoveries, "each compared with the model");
            for (depth, &count) in self.recoveries_by_depth.iter().enumerate().skip(1) {
                row(&format!("  nested, {depth} deep"), count, "after a crash inside a recovery");
            }
            row("  of damage", self.damaged_recoveries, "rot, lost and misdirected writes, stale groups");
            row("    refused", self.refusals, "by a typed error that names the place");
            row("    earlier", self.earlier_states, "the extents of an earlier round, torn tail reported");
            row("  closer looks", self.closer_looks, "checker, twin, fresh load, recovery twice");
            let proved = self.oracles.iter().filter(|oracle| oracle.proved).count();
            row("oracles", proved as u64, "each rejected its bait before the run");
            row("  second lives", self.second_lives, "worked on further, closed and opened again");
        }
        if self.kills > 0 {
            row("processes killed", self.kills, "with SIGKILL, on a real file");
        }
        for bound in &self.bounds {
            let _ = writeln!(text, "{} operations      {}", bound.length, bound.words);
        }
        for failure in &self.failures {
            let _ = writeln!(
                text,
                "\nVIOLATION, says {}: {}\n  {}",
                failure.oracle, failure.message, failure.replay
            );
        }
        let _ = writeln!(text, "violations        {:>12}", self.violations);
        if self.workloads > 0 {
            let rate = self.distinct_per_second_per_job;
            let _ = writeln!(text, "{rate:.0} distinct crash states a second and job, all recovered");
        }
        text
    }
}

/// The command that leads back to a state; `state` is quoted already.
pub(crate) fn replay_command(settings: &Settings, state: &str) -> String {
    let mut command = format!("cargo run --release --bin crashtest -- replay --seed {}", settings.seed);
    if settings.operations != OPERATIONS {
        let _ = write!(command, " --ops {}", settings.operations);
    }
    command + " " + state
}
