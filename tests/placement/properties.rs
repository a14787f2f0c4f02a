//! What is true of every placement, on random instances.

use freehold::placement::PlacementError;
use quickcheck::{QuickCheck, TestResult};

use crate::oracle::{exists, judge};
use crate::random::Random;

const INSTANCES: u64 = 100_000;

fn check(property: fn(Random) -> TestResult) {
    // Of itself it would stop after 10,000, and be content with fewer.
    QuickCheck::new()
        .tests(INSTANCES)
        .max_tests(INSTANCES * 100)
        .min_tests_passed(INSTANCES)
        .quickcheck(property);
}

fn verdict(result: Result<(), String>) -> TestResult {
    match result {
        Ok(()) => TestResult::passed(),
        Err(why) => TestResult::error(why),
    }
}

/// Whether the input can be refused before anything is tried.
fn is_refused(error: &PlacementError) -> bool {
    matches!(error.kind(), "invalid_request" | "overlapping_areas" | "duplicate_source" | "not_divisible")
}

#[test]
fn a_plan_is_legal() {
    fn property(Random(input): Random) -> TestResult {
        match input.place() {
            Ok(plan) => verdict(judge(&input, &plan)),
            Err(error) if is_refused(&error) => TestResult::error(format!("refused: {error}")),
            Err(_) => TestResult::discard(),
        }
    }
    check(property);
}

#[test]
fn a_request_fails_only_when_nothing_is_legal() {
    fn property(Random(mut input): Random) -> TestResult {
        input.approximate = false;
        let found = input.place();
        if found.is_ok() != exists(&input) {
            return TestResult::error(format!(
                "{found:?}, and the exhaustive search says {}",
                found.is_err()
            ));
        }
        match found {
            Err(error) if error.to_string().contains("bound") => {
                TestResult::error("the search hit its bound")
            }
            _ => TestResult::passed(),
        }
    }
    check(property);
}

#[test]
fn less_than_asked_for_is_given_only_when_all_is_not_legal() {
    fn property(Random(mut input): Random) -> TestResult {
        input.approximate = true;
        let plan = input.place().ok();
        if exists(&input) && plan.as_ref().is_none_or(|plan| plan.unplaced_units > 0) {
            return TestResult::error("less was given, and all would have been legal");
        }
        match plan {
            Some(plan) => verdict(judge(&input, &plan)),
            None => TestResult::passed(),
        }
    }
    check(property);
}

#[test]
fn the_same_input_gives_the_same_plan() {
    fn property(Random(input): Random) -> TestResult {
        let mut turned = input.clone();
        for source in &mut turned.sources {
            source.areas.reverse();
        }
        let plan = input.place();
        if plan != input.place() || plan != turned.place() {
            return TestResult::error("another plan");
        }
        TestResult::passed()
    }
    check(property);
}

#[test]
fn an_explanation_tells_of_the_same_plan() {
    fn property(Random(input): Random) -> TestResult {
        let (Ok(plan), Ok(told)) = (input.place(), input.explain()) else { return TestResult::discard() };
        let mut legs: Vec<Vec<(char, u64, u64)>> = vec![Vec::new(); plan.legs.len()];
        for decision in &told.decisions {
            for (leg, &(source, start)) in legs.iter_mut().zip(&decision.taken) {
                match leg.last_mut() {
                    Some(last) if last.0 == source && last.1 + last.2 == start => last.2 += decision.length,
                    _ => leg.push((source, start, decision.length)),
                }
            }
            let named = decision
                .taken
                .iter()
                .map(|taken| taken.0)
                .chain(decision.skipped.iter().map(|other| other.0));
            let named: std::collections::BTreeSet<char> = named.collect();
            if decision.step.is_some() && named.len() != input.sources.len() {
                return TestResult::error(format!("not every source has its reason: {decision:?}"));
            }
        }
        let exact = told.decisions.iter().any(|decision| decision.step.is_none());
        let placed = plan
            .legs
            .iter()
            .map(|leg| leg.iter().map(|piece| (piece.source, piece.start, piece.length)).collect());
        if !exact && legs != placed.collect::<Vec<Vec<_>>>() {
            return TestResult::error(format!("{plan:?}, told as {told}"));
        }
        TestResult::passed()
    }
    check(property);
}
