//! `crashtest kill`.

use std::time::Duration;

use fault_injection::campaign::chain::{OPERATIONS, Settings};
use fault_injection::harness::Tally;
use fault_injection::kill::{KillOptions, run_kills};

use crate::Ending;
use crate::arguments::KillArguments;
use crate::progress::Progress;
use crate::summary::Summary;

/// Kills processes.
///
/// # Errors
/// What keeps it from running.
pub(crate) fn run(arguments: &KillArguments) -> Result<Ending, String> {
    let length = Duration::from_secs(arguments.seconds);
    let tally = Tally::new(length);
    let program = std::env::current_exe().map_err(|error| format!("cannot find its own program: {error}"))?;
    let options = KillOptions { program, seed: arguments.seed, kills: arguments.kills };
    let mut progress = Progress::new(length);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| run_kills(&options, &tally));
        progress.follow(&tally, || killer.is_finished());
    });
    let settings = Settings { seed: arguments.seed, operations: OPERATIONS };
    let summary = Summary::new("kill", &settings, 1, &tally, &[]);
    summary.print(arguments.json);
    let none = || (tally.kills.get() == 0).then(|| "no process was killed: nothing is shown".to_owned());
    Ok(summary.ending(none))
}
