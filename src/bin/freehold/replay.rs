//! `freehold replay`.

use std::sync::Arc;

use clap::Args;
use freehold::device::Device;
use freehold::inspect::Finding;
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
    let report = match replayed {
        Ok(report) => report,
        Err(error) => {
            let failure = Failure::store(path, &error);
            if output.json && failure.exit == Exit::Corrupt {
                let errors = failure.finding.iter().cloned().collect();
                output.json(&Document { report: ReplayReport::default(), dry_run: args.dry_run, errors })?;
            }
            return Err(failure);
        }
    };
    if output.json {
        output.json(&Document { report, dry_run: args.dry_run, errors: Vec::new() })?;
    } else {
        print(&report, args.dry_run, output)?;
    }
    Ok(Exit::Clean)
}

async fn replay(device: Arc<dyn Device>, dry_run: bool) -> freehold::Result<ReplayReport> {
    // What is clean is left as it is, to the byte.
    let (_, found) = OpenOptions::new().read_only(true).open_device(Arc::clone(&device)).await?;
    if dry_run || found.was_clean {
        return Ok(found);
    }
    let (store, report) = OpenOptions::new().open_device(device).await?;
    store.close().await?;
    Ok(report)
}

fn print(report: &ReplayReport, dry_run: bool, output: &mut Output) -> Result<(), Failure> {
    if report.was_clean {
        return output.line("nothing to do: the store was closed in order");
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
        output
            .line(&format!("{verb} a torn tail at offset {offset}: a group that was never acknowledged"))?;
    }
    Ok(())
}
