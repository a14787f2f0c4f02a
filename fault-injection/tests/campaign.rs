//! Goal: a short campaign breaks no rule, and what it prints leads back. Method: a few chains, and the short sequences of
//! the exhaustive run, are cut at every I/O; then addresses are replayed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::allocator::{Operation, Plan, Request, Shape, Subject};
use fault_injection::campaign::chain::{Chain, OPERATIONS, Settings, run_chains};
use fault_injection::campaign::exhaustive::{Depths, alphabet, run_all};
use fault_injection::disk::{ErrorCode, Sampling};
use fault_injection::harness::{
    Address, Counter, Ending, Explorer, Policy, Source, Start, Subject as _, Tally, run, shrink, tell,
};
use fault_injection::oracle::{Oracle, Violation};
use fault_injection::rng::Rng;

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

fn any(rng: &mut Rng) -> Subject {
    Subject { shape: Shape::any(rng) }
}

#[test]
fn a_short_campaign_breaks_no_rule() {
    let tally = Tally::new(Duration::from_secs(8));
    let next = AtomicU64::new(0);
    let settings = Settings { seed: 77, operations: OPERATIONS };
    run_chains(&settings, &Policy::CAMPAIGN, &tally, any, || next.fetch_add(1, Ordering::Relaxed));
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
    assert!(tally.all_distinct() > 300, "{}", tally.all_distinct());
    assert_eq!(sum(&tally.io_points), sum(&tally.io_points_cut));
    assert!(tally.damaged_recoveries.get() > 0 && tally.refusals.get() > 0);
    assert!(tally.probes.get() > 0 && tally.lives.get() > 0);
}

#[test]
fn one_operation_exhaustively() {
    let tally = Tally::new(Duration::from_secs(25));
    let depths = Depths::default();
    run_all(1, 2, &tally, &depths);
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
    let all = alphabet().len() as u64;
    // A slow machine may not get through; what it did was right.
    assert!(depths.sequences[1].get() <= all && depths.merged[1].get() < all);
    assert!(tally.recoveries_by_depth[2].get() > 0);
}

/// An opening is cut off after it had written the last group again under a new epoch, and only a cache had the original.
/// The next opening must not use that epoch too, or it meets the leftover as its own.
#[test]
fn an_epoch_is_never_used_by_two_openings() {
    let subject = Subject { shape: Shape::TINY };
    let failing = |flushes, nth| Operation::Fail {
        plan: Plan { free: vec![0], ..Plan::allocating(1) },
        nth,
        flushes,
        code: ErrorCode::Io,
        for_ever: false,
    };
    for (flushes, nth) in [(true, 0), (true, 1), (false, 3)] {
        let operations = [Operation::Transact(vec![Plan::allocating(1)]), failing(flushes, nth)];
        let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
        let (run, _) = run(&subject, &start, &operations);
        assert_eq!(run.broken, None);
        let policy = Policy {
            sampling: Sampling { exhaustive: 32, sampled: 8, torn: 0, garbage_blocks: 0 },
            live_on: 1.0,
            nest: 0.0,
            probe: 0.0,
            injure: 0.0,
            ..Policy::CAMPAIGN
        };
        let tally = Tally::new(Duration::from_secs(60));
        let address = Address::of(Source::Sequence(Vec::new()));
        Explorer::new(&subject, &run, address, &policy, 1, &tally).explore();
        assert!(tally.failures().is_empty(), "{:?}", tally.failures());
        assert!(tally.lives.get() > 10);
    }
}

/// A transaction that gives an extent the length that it has: the state before and the one behind it are alike, but for what a
/// record says of free space. Either of them is right.
#[test]
fn a_step_that_changes_nothing_is_no_riddle() {
    let subject = Subject { shape: Shape::TINY };
    // Everything is in use, and then two pages are not that do not lie side by side.
    let ten = || Plan { alloc: vec![(Request::Pages(1), Vec::new()); 10], ..Plan::default() };
    let operations = [
        ten(),
        ten(),
        ten(),
        Plan { free: vec![5, 7], ..Plan::default() },
        Plan { resize: vec![[0, 1]], ..Plan::default() },
    ];
    let operations = operations.map(|plan| Operation::Transact(vec![plan]));
    let start = Start { base: subject.disk().blank(), state: None, serial: 64 };
    let (run, _) = run(&subject, &start, &operations);
    assert_eq!(run.broken, None);
    let policy = Policy { probe: 1.0, nest: 0.0, injure: 0.0, live_on: 0.0, ..Policy::CAMPAIGN };
    let tally = Tally::new(Duration::from_secs(60));
    let address = Address::of(Source::Sequence(Vec::new()));
    Explorer::new(&subject, &run, address, &policy, 1, &tally).explore();
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
    assert!(tally.probes.get() > 10);
}

