//! Freehold as the subject of crash tests: what a workload does to it, what must be there afterwards, and the judge.

pub mod judge;
pub mod model;
pub mod payload;
pub mod workload;
