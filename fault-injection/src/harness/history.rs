//! Histories: what was done, and the model's state after each step.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::subject::Damage;

/// One step of a history: it is in a crash state or it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// In words.
    pub text: String,
    /// Whether it is a transaction of the log.
    pub journaled: bool,
}

impl Step {
    /// A transaction.
    #[must_use]
    pub fn transaction(text: impl Into<String>) -> Self {
        Self { text: text.into(), journaled: true }
    }
}

/// The steps in the order in which they take effect, and the state before the first and after each.
#[derive(Clone, Debug)]
pub struct History<T> {
    steps: Vec<Step>,
    states: Vec<T>,
    /// Number of steps after which the disk holds a store.
    formatted_at: usize,
    /// Number of steps until the first opening comes to its end.
    opened_at: usize,
    /// States from before this history: of the rounds that it goes on from.
    earlier: Arc<[T]>,
}

impl<T: Clone> History<T> {
    /// A history that begins with a store in `state`.
    #[must_use]
    pub fn from(state: T) -> Self {
        Self {
            steps: Vec::new(),
            states: vec![state],
            formatted_at: 0,
            opened_at: 0,
            earlier: Arc::default(),
        }
    }

    /// A history that begins with what a crash left to a recovery that has not come to its end: the store is found in
    /// `state`, but another crash inside the first opening may still lead to one of the others.
    #[must_use]
    pub fn unsettled(others: Vec<T>, state: T) -> Self {
        let text = "what else the crash before may have left, until the opening has come to its end";
        let steps = vec![Step { text: text.to_owned(), journaled: false }; others.len()];
        let opened_at = others.len();
        let states = others.into_iter().chain([state]).collect();
        Self { steps, states, formatted_at: 0, opened_at, earlier: Arc::default() }
    }

    /// The same, and these states came before it, oldest first.
    #[must_use]
    pub fn after(self, earlier: impl Iterator<Item = T>) -> Self {
        Self { earlier: earlier.collect(), ..self }
    }

    /// The states from before this history, oldest first; only of rounds that are known.
    #[must_use]
    pub fn earlier(&self) -> &[T] {
        &self.earlier
    }

    /// A history that begins with a blank disk.
    #[must_use]
    pub fn unformatted(state: T) -> Self {
        Self { formatted_at: 1, ..Self::from(state) }
    }

    /// As it was before the first opening, or formatting.
    #[must_use]
    pub fn beginning(&self) -> Self {
        let mut beginning = self.clone();
        beginning.steps.truncate(self.opened_at);
        beginning.states.truncate(self.opened_at + 1);
        beginning
    }

    /// Number of steps until the first opening comes to its end.
    pub(super) const fn opened_at(&self) -> usize {
        self.opened_at
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step, state: T) {
        self.steps.push(step);
        self.states.push(state);
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The state before the first step, and after each.
    #[must_use]
    pub fn states(&self) -> &[T] {
        &self.states
    }

    /// The states, to be tampered with by tests of oracles.
    pub fn states_mut(&mut self) -> &mut [T] {
        &mut self.states
    }

    /// The state after so many steps.
    #[must_use]
    pub fn state(&self, steps: usize) -> Option<&T> {
        self.states.get(steps)
    }

    /// The state after the last step.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.states.last()
    }

    /// Whether there may be no store yet when so many steps are acknowledged.
    #[must_use]
    pub const fn may_be_unformatted(&self, acknowledged: usize) -> bool {
        acknowledged < self.formatted_at
    }

    /// Whether the history begins with a store.
    #[must_use]
    pub const fn begins_formatted(&self) -> bool {
        self.formatted_at == 0
    }

    /// The fewest steps that must be left of so many acknowledged ones.
    #[must_use]
    pub fn lowest(&self, acknowledged: usize, damage: Damage, torn_tail: bool) -> usize {
        match damage {
            Damage::Some | Damage::LastGroup(_) if torn_tail => 0,
            Damage::None | Damage::Some => acknowledged,
            Damage::LastGroup(transactions) => {
                let steps = self.steps.get(..acknowledged).unwrap_or(&[]);
                let mut journaled = steps.iter().enumerate().rev().filter(|(_, step)| step.journaled);
                journaled.nth(transactions.saturating_sub(1)).map_or(0, |(at, _)| at)
            }
        }
    }
}

/// How far a history had come at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// So many steps were acknowledged.
    pub acknowledged: usize,
    /// So many were begun.
    pub started: usize,
}

/// Marks in a trace say how far the history has come.
impl Progress {
    /// How many steps may be found when nothing is damaged.
    #[must_use]
    pub const fn allowed(&self) -> RangeInclusive<usize> {
        self.acknowledged..=self.started
    }

    /// A mark: so many steps are begun.
    #[must_use]
    pub const fn started_mark(steps: usize) -> u64 {
        (steps as u64) << 1
    }

    /// A mark: so many steps are acknowledged.
    #[must_use]
    pub const fn acknowledged_mark(steps: usize) -> u64 {
        (steps as u64) << 1 | 1
    }

    /// How many steps a mark acknowledges; none if it is one of a beginning.
    #[must_use]
    pub fn acknowledged_by(mark: u64) -> Option<usize> {
        (mark & 1 == 1).then(|| usize::try_from(mark >> 1).unwrap_or(usize::MAX))
    }

    /// Takes a mark into account.
    pub fn observe(&mut self, mark: u64) {
        let steps = usize::try_from(mark >> 1).unwrap_or(usize::MAX);
        if mark & 1 == 1 {
            // Steps that were begun and did not come (no space, say) are not to come any more.
            self.acknowledged = steps;
            self.started = steps;
        } else {
            self.started = self.started.max(steps);
        }
    }
}
