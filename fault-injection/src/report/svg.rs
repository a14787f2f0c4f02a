//! A picture as inline SVG. Looks come from classes in the style sheet, so that they follow the colour
//! scheme.

use std::fmt::Write as _;

use super::html::escape;
use super::number::sane;

/// A rectangle, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    /// Left edge.
    pub(super) x: f64,
    /// Upper edge.
    pub(super) y: f64,
    /// Width.
    pub(super) width: f64,
    /// Height.
    pub(super) height: f64,
}

/// A picture that grows.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

/// A coordinate. Nothing but a finite number may get into a picture.
fn px(value: f64) -> String {
    format!("{:.1}", sane(value))
}

impl Svg {
    /// Draws a rectangle.
    pub(super) fn rect(&mut self, area: Area, class: &str) {
        let Area { x, y, width, height } = area;
        let (x, y, width, height) = (px(x), px(y), px(width), px(height));
        let _ = write!(
            self.body,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\"/>"
        );
    }

    /// Draws a straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        let _ =
            write!(self.body, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" class=\"{class}\"/>");
    }

    /// Draws a line through points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect();
        let _ = write!(self.body, "<polyline points=\"{}\" class=\"{class}\"/>", points.join(" "));
    }

    /// Draws a filled circle.
    pub(super) fn circle(&mut self, centre: (f64, f64), radius: f64, class: &str) {
        let (x, y, radius) = (px(centre.0), px(centre.1), px(radius));
        let _ = write!(self.body, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" class=\"{class}\"/>");
    }

    /// Writes text. The class decides which point of it `at` is.
    pub(super) fn text(&mut self, at: (f64, f64), class: &str, text: &str) {
        let (x, y) = (px(at.0), px(at.1));
        let _ = write!(self.body, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", escape(text));
    }

    /// Draws something that shows a line of text when pointed at.
    pub(super) fn explained(&mut self, explanation: &str, draw: impl FnOnce(&mut Self)) {
        let _ = write!(self.body, "<g><title>{}</title>", escape(explanation));
        draw(self);
        self.body.push_str("</g>\n");
    }

    /// The picture. `label` is for those who cannot see it.
    pub(super) fn finish(self, class: &str, size: (f64, f64), label: &str) -> String {
        self.close(class, size, label, "xMidYMid")
    }

    /// The picture, which fills the space that it gets in both directions.
    pub(super) fn finish_stretched(self, class: &str, size: (f64, f64), label: &str) -> String {
        self.close(class, size, label, "none")
    }

    fn close(self, class: &str, size: (f64, f64), label: &str, aspect: &str) -> String {
        let (width, height, label, body) = (px(size.0), px(size.1), escape(label), self.body);
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"{aspect}\" \
             role=\"img\" aria-label=\"{label}\">\n{body}</svg>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinate_is_always_a_number() {
        assert_eq!(px(1.25e2), "125.0");
        assert_eq!(px(f64::NAN), "0.0");
        assert_eq!(px(f64::INFINITY), "0.0");
    }
}
