//! Tables of what only Freehold was asked, and of what it counts itself.

use super::goals::amplification;
use super::text::{grouped, interval, number};
use super::{Figures, Report};
use crate::driver::{Load, Turn};
use crate::measure::Median;
use crate::probes::Probes;

/// Freehold's own counters.
pub(super) fn inside(report: &mut Report, figures: &Figures) {
    let head = [
        "contender",
        "tasks",
        "transactions in a group",
        "writes in a group",
        "flushes in a group",
        "encoded bytes each",
        "padding bytes each",
        "checkpoints",
        "blocks checkpointed for 1,000",
    ];
    let mut rows = Vec::new();
    for &kind in figures.options.kinds.iter().filter(|kind| kind.is_freehold()) {
        for &count in &figures.options.tasks {
            let turns = figures.transactions.turns(kind, Load::Tasks(count));
            let sum = |of: &dyn Fn(&Turn) -> f64| turns.iter().map(of).sum::<f64>();
            let groups = sum(&|turn| turn.grown(|stats| stats.journal.groups));
            let transactions = sum(&|turn| turn.grown(|stats| stats.journal.transactions));
            let encoded = sum(&|turn| turn.grown(|stats| stats.journal.encoded_bytes));
            let written = sum(&|turn| turn.grown(|stats| stats.journal.written_bytes));
            let mut row = vec![kind.name().to_owned(), grouped(count)];
            row.extend(
                [
                    transactions / groups,
                    sum(&|turn| turn.grown(|stats| stats.device.writes)) / groups,
                    sum(&|turn| turn.grown(|stats| stats.device.flushes)) / groups,
                    encoded / transactions,
                    (written - encoded) / transactions,
                    sum(&|turn| turn.grown(|stats| stats.journal.checkpoints)),
                    sum(&|turn| turn.grown(|stats| stats.journal.checkpointed_blocks)) / transactions * 1e3,
                ]
                .map(number),
            );
            rows.push(row);
        }
    }
    report.table(&head, &rows);
}

/// Work without a pause.
pub(super) fn steady(report: &mut Report, probes: &Probes) {
    let head = [
        "live",
        "seconds",
        "transactions/s",
        "journal bytes each, encoded",
        "journal bytes each, written",
        "metadata bytes each, all",
        "all to journal",
        "checkpoints",
        "overlay, MiB",
        "bitmaps and indexes, MiB",
    ];
    let rows = probes.steady.iter().map(|steady| {
        let transactions = steady.transactions as f64;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut row = vec![grouped(steady.live)];
        row.extend(
            [
                steady.seconds,
                transactions / steady.seconds,
                steady.grown(|stats| stats.journal.encoded_bytes) / transactions,
                steady.grown(|stats| stats.journal.written_bytes) / transactions,
                steady.grown(|stats| stats.device.write_bytes) / transactions,
                amplification(steady),
                steady.grown(|stats| stats.journal.checkpoints),
                mib(steady.worked.journal.overlay_blocks * steady.block_bytes),
                mib(steady.worked.loaded_bytes),
            ]
            .map(number),
        );
        row
    });
    report.table(&head, &rows.collect::<Vec<_>>());
}

/// How long opening takes.
pub(super) fn opening(report: &mut Report, probes: &Probes) {
    let millis = |seconds: &[f64]| interval(Median::of(seconds.iter().map(|seconds| seconds * 1e3)));
    let live = grouped(probes.steady.last().map_or(0, |steady| steady.live));
    let replays = &probes.replays;
    let full = format!(
        "journal of {} MiB with {} transactions",
        replays.ring_bytes >> 20,
        number(replays.transactions as f64)
    );
    let rows = [
        (format!("{live} live, closed in order"), &probes.clean_seconds),
        (format!("{full}, replayed in place, everything in the page cache"), &replays.warm_seconds),
        (format!("{full}, opened for reading, nothing in the page cache"), &replays.cold_seconds),
    ];
    let rows = rows.map(|(name, seconds)| vec![name, millis(seconds)]);
    report.table(&["opening", "ms"], &rows);
}
