//! `freehold replay`.

use std::sync::Arc;

use clap::Args;
use freehold::device::Device;
use freehold::inspect::{Finding, FindingKind, info};
use freehold::{OpenOptions, ReplayReport};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cli::{Target, open_to_read, open_to_write};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::progress::Progress;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    report: ReplayReport,
    dry_run: bool,
    /// Where a copy of the superblock was not readable and was written again.
    renewed_superblock: Option<u64>,
    /// Why the journal is refused; empty otherwise.
    errors: Vec<Finding>,
}

pub(crate) fn run(args: &ReplayArgs, runtime: &Runtime, output: &mut Output) -> Result<Exit, Failure> {
    let path = &args.target.device;
    let device = if args.dry_run { open_to_read(path)? } else { open_to_write(path)? };
    let replayed = {
        let _progress = Progress::spinner("replaying the journal");
        runtime.block_on(replay(device, args.dry_run))
    };
    let (report, renewed_superblock) = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            let failure = Failure::store(path, &error);
            if output.json && failure.exit == Exit::Corrupt {
                let errors = failure.finding.iter().cloned().collect();
                let report = ReplayReport::default();
                let document = Document { report, dry_run: args.dry_run, renewed_superblock: None, errors };
                output.json(&document)?;
            }
            return Err(failure);
        }
    };
    if output.json {
        let document = Document { report, dry_run: args.dry_run, renewed_superblock, errors: Vec::new() };
        output.json(&document)?;
    } else {
        print(&report, renewed_superblock, args.dry_run, output)?;
    }
    Ok(Exit::Clean)
}

/// What was found and done, and where a copy of the superblock had to be written again.
async fn replay(device: Arc<dyn Device>, dry_run: bool) -> freehold::Result<(ReplayReport, Option<u64>)> {
    // What is clean and whole is left as it is, to the byte.
    let (_, found) = OpenOptions::new().read_only(true).open_device(Arc::clone(&device)).await?;
    let bad_copy = bad_superblock(&device)?;
    if dry_run || (found.was_clean && bad_copy.is_none()) {
        return Ok((found, bad_copy));
    }
    let (store, report) = OpenOptions::new().open_device(device).await?;
    store.close().await?;
    Ok((report, bad_copy))
}

/// Where a copy of the superblock is not readable, of a store that has another.
fn bad_superblock(device: &Arc<dyn Device>) -> freehold::Result<Option<u64>> {
    let report = info(Arc::clone(device))?;
    let copy = report.warnings.iter().find(|warning| warning.kind == FindingKind::Superblock);
    Ok(copy.map(|warning| warning.offset))
}

fn print(
    report: &ReplayReport,
    renewed_superblock: Option<u64>,
    dry_run: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(offset) = renewed_superblock {
        let verb = if dry_run { "would renew" } else { "renewed" };
        output.line(&format!("{verb} the superblock copy at offset {offset}, which is not readable"))?;
    }
    if report.was_clean {
        let rest = if renewed_superblock.is_some() { "nothing else to do" } else { "nothing to do" };
        return output.line(&format!("{rest}: the store was closed in order"));
    }
    let verb = if dry_run { "would apply" } else { "applied" };
    let lsns = match (report.first_lsn, report.last_lsn) {
        (Some(first), Some(last)) => format!(", LSN {first} to {last}"),
        _ => String::new(),
    };
    output.line(&format!(
        "{verb} {} in {}, {}, {}{lsns}",
        human::count(report.transactions, "transaction"),
        human::count(report.records, "group"),
        human::count(report.writes, "write"),
        human::size(report.bytes),
    ))?;
    if report.torn_tail {
        let verb = if dry_run { "would drop" } else { "dropped" };
        let offset = report.torn_offset.unwrap_or(0);
        output.line(&format!(
            "{verb} a torn tail at offset {offset}: pieces of groups that nothing says were durable"
        ))?;
    }
    Ok(())
}
