//! Goal: the blob store of the examples survives power cuts: after any of them it holds what was acknowledged, and each
//! operation that was not acknowledged happened whole or not at all. And the harness, which knows nothing about blobs,
//! finds mistakes in how a store uses Freehold.
//!
//! Method: the store becomes a subject of the harness. Chains of random workloads and all sequences of two operations
//! are cut at every I/O; each state is opened, listed and read. Then a blob is replaced by hand: rightly, with the
//! allocation in a transaction of its own, and with the bytes after the commit.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::campaign::chain::{Settings, retrace, run_chains};
use fault_injection::disk::Sampling;
use fault_injection::harness::{
    Address, Counter, Ending, Explorer, Policy, Run, Source, Start, Subject as _, Tally, run, shrink, tell,
};
use fault_injection::oracle::Oracle;
use fault_injection::rng::Rng;

#[path = "../../examples/blob_store"]
#[allow(dead_code, reason = "the command line uses the rest")]
mod blob_store {
    pub(crate) mod error;
    pub(crate) mod slot;
    pub(crate) mod store;
}
#[path = "blob_store/subject.rs"]
mod subject;

use subject::{Operation, Replacing, Store};

fn any(replacing: Replacing) -> impl Fn(&mut Rng) -> Store {
    move |rng| Store { sector_bytes: *rng.pick(&[512, 4096]).unwrap(), replacing }
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

/// No rule is broken, and every write and flush was cut.
fn assert_good(tally: &Tally) {
    assert!(tally.failures().is_empty(), "{:#?}", tally.failures());
    assert_eq!(sum(&tally.io_points), sum(&tally.io_points_cut));
    println!(
        "{} operations, {} I/O points, {} crash states, {} distinct, {} recoveries, {} of them inside others, {:?}",
        tally.operations.get(),
        sum(&tally.io_points),
        tally.all_crash_states(),
        tally.all_distinct(),
        tally.recoveries.get(),
        sum(&tally.recoveries_by_depth[1..]),
        tally.elapsed()
    );
}

const SETTINGS: Settings = Settings { seed: 0xB10B, operations: 10 };
/// Fewer states of each cut than a campaign takes, and so more histories. The subject injects no damage and has no
/// further oracles.
const POLICY: Policy = Policy {
    sampling: Sampling { exhaustive: 64, sampled: 12, torn: 3, garbage_blocks: 1 },
    deeper: Sampling { exhaustive: 16, sampled: 4, torn: 2, garbage_blocks: 1 },
    nest: 1.0 / 100.0,
    injure: 0.0,
    probe: 0.0,
    ..Policy::CAMPAIGN
};

/// Chains for so long, or until enough is broken.
fn campaign(replacing: Replacing, length: Duration) -> Tally {
    let (tally, next) = (Tally::new(length), AtomicU64::new(0));
    run_chains(&SETTINGS, &POLICY, &tally, any(replacing), || next.fetch_add(1, Ordering::Relaxed));
    tally
}

#[test]
fn random_workloads_lose_nothing() {
    let tally = campaign(Replacing::Store, Duration::from_secs(12));
    assert_good(&tally);
    assert!(tally.all_distinct() > 500, "{}", tally.all_distinct());
    assert!(tally.lives.get() > 0 && sum(&tally.recoveries_by_depth[1..]) > 0);
}

/// Every sequence of two operations, every combination of unflushed sectors; and recoveries are cut at every I/O too.
#[test]
fn two_operations_exhaustively() {
    let store = Store { sector_bytes: 4096, replacing: Replacing::Store };
    let policy = Policy {
        sampling: Sampling { exhaustive: 1 << 10, sampled: 0, torn: 4, garbage_blocks: 1 },
        nested: Sampling { exhaustive: 1 << 10, sampled: 0, torn: 2, garbage_blocks: 0 },
        exhaustive_depth: 1,
        nest_deeper: 0.0,
        ..POLICY
    };
    let alphabet = [
        Operation::Put(vec![("ant", 5000)]),
        Operation::Put(vec![("ant", 1)]),
        Operation::Put(vec![("bee", 0)]),
        Operation::Put(vec![("ant", 4096), ("bee", 4096)]),
        Operation::Delete("ant"),
        Operation::Checkpoint,
        Operation::Reopen,
        Operation::Close,
    ];
    let tally = Tally::new(Duration::from_secs(600));
    let start = Start { base: store.disk().blank(), state: None, serial: 1 };
    let sequences = (0..alphabet.len()).flat_map(|a| (0..alphabet.len()).map(move |b| [a, b]));
    for (number, numbers) in sequences.enumerate() {
        let operations = numbers.map(|at| alphabet[at].clone());
        let (run, _) = run(&store, &start, &operations);
        tally.operations.add(run.operations.len() as u64);
        let address = Address::of(Source::Sequence(numbers.to_vec()));
        // What comes before the second operation is the same for all with the same first one.
        let from = if numbers[1] == 0 { 0 } else { run.begins[1] };
        let mut explorer = Explorer::new(&store, &run, address, &policy, number as u64, &tally);
        explorer.explore_range(from..run.trace.len() + 1);
    }
    assert_good(&tally);
    assert_eq!(tally.cuts_sampled.get(), 0, "not every combination was tried");
    assert!(tally.all_distinct() > 100, "{}", tally.all_distinct());
}

/// Finds a failure, shortens its history and tells it.
fn story(replacing: Replacing, oracle: Oracle) -> (Run<Store>, String) {
    let tally = campaign(replacing, Duration::from_secs(120));
    let failures = tally.failures();
    let failure = failures.iter().find(|failure| failure.violation.oracle == oracle).unwrap();
    let address = failure.address.as_ref().unwrap();
    let (store, failing) = retrace(&SETTINGS, address, any(replacing)).unwrap();
    let limit = Duration::from_secs(60);
    let shrunk = shrink(&store, &failing, address, &failure.violation, limit).unwrap();
    let (story, ending) = tell(&store, &shrunk.run, &shrunk.address);
    assert!(matches!(&ending, Ending::Broken(violation) if violation.oracle == oracle), "{story}");
    println!("{} of {} operations:\n{story}", shrunk.run.operations.len(), failing.operations.len());
    (shrunk.run, story)
}

fn assert_told(replacing: Replacing, oracle: Oracle, rule: &str) {
    let (run, story) = story(replacing, oracle);
    // A blob, and one in its place.
    assert!(run.operations.len() <= 2, "{story}");
    assert!(run.operations.iter().all(|operation| matches!(operation, Operation::Put(_))), "{story}");
    for part in
        ["operations:\n  put ", "history:\n  1. format (acknowledged)\n", "power fails at event", rule]
    {
        assert!(story.contains(part), "{part} is missing:\n{story}");
    }
}

#[test]
fn replacing_by_hand_is_no_mistake_in_itself() {
    assert_good(&campaign(Replacing::Right, Duration::from_secs(4)));
}

#[test]
fn an_allocation_apart_from_its_slot_is_found() {
    assert_told(Replacing::AllocatingApart, Oracle::Recount, "allocated, but nobody's");
}

#[test]
fn bytes_after_the_commit_that_names_them_are_found() {
    assert_told(Replacing::BytesLast, Oracle::Payload, "its bytes do not have its hash");
}
