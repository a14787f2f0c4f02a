//! Pictures: panels with lines over axes, below each other, in colours for a light and for a dark page.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
/// Height of the axes of a panel, and of what is above and below them.
const AXES: f64 = 190.0;
const PANEL: f64 = AXES + 62.0;
/// Ticks are at most so many.
const TICKS: f64 = 6.0;

const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}.page{fill:#fff}.axis{stroke:#57606a;fill:none}.grid{stroke:#d0d7de}\
.line{fill:none;stroke-width:1.8}\
.s0{stroke:#0969da;fill:#0969da}.s1{stroke:#1a7f37;fill:#1a7f37}.s2{stroke:#bc4c00;fill:#bc4c00}\
.s3{stroke:#8250df;fill:#8250df}.line{fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.axis{stroke:#8b949e}.grid{stroke:#30363d}\
.s0{stroke:#58a6ff;fill:#58a6ff}.s1{stroke:#3fb950;fill:#3fb950}.s2{stroke:#f0883e;fill:#f0883e}\
.s3{stroke:#bc8cff;fill:#bc8cff}.line{fill:none}}\
</style>";

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero on.
    Linear,
    /// By powers of two. Zero is at the bottom.
    Binary,
}

/// One axis.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

/// One set of axes.
pub(crate) struct Panel {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Of each series, in the order of the names.
    pub(crate) series: Vec<Vec<(f64, f64)>>,
}

/// A picture.
pub(crate) struct Picture {
    pub(crate) title: String,
    /// Names of the series, for the legend.
    pub(crate) names: Vec<&'static str>,
    pub(crate) panels: Vec<Panel>,
}

/// Values from the lowest to the highest tick, laid over so many units of the picture.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
    length: f64,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, length: f64) -> Self {
        let place = |value: f64| if scale == Scale::Binary { value.log2() } else { value };
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        // Zero has no place among powers of two, and is drawn at the bottom.
        for value in values.map(place).filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if scale == Scale::Linear {
            low = low.min(0.0);
        }
        // Room for a series that is a single value.
        high = high.max(low + 1e-6);
        let raw = (high - low) / TICKS;
        let power = 10_f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let mut step = steps.into_iter().find(|&step| step >= raw).unwrap_or(power);
        if scale == Scale::Binary {
            step = step.max(1.0).ceil();
        }
        Self { scale, low: (low / step).floor() * step, high: (high / step).ceil() * step, step, length }
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Binary { value.log2() } else { value };
        (value.max(self.low) - self.low) / (self.high - self.low) * self.length
    }

    /// Where the ticks are, and what they say.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        (0..=count).map(|tick| {
            let place = self.low + f64::from(tick) * self.step;
            let value = if self.scale == Scale::Binary { place.exp2() } else { place };
            let at = (place - self.low) / (self.high - self.low) * self.length;
            (at, number(value))
        })
    }
}

/// As few digits as say it.
fn number(value: f64) -> String {
    let digits = if value >= 10.0 || value == 0.0 { 0 } else { 4 };
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Picture {
    pub(crate) fn render(&self) -> String {
        let height = TOP + PANEL * self.panels.len() as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{STYLE}\n\
             <title>{0}</title><rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"24\">{0}</text>\n",
            self.title
        );
        for (at, name) in self.names.iter().enumerate() {
            let x = LEFT + 170.0 * at as f64;
            let _ = writeln!(
                out,
                "<rect class=\"s{at}\" x=\"{x}\" y=\"38\" width=\"14\" height=\"4\"/>\
                 <text x=\"{}\" y=\"45\">{name}</text>",
                x + 20.0
            );
        }
        for (at, panel) in self.panels.iter().enumerate() {
            panel.render(TOP + PANEL * at as f64, &mut out);
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Panel {
    fn render(&self, top: f64, out: &mut String) {
        let points = || self.series.iter().flatten();
        let x = Ruler::new(self.x.scale, points().map(|point| point.0), WIDTH - LEFT - RIGHT);
        let y = Ruler::new(self.y.scale, points().map(|point| point.1), AXES);
        let bottom = top + AXES;
        for (at, label) in y.ticks() {
            let at = bottom - at;
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (at, label) in x.ticks() {
            let at = LEFT + at;
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{at:.1} {bottom}v5\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            );
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {top}V{bottom}H{}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT,
            bottom + 36.0,
            self.x.label,
            top + AXES / 2.0,
            self.y.label
        );
        for (at, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            for (index, point) in series.iter().enumerate() {
                let letter = if index == 0 { 'M' } else { 'L' };
                let (left, up) = (LEFT + x.at(point.0), bottom - y.at(point.1));
                let _ = write!(path, "{letter}{left:.1} {up:.1}");
            }
            let _ = writeln!(out, "<path class=\"s{at} line\" d=\"{path}\"/>");
        }
    }
}
