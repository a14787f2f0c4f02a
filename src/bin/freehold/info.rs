//! `freehold info`.

use freehold::inspect::{InfoReport, StoreStatus, info};

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Output, complain};

pub(crate) fn run(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let device = open_to_read(&target.device)?;
    let report = info(device).map_err(|error| Failure::store(&target.device, &error))?;
    if output.json {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    output.flush()?;
    if let Some(first) = report.errors.first() {
        complain(&format!(
            "{}: corrupt {} at offset {}: {}; 'freehold check' lists all damage, restore the store from a copy",
            target.device.display(),
            first.kind,
            first.offset,
            first.message
        ));
        return Ok(Exit::Corrupt);
    }
    Ok(if report.state == StoreStatus::Clean { Exit::Clean } else { Exit::NeedsReplay })
}

/// Prints a report for people.
pub(crate) fn print(report: &InfoReport, output: &mut Output) -> Result<(), Failure> {
    let usable = report.allocated_bytes.saturating_add(report.free_bytes);
    let state = match report.state {
        StoreStatus::Clean => "clean".to_owned(),
        StoreStatus::NeedsReplay => {
            format!(
                "needs replay, {} in the journal",
                human::count(report.journal_transactions, "transaction")
            )
        }
    };
    let space = |bytes: u64| format!("{:>12}  {:>7}", human::size(bytes), human::percent(bytes, usable));
    let mut rows = vec![
        ("store", report.uuid.clone()),
        ("format", format!("version {}", report.format_version)),
        ("state", state),
        ("medium", report.medium.name().to_owned()),
        ("device", human::size(report.device_bytes)),
        ("sector", human::size(report.sector_bytes.into())),
        ("page", human::size(report.page_bytes.into())),
        ("segment", human::size(report.segment_bytes)),
        ("journal", human::size(report.journal_bytes)),
        ("metadata", human::size(report.metadata_bytes)),
        ("allocated", space(report.allocated_bytes)),
        ("free", space(report.free_bytes)),
        ("extents", report.extents.to_string()),
    ];
    for usage in &report.roles {
        let role = format!("{:?}", usage.role).to_lowercase();
        let segments = human::count(usage.segments.into(), "segment");
        let (used, free) = (human::size(usage.allocated_bytes), human::size(usage.free_bytes));
        rows.push(("role", format!("{role}: {segments}, {used} allocated, {free} free")));
    }
    rows.push(("", format!("never used: {}", human::count(report.untouched_segments.into(), "segment"))));
    for (name, value) in rows {
        output.line(&format!("{name:<10} {value}"))?;
    }
    for warning in &report.warnings {
        output.line(&format!(
            "warning    {} at offset {}: {}",
            warning.kind, warning.offset, warning.message
        ))?;
    }
    Ok(())
}
