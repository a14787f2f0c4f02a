//! `freehold map`.

use std::path::PathBuf;

use clap::Args;
use freehold::inspect::{MapCell, map};

use crate::cli::open_to_read;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Output, colour_on_stdout};

/// Arguments of `map`.
#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// The file or block device.
    pub(crate) device: PathBuf,
    /// Cells in a row.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    width: u16,
    /// Rows.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    height: u16,
}

const METADATA: char = '▒';
const FREE: char = '·';
const UNTOUCHED: char = ' ';
/// Eighths of a cell in use.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) fn run(args: &MapArgs, output: &mut Output) -> Result<Exit, Failure> {
    let device = open_to_read(&args.device)?;
    let cells = usize::from(args.width) * usize::from(args.height);
    let report = map(device, cells).map_err(|error| Failure::store(&args.device, &error))?;
    let colour = colour_on_stdout();
    for row in report.cells.chunks(args.width.into()) {
        let start = row.first().map_or(0, |cell| cell.offset);
        let picture: String = row.iter().map(|cell| draw(cell, colour)).collect();
        output.line(&format!("{:>12} │{picture}│", human::size(start)))?;
    }
    let sum = |part: fn(&MapCell) -> u64| human::size(report.cells.iter().map(part).sum());
    output.line(&format!(
        "{:>12}  a cell is {}: {METADATA} metadata {}, ▁..█ allocated {}, {FREE} free {}, blank never used {}",
        "",
        human::size(report.cell_bytes),
        sum(|cell| cell.metadata_bytes),
        sum(|cell| cell.allocated_bytes),
        sum(|cell| cell.free_bytes),
        sum(|cell| cell.untouched_bytes),
    ))?;
    Ok(Exit::Clean)
}

fn draw(cell: &MapCell, colour: bool) -> String {
    let usable = cell.allocated_bytes + cell.free_bytes + cell.untouched_bytes;
    let (symbol, code) = if cell.allocated_bytes > 0 {
        // Anything in use shows, and only what is wholly in use is full.
        let eighths = u128::from(cell.allocated_bytes) * 8 / u128::from(usable.max(1));
        let level = usize::try_from(eighths).unwrap_or(8).clamp(1, 8) - 1;
        (LEVELS.get(level).copied().unwrap_or('█'), "32")
    } else if usable == 0 || cell.metadata_bytes > usable {
        (METADATA, "33")
    } else if cell.free_bytes > 0 {
        (FREE, "2")
    } else {
        (UNTOUCHED, "0")
    };
    if colour { format!("\x1b[{code}m{symbol}\x1b[0m") } else { symbol.to_string() }
}
