//! Goal: whatever the requests and in whatever order, live extents never overlap, keep their bytes, and counters,
//! listing and raw device agree; and `NoSpace` is only said when there is no such run.
//!
//! Method: random steps of two transactions at a time against a model that knows ranges and tags. A power cut is a copy of
//! the device that is opened instead, often with hardly any memory for maps.

mod model;
mod roles;

use model::{Model, Step};
use quickcheck::{Gen, QuickCheck};
use roles::{Bed, in_time};

fn property(len: usize, segment: u64, steps: Vec<Step>) {
    in_time(30, async move {
        let bed = Bed::new(len, segment, 256 << 10).await;
        let mut model = Model::new(bed);
        for (at, step) in steps.into_iter().enumerate() {
            model.step(at, step).await;
        }
        model.verify().await;
        model.drop_plans();
        model.verify().await;
        model.bed.verify().await;
        model.bed.crash().await;
        model.verify().await;
        // Everything can be given back.
        model.free_all().await;
        model.verify().await;
        assert_eq!(model.bed.store.stats().free_bytes, model.bed.usable_bytes());
        model.bed.verify().await;
    });
}

fn small(steps: Vec<Step>) {
    property(2 << 20, 64 << 10, steps);
}

fn large(steps: Vec<Step>) {
    property(6 << 20, 256 << 10, steps);
}

#[test]
fn random_requests_against_a_model_in_a_store_that_is_soon_full() {
    let sizes = Gen::new(400);
    QuickCheck::new().rng(sizes).tests(60).quickcheck(small as fn(Vec<Step>));
}

#[test]
fn random_requests_against_a_model_in_a_larger_store() {
    let sizes = Gen::new(300);
    QuickCheck::new().rng(sizes).tests(30).quickcheck(large as fn(Vec<Step>));
}
