//! Bars of crash states and of I/O, and the table of checks.

use super::html::{Column, escape, figure, table};
use super::number::{count, counted, length, percent};
use super::phase::look_of;
use super::svg::{Area, Svg};
use super::timeline::swatch;
use super::{ClassCount, OracleCount, PhaseCount};

/// A bar is this wide before the page stretches it.
const WIDE: f64 = 300.0;
/// And this high.
const HIGH: f64 = 14.0;
/// What is not zero can be seen.
const LEAST: f64 = 3.0;

/// Shows crash states by kind.
pub(super) fn classes(classes: &[ClassCount]) -> String {
    let Some(most) = classes.iter().map(|class| class.made.max(class.distinct)).max() else {
        return String::new();
    };
    let mut rows = String::new();
    for class in classes {
        let bar = bar(&format!("{} made", count(class.made)), |svg| {
            svg.rect(part(0.0, width(class.made, most)), "made");
            svg.rect(part(0.0, width(class.distinct, most)), "solid");
        });
        rows += &format!(
            "<tr><td>{}</td><th scope=\"row\">{}</th><td class=\"wide\">{}</td><td \
             class=\"bars\">{bar}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            pictogram(&class.name),
            escape(&class.name),
            escape(&class.meaning),
            count(class.made),
            count(class.distinct)
        );
    }
    let columns = [
        Column::Text(""),
        Column::Text("kind"),
        Column::Text("what it is"),
        Column::Text("states"),
        Column::Number("made"),
        Column::Number("distinct"),
    ];
    let caption = "The whole bar is what was made, its solid part the distinct states; \
                   all bars have the same scale. In the small pictures a square is a sector that was being \
                   written: filled if it reached the disk, hollow if it was lost, crossed out if it holds \
                   garbage; a second row is the next cut. What garbage is made of does not count as \
                   distinct.";
    figure(&table("counts", &columns, &rows), caption)
}

/// Shows I/O by what it was for, and whether it was cut.
pub(super) fn phases(phases: &[PhaseCount]) -> String {
    let Some(most) = phases.iter().map(|phase| phase.points).max() else { return String::new() };
    let mut rows = String::new();
    for phase in phases {
        rows += &phase_row(phase, most);
    }
    let (points, cut) = phases.iter().fold((0u64, 0u64), |(points, cut), phase| {
        (points.saturating_add(phase.points), cut.saturating_add(phase.cut.min(phase.points)))
    });
    let missed = points - cut;
    let verdict = if missed == 0 {
        format!("Power was cut at <strong>every one of the {}</strong>.", counted(points, "I/O", "I/Os"))
    } else {
        format!(
            "Power was cut at {} of {} ({}); <strong class=\"alarm\">{} not cut</strong>.",
            count(cut),
            counted(points, "I/O", "I/Os"),
            percent(cut, points),
            counted(missed, "was", "were")
        )
    };
    let columns = [
        Column::Text("I/O"),
        Column::Text("what it does"),
        Column::Text("cut"),
        Column::Number("I/Os"),
        Column::Number("cut"),
        Column::Number("not cut"),
        Column::Number("states"),
    ];
    let caption = "The length of a bar is the number of writes or flushes of that kind, on one scale for \
                   all; the part at which power was cut is filled with the colour of the kind, a part that \
                   was not cut is hatched in red. “States” are the crash states that were made there.";
    format!("<p>{verdict}</p>\n{}", figure(&table("counts", &columns, &rows), caption))
}

fn phase_row(phase: &PhaseCount, most: u64) -> String {
    let look = look_of(&phase.phase);
    let cut = phase.cut.min(phase.points);
    let missed = phase.points - cut;
    let bar = bar(&format!("{} of {} cut", count(cut), count(phase.points)), |svg| {
        let all = width(phase.points, most);
        // However few were not cut, they are to be seen.
        let red = if missed == 0 { 0.0 } else { (all * (missed as f64 / phase.points as f64)).max(LEAST) };
        let filled = all - red;
        svg.rect(part(0.0, filled), &format!("phase {}", look.class));
        if missed > 0 {
            svg.rect(part(filled, red), "uncut");
        }
    });
    let missed = match missed {
        0 => "<td class=\"n zero\">0</td>".to_owned(),
        missed => format!("<td class=\"n silent\">{}</td>", count(missed)),
    };
    format!(
        "<tr><th scope=\"row\" class=\"phase-name\">{} {}</th><td class=\"wide\">{}</td><td \
         class=\"bars\">{bar}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>{missed}<td \
         class=\"n\">{}</td></tr>\n",
        swatch(&phase.phase),
        escape(&phase.phase),
        look.meaning,
        count(phase.points),
        count(phase.cut),
        count(phase.states)
    )
}

