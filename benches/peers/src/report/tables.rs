//! The tables, from what was measured.

use super::text::{grouped, interval, number};
use super::{Figures, Report};
use crate::contender::Kind;
use crate::driver::{Load, Turn};
use crate::measure::Median;
use crate::rounds::Results;

/// Of a contender under a load, over the rounds.
pub(super) fn over(results: &Results, kind: Kind, load: Load, of: impl Fn(&Turn) -> f64) -> Option<Median> {
    Median::of(results.turns(kind, load).iter().map(of))
}

/// Ratios within each round.
pub(super) fn ratio(
    results: &Results,
    kind: Kind,
    floor: Kind,
    load: Load,
    of: impl Fn(&Turn) -> f64,
) -> Option<Median> {
    let pairs = results.turns(kind, load).iter().zip(results.turns(floor, load));
    Median::of(pairs.map(|(turn, floor)| of(turn) / of(floor)))
}

/// The rate of puts to that of the floor that begins the writeback of each blob at once.
fn to_early(results: &Results, kind: Kind, floor: Kind, tasks: usize) -> Option<Median> {
    let own = results.turns(kind, Load::Tasks(tasks)).iter();
    let pairs = own.zip(results.turns(floor, Load::Early(tasks)));
    Median::of(pairs.map(|(turn, floor)| turn.rate() / floor.rate()))
}

/// What only devices that are counted have.
fn middle(median: Option<Median>) -> String {
    median.map_or_else(|| "none".to_owned(), |median| number(median.middle))
}

/// Everything about a load from tasks.
pub(super) fn under_load(report: &mut Report, kinds: &[Kind], results: &Results, load: Load) {
    let device = |kind: Kind| {
        let bytes = over(results, kind, load, |turn| turn.each(|cost| cost.device_bytes));
        let flushes = over(results, kind, load, |turn| turn.each(|cost| cost.flushes));
        vec![middle(bytes), middle(flushes)]
    };
    tabulate(report, kinds, results, load, &["device bytes each", "flushes each"], device);
}

/// The same where there is no device.
pub(super) fn without_device(report: &mut Report, kinds: &[Kind], results: &Results, load: Load) {
    tabulate(report, kinds, results, load, &[], |_| Vec::new());
}

fn tabulate(
    report: &mut Report,
    kinds: &[Kind],
    results: &Results,
    load: Load,
    more: &[&str],
    columns: impl Fn(Kind) -> Vec<String>,
) {
    let mut head = vec!["contender", "transactions/s", "to floor", "p50, us", "p50 to floor"];
    head.extend(["p99, us", "p99.9, us", "CPU each, us"]);
    head.extend(more);
    let rows = kinds.iter().filter(|&&kind| !results.turns(kind, load).is_empty()).map(|&kind| {
        let to_floor = |of: &dyn Fn(&Turn) -> f64| ratio(results, kind, Kind::Append, load, of);
        let mut row = vec![
            kind.name().to_owned(),
            interval(over(results, kind, load, Turn::rate)),
            interval(to_floor(&Turn::rate)),
            interval(over(results, kind, load, Turn::p50)),
            interval(to_floor(&Turn::p50)),
            number(results.tail(kind, load, 990)),
            number(results.tail(kind, load, 999)),
            middle(over(results, kind, load, |turn| turn.cpu() * 1e6)),
        ];
        row.extend(columns(kind));
        row
    });
    report.table(&head, &rows.collect::<Vec<_>>());
}

/// Rates of one client that does not wait.
pub(super) fn not_waited_for(report: &mut Report, figures: &Figures) {
    let (results, load) = (&figures.transactions, Load::Rush);
    let kinds = figures.options.kinds.iter().filter(|&&kind| !results.turns(kind, load).is_empty());
    let rows = kinds.map(|&kind| {
        vec![
            kind.name().to_owned(),
            interval(over(results, kind, load, Turn::rate)),
            middle(over(results, kind, load, |turn| turn.cpu() * 1e6)),
            middle(over(results, kind, load, |turn| turn.each(|cost| cost.device_bytes))),
            middle(over(results, kind, load, |turn| turn.each(|cost| cost.flushes))),
        ]
    });
    let head = ["contender", "transactions/s", "CPU each, us", "device bytes each", "flushes each"];
    report.table(&head, &rows.collect::<Vec<_>>());
}

/// Space reserved and given back.
pub(super) fn reserved(report: &mut Report, figures: &Figures) {
    let (results, load) = (&figures.transactions, Load::Reserve);
    let kinds = figures.options.kinds.iter().filter(|&&kind| !results.turns(kind, load).is_empty());
    let rows = kinds.map(|&kind| {
        let each = over(results, kind, load, |turn| 1e9 / turn.rate());
        let cpu = over(results, kind, load, |turn| turn.cpu() * 1e9);
        vec![kind.name().to_owned(), interval(each), interval(cpu)]
    });
    report.table(&["contender", "ns each", "CPU each, ns"], &rows.collect::<Vec<_>>());
}

