//! The sections of the report: what is run, and how it is told.

use std::sync::Arc;

use freehold::format::Layout;

use crate::constant::{Aged, Sample, Sustained, age};
use crate::law::Law;
use crate::population::Pieces;
use crate::report::{Report, percent};
use crate::speed::{Subject, clock_cost};
use crate::store::{Kind, layout};
use crate::svg::{Axis, Panel, Picture, Scale};
use crate::swings::{SCENARIOS, Scenario, Swung};
use crate::targets::{Figures, extents_per_blob};

/// How much is run.
pub(crate) struct Sizes {
    store_bytes: u64,
    seeds: u64,
    turnovers: u32,
    swings: u32,
    /// Stores on which a pair is timed, in GiB; the figure of the one in the middle has a target.
    timed: &'static [u64],
    middle: u64,
    batches: usize,
    single: usize,
}

impl Sizes {
    pub(crate) const FULL: Self = Self {
        store_bytes: 8 << 30,
        seeds: 3,
        turnovers: 4,
        swings: 20,
        timed: &[1, 8, 64, 1024],
        middle: 64,
        batches: 1000,
        single: 1_000_000,
    };
    pub(crate) const QUICK: Self = Self {
        store_bytes: 1 << 30,
        seeds: 1,
        turnovers: 2,
        swings: 3,
        timed: &[1, 8],
        middle: 8,
        batches: 100,
        single: 10_000,
    };
}

const LAWS: [Law; 2] = [Law::FIRST, Law::SECOND];
/// A fill that every allocator sustains.
const COMMON_FILL: f64 = 0.6;
/// Fill at which blobs may be in pieces, and into how many.
const PIECES_FILL: f64 = 0.95;
const MOST_PIECES: usize = 8;
/// Segments that are tried beside those that `format` chooses: so many in a store.
const FEW: u64 = 8;

/// Runs everything.
pub(crate) fn all(sizes: &Sizes, report: &mut Report) -> freehold::Result<Figures> {
    let mut figures = Figures::default();
    let normal = layout(sizes.store_bytes, 4096, None)?;
    sustained(sizes, &normal, &mut figures, report)?;
    rounding(sizes, &normal, &mut figures, report)?;
    pieces(sizes, &normal, &mut figures, report)?;
    times(sizes, &mut figures, report)?;
    tails(sizes, report)?;
    report.say(
        "## Stores that live long\nThe fill swings between two marks: blobs are put up to the upper one, then random ones are removed down to the lower one. \
         The score is `FreeRuns::fragmentation`: 0 when free space is one run, or all runs fill a segment, and near 1 when it is dust. A rise is cut short when a blob finds no place in one piece.",
    );
    for scenario in &SCENARIOS {
        swing(sizes, scenario, report)?;
    }
    Ok(figures)
}

fn sustained(
    sizes: &Sizes,
    normal: &Arc<Layout>,
    figures: &mut Figures,
    report: &mut Report,
) -> freehold::Result<()> {
    report.say(&format!(
        "## Sustained fill\nThe highest fill, in steps of 0.25 %, at which replacement goes on for {} turnovers without a failure, every blob in one piece. A store of \
         {} GiB with pages of 4 KiB, {} seeds. No blob in one piece lies across two segments unless it has whole ones.",
        sizes.turnovers, sizes.store_bytes >> 30, sizes.seeds
    ));
    let few = layout(sizes.store_bytes, 4096, Some(sizes.store_bytes / FEW))?;
    for (law, fill) in LAWS.into_iter().zip(&mut figures.fill) {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            let found = Sustained::find_all(kind, normal, law, sizes.seeds, sizes.turnovers.into())?;
            if let (Some(lowest), Some(figure)) = (found.first(), fill.of(kind)) {
                *figure = lowest.fill;
            }
            rows.push(sustained_row(kind.name(), &found));
        }
        for kind in [Kind::Freehold, Kind::FreeholdPages] {
            let found = Sustained::find_all(kind, &few, law, sizes.seeds, sizes.turnovers.into())?;
            rows.push(sustained_row(&format!("{}, {FEW} segments", kind.name()), &found));
        }
        report.say(&format!("**{}**", law.name()));
        report.table(
            &["", "lowest of the seeds", "highest", "asked for, at the lowest", "taken, at the lowest"],
            &rows,
        );
    }
    Ok(())
}

fn sustained_row(name: &str, found: &[Sustained]) -> Vec<String> {
    let lowest = found.first().copied().unwrap_or_default();
    let highest = found.last().copied().unwrap_or_default();
    let shares = [lowest.fill, highest.fill, lowest.asked, lowest.taken];
    std::iter::once(name.to_owned()).chain(shares.map(percent)).collect()
}

