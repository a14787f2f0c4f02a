//! How long transactions took.

use std::time::Duration;

/// Nanoseconds of every transaction of a turn. They are put into a histogram only behind it: what a turn measures, the
/// threads of the turn would pay for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<u64>);

/// Microseconds that these shares of a turn's transactions did not exceed. Not a number if there were none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nanoseconds, one by one.
    pub(crate) fn nanos(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// Exact ones: a ratio of two turns is not to be rounded to buckets.
    pub(crate) fn quantiles(&mut self) -> Quantiles {
        self.0.sort_unstable();
        let at = |thousandths: usize| {
            let rank = (self.0.len() * thousandths).div_ceil(1000).max(1);
            self.0.get(rank - 1).map_or(f64::NAN, |&nanos| nanos as f64 / 1e3)
        };
        Quantiles { p50: at(500), p99: at(990) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_thousand_times() {
        let (mut times, mut more) = (Times::default(), Times::default());
        assert!(times.quantiles().p50.is_nan());
        (501..=1000).for_each(|micros| times.record(Duration::from_micros(micros)));
        (1..=500).for_each(|micros| more.record(Duration::from_micros(micros)));
        times.append(&mut more);
        let Quantiles { p50, p99 } = times.quantiles();
        assert_eq!((p50, p99), (500.0, 990.0));
        assert_eq!((times.len(), more.len()), (1000, 0));
        assert_eq!(times.nanos().next(), Some(1000));
    }
}
