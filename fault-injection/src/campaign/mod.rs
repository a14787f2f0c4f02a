//! Campaigns against Freehold's allocator.

pub mod chain;
pub mod exhaustive;
pub mod matrix;
