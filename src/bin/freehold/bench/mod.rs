//! `freehold bench`: durable transactions on the disk under a directory, beside the least that they could cost there.

mod clients;
mod floor;
mod report;
mod scratch;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::clients::Clients;
use self::floor::Floor;
use self::report::Report;
use self::scratch::Scratch;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

const METHOD: &str = "\
Each client waits for its own transactions, one after the other. One frees a random extent and allocates another
one: 70 % have 4 to 16 KiB, 25 % 32 to 128 KiB, the others 256 KiB to 1 MiB. At least 2000 extents are live.
The floor is one append of 64 bytes for each client, in one write, and one fdatasync, to a file that was written in
full before. The store and the floor take turns of a quarter of a second and a fifth of that.
Writes, flushes and bytes are those of the whole run, checkpoints included.
Where other programs keep the processors busy, both wait for those, and the ratio says nothing.
The files take about 130 MiB, more with thousands of clients, in a directory that is removed at the end.";

/// How long the store works before it is the floor's turn.
const TURN: Duration = Duration::from_millis(250);
/// Part of the store's time that the floor has.
const FLOOR_SHARE: u32 = 5;

const MIN_TIME: Duration = Duration::from_millis(1);
const MAX_TIME: Duration = Duration::from_secs(86_400);

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = METHOD)]
pub(crate) struct BenchArgs {
    /// A directory on the disk to measure.
    pub(crate) dir: PathBuf,
    /// Tasks that share the store, up to 65536.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    clients: u32,
    /// How long the store works, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Print JSON, with sizes in bytes.
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| (MIN_TIME..=MAX_TIME).contains(time))
        .ok_or_else(|| "expected a number of seconds from 0.001 to 86400, as in 5 or 0.5".to_owned())
}

pub(crate) fn run(args: &BenchArgs, interrupt: &Interrupt, output: &mut Output) -> Result<Exit, Failure> {
    let scratch = Scratch::make(&args.dir, interrupt)?;
    let report = measure(args, scratch.path())?;
    let removed = scratch.remove();
    if output.json {
        output.json(&report)?;
    } else {
        report.print(output)?;
    }
    removed.map(|()| Exit::Clean)
}

fn measure(args: &BenchArgs, dir: &Path) -> Result<Report, Failure> {
    let (mut clients, mut floor) = {
        let _progress = Progress::spinner("filling a store");
        (Clients::new(dir, args.clients)?, Floor::new(dir, args.clients)?)
    };
    let progress = Progress::counted("measuring");
    let before = clients.stats();
    for done in 0.. {
        let left = args.seconds.saturating_sub(clients.time);
        let Some((turns, time)) = turns(left) else { break };
        progress.at(done, done + turns);
        let took = clients.turn(time)?;
        floor.turn(took / FLOOR_SHARE)?;
    }
    Ok(Report::new(&clients, &floor, &before))
}

/// How many turns are left in this time, and how long the next one is. They are of equal length, so that none is too
/// short to count, but where many clients wait for the disk one takes longer than it was given.
fn turns(left: Duration) -> Option<(u64, Duration)> {
    let turns = left.as_nanos().div_ceil(TURN.as_nanos());
    let each = left.checked_div(u32::try_from(turns).ok()?)?;
    Some((u64::try_from(turns).ok()?, each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_of_equal_length_and_take_all_of_the_time() {
        let millis = Duration::from_millis;
        assert_eq!(turns(millis(0)), None);
        assert_eq!(turns(millis(1)), Some((1, millis(1))));
        assert_eq!(turns(millis(250)), Some((1, millis(250))));
        assert_eq!(turns(millis(300)), Some((2, millis(150))));
        assert_eq!(turns(millis(5000)), Some((20, millis(250))));
        assert_eq!(turns(MAX_TIME), Some((345_600, millis(250))));
    }

    #[test]
    fn seconds_may_be_fractions_and_have_bounds() {
        assert_eq!(seconds("0.001"), Ok(MIN_TIME));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("86400"), Ok(MAX_TIME));
        for bad in ["", "0", "0.0009", "-1", "nan", "inf", "86401", "1e300", "1s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
