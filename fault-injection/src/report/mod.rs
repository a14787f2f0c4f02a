//! The page that tells what a run did: one HTML file with everything in it.
//!
//! The page needs no script and loads nothing, so that it can be attached to a build, sent by mail or
//! printed. It explains itself to a reader who has never seen the project. [`page()`] is a pure function: the
//! same data give the same bytes.
//!
//! ```
//! use fault_injection::report::{Report, page};
//!
//! let report = Report { title: "Nightly run".into(), seed: 7, ..Report::default() };
//! assert!(page(&report).starts_with("<!DOCTYPE html>"));
//! ```

mod axis;
mod growth;
mod html;
mod matrix;
mod number;
mod page;
mod phase;
mod svg;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;
mod verdict;

pub use number::count;
pub use page::page;

/// Everything that a page shows. Sections without data are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// The command line that made the run.
    pub command: String,
    /// Everything that the run chose follows from this.
    pub seed: u64,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// Workloads that ran at the same time.
    pub jobs: usize,
    /// Version of the program.
    pub version: String,
    /// The big numbers: label, value, explanation in one line.
    pub headline: Vec<(String, String, String)>,
    /// Counters as they grew, in order of time.
    pub over_time: Vec<Sample>,
    /// Crash states by kind.
    pub classes: Vec<ClassCount>,
    /// Writes and flushes by what they were for.
    pub phases: Vec<PhaseCount>,
    /// The I/O of one example workload, in order.
    pub timeline: Vec<TimelinePoint>,
    /// The checks that judged recovered stores.
    pub oracles: Vec<OracleCount>,
    /// What became of each fault of the fault model.
    pub matrix: Vec<MatrixRow>,
    /// Facts about the run that tried everything: label, value.
    pub exhaustive: Vec<(String, String)>,
    /// Broken rules: message, command that leads back to it.
    pub violations: Vec<(String, String)>,
    /// How to get the same result again: what, command.
    pub reproduce: Vec<(String, String)>,
}

/// Counters at one instant. All count from the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Time since the start, in seconds.
    pub seconds: f64,
    /// States that were made.
    pub crash_states: u64,
    /// Of them, those from which recovery read other bytes than from every earlier one.
    pub distinct: u64,
    /// Recoveries that were judged.
    pub recoveries: u64,
    /// Broken rules.
    pub violations: u64,
}

/// Crash states of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Name of the kind. `prefix`, `subset`, `tear`, `garbage` and `nested` get a pictogram.
    pub name: String,
    /// States that were made.
    pub made: u64,
    /// Of them, those from which recovery read other bytes than from every earlier one.
    pub distinct: u64,
    /// What the kind is, in a sentence.
    pub meaning: String,
}

/// Writes and flushes for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseCount {
    /// `journal`, `superblock`, `witness`, `metadata`, `checksum tree`, `caller checkpoint`, `caller direct`,
    /// `format` or `flush`. Others are shown in grey.
    pub phase: String,
    /// Writes or flushes.
    pub points: u64,
    /// Of them, those at which power was cut at least once.
    pub cut: u64,
    /// Crash states made there.
    pub states: u64,
}

/// One write or flush of the example workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimelinePoint {
    /// What the workload was doing. Neighbours with the same label are drawn as one group.
    pub label: String,
    /// What the I/O was for, as in [`PhaseCount::phase`].
    pub phase: String,
    /// Whether power was cut there at least once.
    pub cut: bool,
    /// Crash states made there.
    pub states: u64,
}

/// What one check did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OracleCount {
    /// Name of the check.
    pub name: String,
    /// What it checks, in a sentence.
    pub meaning: String,
    /// Stores that it judged.
    pub judged: u64,
    /// Whether it rejected its bait in this run: a state known to be wrong.
    pub proved: bool,
    /// How often it rejected something, baits included.
    pub rejected: u64,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixRow {
    /// `F1` to `F29`.
    pub id: String,
    /// The fault, in a few words.
    pub fault: String,
    /// How often it was injected.
    pub points: u64,
    /// The store came back with what had been committed.
    pub recovered: u64,
    /// The store refused by a typed error.
    pub detected: u64,
    /// The store went on working and nothing was lost.
    pub survived: u64,
    /// The result was wrong and nothing said so.
    pub silent: u64,
    /// What else there is to say, or why the fault was not injected.
    pub remark: String,
}