/// Shows the checks and whether each is known to work.
pub(super) fn oracles(oracles: &[OracleCount]) -> String {
    if oracles.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for oracle in oracles {
        let proof = if oracle.proved {
            "<td class=\"good\">✓ rejected its bait</td>"
        } else {
            "<td class=\"warn\">! unproved</td>"
        };
        rows += &format!(
            "<tr><th scope=\"row\">{}</th><td class=\"wide\">{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{}</td>{proof}</tr>\n",
            escape(&oracle.name),
            escape(&oracle.meaning),
            count(oracle.judged),
            count(oracle.rejected)
        );
    }
    let proved = count(length(oracles.iter().filter(|oracle| oracle.proved)));
    let columns = [
        Column::Text("check"),
        Column::Text("what it checks"),
        Column::Number("judged"),
        Column::Number("rejected"),
        Column::Text("proof in this run"),
    ];
    let caption = "“Judged” is how many stores the check looked at, “rejected” how often it said no, baits \
                   included. A check without proof may be blind: do not rely on its silence.";
    format!(
        "<p>A check that has never rejected anything proves nothing. So each is also given a bait, a state \
         that is known to be wrong, and must reject it: <strong>{proved} of {}</strong> did in this \
         run.</p>\n{}",
        count(length(oracles)),
        figure(&table("counts", &columns, &rows), caption)
    )
}

/// A bar that is as wide as its cell.
fn bar(label: &str, draw: impl FnOnce(&mut Svg)) -> String {
    let mut svg = Svg::default();
    svg.explained(label, draw);
    svg.finish_stretched("bar", (WIDE, HIGH), label)
}

/// A part of a bar.
fn part(x: f64, width: f64) -> Area {
    Area { x, y: 1.0, width, height: HIGH - 2.0 }
}

/// How wide a part is that stands for so many.
fn width(number: u64, most: u64) -> f64 {
    if number == 0 { 0.0 } else { (WIDE * (number as f64 / most as f64)).clamp(LEAST, WIDE) }
}

/// A sector in a pictogram.
#[derive(Clone, Copy)]
enum Sector {
    Kept,
    Lost,
    Torn,
    Garbage,
}

/// Four sectors in a state of this kind.
fn pictogram(name: &str) -> String {
    use Sector::{Garbage, Kept, Lost, Torn};
    let rows: &[[Sector; 4]] = match name.to_ascii_lowercase().as_str() {
        "prefix" => &[[Kept, Kept, Kept, Lost]],
        "subset" => &[[Kept, Lost, Kept, Lost]],
        "tear" => &[[Kept, Kept, Torn, Lost]],
        "garbage" => &[[Kept, Kept, Garbage, Lost]],
        "nested" => &[[Kept, Kept, Lost, Lost], [Kept, Lost, Lost, Lost]],
        _ => return String::new(),
    };
    let mut svg = Svg::default();
    for (row, y) in rows.iter().zip([0u8, 15]) {
        for (sector, x) in row.iter().zip([0u8, 14, 28, 42]) {
            draw_sector(&mut svg, *sector, f64::from(x) + 1.0, f64::from(y) + 1.0);
        }
    }
    let height = if rows.len() > 1 { 28.0 } else { 13.0 };
    svg.finish("pictogram", (56.0, height), name)
}

fn draw_sector(svg: &mut Svg, sector: Sector, x: f64, y: f64) {
    let area = Area { x, y, width: 11.0, height: 11.0 };
    match sector {
        Sector::Kept => svg.rect(area, "sector kept"),
        Sector::Lost => svg.rect(area, "sector"),
        Sector::Torn => {
            svg.rect(Area { width: 5.5, ..area }, "sector kept");
            svg.rect(area, "sector");
        }
        Sector::Garbage => {
            svg.rect(area, "sector");
            svg.line((x, y), (x + 11.0, y + 11.0), "cross");
            svg.line((x, y + 11.0), (x + 11.0, y), "cross");
        }
    }
}
