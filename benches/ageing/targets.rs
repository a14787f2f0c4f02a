//! What is wanted, and what is measured of it.

use crate::report::{Report, percent, verdict};
use crate::store::Kind;

/// A figure of the product as a caller has it, and of the product when all blobs are in pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Both {
    pub(crate) items: f64,
    pub(crate) pages: f64,
}

impl Both {
    /// The one of an allocator, if it is the product.
    pub(crate) const fn of(&mut self, kind: Kind) -> Option<&mut f64> {
        match kind {
            Kind::Freehold => Some(&mut self.items),
            Kind::FreeholdPages => Some(&mut self.pages),
            Kind::TailBack | Kind::PowerOfTwo => None,
        }
    }

    fn tell(&self, figure: impl Fn(f64) -> String) -> String {
        format!("{}; pages only {}", figure(self.items), figure(self.pages))
    }
}

/// Times of one kind of pair, in nanoseconds, on stores of several sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs {
    /// On the store that has a target.
    pub(crate) wanted: f64,
    shortest: f64,
    longest: f64,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { wanted: f64::NAN, shortest: f64::INFINITY, longest: 0.0 }
    }
}

impl Pairs {
    /// Takes in the time on a store, which may be the one that has a target.
    pub(crate) const fn add(&mut self, time: f64, wanted: bool) {
        self.wanted = if wanted { time } else { self.wanted };
        self.shortest = self.shortest.min(time);
        self.longest = self.longest.max(time);
    }

    fn spread(&self) -> f64 {
        self.longest / self.shortest
    }
}

/// The figures that have a target. Shares are of 1, times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Rounding on the first law beyond that to whole pages.
    pub(crate) rounding: f64,
    /// Lowest sustained fill over the seeds, for the first law and the second.
    pub(crate) fill: [Both; 2],
    /// The most extents per blob of a law; infinite when the fill was not held.
    pub(crate) extents: Both,
    /// The same blob allocated and freed at once.
    pub(crate) same: Pairs,
    /// A random blob freed, another one allocated.
    pub(crate) replacement: Pairs,
    /// The store whose pairs have a target, in GiB.
    pub(crate) pair_gib: u64,
}

impl Figures {
    pub(crate) fn report(&self, report: &mut Report) {
        let row = |what: &str, wanted: &str, measured: String, reached: bool| {
            vec![what.to_owned(), wanted.to_owned(), measured, verdict(reached)]
        };
        let [first, second] = &self.fill;
        let fill = |what: &str, wanted: &str, fill: &Both, least: f64| {
            row(what, wanted, fill.tell(percent), fill.items >= least)
        };
        let rounding = percent(self.rounding);
        let extents = self.extents.tell(extents_per_blob);
        let gib = self.pair_gib;
        let mut rows = vec![
            row("rounding beyond whole pages, first law", "at most 0.5 %", rounding, self.rounding <= 0.005),
            fill("sustained fill, first law", "at least 97 %", first, 0.97),
            fill("sustained fill, second law", "at least 91 %", second, 0.91),
            row("extents per blob at 95 % fill", "at most 1.05", extents, self.extents.items <= 1.05),
        ];
        for (name, pairs) in [("the same", &self.same), ("replacement", &self.replacement)] {
            let (time, spread) = (pairs.wanted, pairs.spread());
            let what = format!("pair at 90 % fill, {gib} GiB, {name}");
            rows.push(row(&what, "at most 60 ns", format!("{time:.0} ns"), time <= 60.0));
            let what = format!("from the smallest store to the largest, {name}");
            rows.push(row(&what, "within 2 x", format!("{spread:.2} x"), spread <= 2.0));
        }
        report.table(&["figure", "wanted", "measured", ""], &rows);
    }
}

/// Infinite where a fill was not held.
pub(crate) fn extents_per_blob(extents: f64) -> String {
    if extents.is_finite() { format!("{extents:.4}") } else { "fill not held".to_owned() }
}
