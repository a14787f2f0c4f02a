//! `crashtest run`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::allocator::proof::{Proof, prove_oracles};
use fault_injection::allocator::{Shape, Subject};
use fault_injection::campaign::chain::{Settings, run_chains};
use fault_injection::campaign::matrix;
use fault_injection::harness::{Policy, Tally};
use fault_injection::kill::{KillOptions, run_kills};
use fault_injection::report::MatrixRow;
use fault_injection::rng::Rng;

use crate::Ending;
use crate::arguments::RunArguments;
use crate::progress::Progress;
use crate::replay;
use crate::report::{self, Material, matrix_rows};
use crate::summary::Summary;

/// The store of a chain.
pub(crate) fn subject(rng: &mut Rng) -> Subject {
    Subject { shape: Shape::any(rng) }
}

/// Has every oracle reject something.
///
/// # Errors
/// When one does not: then what it lets pass means nothing.
pub(crate) fn proven() -> Result<Vec<Proof>, String> {
    let proofs = prove_oracles();
    match proofs.iter().find(|proof| !proof.rejected) {
        None => Ok(proofs),
        Some(blind) => {
            Err(format!("the oracle '{}' accepts {}: it proves nothing", blind.oracle, blind.bait))
        }
    }
}

/// The story of the first violation, with as little in it as possible.
pub(crate) fn tell_first(settings: &Settings, tally: &Tally) {
    let Some(address) = tally.failures().into_iter().find_map(|failure| failure.address) else { return };
    println!("\nthe first of them, made short:");
    match replay::story(settings, &address, Some(Duration::from_secs(30))) {
        Ok((story, _)) => print!("{story}"),
        Err(why) => println!("it cannot be told: {why}"),
    }
}

/// The fault matrix at a few points of each fault, for the page; `crashtest matrix` has them all.
fn matrix_for_report(arguments: &RunArguments) -> Vec<MatrixRow> {
    const STRIDE: usize = 23;
    let settings =
        matrix::Settings { jobs: arguments.jobs, ..matrix::Settings::brief(arguments.seed, STRIDE) };
    matrix_rows(&matrix::run(&settings, &|_, _, _, _| {}))
}

/// Runs the campaign.
///
/// # Errors
/// What keeps it from running.
pub(crate) fn run(arguments: &RunArguments) -> Result<Ending, String> {
    let proofs = proven()?;
    let length = Duration::from_secs(arguments.seconds);
    let tally = Tally::new(length);
    let tally = if arguments.keep_going { tally.going_on() } else { tally };
    let settings = Settings { seed: arguments.seed, operations: arguments.ops };
    let next_chain = AtomicU64::new(0);
    let program = std::env::current_exe().map_err(|error| format!("cannot find its own program: {error}"))?;
    let kills = KillOptions { program, seed: arguments.seed, kills: arguments.kills };
    let mut progress = Progress::new(length);
    std::thread::scope(|scope| {
        let explore = || {
            run_chains(&settings, &Policy::CAMPAIGN, &tally, subject, || {
                next_chain.fetch_add(1, Ordering::Relaxed)
            });
        };
        let explorers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(explore)).collect();
        let killer = scope.spawn(|| run_kills(&kills, &tally));
        progress
            .follow(&tally, || explorers.iter().all(|thread| thread.is_finished()) && killer.is_finished());
    });
    let summary = Summary::new("run", &settings, arguments.jobs, &tally, &proofs);
    if let Some(path) = &arguments.report {
        let matrix = matrix_for_report(arguments);
        let material = Material {
            command: "run",
            settings: &settings,
            jobs: arguments.jobs,
            tally: &tally,
            samples: progress.into_samples(),
            proofs: &proofs,
            bounds: &[],
            matrix,
        };
        report::write(path, material)?;
    }
    summary.print(arguments.json);
    if !arguments.json {
        tell_first(&settings, &tally);
    }
    Ok(summary.ending(|| summary.is_empty().then(|| "no crash state was made: nothing is shown".to_owned())))
}
