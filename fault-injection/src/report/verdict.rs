//! What the run came to, in a line, and what it left open.

use super::Report;
use super::matrix::is_idle;
use super::number::{count, counted, length};

/// What the reader needs to know first.
pub(super) fn banner(report: &Report) -> String {
    let broken = broken(report);
    let recoveries = report.over_time.iter().map(|sample| sample.recoveries).max().unwrap_or(0);
    let judged = recoveries.max(report.oracles.iter().map(|oracle| oracle.judged).max().unwrap_or(0));
    let injected = report.matrix.iter().any(|row| !is_idle(row));
    let (class, mark, line) = if !broken.is_empty() {
        ("bad", "✕", broken.join(" · "))
    } else if judged == 0 && !injected {
        ("open", "–", "Nothing was judged".to_owned())
    } else if judged == 0 {
        ("fine", "✓", "No rule was broken".to_owned())
    } else {
        ("fine", "✓", format!("No rule was broken in {}", counted(judged, "recovery", "recoveries")))
    };
    let gaps = gaps(report);
    let gaps = if gaps.is_empty() {
        String::new()
    } else {
        format!("<span class=\"gaps\">Left open: {}.</span>", gaps.join("; "))
    };
    format!("<p class=\"verdict {class}\"><span class=\"mark\">{mark}</span><span>{line}</span>{gaps}</p>\n")
}

/// What went wrong.
fn broken(report: &Report) -> Vec<String> {
    let counted_ones = report.over_time.iter().map(|sample| sample.violations).max().unwrap_or(0);
    let violations = length(&report.violations).max(counted_ones);
    let silent = report.matrix.iter().fold(0u64, |sum, row| sum.saturating_add(row.silent));
    let mut all = Vec::new();
    if violations > 0 {
        all.push(counted(violations, "violation", "violations"));
    }
    if silent > 0 {
        all.push(counted(silent, "fault was silently wrong", "faults were silently wrong"));
    }
    all
}

/// What the run does not show, though nothing went wrong.
fn gaps(report: &Report) -> Vec<String> {
    let mut all = Vec::new();
    let missed = report
        .phases
        .iter()
        .fold(0u64, |sum, phase| sum.saturating_add(phase.points.saturating_sub(phase.cut)));
    if missed > 0 {
        all.push(format!("power was not cut at {}", counted(missed, "I/O", "I/Os")));
    }
    let unproved = length(report.oracles.iter().filter(|oracle| !oracle.proved));
    if unproved > 0 {
        all.push(format!("{} of {} checks unproved", count(unproved), count(length(&report.oracles))));
    }
    let idle = length(report.matrix.iter().filter(|row| is_idle(row)));
    if idle > 0 {
        all.push(format!("{} of {} faults not injected", count(idle), count(length(&report.matrix))));
    }
    all
}
