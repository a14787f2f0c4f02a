//! The harness, for any store: it runs operations on a simulated disk, cuts the power wherever it may fail, recovers
//! what is left and has it judged.
//!
//! A store takes part by implementing [`Subject`]: how to format and open it, how to apply an operation, and how to tell
//! which state of a reference model it holds. [`Session`] is what an operation works with: the disk, the open store,
//! and the history that it writes down.
//!
//! ```text
//! operations ──► run ──► Run: trace + history
//!                            │ at every I/O: every subset of what was not flushed, torn sectors, garbage
//!                            ▼
//!                        Explorer ──► recover ──► check against the states that the history allows
//!                            │           └─► crash inside the recovery, again and again
//!                            └─► Tally, and an Address for each violation: replay, shrink, story
//! ```

mod address;
mod explore;
mod history;
mod judge;
mod run;
mod session;
mod shrink;
mod story;
mod subject;
mod tally;

pub use address::{Address, Source};
pub use explore::{Explorer, Policy};
pub use history::{History, Progress, Step};
pub use judge::{Judge, Verdict};
pub use run::{Run, Start, run, run_on};
pub use session::Session;
pub use shrink::{Shrunk, shrink};
pub use story::{Ending, tell};
pub use subject::{Allowed, Damage, DiskShape, Injured, Opened, Probe, Refusal, Subject};
pub use tally::{Class, Counter, FAILURE_LIMIT, Failure, PHASES, Tally, phase_name, phase_of};
