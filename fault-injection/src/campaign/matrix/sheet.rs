//! Where cases are entered: for each fault, how many were injected and what became of them.

use std::collections::BTreeMap;

use crate::oracle::Violation;

/// The number of a fault in the model: 1 stands for F1.
pub type FaultNumber = u8;

/// How many faults the model has.
pub const FAULTS: FaultNumber = 29;

/// What became of an injected fault, the worst last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// The call, or the store, went on as if nothing had happened, and all is right.
    Survived,
    /// A typed error said what is wrong, and nothing was changed by the call or the opening.
    Detected,
    /// After opening again, the store holds exactly a state that the history allows.
    Recovered,
    /// Anything else, in words.
    Silent(String),
}

impl Column {
    /// What several looks at one case come to: the worst of them.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }

    /// A case that broke a rule.
    #[must_use]
    pub fn broken(violation: &Violation) -> Self {
        Self::Silent(violation.to_string())
    }
}

/// Lines about silent cases that are kept for each fault.
const MOST_LINES: usize = 20;

/// The figures of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Cases that were recovered.
    pub recovered: u64,
    /// Cases that were detected.
    pub detected: u64,
    /// Cases that were survived.
    pub survived: u64,
    /// Cases that were neither.
    pub silent: u64,
    /// The first of the silent ones, with what leads back to them.
    pub lines: Vec<String>,
    /// What is counted apart, by its name.
    pub apart: BTreeMap<&'static str, u64>,
}

impl Row {
    /// Cases of any outcome.
    #[must_use]
    pub const fn injected(&self) -> u64 {
        self.recovered + self.detected + self.survived + self.silent
    }
}

/// A table under way.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    rows: BTreeMap<FaultNumber, Row>,
}

impl Sheet {
    /// Enters a case; `describe` says which one it is.
    pub fn enter(&mut self, fault: FaultNumber, column: Column, describe: impl FnOnce() -> String) {
        let row = self.rows.entry(fault).or_default();
        match column {
            Column::Survived => row.survived += 1,
            Column::Detected => row.detected += 1,
            Column::Recovered => row.recovered += 1,
            Column::Silent(why) => {
                row.silent += 1;
                if row.lines.len() < MOST_LINES {
                    row.lines.push(format!("F{fault}: {}: {why}", describe()));
                }
            }
        }
    }

    /// Counts something apart.
    pub fn apart(&mut self, fault: FaultNumber, name: &'static str, more: u64) {
        *self.rows.entry(fault).or_default().apart.entry(name).or_default() += more;
    }

    /// The figures of a fault.
    #[must_use]
    pub fn row(&self, fault: FaultNumber) -> Row {
        self.rows.get(&fault).cloned().unwrap_or_default()
    }

    /// Takes another sheet's figures in.
    pub fn add(&mut self, other: Self) {
        for (fault, row) in other.rows {
            let sum = self.rows.entry(fault).or_default();
            sum.recovered += row.recovered;
            sum.detected += row.detected;
            sum.survived += row.survived;
            sum.silent += row.silent;
            let room = MOST_LINES.saturating_sub(sum.lines.len());
            sum.lines.extend(row.lines.into_iter().take(room));
            for (name, count) in row.apart {
                *sum.apart.entry(name).or_default() += count;
            }
        }
    }

    /// All lines about silent cases.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.rows.values().flat_map(|row| row.lines.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts_and_sheets_add_up() {
        let silent = Column::Silent("x".to_owned());
        assert_eq!(Column::Survived.and(Column::Detected).and(Column::Recovered), Column::Recovered);
        assert_eq!(Column::Recovered.and(silent.clone()), silent);
        let (mut one, mut other) = (Sheet::default(), Sheet::default());
        one.enter(3, Column::Recovered, String::new);
        one.apart(3, "more", 2);
        other.enter(3, silent, || "case 7".to_owned());
        other.apart(3, "more", 3);
        one.add(other);
        let row = one.row(3);
        assert_eq!((row.injected(), row.recovered, row.silent), (2, 1, 1));
        assert_eq!(row.apart.get("more"), Some(&5));
        assert_eq!(one.lines().collect::<Vec<_>>(), ["F3: case 7: x"]);
    }
}
