//! The picture of one workload, I/O by I/O.

use super::TimelinePoint;
use super::html::{escape, figure};
use super::number::{count, counted, length, tiny};
use super::phase::look_of;
use super::svg::{Area, Svg};

/// I/Os in one row of the strip.
const IN_ROW: usize = 48;
/// More I/Os than this are counted, not drawn.
const SHOWN: usize = 12 * IN_ROW;
/// From one I/O to the next.
const PITCH: f64 = 20.0;
/// Height of the bar with most states.
const TALLEST: f64 = 44.0;
/// From one row to the next.
const ROW: f64 = 106.0;
/// From the top of a row to the foot of its bars.
const FOOT: f64 = 58.0;
/// Average width of a letter of the labels.
const LETTER: f64 = 6.2;

/// Draws the strip.
pub(super) fn section(points: &[TimelinePoint]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let (shown, rest) = points.split_at(points.len().min(SHOWN));
    let most = points.iter().map(|point| point.states).max().unwrap_or(0);
    let mut svg = Svg::default();
    let mut rows: u32 = 0;
    for (row, from) in shown.chunks(IN_ROW).zip((0..).step_by(IN_ROW)) {
        draw_row(&mut svg, row, from, f64::from(rows) * ROW, most);
        rows += 1;
    }
    let uncut = length(points.iter().filter(|point| !point.cut));
    let states = points.iter().fold(0u64, |sum, point| sum.saturating_add(point.states));
    let label = format!("Strip of {}, {} not cut", counted(length(points), "I/O", "I/Os"), count(uncut));
    let widest = shown.len().min(IN_ROW);
    let size = (pitches(if rows > 1 { IN_ROW } else { widest.max(24) }), f64::from(rows) * ROW);
    let class = if rows == 1 && widest <= 24 { "chart half" } else { "chart" };
    let picture = format!("{}{}", legend(points, uncut), svg.finish(class, size, &label));
    figure(&picture, &caption(points, rest, uncut, states))
}

/// Width of so many I/Os.
fn pitches(count: usize) -> f64 {
    PITCH * f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// `from` is the number of the first I/O.
fn draw_row(svg: &mut Svg, row: &[TimelinePoint], from: usize, top: f64, most: u64) {
    let foot = top + FOOT;
    svg.line((0.0, foot), (pitches(row.len()), foot), "tick");
    for (i, point) in row.iter().enumerate() {
        draw_point(svg, point, from + i + 1, (pitches(i), foot), most);
    }
    let mut done = 0;
    for group in row.chunk_by(|a, b| a.label == b.label) {
        draw_group(svg, group, (pitches(done), foot + 21.0));
        done += group.len();
    }
}

fn draw_point(svg: &mut Svg, point: &TimelinePoint, number: usize, (x, foot): (f64, f64), most: u64) {
    let look = look_of(&point.phase);
    let fate = if point.cut { counted(point.states, "state", "states") } else { "not cut".into() };
    let explanation = format!("I/O {number}, {}: {}, {fate}", point.label, point.phase);
    let height = if point.cut { 5.0 + (TALLEST - 5.0) * logarithmic(point.states, most) } else { TALLEST };
    let bar = Area { x: x + 2.0, y: foot - height, width: PITCH - 4.0, height };
    let middle = x + PITCH / 2.0;
    svg.explained(&explanation, |svg| {
        svg.rect(bar, &format!("phase {}", look.class));
        if point.cut {
            svg.text((middle, bar.y - 3.0), "states middle", &tiny(point.states));
        } else {
            svg.rect(bar, "uncut");
            svg.text((middle, bar.y - 3.0), "alarm-text middle", "✕");
        }
        svg.text((middle, foot + 12.0), "letter middle", &look.letter.to_string());
    });
}

/// A bracket under neighbours that belong together, with their label.
fn draw_group(svg: &mut Svg, group: &[TimelinePoint], (x, y): (f64, f64)) {
    let Some(first) = group.first() else { return };
    let (left, right) = (x + 2.0, x + pitches(group.len()) - 2.0);
    svg.line((left, y), (right, y), "bracket");
    svg.text((left, y + 12.0), "op", &fitting(&first.label, right - left));
}

/// As much of a label as fits: all, the beginning, or the number at its end.
fn fitting(label: &str, width: f64) -> String {
    let fits = |count: usize| LETTER * count as f64 <= width;
    let start: String =
        label.chars().enumerate().take_while(|(i, _)| fits(i + 2)).map(|(_, letter)| letter).collect();
    let last = label.split(' ').next_back().unwrap_or_default();
    if fits(label.chars().count()) {
        label.to_owned()
    } else if start.chars().count() >= 8 {
        format!("{}…", start.trim_end())
    } else if fits(last.len()) && last.parse::<u64>().is_ok() {
        last.to_owned()
    } else {
        String::new()
    }
}

/// From 0 to 1.
fn logarithmic(number: u64, most: u64) -> f64 {
    if most == 0 { 0.0 } else { (number as f64).ln_1p() / (most as f64).ln_1p() }
}

/// One entry for each phase that occurs.
fn legend(points: &[TimelinePoint], uncut: u64) -> String {
    let mut phases: Vec<(&str, u64)> = Vec::new();
    for point in points {
        match phases.iter_mut().find(|(phase, _)| *phase == point.phase) {
            Some((_, number)) => *number += 1,
            None => phases.push((&point.phase, 1)),
        }
    }
    let mut list = String::from("<ul class=\"legend\">\n");
    for (phase, number) in phases {
        let look = look_of(phase);
        list += &format!(
            "<li title=\"{}\">{} {} <span class=\"soft\">{}</span></li>\n",
            look.meaning,
            swatch(phase),
            escape(phase),
            count(number)
        );
    }
    if uncut > 0 {
        list += &format!(
            "<li class=\"alarm\"><span class=\"swatch missed\">✕</span> not cut {}</li>\n",
            count(uncut)
        );
    }
    list + "</ul>\n"
}

/// A small box with the colour and the letter of a phase.
pub(super) fn swatch(phase: &str) -> String {
    let look = look_of(phase);
    format!("<span class=\"swatch {}\"></span><b class=\"key\">{}</b>", look.class, look.letter)
}

fn caption(points: &[TimelinePoint], rest: &[TimelinePoint], uncut: u64, states: u64) -> String {
    let mut text = format!(
        "One bar for each of the {}, in order, from left to right and then down; the letter and the colour \
         say what it was for. The number above a bar, and its height on a logarithmic scale, say how many \
         crash states were made there: {} together.",
        counted(length(points), "I/O", "I/Os"),
        count(states)
    );
    if uncut == 0 {
        text += " Power was cut at every one of them.";
    } else {
        text += &format!(
            " <strong class=\"alarm\">{} outlined in red and never cut.</strong>",
            counted(uncut, "is", "are")
        );
    }
    if !rest.is_empty() {
        let missed = length(rest.iter().filter(|point| !point.cut));
        text += &format!(
            " The last {} are counted but not drawn, {} of them not cut.",
            count(length(rest)),
            if missed == 0 { "none".into() } else { count(missed) }
        );
    }
    text
}