#[test]
fn an_address_leads_back_and_tells_a_story() {
    let mut chain = Chain::new(1, 0, any);
    let round = chain.next(OPERATIONS).unwrap();
    let address: Address = "chain=0 round=0 cut=9 keep=all".parse().unwrap();
    let (story, ending) = tell(chain.subject(), &round, &address);
    assert_eq!(ending, Ending::Good, "{story}");
    for part in ["power fails at event 9", "reached the medium", "recovery", "no rule is broken"] {
        assert!(story.contains(part), "{part} is missing:\n{story}");
    }
    let nowhere: Address = "chain=0 round=0 cut=9 keep=all tear=400:prefix:1".parse().unwrap();
    assert!(matches!(tell(chain.subject(), &round, &nowhere).1, Ending::Lost(_)));
}

/// An allocator whose model forgets that the largest extents were freed: a mistake that any history with one shows.
struct Forgetful(Subject);

mod forgetful {
    use std::sync::Arc;

    use fault_injection::allocator::Live;
    use fault_injection::allocator::model::State;
    use fault_injection::harness::{Allowed, DiskShape, Opened, Refusal, Session, Subject as Harnessed};
    use freehold::device::Device;

    use super::{Forgetful, Operation, Rng, Violation};

    impl Harnessed for Forgetful {
        type Operation = Operation;
        type Store = Live;
        type State = State;

        fn disk(&self) -> DiskShape {
            self.0.disk()
        }

        fn blank(&self) -> State {
            self.0.blank()
        }

        fn format(&self, device: Arc<dyn Device>) -> Result<(), Violation> {
            self.0.format(device)
        }

        fn open(&self, device: Arc<dyn Device>) -> Result<Opened<Live>, Refusal> {
            self.0.open(device)
        }

        fn apply(&self, session: &mut Session<Self>, operation: &Operation) -> Result<(), Violation> {
            let store = session.store.as_ref().unwrap().allocator.clone();
            let Operation::Transact(plans) = operation else { return Ok(()) };
            for (request, _) in plans.iter().flat_map(|plan| &plan.alloc) {
                let fault_injection::allocator::Request::Pages(pages) = request else { continue };
                session.begin(1);
                let mut state = session.state()?.clone();
                let bytes = u64::from(*pages) * 4096;
                let effects: freehold::Result<freehold::Extent> = fault_injection::executor::run(async {
                    let mut transaction = store.begin();
                    let extent = transaction.alloc(bytes).await?;
                    transaction.commit().await?;
                    Ok(extent)
                })?;
                let Ok(extent) = effects else { continue };
                if extent.len < 12288 {
                    let info = freehold::ExtentInfo { extent, owner: 0 };
                    let held = fault_injection::allocator::model::Held { info, pages: Arc::default() };
                    state.extents.insert(extent.offset, held);
                }
                let text = format!("allocate {}", extent.len);
                session.push(fault_injection::harness::Step { text, journaled: true }, state);
                session.acknowledge();
            }
            Ok(())
        }

        fn check(&self, store: &Live, allowed: &Allowed<'_, State>) -> Result<usize, Refusal> {
            self.0.check(store, allowed)
        }

        fn any_operation(&self, rng: &mut Rng) -> Operation {
            let pages = *rng.pick(&[1, 1, 1, 1, 1, 1, 2, 2, 4]).unwrap();
            Operation::Transact(vec![super::Plan::allocating(pages)])
        }

        fn fingerprint(&self, state: &State) -> u64 {
            state.fingerprint()
        }
    }
}

#[test]
fn a_failure_is_shortened_to_what_it_takes() {
    let large = Operation::Transact(vec![Plan::allocating(4)]);
    let first = |number| {
        let mut chain = Chain::new(3, number, |_| Forgetful(Subject { shape: Shape::TINY }));
        let round = chain.next(OPERATIONS).unwrap();
        round.operations.contains(&large).then_some((number, chain, round))
    };
    let (number, chain, round) = (0..).find_map(first).unwrap();
    let address = Address::of(Source::Chain { chain: number, round: 0 });
    let tally = Tally::new(Duration::from_secs(30)).wanting(Oracle::Model);
    Explorer::new(chain.subject(), &round, address, &Policy::CAMPAIGN, 1, &tally).explore();
    let failure = tally.failures().pop().unwrap();
    let address = failure.address.unwrap();
    let limit = Duration::from_secs(20);
    let shrunk = shrink(chain.subject(), &round, &address, &failure.violation, limit).unwrap();
    assert_eq!(shrunk.run.operations, [large]);
    assert_eq!(shrunk.violation.oracle, Oracle::Model);
    let (story, ending) = tell(chain.subject(), &shrunk.run, &shrunk.address);
    assert!(matches!(ending, Ending::Broken(_)), "{story}");
    for part in ["allocate 4 pages", "power fails", "BROKEN, says model"] {
        assert!(story.contains(part), "{part} is missing:\n{story}");
    }
}
