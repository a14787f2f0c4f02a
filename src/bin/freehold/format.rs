//! `freehold format`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use freehold::format::MAX_BLOCK_BYTES;
use freehold::{Error, FormatOptions, Medium};
use tokio::runtime::Runtime;

use crate::cli::open_to_read;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::{human, size};

/// How much of the front of a device is searched for data: behind the largest journal that is chosen by itself lies metadata.
const SEARCHED_BYTES: u64 = 80 << 20;
const CHUNK_BYTES: usize = 1 << 20;

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
    /// share one. A power of two from the sector to 64 KiB, at most a page.
    #[arg(long, value_parser = block_size)]
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

fn block_size(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text)?;
    if bytes.is_power_of_two() && bytes <= u64::from(MAX_BLOCK_BYTES) {
        Ok(bytes)
    } else {
        Err("expected a power of two of at most 64KiB, as in 4096 or 16KiB".to_owned())
    }
}

pub(crate) fn run(
    args: &FormatArgs,
    runtime: &Runtime,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let path = &args.device;
    if let (Some(block), Some(page)) = (args.block_size, args.page_size)
        && block > page
    {
        let (block, page) = (human::size(block), human::size(page));
        return Err(Failure::usage(format!(
            "{}: a block of {block} does not fit into a page of {page}; make --page-size as large as --block-size",
            path.display()
        )));
    }
    let create = target(path, args.size)?;
    if create.is_none() && !args.force {
        refuse_remains(path)?;
    }
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

/// Refuses what formatting would not see: it looks at both ends of a device, and a store whose front was overwritten has its
/// metadata behind that. Part of a device is read, so zeros everywhere else prove nothing.
fn refuse_remains(path: &Path) -> Result<(), Failure> {
    let device = open_to_read(path)?;
    let len = device.geometry().len_bytes;
    let mut chunk = vec![0; CHUNK_BYTES];
    for start in (0..len.min(SEARCHED_BYTES)).step_by(CHUNK_BYTES) {
        let size = usize::try_from(len - start).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let part = chunk.get_mut(..size).unwrap_or_default();
        let read = device.read_at(start, part);
        read.map_err(|error| {
            Failure::new(Exit::Failed, "io", format!("{}: cannot look at it: {error}", path.display()))
        })?;
        if let Some(at) = part.iter().position(|&byte| byte != 0) {
            let offset = start + at as u64;
            if offset < CHUNK_BYTES as u64 {
                // Formatting sees this itself, and can tell whether it is a store.
                return Ok(());
            }
            let what = format!("data at offset {offset} was");
            return Err(Failure::store(path, &Error::DataPresent { what }));
        }
    }
    Ok(())
}

/// Sizes that cannot work are the fault of the command line when they were given there.
fn refused(args: &FormatArgs, error: &Error) -> Failure {
    let sizes = [args.size, args.page_size, args.block_size, args.segment_size, args.journal_size];
    match error {
        Error::InvalidGeometry(reason) if sizes.iter().any(Option::is_some) => {
            let given = [
                ("--size", args.size),
                ("--page-size", args.page_size),
                ("--block-size", args.block_size),
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
