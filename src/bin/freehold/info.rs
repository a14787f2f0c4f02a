//! `freehold info`.

use std::path::Path;

use freehold::device::detect_media;
use freehold::inspect::{InfoReport, StoreStatus, info};
use freehold::media::{MediaFacts, WriteCache};

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Output, complain};

/// Keys of what only the journal says.
const JOURNAL_FIGURES: [&str; 4] = ["state", "journal_transactions", "last_lsn", "torn_tail"];
/// Keys of what is summed up over all metadata.
const SPACE_FIGURES: [&str; 6] =
    ["metadata_bytes", "allocated_bytes", "free_bytes", "extents", "untouched_segments", "roles"];

pub(crate) fn run(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let report = report(&target.device)?;
    if output.json {
        let unknown =
            [(report.journal_unread, JOURNAL_FIGURES.as_slice()), (report.space_unread, &SPACE_FIGURES)];
        output.json_without(&report, &unknown)?;
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

/// What the store at a path is, and what the system says about the disks under it.
pub(crate) fn report(path: &Path) -> Result<InfoReport, Failure> {
    let mut report = info(open_to_read(path)?).map_err(|error| Failure::store(path, &error))?;
    report.detected = detect_media(path);
    Ok(report)
}

/// Prints a report for people.
pub(crate) fn print(report: &InfoReport, output: &mut Output) -> Result<(), Failure> {
    let usable = report.allocated_bytes.saturating_add(report.free_bytes);
    let state = match report.state {
        _ if report.journal_unread => "unknown, the journal is refused".to_owned(),
        StoreStatus::Clean => "clean".to_owned(),
        StoreStatus::NeedsReplay => {
            format!(
                "needs replay, {} in the journal",
                human::count(report.journal_transactions, "transaction")
            )
        }
    };
    let counted = !report.space_unread;
    let space = |bytes: u64| {
        human::known(counted, || format!("{:>12}  {:>7}", human::size(bytes), human::percent(bytes, usable)))
    };
    let mut rows = vec![
        ("store", report.uuid.clone()),
        ("format", format!("version {}", report.format_version)),
        ("state", state),
        ("medium", report.medium.name().to_owned()),
    ];
    for (number, line) in report.detected.iter().flat_map(detected).enumerate() {
        rows.push((if number == 0 { "detected" } else { "" }, line));
    }
    rows.extend([
        ("device", human::size(report.device_bytes)),
        ("sector", human::size(report.sector_bytes.into())),
        ("page", human::size(report.page_bytes.into())),
        ("segment", human::size(report.segment_bytes)),
        ("journal", human::size(report.journal_bytes)),
        ("metadata", human::known(counted, || human::size(report.metadata_bytes))),
        ("allocated", space(report.allocated_bytes)),
        ("free", space(report.free_bytes)),
        ("extents", human::known(counted, || report.extents.to_string())),
    ]);
    for usage in report.roles.iter().filter(|_| counted) {
        let role = format!("{:?}", usage.role).to_lowercase();
        let segments = human::count(usage.segments.into(), "segment");
        let (used, free) = (human::size(usage.allocated_bytes), human::size(usage.free_bytes));
        rows.push(("role", format!("{role}: {segments}, {used} allocated, {free} free")));
    }
    let untouched = human::known(counted, || human::count(report.untouched_segments.into(), "segment"));
    rows.push(("", format!("never used: {untouched}")));
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

/// What the system says: the disk, its blocks, how writes to it behave. What it does not say is left out.
fn detected(facts: &MediaFacts) -> Vec<String> {
    let disk = [
        (!facts.disks.is_empty()).then(|| facts.disks.join(" ")),
        facts.medium.map(|medium| medium.name().to_owned()),
        facts.rotational.map(|yes| if yes { "flagged as rotating" } else { "not rotating" }.to_owned()),
    ];
    let blocks = [
        facts.sector_bytes.map(|bytes| format!("sector {}", human::size(bytes.into()))),
        facts.physical_block_bytes.map(|bytes| format!("physical block {}", human::size(bytes.into()))),
    ];
    let writes = [
        facts.write_cache.map(|cache| {
            match cache {
                WriteCache::WriteBack => "write-back cache",
                WriteCache::WriteThrough => "no volatile write cache",
            }
            .to_owned()
        }),
        facts.direct_io.map(|works| match (works, facts.direct_io_bytes) {
            (false, _) => "no direct I/O".to_owned(),
            (true, None) => "direct I/O works".to_owned(),
            (true, Some(bytes)) => format!("direct I/O in units of {}", human::size(bytes.into())),
        }),
    ];
    let lines = [disk.as_slice(), &blocks, &writes];
    lines
        .iter()
        .map(|parts| parts.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", "))
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_shown() {
        let mut facts = MediaFacts::default();
        assert_eq!(detected(&facts), [""; 0]);
        facts.direct_io = Some(false);
        assert_eq!(detected(&facts), ["no direct I/O"]);
        facts.direct_io = Some(true);
        facts.physical_block_bytes = Some(4096);
        assert_eq!(detected(&facts), ["physical block 4 KiB", "direct I/O works"]);
        facts.disks = vec!["sda".to_owned(), "sdb".to_owned()];
        facts.medium = Some(freehold::Medium::Hdd);
        facts.rotational = Some(true);
        facts.sector_bytes = Some(512);
        facts.write_cache = Some(WriteCache::WriteBack);
        facts.direct_io_bytes = Some(512);
        assert_eq!(
            detected(&facts),
            [
                "sda sdb, hdd, flagged as rotating",
                "sector 512 B, physical block 4 KiB",
                "write-back cache, direct I/O in units of 512 B",
            ]
        );
    }
}
