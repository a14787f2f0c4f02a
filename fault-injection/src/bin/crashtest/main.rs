//! Crash tests of Freehold: the main job of the project.
//!
//! Exit codes: 0 without violations, 1 with some, 2 usage.

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Run(arguments.run));
    let done = match command {
        Command::Run(run) => campaign::run(&run),
        Command::Exhaustive(bound) => exhaustive::run(&bound),
        Command::Replay(state) => replay::run(&state),
        Command::Matrix(matrix) => matrix::run(&matrix),
        Command::Planted(bugs) => planted::run(&bugs),
        Command::Kill(kills) => kill::run(&kills),
        Command::KillChild { path, seed } => fault_injection::kill::run_child(&path, seed).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("crashtest: {message}");
            ExitCode::from(2)
        }
    }
}
