//! `freehold check`.

use freehold::inspect::{CheckReport, Finding, FindingKind, StoreStatus, check};

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure, NO_SUPERBLOCK};
use crate::human;
use crate::output::{Output, complain};
use crate::progress::Progress;

/// Keys of what only the journal says.
const JOURNAL_FIGURES: [&str; 3] = ["state", "journal_transactions", "torn_tail"];
/// Keys of what is summed up over all metadata.
const SPACE_FIGURES: [&str; 5] =
    ["allocated_bytes", "free_bytes", "overhead_bytes", "extents", "leaked_bytes"];

pub(crate) fn run(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let device = open_to_read(&target.device)?;
    let report = {
        let progress = Progress::counted("checking segments");
        check(device, &mut |at| progress.at(at.done_segments, at.total_segments))
            .map_err(|error| Failure::store(&target.device, &error))?
    };
    if output.json {
        let unknown =
            [(report.journal_unread, JOURNAL_FIGURES.as_slice()), (report.space_unread, &SPACE_FIGURES)];
        output.json_without(&report, &unknown)?;
    } else {
        print(&report, output)?;
    }
    output.flush()?;
    if let Some(first) = report.errors.first() {
        let errors = human::count(report.errors.len() as u64 + report.errors_omitted, "error");
        let remedy = match first.kind {
            FindingKind::Superblock => NO_SUPERBLOCK,
            _ => "restore the store from a copy",
        };
        complain(&format!(
            "{}: {errors} found, the first is {} at offset {}: {}; {remedy}",
            target.device.display(),
            first.kind,
            first.offset,
            first.message
        ));
        return Ok(Exit::Corrupt);
    }
    Ok(if report.state == StoreStatus::Clean { Exit::Clean } else { Exit::NeedsReplay })
}

fn print(report: &CheckReport, output: &mut Output) -> Result<(), Failure> {
    let finding = |word: &str, finding: &Finding| {
        format!("{word:<8} {:>16}  {:<15}  {}", finding.offset, finding.kind.name(), finding.message)
    };
    for error in &report.errors {
        output.line(&finding("error", error))?;
    }
    if report.errors_omitted > 0 {
        output.line(&format!("error    and {} more", report.errors_omitted))?;
    }
    for warning in &report.warnings {
        output.line(&finding("warning", warning))?;
    }
    let verdict = if report.ok { "ok" } else { "corrupt" };
    let state = match report.state {
        _ if report.journal_unread => "state unknown",
        StoreStatus::Clean => "clean",
        StoreStatus::NeedsReplay => "needs replay",
    };
    let segments = human::count(report.segments, "segment");
    if report.space_unread {
        return output.line(&format!("{verdict}, {state}: use of space unknown, {segments} looked at"));
    }
    output.line(&format!(
        "{verdict}, {state}: {}, {} allocated, {} free, {} leaked, {segments} looked at",
        human::count(report.extents, "extent"),
        human::size(report.allocated_bytes),
        human::size(report.free_bytes),
        human::size(report.leaked_bytes),
    ))
}
