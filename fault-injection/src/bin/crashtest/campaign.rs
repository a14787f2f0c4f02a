//! `crashtest run`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::allocator::{Shape, Subject};
use fault_injection::campaign::chain::{Settings, run_chains};
use fault_injection::harness::{Policy, Tally};
use fault_injection::kill::{KillOptions, run_kills};
use fault_injection::rng::Rng;

use crate::arguments::RunArguments;
use crate::progress::Progress;
use crate::summary::Summary;

/// The store of a chain.
pub(crate) fn subject(rng: &mut Rng) -> Subject {
    Subject { shape: Shape::any(rng) }
}

/// Runs the campaign. Returns whether no rule was broken.
///
/// # Errors
/// What keeps it from running.
pub(crate) fn run(arguments: &RunArguments) -> Result<bool, String> {
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
    let summary = Summary::new("run", &settings, arguments.jobs, &tally);
    summary.print(arguments.json);
    Ok(summary.is_good())
}
