//! What a campaign came to.

use std::fmt::Write as _;
use std::time::Duration;

use fault_injection::campaign::explore::Settings;
use fault_injection::campaign::tally::{Failure, Tally};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Violation {
    message: String,
    replay: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    seed: u64,
    operations: usize,
    seconds: f64,
    workloads: u64,
    io_points: u64,
    io_points_cut: u64,
    crash_states: u64,
    distinct_states: u64,
    recoveries: u64,
    nested_recoveries: u64,
    damaged_recoveries: u64,
    refusals: u64,
    exercised: u64,
    kills: u64,
    violations: usize,
    failures: Vec<Violation>,
}

impl Summary {
    pub(crate) fn new(settings: &Settings, tally: &Tally, elapsed: Duration) -> Self {
        let failures: Vec<Violation> = tally
            .failures()
            .into_iter()
            .map(|Failure { message, address }| {
                let mut replay = format!("cargo run --release --bin crashtest -- --seed {}", settings.seed);
                if settings.operations != fault_injection::campaign::explore::OPERATIONS {
                    let _ = write!(replay, " --ops {}", settings.operations);
                }
                let _ = if address.starts_with("chain=") {
                    write!(replay, " --replay '{address}'")
                } else {
                    write!(replay, " --seconds 600 # {address}: depends on timing")
                };
                Violation { message, replay }
            })
            .collect();
        Self {
            seed: settings.seed,
            operations: settings.operations,
            seconds: elapsed.as_secs_f64(),
            workloads: tally.rounds.get(),
            io_points: tally.io_points.get(),
            io_points_cut: tally.io_points_cut.get(),
            crash_states: tally.crash_states.get(),
            distinct_states: tally.distinct_states.get(),
            recoveries: tally.recoveries.get(),
            nested_recoveries: tally.nested_recoveries.get(),
            damaged_recoveries: tally.damaged_recoveries.get(),
            refusals: tally.refusals.get(),
            exercised: tally.exercised.get(),
            kills: tally.kills.get(),
            violations: failures.len(),
            failures,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.violations == 0
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let rows = [
            (
                "workloads",
                self.workloads,
                "each formatted, or continued from a crash state of the one before",
            ),
            ("I/O points", self.io_points, "writes and flushes of the workloads"),
            ("  of them cut", self.io_points_cut, "power failed there at least once"),
            ("crash states", self.crash_states, "images that a power cut may leave"),
            ("  distinct", self.distinct_states, "different bytes; garbage inside sectors not counted"),
            ("recoveries", self.recoveries, "each compared with the model"),
            ("  nested", self.nested_recoveries, "after a crash inside a recovery"),
            ("  of damage", self.damaged_recoveries, "rot, lost and misdirected writes, stale groups"),
            ("    refused", self.refusals, "by a typed error that names the place"),
            ("  exercised", self.exercised, "worked on further, closed and opened again"),
            ("processes killed", self.kills, "with SIGKILL, on a real file"),
        ];
        let _ = writeln!(text, "seed {}, {:.1} s", self.seed, self.seconds);
        for (name, value, meaning) in rows {
            let _ = writeln!(text, "{name:<17}{value:>12}  {meaning}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "\nVIOLATION: {}\n  {}", failure.message, failure.replay);
        }
        let _ = writeln!(text, "violations       {:>12}", self.violations);
        text
    }
}
