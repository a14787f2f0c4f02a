//! `crashtest exhaustive`.

use std::fmt::Write as _;
use std::time::Duration;

use fault_injection::campaign::chain::{OPERATIONS, Settings};
use fault_injection::campaign::exhaustive::{Depths, alphabet, run_all};
use fault_injection::harness::{Counter, Tally};

use crate::Ending;
use crate::arguments::ExhaustiveArguments;
use crate::campaign::{proven, tell_first};
use crate::progress::Progress;
use crate::report::{self, Material};
use crate::summary::{Bound, Summary};

/// Runs all sequences.
///
/// # Errors
/// When an oracle rejects nothing, or the page cannot be written.
pub(crate) fn run(arguments: &ExhaustiveArguments) -> Result<Ending, String> {
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
    Ok(summary.ending(|| open_lengths(&summary.bounds)))
}

/// Which lengths are not complete; none if all are.
fn open_lengths(bounds: &[Bound]) -> Option<String> {
    let open: Vec<String> =
        bounds.iter().filter(|bound| !bound.complete).map(|bound| bound.length.to_string()).collect();
    (!open.is_empty())
        .then(|| format!("not complete: not every sequence of length {} was run", open.join(", ")))
}

/// For each length, how many of its sequences were run. Those that go on from a merged one are covered by its twin.
fn bounds(wanted: usize, depths: &Depths) -> Vec<Bound> {
    let letters = alphabet().len() as u64;
    let of = |counters: &[Counter], length: usize| counters.get(length).map_or(0, Counter::get);
    let (mut open, mut complete) = (1, true);
    (1..=wanted)
        .map(|length| {
            let sequences = of(&depths.sequences, length);
            let due = open * letters;
            let merged = of(&depths.merged, length);
            open = sequences - merged;
            // Those that a shorter one was not gone on from are not even known.
            complete &= sequences == due;
            let mut words = String::new();
            let all = letters.pow(u32::try_from(length).unwrap_or(0));
            let state = if complete { "complete" } else { "NOT complete" };
            let _ = write!(
                words,
                "{state}: {sequences} of {due} run, {merged} of them merged; {all} sequences in all"
            );
            Bound { length, sequences, due, merged, all, complete, words }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_complete_only_after_the_shorter_ones() {
        let depths = Depths::default();
        assert_eq!(open_lengths(&bounds(2, &depths)).as_deref(), Some(NONE));
        let letters = alphabet().len() as u64;
        depths.sequences[1].add(letters);
        depths.merged[1].add(letters - 1);
        assert_eq!(open_lengths(&bounds(1, &depths)), None);
        assert!(open_lengths(&bounds(2, &depths)).is_some_and(|open| open.ends_with("length 2 was run")));
        depths.sequences[2].add(letters);
        assert_eq!(open_lengths(&bounds(2, &depths)), None);
    }

    const NONE: &str = "not complete: not every sequence of length 1, 2 was run";
}
