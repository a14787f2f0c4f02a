//! Medians over rounds.

/// A median, and the interval that holds the true one with at least 95 % confidence, by the sign test. Below six
/// values there is no such interval: then it is from the least to the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) high: f64,
}

/// How many values at either end may be left out: at most that many heads in this many throws of a coin have a
/// probability of 2.5 % at most.
fn left_out(count: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut sum, mut heads) = (probability, 0);
    while sum <= 0.025 && heads < count {
        probability *= (count - heads) as f64 / (heads + 1) as f64;
        sum += probability;
        heads += 1;
    }
    // `heads` is the first number that is too likely; as many as there are below it may go.
    heads.saturating_sub(usize::from(heads > 0))
}

impl Median {
    /// None without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |rank: usize| values.get(rank).copied();
        let out = left_out(values.len());
        Some(Self {
            low: at(out)?,
            middle: f64::midpoint(at(last / 2)?, at(last.div_ceil(2))?),
            high: at(last - out)?,
        })
    }

    /// A figure that was only taken once.
    pub(crate) fn exactly(value: f64) -> Option<Self> {
        Self::of([value])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn it_is_in_the_middle_of_its_interval() {
        let median = Median::of((0..101).rev().map(f64::from)).unwrap();
        assert_eq!(median, Median { low: 40.0, middle: 50.0, high: 60.0 });
        let few = Median::of([3.0, 1.0, f64::NAN, 2.0, 10.0]).unwrap();
        assert_eq!(few, Median { low: 1.0, middle: 2.5, high: 10.0 });
        assert_eq!(Median::of([]), None);
    }

    /// Against the tables of the sign test.
    #[test]
    fn intervals_are_those_of_the_sign_test() {
        let ranks = [5, 6, 8, 9, 12, 20, 50, 100].map(left_out);
        assert_eq!(ranks, [0, 0, 0, 1, 2, 5, 17, 39]);
    }
}
