//! The judge: recovers a crash state and says whether it is one that the history allows.

use std::sync::Arc;

use freehold::device::Device;

use super::history::{History, Progress};
use super::subject::{Allowed, Damage, Opened, Refusal, Subject};
use crate::oracle::{Oracle, Violation, without_panic};

/// What came of a recovery that broke no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store holds the state after so many steps.
    Recovered {
        /// Steps of the history.
        steps: usize,
        /// Whether recovery dropped a torn tail.
        torn_tail: bool,
    },
    /// There is no store, and there may not be one yet.
    NotFormatted,
    /// The store is refused by a typed error that names damage; only allowed where there was some.
    Refused(String),
    /// Damage and a torn tail took all of this history: the store holds a state from before it.
    Earlier,
}

/// Judges recoveries against one history.
pub struct Judge<'a, S: Subject> {
    /// The store under test.
    pub subject: &'a S,
    /// What was done.
    pub history: &'a History<S::State>,
}

impl<S: Subject> Judge<'_, S> {
    /// Opens the store on `device` and judges it. The store is left open in the result.
    ///
    /// # Errors
    /// The rule that was broken. A panic breaks one.
    pub fn recover(
        &self,
        device: Arc<dyn Device>,
        progress: Progress,
        damage: Damage,
    ) -> Result<(Verdict, Option<S::Store>), Violation> {
        without_panic(|| self.judge(self.subject.open(device), progress, damage))
    }

    /// Judges a store that was just opened, or refused.
    ///
    /// # Errors
    /// The rule that was broken.
    pub fn judge(
        &self,
        opened: Result<Opened<S::Store>, Refusal>,
        progress: Progress,
        damage: Damage,
    ) -> Result<(Verdict, Option<S::Store>), Violation> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(refusal) => return self.refused(refusal, progress, damage).map(|verdict| (verdict, None)),
        };
        let lowest = self.history.lowest(progress.acknowledged, damage, opened.torn_tail);
        let states = self.history.states();
        let highest = progress.started.min(states.len().saturating_sub(1));
        let allowed = Allowed {
            states: states.get(lowest..=highest).unwrap_or(&[]),
            acknowledged: progress.acknowledged.saturating_sub(lowest),
        };
        match self.subject.check(&opened.store, &allowed) {
            Ok(at) => {
                let Opened { store, torn_tail, .. } = opened;
                Ok((Verdict::Recovered { steps: lowest + at, torn_tail }, Some(store)))
            }
            Err(Refusal::Broken(violation)) => {
                // Damage may have taken all of this history, and more.
                let comparing = matches!(violation.oracle, Oracle::Model | Oracle::Payload);
                let lost = opened.torn_tail || matches!(damage, Damage::LastGroup(_));
                if comparing
                    && lost
                    && damage != Damage::None
                    && lowest == 0
                    && self.is_earlier(&opened.store)
                {
                    return Ok((Verdict::Earlier, None));
                }
                Err(violation)
            }
            Err(refusal) => self.refused(refusal, progress, damage).map(|verdict| (verdict, None)),
        }
    }

    /// Whether the store holds a state from before this history. What was written directly since stands in its pages.
    fn is_earlier(&self, store: &S::Store) -> bool {
        let allowed = Allowed { states: self.history.earlier(), acknowledged: usize::MAX };
        self.subject.check(store, &allowed).is_ok()
    }

    fn refused(&self, refusal: Refusal, progress: Progress, damage: Damage) -> Result<Verdict, Violation> {
        match refusal {
            Refusal::NotFormatted if self.history.may_be_unformatted(progress.acknowledged) => {
                Ok(Verdict::NotFormatted)
            }
            Refusal::NotFormatted if damage != Damage::None => {
                Ok(Verdict::Refused("there is no store".to_owned()))
            }
            Refusal::Damaged(message) if damage != Damage::None => Ok(Verdict::Refused(message)),
            Refusal::NotFormatted => Err(Violation::new(Oracle::Refusal, "the store is gone")),
            Refusal::Damaged(message) => {
                Err(Violation::new(Oracle::Refusal, format!("recovery failed: {message}")))
            }
            Refusal::Broken(violation) => Err(violation),
        }
    }
}