fn rounding(
    sizes: &Sizes,
    layout: &Arc<Layout>,
    figures: &mut Figures,
    report: &mut Report,
) -> freehold::Result<()> {
    report.say(&format!(
        "## Rounding, and free space by turnover\nReplacement at a fill of {}, which all sustain. Rounding is what was taken beyond what was asked for, with the heads of \
         regions, as a share of what was asked for. The score is explained below. A replacement draws a size, frees and allocates; Freehold also publishes and reclaims, which makes \
         the bytes of the journal.",
        percent(COMMON_FILL)
    ));
    for (law, file) in LAWS.into_iter().zip(["turnovers-first", "turnovers-second"]) {
        let aged = Kind::ALL
            .into_iter()
            .map(|kind| age(kind, layout, law, Pieces::One, COMMON_FILL, sizes.turnovers))
            .collect::<freehold::Result<Vec<_>>>()?;
        let mut rows: Vec<_> = aged.iter().map(rounding_row).collect();
        if let (Some(items), Some(pages)) = (aged.first(), aged.get(1)) {
            let floor = share_beyond(pages.taken, pages.asked);
            let mut row = vec!["whole pages, the floor".to_owned(), percent(floor)];
            row.resize(6, String::new());
            rows.insert(0, row);
            if matches!(file, "turnovers-first") {
                figures.rounding = share_beyond(items.taken, items.asked) - floor;
            }
        }
        report.say(&format!("**{}**", law.name()));
        let head = ["", "rounding", "score", "longest run", "mean free run", "ns a replacement"];
        report.table(&head, &rows);
        let series: Vec<Samples<'_>> =
            aged.iter().map(|aged| (0_u32..).map(f64::from).zip(&aged.samples).collect()).collect();
        report.picture(
            file,
            &picture(format!("Fill {}: {}", percent(COMMON_FILL), law.name()), "turnovers", 4096, &series),
        );
    }
    Ok(())
}

fn share_beyond(taken: u64, asked: u64) -> f64 {
    taken as f64 / asked as f64 - 1.0
}

fn rounding_row(aged: &Aged) -> Vec<String> {
    let mut row = vec![aged.kind.name().to_owned(), percent(share_beyond(aged.taken, aged.asked))];
    if let Some(last) = aged.samples.last() {
        row.extend(shape_cells(last, 4096));
    }
    row.push(format!("{:.0}", aged.nanoseconds));
    row
}

/// Score, longest and mean free run.
fn shape_cells(sample: &Sample, page_bytes: u64) -> [String; 3] {
    let shape = &sample.shape;
    [
        format!("{:.4}", shape.score()),
        format!("{:.1} MiB", mebibytes(shape.longest as f64, page_bytes)),
        format!("{:.0} KiB", mebibytes(shape.mean(), page_bytes) * 1024.0),
    ]
}

fn mebibytes(pages: f64, page_bytes: u64) -> f64 {
    pages * page_bytes as f64 / f64::from(1 << 20)
}

/// The samples of a series, each with its place on the axis.
type Samples<'a> = Vec<(f64, &'a Sample)>;

/// Three panels: score, longest run and mean free run.
fn picture(title: String, x: &'static str, page_bytes: u64, series: &[Samples<'_>]) -> Picture {
    let panel = |label: &'static str, scale: Scale, part: &dyn Fn(&Sample) -> f64| Panel {
        x: Axis { label: x, scale: Scale::Linear },
        y: Axis { label, scale },
        series: series
            .iter()
            .map(|samples| samples.iter().map(|(at, sample)| (*at, part(sample))).collect())
            .collect(),
    };
    let panels = vec![
        panel("fragmentation score", Scale::Linear, &|sample| sample.shape.score()),
        panel("longest free run, MiB", Scale::Binary, &|sample| {
            mebibytes(sample.shape.longest as f64, page_bytes)
        }),
        panel("mean free run, KiB", Scale::Binary, &|sample| {
            mebibytes(sample.shape.mean(), page_bytes) * 1024.0
        }),
    ];
    Picture { title, names: Kind::ALL.map(Kind::name).to_vec(), panels }
}

fn pieces(
    sizes: &Sizes,
    layout: &Arc<Layout>,
    figures: &mut Figures,
    report: &mut Report,
) -> freehold::Result<()> {
    report.say(&format!(
        "## Extents per blob\nReplacement at a fill of {}; a blob for which no run is long enough goes into up to {MOST_PIECES} extents, the longest runs first.",
        percent(PIECES_FILL)
    ));
    let mut rows = Vec::new();
    for law in LAWS {
        for kind in [Kind::Freehold, Kind::FreeholdPages] {
            let aged = age(kind, layout, law, Pieces::UpTo(MOST_PIECES), PIECES_FILL, sizes.turnovers)?;
            let live = aged.samples.last().map_or(0.0, |sample| sample.extents);
            if let Some(most) = figures.extents.of(kind) {
                *most = most.max(aged.extents);
            }
            rows.push(vec![
                format!("{}; {}", law.name(), kind.name()),
                percent(aged.fill),
                extents_per_blob(aged.extents),
                format!("{live:.4}"),
                aged.refused.to_string(),
            ]);
        }
    }
    report.table(&["", "fill", "extents per blob put", "per blob that lives", "found no place"], &rows);
    Ok(())
}

