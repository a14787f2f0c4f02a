//! The picture of what was reached over time.

use super::Sample;
use super::axis::{Axis, time_mark};
use super::html::figure;
use super::number::{count, duration, rate, sane, short};
use super::svg::{Area, Svg};

const SIZE: (f64, f64) = (960.0, 350.0);
const PLOT: Area = Area { x: 58.0, y: 34.0, width: 702.0, height: 264.0 };
/// More points than this cannot be told apart.
const POINTS: usize = 400;
/// Labels at the ends of lines are this far apart.
const LABEL_HEIGHT: f64 = 34.0;

/// Draws distinct states and recoveries over time.
pub(super) fn section(samples: &[Sample]) -> String {
    let samples = from_origin(samples);
    let Some(last) = samples.last().copied() else { return String::new() };
    let scale = Scale::new(&samples);
    let mut svg = Svg::default();
    scale.draw(&mut svg);
    for line in LINES {
        line.draw(&mut svg, &scale, &samples);
    }
    draw_labels(&mut svg, &scale, last);
    draw_violations(&mut svg, &scale, &samples);
    let label = format!(
        "Line chart: {} distinct crash states and {} recoveries after {}",
        count(last.distinct),
        count(last.recoveries),
        duration(last.seconds)
    );
    format!("{}{}", speed(&samples, last), figure(&svg.finish("chart", SIZE, &label), &caption(last)))
}

/// One counter of the samples.
#[derive(Clone, Copy)]
struct Line {
    name: &'static str,
    class: &'static str,
    value: fn(&Sample) -> u64,
}

/// The broken line comes last, so that both are seen where they run together.
const LINES: [Line; 2] = [
    Line { name: "distinct states", class: "distinct", value: |sample| sample.distinct },
    Line { name: "recoveries judged", class: "recoveries", value: |sample| sample.recoveries },
];

impl Line {
    fn draw(self, svg: &mut Svg, scale: &Scale, samples: &[Sample]) {
        let value = self.value;
        let points: Vec<(f64, f64)> =
            samples.iter().map(|sample| scale.at(sample.seconds, value(sample))).collect();
        svg.polyline(&points, &format!("curve {}", self.class));
        if let Some(end) = points.last() {
            svg.circle(*end, 3.5, &format!("dot {}", self.class));
        }
    }
}

/// From data to pixels.
struct Scale {
    time: Axis,
    counts: Axis,
}

impl Scale {
    fn new(samples: &[Sample]) -> Self {
        let end = samples.last().map_or(0.0, |sample| sample.seconds);
        let largest = samples.iter().map(|sample| sample.distinct.max(sample.recoveries)).max();
        Self { time: Axis::time(end), counts: Axis::counts(largest.unwrap_or(0)) }
    }

    fn at(&self, seconds: f64, value: u64) -> (f64, f64) {
        (self.x(seconds), self.y(value as f64))
    }

    fn x(&self, seconds: f64) -> f64 {
        PLOT.x + PLOT.width * self.time.place(seconds)
    }

    fn y(&self, value: f64) -> f64 {
        PLOT.y + PLOT.height * (1.0 - self.counts.place(value))
    }

    fn draw(&self, svg: &mut Svg) {
        let (left, right, foot) = (PLOT.x, PLOT.x + PLOT.width, PLOT.y + PLOT.height);
        svg.text((left, PLOT.y - 16.0), "axis", "count");
        for mark in &self.counts.marks {
            let y = self.y(*mark);
            svg.line((left, y), (right, y), "grid");
            svg.text((left - 8.0, y + 4.0), "axis end", &short(*mark));
        }
        for mark in &self.time.marks {
            let x = self.x(*mark);
            svg.line((x, foot), (x, foot + 5.0), "tick");
            svg.text((x, foot + 19.0), "axis middle", &time_mark(*mark, self.time.end));
        }
        svg.line((left, foot), (right, foot), "tick");
        svg.text((left + PLOT.width / 2.0, foot + 42.0), "axis middle", "time since the start of the run");
    }
}

/// Samples in order, from the instant when all counters were zero, and not more of them than a picture can
/// show.
fn from_origin(samples: &[Sample]) -> Vec<Sample> {
    let mut sorted: Vec<Sample> =
        samples.iter().map(|sample| Sample { seconds: sane(sample.seconds), ..*sample }).collect();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let step = sorted.len().div_ceil(POINTS).max(1);
    let last = sorted.len().saturating_sub(1);
    let chosen =
        sorted.into_iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, sample)| sample);
    let mut all: Vec<Sample> = chosen.collect();
    if all.first().is_some_and(|first| first.seconds > 0.0) {
        all.insert(0, Sample::default());
    }
    all
}

/// Labels stand at the ends of the lines, and are pushed apart where the lines meet.
fn draw_labels(svg: &mut Svg, scale: &Scale, last: Sample) {
    let mut labels = LINES.map(|line| (line, (line.value)(&last)));
    labels.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    let x = PLOT.x + PLOT.width + 12.0;
    let mut free = PLOT.y;
    for (below, (line, value)) in (0..labels.len()).rev().zip(labels) {
        let lowest = PLOT.y + PLOT.height - LABEL_HEIGHT * below as f64 - 10.0;
        let y = scale.y(value as f64).max(free).min(lowest);
        svg.text((x, y), &format!("label {}", line.class), &count(value));
        svg.text((x, y + 14.0), &format!("axis {}", line.class), line.name);
        free = y + LABEL_HEIGHT;
    }
}

/// A mark where the number of broken rules grew.
fn draw_violations(svg: &mut Svg, scale: &Scale, samples: &[Sample]) {
    for (before, after) in samples.iter().zip(samples.iter().skip(1)) {
        let more = after.violations.saturating_sub(before.violations);
        if more == 0 {
            continue;
        }
        let x = scale.x(after.seconds);
        svg.explained(&format!("{} broken after {}", count(more), duration(after.seconds)), |svg| {
            svg.line((x, PLOT.y - 8.0), (x, PLOT.y + PLOT.height), "alarm-line");
            svg.text((x, PLOT.y - 12.0), "alarm-text middle", "✕");
        });
    }
}

/// The rates, in a sentence.
fn speed(samples: &[Sample], last: Sample) -> String {
    let Some(states) = rate(last.distinct, last.seconds) else { return String::new() };
    let recoveries = rate(last.recoveries, last.seconds).unwrap_or_default();
    let mut text = format!(
        "<p>On average the run reached <strong>{states} distinct states/s</strong> and judged \
         <strong>{recoveries} recoveries/s</strong>"
    );
    let late = samples.iter().rfind(|sample| sample.seconds <= 0.75 * last.seconds);
    if let Some(late) = late.filter(|late| late.seconds > 0.0)
        && let Some(states) = rate(last.distinct.saturating_sub(late.distinct), last.seconds - late.seconds)
    {
        text += &format!("; in the last quarter, <strong>{states} distinct states/s</strong>");
    }
    text + ".</p>\n"
}

fn caption(last: Sample) -> String {
    let mut text = format!(
        "A state is distinct when recovery reads other bytes from it than from every earlier one; {} were made. A line that \
         keeps climbing means that the run still found states it had not seen; one that flattens means that \
         it repeats itself.",
        count(last.crash_states)
    );
    if last.violations > 0 {
        text += " A red line marks an instant at which a rule was broken.";
    }
    text
}
