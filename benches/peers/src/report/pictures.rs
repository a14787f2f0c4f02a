//! The pictures, from what was measured.

use super::Figures;
use super::svg::{Bar, Colour, Panel, Picture};
use super::tables::over;
use super::text::{grouped, tasks};
use crate::contender::Kind;
use crate::driver::{Load, Turn};
use crate::measure::Median;
use crate::rounds::Results;

fn colour(kind: Kind) -> Colour {
    match kind {
        _ if kind.is_floor() => Colour::Floor,
        _ if kind.is_freehold() => Colour::Own,
        _ => Colour::Peer,
    }
}

fn panel(title: String, kinds: &[Kind], results: &Results, load: Load, of: impl Fn(&Turn) -> f64) -> Panel {
    let bars = kinds.iter().filter_map(|&kind| {
        let value = over(results, kind, load, &of)?;
        Some(Bar { name: kind.name().to_owned(), colour: colour(kind), value })
    });
    // The floor has no clients: with many tasks it only says what the device could take.
    let bars = bars.filter(|bar| load == Load::Tasks(1) || bar.colour != Colour::Floor);
    Panel { title, bars: bars.collect() }
}

/// A panel for each number of tasks.
fn by_tasks(figures: &Figures, title: &str, unit: &str, of: impl Fn(&Turn) -> f64) -> Picture {
    let Figures { options, transactions, .. } = figures;
    let panels = options.tasks.iter().map(|&count| {
        let title = format!("{}, {unit}", tasks(count));
        panel(title, &options.kinds, transactions, Load::Tasks(count), &of)
    });
    Picture { title: title.to_owned(), panels: panels.collect() }
}

pub(super) fn rates(figures: &Figures) -> Picture {
    by_tasks(figures, "Durable transactions per second", "transactions/s", Turn::rate)
}

pub(super) fn p50s(figures: &Figures) -> Picture {
    by_tasks(figures, "Latency of a durable transaction, median", "microseconds", Turn::p50)
}

pub(super) fn processor(figures: &Figures) -> Picture {
    by_tasks(figures, "Processor time of a durable transaction", "microseconds", |turn| turn.cpu() * 1e6)
}

/// Rates without a device.
pub(super) fn memory(figures: &Figures, results: &Results) -> Picture {
    let loads = figures.options.in_memory().loads;
    let panels = loads.into_iter().filter_map(|load| {
        let Load::Tasks(count) = load else { return None };
        let title = format!("{}, transactions/s", tasks(count));
        Some(panel(title, &figures.options.kinds, results, load, Turn::rate))
    });
    Picture { title: "Transactions per second, files in memory".to_owned(), panels: panels.collect() }
}

pub(super) fn ready(figures: &Figures) -> Picture {
    let panels = figures.options.reopened.iter().map(|&live| {
        let bars = figures.openings.iter().filter(|openings| openings.live == live).filter_map(|openings| {
            let value = Median::of(openings.each.iter().map(|opening| opening.ready_seconds * 1e3))?;
            Some(Bar { name: openings.kind.name().to_owned(), colour: colour(openings.kind), value })
        });
        Panel { title: format!("{} live, milliseconds", grouped(live)), bars: bars.collect() }
    });
    Picture {
        title: "After a kill: from opening to the first durable transaction".to_owned(),
        panels: panels.collect(),
    }
}
