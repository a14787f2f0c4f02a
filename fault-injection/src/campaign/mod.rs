//! Campaigns against Freehold's allocator.

pub mod chain;
