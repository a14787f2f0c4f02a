//! Who has the duty to write groups and does not get to it just now; and those who were told meanwhile, and are woken by and by.

use std::time::{Duration, Instant};

use super::engine::Journal;
use super::outcome::Told;

/// How long whoever has the duty may stay away.
const PATIENCE: Duration = Duration::from_millis(50);

/// Whoever has the duty does not get to it just now.
#[derive(Debug, Default)]
pub(super) struct Absence {
    since: Option<Instant>,
    /// Those whose turn to be woken is still to come.
    told: Told,
}

impl Absence {
    fn of(told: Told) -> Self {
        Self { since: Some(Instant::now()), told }
    }

    /// Whether it has lasted too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// Those who sleep on, when it has lasted too long.
    pub(super) fn overdue(&mut self) -> Option<Told> {
        self.is_overdue().then(|| self.told.split(usize::MAX))
    }
}

impl Journal {
    /// Wakes all who were told.
    pub(super) fn wake_all(&self, told: Told) {
        let (start, took) = (self.now(), told.took);
        drop(told);
        if let Some(took) = took {
            self.stages.tell.record_time(took + self.now().saturating_sub(start));
        }
    }

    /// Whoever has the duty does not get to it at once: a task that lets others run, or a thread that is still to come. Those who
    /// were told are woken by and by.
    pub(super) fn leave(&self, told: Told) {
        let before = std::mem::replace(&mut *self.lock(&self.absence), Absence::of(told));
        self.wake_all(before.told);
    }

    /// That is over. Whoever was told and sleeps on is woken.
    pub(super) fn come_back(&self) {
        let absence = std::mem::take(&mut *self.lock(&self.absence));
        self.wake_all(absence.told);
    }

    /// Wakes some of those who were told. Returns whether there are more.
    pub(super) fn wake_some(&self, most: usize) -> bool {
        let start = self.now();
        let some = self.lock(&self.absence).told.split(most);
        drop(some);
        let passed = self.now().saturating_sub(start);
        let (took, more) = {
            let mut absence = self.lock(&self.absence);
            let more = !absence.told.is_empty();
            let took = absence.told.took.map(|took| took + passed);
            absence.told.took = took.filter(|_| more);
            (took, more)
        };
        if let (Some(took), false) = (took, more) {
            self.stages.tell.record_time(took);
        }
        more
    }
}
