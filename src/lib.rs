//! A crash-safe, journaled space allocator for files and block devices.
//!
//! A program that keeps its own data on raw space embeds it: Freehold decides where bytes go, records that decision in
//! a write-ahead journal, and after any power loss gives back exactly what was committed.
//!
//! - [`FormatOptions`] makes a store, [`Allocator`] is the handle to an open one, [`Transaction`] changes it.
//! - [`inspect`] says what is on a device, without changing it.
//! - [`device::Device`] is the seam through which every byte passes; implement it to run on something else.
//!
//! The floors of the house, each using only those above it in this list: [`error`], [`histogram`] and [`media`], [`device`],
//! [`mod@format`], [`journal`], [`space`], [`allocator`], [`inspect`]. [`placement`] stands on its own: it decides over several
//! sources of free space, and needs no store. `docs/ARCHITECTURE.md` tells the whole story,
//! `docs/FORMAT.md` every byte on disk.

pub mod allocator;
pub mod device;
pub mod error;
pub mod format;
pub mod histogram;
pub mod inspect;
pub mod journal;
pub mod media;
pub mod placement;
mod ranges;
pub mod space;

pub use allocator::{
    AllocRequest, Allocator, AllocatorStats, Committed, Created, DataTicket, Extent, ExtentInfo,
    FormatOptions, FreeRuns, OpenOptions, RunBucket, SpaceStats, Transaction,
};
pub use error::{Error, Result};
pub use histogram::{Histogram, Summary};
pub use journal::{CommitStages, ReplayReport};
pub use media::Medium;

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeExamples;
