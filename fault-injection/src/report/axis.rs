//! Axes with round marks.

use super::number::{sane, short, trimmed};

/// Where an axis that begins at zero ends, and where it has marks.
#[derive(Debug, PartialEq)]
pub(super) struct Axis {
    /// End of the axis.
    pub(super) end: f64,
    /// Marks, the first at zero.
    pub(super) marks: Vec<f64>,
}

impl Axis {
    /// An axis of counts that ends at a mark.
    pub(super) fn counts(largest: u64) -> Self {
        let step = round_step(largest as f64 / 5.0).max(1.0);
        let steps = (largest as f64 / step).ceil().max(1.0);
        Self::new(step * steps, step)
    }

    /// An axis of seconds that ends with the data.
    pub(super) fn time(end: f64) -> Self {
        const STEPS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];
        let end = if sane(end) > 0.0 { sane(end) } else { 1.0 };
        let wanted = end / 8.0;
        let step = if wanted < 1.0 {
            round_step(wanted)
        } else {
            let fits = STEPS.into_iter().find(|step| *step >= wanted);
            fits.unwrap_or_else(|| 3600.0 * round_step(wanted / 3600.0).max(1.0))
        };
        Self::new(end, step)
    }

    fn new(end: f64, step: f64) -> Self {
        let marks = (0..=20).map(|i| step * f64::from(i)).take_while(|mark| *mark <= end * 1.0001).collect();
        Self { end, marks }
    }

    /// Where a value lies on the axis, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        sane(value / self.end).min(1.0)
    }
}

/// The next of 1, 2, 5, 10, 20 ... that is not smaller.
fn round_step(wanted: f64) -> f64 {
    let wanted = if sane(wanted) > 0.0 { wanted } else { 1.0 };
    let power = 10f64.powf(wanted.log10().floor());
    let power = if power.is_normal() { power } else { 1.0 };
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= wanted * 0.9999).unwrap_or(10.0);
    factor * power
}

/// A mark of a time axis in words. The unit follows the end of the axis.
pub(super) fn time_mark(seconds: f64, end: f64) -> String {
    let (number, unit) = if end < 240.0 {
        (seconds, "s")
    } else if end < 14_400.0 {
        (seconds / 60.0, "min")
    } else {
        (seconds / 3600.0, "h")
    };
    if number >= 1000.0 {
        return format!("{} {unit}", short(number));
    }
    if number > 0.0 && number < 0.01 {
        return format!("{number:.0e} {unit}");
    }
    format!("{} {unit}", trimmed(&format!("{number:.2}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_time_have_the_unit_of_their_axis() {
        assert_eq!(time_mark(0.5, 2.0), "0.5 s");
        assert_eq!(time_mark(120.0, 3600.0), "2 min");
        assert_eq!(time_mark(7200.0, 36_000.0), "2 h");
        assert_eq!(time_mark(36e6, 72e6), "10k h");
        assert_eq!(time_mark(2e-4, 1e-3), "2e-4 s");
    }

    #[test]
    fn axes_have_few_round_marks() {
        assert_eq!(Axis::counts(0), Axis { end: 1.0, marks: vec![0.0, 1.0] });
        assert_eq!(Axis::counts(2_900_000).marks.last(), Some(&3e6));
        assert_eq!(Axis::time(120.0).marks.get(1), Some(&20.0));
        for largest in (0..64).map(|bits| u64::MAX >> bits) {
            let axis = Axis::counts(largest);
            assert!(axis.end >= largest as f64 && (2..=7).contains(&axis.marks.len()), "{axis:?}");
        }
        for end in [0.0, 1e-300, 0.003, 1.0, 7.0, 61.0, 3601.0, 1e6, 1e12, f64::MAX / 1.00001, f64::NAN] {
            let axis = Axis::time(end);
            assert!(axis.end > 0.0 && (2..=10).contains(&axis.marks.len()), "{end}: {axis:?}");
        }
    }
}
