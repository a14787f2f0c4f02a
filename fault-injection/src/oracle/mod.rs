//! Oracles: what says that a rule was broken.

pub mod checker;
pub mod watcher;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Who rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oracle {
    /// The reference model: what is allocated is what some prefix of the commits left, acknowledged ones included.
    Model,
    /// Tags in the caller's pages: each holds what its owner wrote last.
    Payload,
    /// Counters in memory, against a recount.
    Recount,
    /// The checker that was written from the description of the format and reads raw bytes.
    Checker,
    /// The watcher at the device: the order of writes and flushes.
    WriteAhead,
    /// A twin that did the same without a crash and was closed in order.
    Twin,
    /// Recovery twice, and recovery cut short and begun again, come to what recovery once comes to.
    Twice,
    /// What memory believes after recovery, against a fresh load.
    FreshLoad,
    /// The recovered store goes on working, and closes, and opens.
    SecondLife,
    /// Every await ends within a bound of polls.
    Awaits,
    /// Calls do what they say: no error without a fault, none swallowed, nothing after a stop, no trace of an abort.
    Conduct,
    /// What is refused is refused for cause, by a typed error.
    Refusal,
}

impl Oracle {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Model,
        Self::Payload,
        Self::Recount,
        Self::Checker,
        Self::WriteAhead,
        Self::Twin,
        Self::Twice,
        Self::FreshLoad,
        Self::SecondLife,
        Self::Awaits,
        Self::Conduct,
        Self::Refusal,
    ];

    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Payload => "payload",
            Self::Recount => "recount",
            Self::Checker => "checker",
            Self::WriteAhead => "write-ahead",
            Self::Twin => "twin",
            Self::Twice => "twice",
            Self::FreshLoad => "fresh-load",
            Self::SecondLife => "second-life",
            Self::Awaits => "awaits",
            Self::Conduct => "conduct",
            Self::Refusal => "refusal",
        }
    }

    /// What it stands for, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Model => {
                "the extents are those after some prefix of the commits, with every acknowledged one"
            }
            Self::Payload => "every page of every extent holds what its owner wrote there last",
            Self::Recount => "counters in memory equal a recount of what is listed",
            Self::Checker => {
                "a reader of raw bytes, written from FORMAT.md, agrees before and after recovery"
            }
            Self::WriteAhead => "at the device, no write comes before the flush that it depends on",
            Self::Twin => "metadata equals that of a twin that did the same and was closed in order",
            Self::Twice => "recovery again, also after a crash inside it, comes to the same bytes",
            Self::FreshLoad => "what memory says after recovery, a fresh load of the closed store says too",
            Self::SecondLife => "the recovered store takes new work, closes and opens",
            Self::Awaits => "every await ends within a bounded number of polls",
            Self::Conduct => "no error without a fault, nothing done after a stop, no trace of an abort",
            Self::Refusal => "a store is refused by a typed error, and only where something was damaged",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|oracle| *oracle == self).unwrap_or(0)
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who says so.
    pub oracle: Oracle,
    /// In words.
    pub message: String,
}

impl Violation {
    /// A violation.
    pub fn new(oracle: Oracle, message: impl Into<String>) -> Self {
        Self { oracle, message: message.into() }
    }

    /// The store panicked.
    #[must_use]
    pub fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Self::new(Oracle::Conduct, format!("panic: {text}"))
    }
}

/// Does some work; a panic of the store in it is a broken rule.
///
/// # Errors
/// Those of the work, and the panic.
pub fn without_panic<T>(work: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Violation::panic(&*panic)))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.message)
    }
}

impl From<crate::executor::Stuck> for Violation {
    fn from(stuck: crate::executor::Stuck) -> Self {
        Self::new(Oracle::Awaits, stuck.to_string())
    }
}
