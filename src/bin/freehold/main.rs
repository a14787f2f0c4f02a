//! The command line: prints reports, draws progress, maps errors to exit codes.

mod bench;
mod check;
mod cli;
mod exec;
mod exit;
mod format;
mod human;
mod info;
mod interrupt;
mod journal;
mod list;
mod map;
mod output;
mod place;
mod progress;
mod replay;
mod size;
mod stat;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os()).into()
}
