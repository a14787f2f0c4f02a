//! What is measured, and what is made of it.

mod counters;
mod median;
mod times;

pub(crate) use counters::{Cost, Counters, Source, resident_bytes, settle};
pub(crate) use median::Median;
pub(crate) use times::{Quantiles, Times};
