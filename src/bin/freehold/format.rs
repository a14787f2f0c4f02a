//! `freehold format`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use freehold::{Error, FormatOptions, Medium};
use tokio::runtime::Runtime;

use crate::cli::open_to_read;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::{human, size};

/// Arguments of `format`.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// The file or block device.
    pub(crate) device: PathBuf,
    /// Create the file with this length: 1GiB, say. An existing one must have it already.
    #[arg(long, value_parser = size::parse)]
    size: Option<u64>,
    /// The medium, which suggests the page size: auto, nvm, nvme, sata-ssd or hdd.
    #[arg(long, default_value = "auto", value_parser = medium)]
    medium: Wanted,
    /// Unit of allocation, a power of two.
    #[arg(long, value_parser = size::parse)]
    page_size: Option<u64>,
    /// Physical block of the disk, if it is larger than the system says: groups of the journal and metadata blocks do not
    /// share one.
    #[arg(long, value_parser = size::parse)]
    block_size: Option<u64>,
    /// Size of a segment, a power of two; the largest extent.
    #[arg(long, value_parser = size::parse)]
    segment_size: Option<u64>,
    /// Size of the journal.
    #[arg(long, value_parser = size::parse)]
    journal_size: Option<u64>,
    /// Format what looks like someone's data.
    #[arg(long)]
    force: bool,
    /// Print JSON, with sizes in bytes.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The medium as asked for; `None` is what the system says.
#[derive(Clone, Copy, Debug)]
struct Wanted(Option<Medium>);

fn medium(text: &str) -> Result<Wanted, String> {
    if text == "auto" { Ok(Wanted(None)) } else { text.parse().map(|medium| Wanted(Some(medium))) }
}

pub(crate) fn run(
    args: &FormatArgs,
    runtime: &Runtime,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let path = &args.device;
    let create = target(path, args.size)?;
    let options = options(args);
    {
        let _progress = Progress::spinner("formatting");
        let made = match create {
            Some(len) => {
                interrupt.half_made(Some(path));
                let made = runtime.block_on(options.create(path, len));
                interrupt.half_made(None);
                made
            }
            None => runtime.block_on(options.open(path)),
        };
        made.map_err(|error| refused(args, &error))?;
    }
    let report = crate::info::report(path)?;
    if output.json {
        output.json(&report)?;
    } else {
        crate::info::print(&report, output)?;
    }
    Ok(Exit::Clean)
}

fn options(args: &FormatArgs) -> FormatOptions {
    let mut options = FormatOptions::new().force(args.force);
    if let Wanted(Some(medium)) = args.medium {
        options = options.medium(medium);
    }
    if let Some(bytes) = args.page_size {
        options = options.page_bytes(bytes);
    }
    if let Some(bytes) = args.block_size {
        options = options.physical_block_bytes(bytes);
    }
    if let Some(bytes) = args.segment_size {
        options = options.segment_bytes(bytes);
    }
    if let Some(bytes) = args.journal_size {
        options = options.journal_bytes(bytes);
    }
    options
}

/// The length of a file that is to be created; `None` for one that is there. Nothing is ever made longer or shorter.
fn target(path: &Path, size: Option<u64>) -> Result<Option<u64>, Failure> {
    let failed = |message: String| Failure::new(Exit::Failed, "io", format!("{}: {message}", path.display()));
    match (std::fs::metadata(path), size) {
        (Ok(found), Some(size)) if !found.is_dir() => {
            let len = if found.is_file() { found.len() } else { open_to_read(path)?.geometry().len_bytes };
            if len == size {
                return Ok(None);
            }
            Err(failed(format!(
                "it exists and has {len} bytes, not {size}; leave out --size to format it as it is, or choose another path"
            )))
        }
        (Ok(_), _) => Ok(None),
        (Err(error), Some(size)) if error.kind() == io::ErrorKind::NotFound => Ok(Some(size)),
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
            Err(failed("there is no such file or device; give --size to create a file".to_owned()))
        }
        (Err(error), _) => Err(failed(format!("cannot look at it: {error}"))),
    }
}

/// Sizes that cannot work are the fault of the command line when they were given there.
fn refused(args: &FormatArgs, error: &Error) -> Failure {
    let sizes = [args.size, args.page_size, args.segment_size, args.journal_size];
    match error {
        Error::InvalidGeometry(reason) if sizes.iter().any(Option::is_some) => {
            let given = [
                ("--size", args.size),
                ("--page-size", args.page_size),
                ("--segment-size", args.segment_size),
                ("--journal-size", args.journal_size),
            ];
            let given: Vec<String> = given
                .iter()
                .filter_map(|(name, bytes)| bytes.map(|bytes| format!("{name} {}", human::size(bytes))))
                .collect();
            Failure::usage(format!(
                "{}: cannot lay out the store with {}: {reason}; choose other sizes",
                args.device.display(),
                given.join(", ")
            ))
        }
        _ => Failure::store(&args.device, error),
    }
}
