//! The command line as it is typed, and which command does what.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, Parser, Subcommand};
use freehold::device::{Device, FileDeviceOptions};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Output, complain};

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 could not be done, 2 usage, 3 corruption found or replay refused, \
4 needs replay (info and check), 130 interrupted.";

/// A crash-safe, journaled space allocator for files and block devices.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new store.
    Format(crate::format::FormatArgs),
    /// Show identity, geometry, state, and space by role.
    Info(Target),
    /// Recount everything from raw bytes and report every inconsistency. Never writes.
    Check(Target),
    /// Put a store in order after a power loss, and say what was found, applied and dropped. Renews a superblock copy that
    /// is not readable.
    Replay(crate::replay::ReplayArgs),
    /// List the groups in the journal.
    Journal(Target),
    /// Draw used and free space.
    Map(crate::map::MapArgs),
    /// Show free space by length of run, fragmentation, and bytes lost to rounding.
    Stat(Target),
    /// List allocated extents.
    List(Target),
    /// Run a script of allocations, frees, reads and writes.
    Exec(crate::exec::ExecArgs),
    /// Measure durable transactions on a disk, beside the least that they could cost there.
    Bench(crate::bench::BenchArgs),
    /// Decide which free areas of several sources to take for a request, both given as JSON. Touches no device.
    Place(crate::place::PlaceArgs),
}

/// The store, and how to report on it.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The file or block device.
    pub(crate) device: PathBuf,
    /// Print JSON, with sizes in bytes; a figure that could not be read is null.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the arguments and runs the command.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    let (mut output, path) = match &cli.command {
        Command::Format(args) => (Output::new(args.json), args.device.clone()),
        Command::Replay(args) => (Output::new(args.target.json), args.target.device.clone()),
        Command::Map(args) => (Output::new(false), args.device.clone()),
        Command::Exec(args) => (Output::new(false), args.device.clone()),
        Command::Bench(args) => (Output::new(args.json), args.dir.clone()),
        Command::Place(args) => (Output::new(true), args.file.clone().unwrap_or_default()),
        Command::Info(target)
        | Command::Check(target)
        | Command::Journal(target)
        | Command::Stat(target)
        | Command::List(target) => (Output::new(target.json), target.device.clone()),
    };
    let result = dispatch(&cli.command, &mut output).and_then(|exit| output.flush().map(|()| exit));
    result.unwrap_or_else(|failure| {
        // Others print their own document, or one a line. What was to be said has no place left to go when this fails.
        let is_report = matches!(cli.command, Command::Info(_) | Command::Stat(_));
        if failure.exit == Exit::Corrupt && output.json && is_report {
            let _ = output.json(&Refusal::new(&path, &failure));
        }
        let _ = output.flush();
        complain(&failure.message);
        failure.exit
    })
}

fn dispatch(command: &Command, output: &mut Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "io", format!("cannot start: {error}")))?;
    let _inside = runtime.enter();
    let interrupt = Interrupt::default();
    interrupt.listen();
    match command {
        Command::Format(args) => crate::format::run(args, &runtime, &interrupt, output),
        Command::Info(target) => crate::info::run(target, output),
        Command::Check(target) => crate::check::run(target, output),
        Command::Replay(args) => crate::replay::run(args, &runtime, output),
        Command::Journal(target) => crate::journal::run(target, output),
        Command::Map(args) => crate::map::run(args, output),
        Command::Stat(target) => crate::stat::run(target, output),
        Command::List(target) => crate::list::run(target, &runtime, output),
        Command::Exec(args) => crate::exec::run(args, &runtime, output),
        Command::Bench(args) => crate::bench::run(args, &interrupt, output),
        Command::Place(args) => crate::place::run(args, output),
    }
}

/// Help and version are answers; everything else is one line on standard error.
fn not_parsed(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is no error.
        let _ = error.print();
        return Exit::Clean;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        || error.kind() == ErrorKind::MissingSubcommand
    {
        complain("no command is given; see 'freehold --help'");
        return Exit::Usage;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = first.split_whitespace().collect();
    let suggestion =
        error.get(ContextKind::SuggestedArg).or_else(|| error.get(ContextKind::SuggestedSubcommand));
    let suggestion =
        suggestion.map(|suggested| format!("; perhaps '{suggested}' is meant")).unwrap_or_default();
    complain(&format!("{}{suggestion}; see 'freehold --help'", words.join(" ")));
    Exit::Usage
}

/// The document of a report that could not be made because of damage.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    ok: bool,
    device: String,
    error: &'static str,
    message: &'a str,
    errors: Vec<&'a freehold::inspect::Finding>,
}

impl<'a> Refusal<'a> {
    fn new(path: &Path, failure: &'a Failure) -> Self {
        Self {
            ok: false,
            device: path.display().to_string(),
            error: failure.kind,
            message: &failure.message,
            errors: failure.finding.iter().collect(),
        }
    }
}

/// Opens a device for looking at: shared with other readers, refused while there is a writer.
pub(crate) fn open_to_read(path: &Path) -> Result<Arc<dyn Device>, Failure> {
    let device = FileDeviceOptions::new().read_only(true).open(path);
    Ok(Arc::new(device.map_err(|error| Failure::store(path, &error))?))
}

/// Opens a device for a writer: alone.
pub(crate) fn open_to_write(path: &Path) -> Result<Arc<dyn Device>, Failure> {
    let device = FileDeviceOptions::new().open(path);
    Ok(Arc::new(device.map_err(|error| Failure::store(path, &error))?))
}
