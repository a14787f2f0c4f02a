//! Pictures: panels with bars below each other, in colours for a light and for a dark page.

use std::fmt::Write as _;

use super::text::number;
use crate::measure::Median;

const WIDTH: f64 = 800.0;
const LEFT: f64 = 130.0;
/// Room for the number behind a bar.
const RIGHT: f64 = 130.0;
const TOP: f64 = 44.0;
const BAR: f64 = 20.0;
/// What is above and below the bars of a panel.
const FRAME: f64 = 44.0;

const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}.panel{font-weight:600}\
.page{fill:#fff}.axis,.interval{stroke:#57606a;fill:none}.interval{stroke:#24292f;stroke-width:1.5}\
.own{fill:#54aeff}.floor{fill:#afb8c1}.peer{fill:#fb8f44}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.axis{stroke:#8b949e}.interval{stroke:#e6edf3}\
.own{fill:#1f6feb}.floor{fill:#6e7681}.peer{fill:#bd561d}}\
</style>";

/// Whose a bar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Own,
    Floor,
    Peer,
}

/// One bar, with a line over its interval.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    pub(crate) value: Median,
}

/// Bars on one scale, from zero on.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// A picture.
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

impl Panel {
    fn height(&self) -> f64 {
        FRAME + BAR * self.bars.len() as f64
    }

    fn render(&self, top: f64, out: &mut String) {
        let most = self.bars.iter().map(|bar| bar.value.middle).fold(0.0, f64::max);
        // An interval that is far wider than any bar is cut.
        let room = WIDTH - LEFT - RIGHT;
        let at = |value: f64| LEFT + (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.08) * room;
        let _ =
            writeln!(out, "<text class=\"panel\" x=\"{LEFT}\" y=\"{}\">{}</text>", top + 16.0, self.title);
        let first = top + 24.0;
        for (index, bar) in self.bars.iter().enumerate() {
            let (y, Median { low, middle, high }) = (first + BAR * index as f64, bar.value);
            let class = match bar.colour {
                Colour::Own => "own",
                Colour::Floor => "floor",
                Colour::Peer => "peer",
            };
            let end = at(middle);
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
                 <path class=\"interval\" d=\"M{:.1} {:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 14.0,
                bar.name,
                y + 3.0,
                (end - LEFT).max(1.0),
                BAR - 6.0,
                at(low),
                y + BAR / 2.0,
                at(high),
                end.max(at(high)) + 6.0,
                y + 14.0,
                number(middle)
            );
        }
        let bottom = first + BAR * self.bars.len() as f64;
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {first:.1}V{bottom:.1}\"/>");
    }
}

impl Picture {
    pub(crate) fn render(&self) -> String {
        let height = TOP + self.panels.iter().map(Panel::height).sum::<f64>();
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{STYLE}\n\
             <title>{0}</title><rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"20\" y=\"26\">{0}</text>\n",
            self.title
        );
        let mut top = TOP;
        for panel in &self.panels {
            panel.render(top, &mut out);
            top += panel.height();
        }
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_panel() {
        let bar = |value: f64, colour| Bar {
            name: "x".to_owned(),
            colour,
            value: Median { low: value, middle: value, high: value },
        };
        let bars = vec![bar(50.0, Colour::Own), bar(200.0, Colour::Peer), bar(0.0, Colour::Floor)];
        let picture = Picture { title: "t".to_owned(), panels: vec![Panel { title: "p".to_owned(), bars }] };
        let text = picture.render();
        for width in ["width=\"135.0\"", "width=\"540.0\"", "width=\"1.0\""] {
            assert!(text.contains(width), "{width} in {text}");
        }
    }
}
