//! The campaign: chains of workloads, each cut at every I/O, each crash state recovered and judged.

pub mod chain;
pub mod damage;
pub mod explore;
pub mod replay;
pub mod tally;
