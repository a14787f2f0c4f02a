//! Arguments of the program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Failure;
use crate::contender::Kind;
use crate::driver::Load;
use crate::reopen::Life;
use crate::rounds::Plan;

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where files are made.
    pub(crate) dir: PathBuf,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
    pub(crate) tasks: Vec<usize>,
    /// Stores that are opened after a kill have so many extents.
    pub(crate) reopened: Vec<usize>,
    /// How often.
    pub(crate) openings: usize,
    /// How long a child works before it is killed.
    pub(crate) life: Duration,
    /// Work without a pause lasts so long.
    pub(crate) steady: Duration,
    /// Extents of a large store.
    pub(crate) spread: usize,
    /// How often a full journal is replayed.
    pub(crate) replays: usize,
    /// It was asked for a short look.
    pub(crate) is_quick: bool,
    /// The page and the pictures are written.
    pub(crate) write: bool,
}

/// What the program was called for.
pub(crate) enum Call {
    Measure(Box<Options>),
    /// It is a child of another one.
    Live(Life),
}

pub(crate) const HELP: &str = "\
Freehold beside its peers.
  --write         write docs/BENCHMARKS.md and docs/benchmarks
  --quick         a short look: few rounds, short turns, smaller stores
  --dir DIR       where files are made; beside the program by default
  --only NAME,... who takes part
  --rounds N      rounds
  --turn-ms N     length of a turn in milliseconds";

/// Live at any instant, whatever the tasks have in hand.
const LIVE: usize = 2000;
/// Tasks whose puts are measured; and those on a file in memory.
const MANY: usize = 256;

/// The program lies where it was built, on a disk. The system's temporary directory may be in memory.
fn beside_program() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_else(std::env::temp_dir)
}

impl Options {
    fn new() -> Self {
        Self {
            dir: beside_program(),
            kinds: Kind::ALL.to_vec(),
            rounds: 12,
            turn: Duration::from_millis(500),
            tasks: vec![1, 16, MANY, 4096],
            reopened: vec![LIVE, 100_000, 1_000_000],
            openings: 5,
            life: Duration::from_millis(700),
            steady: Duration::from_secs(12),
            spread: 1_000_000,
            replays: 6,
            is_quick: false,
            write: false,
        }
    }

    /// Extents of a store, and as many more as the most tasks have in hand.
    pub(crate) fn live(&self) -> usize {
        LIVE + self.tasks.iter().max().copied().unwrap_or(1)
    }

    pub(crate) fn put_tasks(&self) -> Vec<usize> {
        self.tasks.iter().copied().filter(|&tasks| tasks <= MANY).collect()
    }

    pub(crate) fn on_disk(&self) -> Plan {
        let mut loads: Vec<Load> = self.tasks.iter().map(|&tasks| Load::Tasks(tasks)).collect();
        loads.extend([Load::Rush, Load::Reserve]);
        let (kinds, live) = (self.kinds.clone(), self.live());
        Plan { kinds, loads, live, rounds: self.rounds, turn: self.turn }
    }

    /// A page cache is all that there is, so that nobody goes past it.
    pub(crate) fn in_memory(&self) -> Plan {
        let kinds = self.kinds.iter().copied().filter(|kind| !kind.is_direct()).collect();
        Plan {
            kinds,
            loads: vec![Load::Tasks(MANY)],
            live: self.live(),
            rounds: self.rounds,
            turn: self.turn,
        }
    }

    fn quicken(&mut self) {
        self.rounds = 8;
        self.turn = Duration::from_millis(200);
        self.reopened = vec![LIVE, 20_000];
        self.openings = 3;
        self.life = Duration::from_millis(300);
        self.steady = Duration::from_secs(3);
        self.spread = 100_000;
        self.replays = 2;
        self.is_quick = true;
    }
}

fn kind(name: &str) -> Result<Kind, Failure> {
    let names = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    Kind::from_name(name)
        .ok_or_else(|| format!("{name} is not built in; there are {}; see the features", names()).into())
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Call, Failure> {
    let arguments: Vec<String> = arguments.collect();
    let mut options = Options::new();
    if arguments.iter().any(|argument| argument == "--quick") {
        options.quicken();
    }
    let (mut child, mut live) = (None, 0);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{HELP}"));
        match argument.as_str() {
            "--quick" => {}
            "--write" => options.write = true,
            "--dir" => options.dir = value()?.into(),
            "--only" => options.kinds = value()?.split(',').map(kind).collect::<Result<_, _>>()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--turn-ms" => options.turn = Duration::from_millis(value()?.parse()?),
            // These two make a child.
            "--child" => child = Some(kind(value()?)?),
            "--live" => live = value()?.parse()?,
            other => return Err(format!("unknown argument {other}\n{HELP}").into()),
        }
    }
    if options.rounds == 0 || options.turn.is_zero() {
        return Err("there must be a round, and time for a turn".into());
    }
    Ok(match child {
        Some(kind) => Call::Live(Life { kind, dir: options.dir, live }),
        None => Call::Measure(Box::new(options)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn parsed(line: &str) -> Result<Call, Failure> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_taken_in_any_order() {
        let Call::Measure(options) = parsed("--rounds 3 --quick --only floor,freehold").unwrap() else {
            unreachable!("no child was asked for");
        };
        assert_eq!((options.rounds, options.turn.as_millis()), (3, 200));
        assert_eq!(options.kinds, [Kind::Append, Kind::Freehold]);
        assert!(
            matches!(parsed("--child freehold --live 7 --dir x"), Ok(Call::Live(life)) if life.live == 7)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["--only nobody", "--rounds", "--rounds x", "--rounds 0", "--turn-ms 0", "--faster"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
