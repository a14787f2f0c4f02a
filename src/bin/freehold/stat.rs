//! `freehold stat`.

use freehold::inspect::{StatReport, stat};

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{Output, colour_on_stdout};

pub(crate) fn run(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let device = open_to_read(&target.device)?;
    let report = stat(device).map_err(|error| Failure::store(&target.device, &error))?;
    if output.json {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    Ok(Exit::Clean)
}

fn print(report: &StatReport, output: &mut Output) -> Result<(), Failure> {
    let (runs, free) = (&report.runs, report.free_bytes);
    let share = |bytes: u64| format!("{:>12}  {:>7}", human::size(bytes), human::percent(bytes, free));
    let rows = [
        ("free", share(free)),
        ("in runs", share(runs.run_bytes)),
        ("never used", share(report.untouched_bytes)),
        ("free items", share(report.free_item_bytes)),
        ("largest run", format!("{:>12}", human::size(runs.largest_run_bytes))),
    ];
    for (name, value) in rows {
        output.line(&format!("{name:<11} {value}"))?;
    }
    histogram(report, output)?;
    output.line(&format!(
        "fragmentation {:.3}: 0 when free runs are as long as a segment allows, near 1 when free space is dust",
        runs.fragmentation
    ))?;
    roles(report, output)
}

/// Free runs by length, from the shortest there are to the longest.
fn histogram(report: &StatReport, output: &mut Output) -> Result<(), Failure> {
    let buckets = &report.runs.histogram;
    let first = buckets.iter().position(|bucket| bucket.runs > 0).unwrap_or(buckets.len());
    let end = buckets.iter().rposition(|bucket| bucket.runs > 0).map_or(first, |last| last + 1);
    let most = buckets.iter().map(|bucket| bucket.bytes).max().unwrap_or(0);
    let colour = colour_on_stdout();
    output.line(&format!("{:>11}  {:>12}  {:>12}", "runs from", "runs", "bytes"))?;
    for bucket in buckets.get(first..end).unwrap_or_default() {
        let bar = human::bar(bucket.bytes, most, 32);
        let bar = if colour { format!("\x1b[32m{bar}\x1b[0m") } else { bar };
        let (from, bytes) = (human::size(bucket.from_bytes), human::size(bucket.bytes));
        output.line(&format!("{from:>11}  {:>12}  {bytes:>12}  {bar}", bucket.runs))?;
    }
    Ok(())
}

fn roles(report: &StatReport, output: &mut Output) -> Result<(), Failure> {
    let line = |role: &str, columns: [String; 4]| {
        let columns = columns.map(|column| format!("  {column:>12}")).concat();
        format!("{role:>11}{columns}")
    };
    let size = human::size;
    output.line(&line("role", ["allocated", "free", "overhead", "rounding"].map(str::to_owned)))?;
    for usage in &report.roles {
        let columns =
            [usage.allocated_bytes, usage.free_bytes, usage.overhead_bytes, usage.rounding_bytes].map(size);
        output.line(&line(usage.role.name(), columns))?;
    }
    let columns =
        [report.allocated_bytes, report.free_bytes, report.overhead_bytes, report.rounding_bytes].map(size);
    output.line(&line("all", columns))
}