/// The rate that the flush and the processors allow, in each round, and the share of it that is reached.
pub(super) fn ideal(figures: &Figures, kind: Kind, count: usize) -> Option<[Median; 2]> {
    let floor = if kind == Kind::FreeholdDirect { Kind::Direct } else { Kind::Append };
    let results = &figures.transactions;
    let turns = results.turns(kind, Load::Tasks(count)).iter();
    let floors = results.turns(floor, Load::Tasks(1)).iter();
    let (tasks, cores) = (count as f64, figures.machine.cores as f64);
    let rounds: Vec<(f64, f64)> = turns
        .zip(floors)
        .map(|(turn, floor)| {
            let ideal = tasks / (floor.p50() / 1e6 + tasks * turn.cpu() / cores);
            (ideal, turn.rate() / ideal)
        })
        .collect();
    let ideals = Median::of(rounds.iter().map(|round| round.0))?;
    Some([ideals, Median::of(rounds.iter().map(|round| round.1))?])
}

pub(super) fn ideals(report: &mut Report, figures: &Figures) {
    let mut rows = Vec::new();
    for &kind in figures.options.kinds.iter().filter(|kind| kind.is_freehold()) {
        for &count in &figures.options.tasks {
            let Some([ideal, share]) = ideal(figures, kind, count) else { continue };
            rows.push(vec![
                kind.name().to_owned(),
                grouped(count),
                interval(Some(ideal)),
                interval(Some(share)),
            ]);
        }
    }
    report.table(&["contender", "tasks", "ideal, transactions/s", "reached"], &rows);
}

/// Puts of blobs: each store beside the floor that did the same.
pub(super) fn puts(report: &mut Report, figures: &Figures) {
    let head = [
        "contender",
        "tasks",
        "puts/s",
        "bytes and flushes alone, puts/s",
        "to that",
        "p50, us",
        "p99, us",
        "flushes each",
        "CPU each, us",
        "alone, writeback begun at once, puts/s",
        "to that",
    ];
    let results = &figures.blobs;
    let mut rows = Vec::new();
    for (kind, floor) in [(Kind::Freehold, Kind::Append), (Kind::FreeholdDirect, Kind::Direct)] {
        for count in figures.options.put_tasks() {
            let load = Load::Tasks(count);
            if results.turns(kind, load).is_empty() {
                continue;
            }
            let own = |turn: &Turn| turn.grown(|stats| stats.device.flushes) / turn.operations as f64;
            let mut row = beside(results, kind, floor, load, count);
            row.extend([
                middle(over(results, kind, load, own)),
                middle(over(results, kind, load, |turn| turn.cpu() * 1e6)),
                interval(over(results, floor, Load::Early(count), Turn::rate)),
                interval(to_early(results, kind, floor, count)),
            ]);
            rows.push(row);
        }
    }
    report.table(&head, &rows);
}

/// Gets of blobs: the store beside the same from a file.
pub(super) fn gets(report: &mut Report, figures: &Figures) {
    let head = [
        "contender",
        "tasks",
        "gets/s",
        "reads alone, gets/s",
        "to that",
        "p50, us",
        "p99, us",
        "CPU each, us",
    ];
    let (results, kind, floor) = (&figures.blobs, Kind::Freehold, Kind::Append);
    let mut rows = Vec::new();
    for count in figures.options.put_tasks() {
        let load = Load::Reads(count);
        if results.turns(kind, load).is_empty() {
            continue;
        }
        let mut row = beside(results, kind, floor, load, count);
        row.push(middle(over(results, kind, load, |turn| turn.cpu() * 1e6)));
        rows.push(row);
    }
    report.table(&head, &rows);
}

/// How the store does beside the floor, for so many tasks.
fn beside(results: &Results, kind: Kind, floor: Kind, load: Load, count: usize) -> Vec<String> {
    vec![
        kind.name().to_owned(),
        grouped(count),
        interval(over(results, kind, load, Turn::rate)),
        interval(over(results, floor, load, Turn::rate)),
        interval(ratio(results, kind, floor, load, Turn::rate)),
        interval(over(results, kind, load, Turn::p50)),
        number(results.tail(kind, load, 990)),
    ]
}

/// Openings after a kill.
pub(super) fn openings(report: &mut Report, figures: &Figures) {
    let head = ["contender", "live", "ready, ms", "list, ms", "memory grown, MiB", "extents astray"];
    let rows = figures.openings.iter().map(|openings| {
        let over = |of: &dyn Fn(&crate::reopen::Opening) -> f64| Median::of(openings.each.iter().map(of));
        vec![
            openings.kind.name().to_owned(),
            grouped(openings.live),
            interval(over(&|opening| opening.ready_seconds * 1e3)),
            middle(over(&|opening| opening.list_seconds * 1e3)),
            middle(over(&|opening| opening.grown_bytes / f64::from(1 << 20))),
            openings.astray.to_string(),
        ]
    });
    report.table(&head, &rows.collect::<Vec<_>>());
}
