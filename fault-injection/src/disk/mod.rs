//! The disk layer: a disk that records and fails on request, the states a power cut can leave, and a fast disk to
//! recover them on.
//!
//! | part | what it is for |
//! |---|---|
//! | [`SimDisk`] | runs the workload; records a [`Trace`]; injects the faults of a [`FaultPlan`] |
//! | [`ShortTransfers`] | the same disk behind calls that do less than they are asked for |
//! | [`CutWalker`] | goes through the trace and gives a [`Cut`] for every instant at which power may fail |
//! | [`Cut`] | the durable image of that instant and the writes that may or may not have reached the medium |
//! | [`Choice`] | one state out of these, as one line of text |
//! | [`CowDisk`] | holds that state for recovery: a layer of changed chunks over a shared image, with a content hash |

mod choice;
mod cow;
mod cut;
mod faults;
mod footprint;
mod hash;
mod layer;
mod pending;
mod short;
mod sim;
mod trace;
mod walker;

pub use choice::{Choice, ChoiceError, Fill, Keep, Tear, TearKind};
pub use cow::CowDisk;
pub use cut::{Cut, Sampling};
pub use faults::{ErrorCode, Fault, FaultPlan, IoKind, When};
pub use layer::CowBase;
pub use pending::PendingWrite;
pub use short::{Hiccup, ShortTransfers};
pub use sim::{IoCounts, SimDisk};
pub use trace::{Event, Trace, purpose_name};
pub use walker::CutWalker;

use std::io;

/// Lengths of simulated disks fit into memory, so nothing is lost here.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The range as indices when it lies within `disk_len`.
fn checked_range(offset: u64, len: u64, disk_len: usize) -> Option<std::ops::Range<usize>> {
    let end = offset.checked_add(len)?;
    (end <= disk_len as u64).then(|| to_usize(offset)..to_usize(end))
}

fn past_end(kind: io::ErrorKind, what: &str, offset: u64, len: u64, disk_len: usize) -> io::Error {
    io::Error::new(
        kind,
        format!("{what} of {len} bytes at {offset} passes the end of the disk at {disk_len}"),
    )
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the simulated disk is read-only")
}