fn times(sizes: &Sizes, figures: &mut Figures, report: &mut Report) -> freehold::Result<()> {
    report.say(&format!(
        "## Time of a pair\nA store at 90 % fill of the first law, filled and then turned over once at random. Nothing is published: reserving is allocating in memory, giving \
         a reservation back is freeing. Built as `[profile.bench]` says (LTO). Medians over {} batches of the mean of 1,000 pairs. *The same* is allocated and freed at once; a *replacement* frees a random \
         blob and allocates another one: on a large store each of the two is a place that is in no cache.",
        sizes.batches
    ));
    let mut rows = Vec::new();
    let mut points = [Vec::new(), Vec::new()];
    for &gib in sizes.timed {
        let mut row = vec![if gib < 1024 { format!("{gib} GiB") } else { format!("{} TiB", gib >> 10) }];
        for items in [true, false] {
            let pair = Subject::new(gib << 30, 0.9, 1.0, items)?.pair(sizes.batches);
            if row.len() == 1 {
                row.push(pair.blobs.to_string());
            }
            row.extend([format!("{:.0} ns", pair.same), format!("{:.0} ns", pair.replacement)]);
            if items {
                figures.same.add(pair.same, gib == sizes.middle);
                figures.replacement.add(pair.replacement, gib == sizes.middle);
                let [same, replacement] = &mut points;
                same.push((gib as f64, pair.same));
                replacement.push((gib as f64, pair.replacement));
            }
        }
        rows.push(row);
    }
    figures.pair_gib = sizes.middle;
    let head =
        ["store", "blobs", "the same", "replacement", "the same, pages only", "replacement, pages only"];
    report.table(&head, &rows);
    let panel = Panel {
        x: Axis { label: "store, GiB", scale: Scale::Binary },
        y: Axis { label: "ns a pair", scale: Scale::Linear },
        series: points.to_vec(),
    };
    let title = "Allocate and free at 90 % fill, in memory".to_owned();
    report.picture("pair", &Picture { title, names: vec!["the same", "replacement"], panels: vec![panel] });
    Ok(())
}

fn tails(sizes: &Sizes, report: &mut Report) -> freehold::Result<()> {
    let gib = sizes.middle;
    report.say(&format!(
        "Single operations at 95 % fill, {gib} GiB, {} replacements, pages only. Reading the clock is in each figure, {} ns. The slowest of all is most often one in which the \
         machine did something else.",
        sizes.single,
        clock_cost()
    ));
    let (frees, allocations) = Subject::new(gib << 30, 0.95, 0.5, false)?.tails(sizes.single);
    let rows: Vec<_> = [("free", frees), ("allocate", allocations)]
        .into_iter()
        .map(|(name, tail)| {
            let shares = [0.5, 0.99, 0.999, 0.9999, 1.0];
            std::iter::once(name.to_owned())
                .chain(shares.map(|share| format!("{} ns", tail.at(share))))
                .collect()
        })
        .collect();
    report.table(&["", "median", "99 %", "99.9 %", "99.99 %", "slowest"], &rows);
    Ok(())
}

fn swing(sizes: &Sizes, scenario: &Scenario, report: &mut Report) -> freehold::Result<()> {
    let swung = Kind::ALL
        .into_iter()
        .map(|kind| scenario.run(kind, sizes.store_bytes, sizes.swings))
        .collect::<freehold::Result<Vec<_>>>()?;
    let mut capital = scenario.name.to_owned();
    if let Some(first) = capital.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    report.say(&format!("### {capital}"));
    let row = |swung: &Swung| {
        let mut row =
            vec![swung.kind.name().to_owned(), format!("{}", swung.cut_short), percent(swung.reached)];
        if let Some((_, last)) = swung.samples.last() {
            row.extend(shape_cells(last, scenario.page_bytes));
        }
        row
    };
    let rows: Vec<_> = swung.iter().map(row).collect();
    let head =
        ["", "rises cut short", "lowest fill reached", "score at the end", "longest run", "mean free run"];
    report.table(&head, &rows);
    let series: Vec<Samples<'_>> =
        swung.iter().map(|swung| swung.samples.iter().map(|(at, sample)| (*at, sample)).collect()).collect();
    report.picture(scenario.file, &picture(capital, "swings", scenario.page_bytes, &series));
    Ok(())
}
