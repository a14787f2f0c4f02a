//! Crash tests of Freehold: the main job of the project.
//!
//! Exit codes: 0 without violations, 1 with some, 2 usage, 3 without violations but not all that was asked for.

mod arguments;
mod campaign;
mod exhaustive;
mod kill;
mod matrix;
mod planted;
mod progress;
mod replay;
mod report;
mod summary;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

/// How a command ends that could do its work.
enum Ending {
    /// Everything was done, and no rule is broken.
    Good,
    /// A rule is broken.
    Broken,
    /// No rule is broken, but too little was done; why.
    Incomplete(String),
}

impl From<bool> for Ending {
    fn from(is_good: bool) -> Self {
        if is_good { Self::Good } else { Self::Broken }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Run(arguments.run));
    let done = match command {
        Command::Run(run) => campaign::run(&run),
        Command::Exhaustive(bound) => exhaustive::run(&bound),
        Command::Replay(state) => replay::run(&state).map(Ending::from),
        Command::Matrix(matrix) => matrix::run(&matrix).map(Ending::from),
        Command::Planted(bugs) => planted::run(&bugs).map(Ending::from),
        Command::Kill(kills) => kill::run(&kills),
        Command::KillChild { path, seed } => {
            fault_injection::kill::run_child(&path, seed).map(|()| Ending::Good)
        }
    };
    match done {
        Ok(Ending::Good) => ExitCode::SUCCESS,
        Ok(Ending::Broken) => ExitCode::FAILURE,
        Ok(Ending::Incomplete(why)) => {
            eprintln!("crashtest: {why}");
            ExitCode::from(3)
        }
        Err(message) => {
            eprintln!("crashtest: {message}");
            ExitCode::from(2)
        }
    }
}
