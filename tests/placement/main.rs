//! Placement: the cases of its rules by number, bad input, properties on random instances, and every small instance
//! beside an exhaustive search.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

mod bad_input;
mod cases;
mod every_small;
mod explained;
mod input;
mod large;
mod oracle;
mod properties;
mod random;
mod side_areas;
