//! `crashtest exhaustive`.

use std::fmt::Write as _;
use std::time::Duration;

use fault_injection::campaign::chain::{OPERATIONS, Settings};
use fault_injection::campaign::exhaustive::{Depths, alphabet, run_all};
use fault_injection::harness::{Counter, Tally};

use crate::arguments::ExhaustiveArguments;
use crate::campaign::{proven, tell_first};
use crate::progress::Progress;
use crate::report::{self, Material};
use crate::summary::{Bound, Summary};

/// Runs all sequences. Returns whether no rule was broken.
///
/// # Errors
/// When an oracle rejects nothing, or the page cannot be written.
pub(crate) fn run(arguments: &ExhaustiveArguments) -> Result<bool, String> {
    let proofs = proven()?;
    let length = Duration::from_secs(arguments.seconds);
    let tally = Tally::new(length);
    let depths = Depths::default();
    let wanted = usize::from(arguments.length);
    let mut progress = Progress::new(length);
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| run_all(wanted, arguments.jobs, &tally, &depths));
        progress.follow(&tally, || runner.is_finished());
    });
    let settings = Settings { seed: 0, operations: OPERATIONS };
    let mut summary = Summary::new("exhaustive", &settings, arguments.jobs, &tally, &proofs);
    summary.bounds = bounds(wanted, &depths);
    if let Some(path) = &arguments.report {
        let material = Material {
            command: "exhaustive",
            settings: &settings,
            jobs: arguments.jobs,
            tally: &tally,
            samples: progress.into_samples(),
            proofs: &proofs,
            bounds: &summary.bounds,
            matrix: Vec::new(),
        };
        report::write(path, material)?;
    }
    summary.print(arguments.json);
    if !arguments.json {
        tell_first(&settings, &tally);
    }
    Ok(summary.is_good())
}

/// For each length, how many of its sequences were run. Those that go on from a merged one are covered by its twin.
fn bounds(wanted: usize, depths: &Depths) -> Vec<Bound> {
    let letters = alphabet().len() as u64;
    let of = |counters: &[Counter], length: usize| counters.get(length).map_or(0, Counter::get);
    let mut open = 1;
    (1..=wanted)
        .map(|length| {
            let sequences = of(&depths.sequences, length);
            let due = open * letters;
            let merged = of(&depths.merged, length);
            open = sequences - merged;
            let mut words = String::new();
            let all = letters.pow(u32::try_from(length).unwrap_or(0));
            let state = if sequences == due { "complete" } else { "NOT complete" };
            let _ = write!(
                words,
                "{state}: {sequences} of {due} run, {merged} of them merged; {all} sequences in all"
            );
            Bound { length, sequences, due, merged, all, words }
        })
        .collect()
}
