#![doc = include_str!("../README.md")]

pub mod allocator;
pub mod campaign;
pub mod disk;
pub mod executor;
pub mod harness;
pub mod kill;
pub mod oracle;
pub mod report;
pub mod rng;

pub use rng::Rng;
