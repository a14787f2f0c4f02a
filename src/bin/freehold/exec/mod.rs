//! `freehold exec`: a small script language, for tests, reproductions and other languages.

mod alloc;
mod answer;
mod command;
mod names;
mod session;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};

use clap::Args;
use freehold::OpenOptions;
use freehold::inspect::info;
use tokio::runtime::Runtime;

use self::answer::Answer;
use self::command::{Command, Parsed};
use self::session::Session;
use crate::cli::open_to_write;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Output;

const SCRIPT: &str = "\
Commands, one a line; '#' starts a comment. Each is answered with one line of JSON.
  begin | commit | abort | checkpoint | stat | list | areas | crash | exit
  alloc NAME BYTES [OWNER] [OPTION...]
      aligned          a power of two of pages, aligned to its length
      max_extents=N    in up to N extents if no free run is long enough
      near=NAME        best right behind another one
      align=BYTES      starting at a multiple of BYTES
      at=OFFSET        at this offset of the device and nowhere else
      group=N          best where others of this group went
  resize NAME BYTES  where it is
  free NAME | free @OFFSET
  write NAME TEXT    directly, to the start; TEXT is the rest of the line
  put NAME TEXT      through the journal
  read NAME LEN
A name that was given several extents stands for all of them, as one sequence of bytes.
Outside begin and commit each command is its own transaction, durable when answered.
The exit code is 1 when any of them failed, or when its answer cannot be printed: when standard output is closed, as by
'head', the rest of the script is not run, and what was committed stays.";

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(after_help = SCRIPT)]
pub(crate) struct ExecArgs {
    /// The file or block device.
    pub(crate) device: PathBuf,
    /// The script; standard input when it is '-' or missing.
    #[arg(conflicts_with = "commands")]
    file: Option<PathBuf>,
    /// Commands to run instead of a script; may be given several times.
    #[arg(short = 'c', long = "command", value_name = "COMMAND", num_args = 1.., allow_hyphen_values = false)]
    commands: Vec<String>,
}

pub(crate) fn run(args: &ExecArgs, runtime: &Runtime, output: &mut Output) -> Result<Exit, Failure> {
    let mut script = script(args)?;
    let path = &args.device;
    let failed = |error: freehold::Error| Failure::store(path, &error);
    let device = open_to_write(path)?;
    // Looked at before it is opened: from then on the bytes on the device change.
    let base = info(std::sync::Arc::clone(&device)).map_err(failed)?;
    let (store, _) = runtime.block_on(OpenOptions::new().open_device(device)).map_err(failed)?;
    let mut session = Session::new(store, base);

    let ran = run_script(&mut *script, &mut session, runtime, output);
    // In order, whatever ended the script.
    let closed = runtime.block_on(session.close()).map_err(failed);
    let any_failed = ran?;
    closed?;
    Ok(if any_failed { Exit::Failed } else { Exit::Clean })
}

/// Runs commands until there are no more. Returns whether any failed.
fn run_script(
    script: &mut dyn BufRead,
    session: &mut Session,
    runtime: &Runtime,
    output: &mut Output,
) -> Result<bool, Failure> {
    let mut any_failed = false;
    let mut commands = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = script.read_until(b'\n', &mut line);
        let read = read
            .map_err(|error| Failure::new(Exit::Failed, "io", format!("cannot read the script: {error}")))?;
        if read == 0 {
            return Ok(any_failed);
        }
        let mut is_last = false;
        let answer = match Command::parse(&line) {
            Parsed::Nothing => continue,
            Parsed::Bad { op, message } => Answer::failed(&op, "usage", &message),
            Parsed::Command(Command::Exit) => {
                is_last = true;
                Answer::done("exit")
            }
            Parsed::Command(Command::Crash) => std::process::abort(),
            Parsed::Command(command) => runtime.block_on(session.run(&command)),
        };
        any_failed |= !answer.is_ok();
        commands += 1;
        self::answer(output, &answer)?;
        if output.is_closed() {
            let done = human::count(commands, "command");
            let message = format!(
                "standard output was closed after {done}; what was committed stays, the rest of the script was not run"
            );
            return Err(Failure::new(Exit::Failed, "io", message));
        }
        if is_last {
            return Ok(any_failed);
        }
    }
}

/// Whoever reads the answers may wait for each before sending the next command.
fn answer(output: &mut Output, answer: &Answer) -> Result<(), Failure> {
    output.json(answer)?;
    output.flush()
}

fn script(args: &ExecArgs) -> Result<Box<dyn BufRead>, Failure> {
    if !args.commands.is_empty() {
        return Ok(Box::new(Cursor::new(args.commands.join("\n"))));
    }
    match &args.file {
        Some(path) if path != Path::new("-") => {
            let failed = |error: io::Error| {
                let message = format!("cannot read the script {}: {error}", path.display());
                Failure::new(Exit::Failed, "io", message)
            };
            let file = File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            Ok(Box::new(BufReader::new(file)))
        }
        _ => Ok(Box::new(io::stdin().lock())),
    }
}
