//! Goal: what goes wrong inside a recovery, however deep, is found, and its address leads back to it: panics, recoveries that
//! never end, and what damage does to a recovery that is cut itself.
//!
//! Method: a store of one number, which is written in three steps and finished by recovery, with a mistake in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::campaign::chain::{Settings, retrace, run_chains};
use fault_injection::disk::{CowDisk, Cut, Sampling};
use fault_injection::harness::{
    Address, Allowed, Damage, DiskShape, Ending, Explorer, Failure, History, Injured, Judge, Opened, Policy,
    Probe, Progress, Refusal, Run, Session, Source, Start, Step, Subject, Tally, Verdict, run, tell,
};
use fault_injection::oracle::{Oracle, Violation};
use fault_injection::rng::Rng;
use freehold::device::{Device, Purpose};

/// Places on the disk, a sector each: the number, what it is to become, the work of recovery, and a leftover that does no harm.
const NUMBER: u64 = 0;
const NEXT: u64 = 512;
const WORK: u64 = 1024;
const LEFTOVER: u64 = 1536;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Opening panics where a change is to be finished.
    PanicInRecovery,
    /// Opening panics where another recovery was cut off.
    PanicInSecondRecovery,
    /// Going on with the store panics.
    PanicInLife,
    /// Opening goes round in circles where a change is to be finished.
    Circles,
    /// Opening loses the number where another recovery, which met a leftover, was cut off.
    LeftoverInSecondRecovery,
}

struct Number(Mistake);

fn get(device: &dyn Device, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    device.read_at(at, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn put(device: &dyn Device, at: u64, value: u64) -> io::Result<()> {
    device.write_at(at, &value.to_le_bytes(), Purpose::Journal)?;
    device.flush()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn fault(error: io::Error) -> Violation {
    Violation::new(Oracle::Conduct, error.to_string())
}

impl Number {
    /// Opening: a change that was begun is finished.
    fn recover(&self, device: &dyn Device) -> io::Result<u64> {
        let next = get(device, NEXT)?;
        if next == 0 {
            return get(device, NUMBER);
        }
        let (left, work) = (get(device, LEFTOVER)?, get(device, WORK)?);
        let interrupted = work != 0;
        assert!(self.0 != Mistake::PanicInRecovery, "planted");
        assert!(self.0 != Mistake::PanicInSecondRecovery || !interrupted, "planted");
        if self.0 == Mistake::Circles {
            loop {
                get(device, NUMBER)?;
            }
        }
        let lost = self.0 == Mistake::LeftoverInSecondRecovery && work == 2;
        put(device, WORK, 1 + left)?;
        put(device, NUMBER, if lost { 0 } else { next })?;
        put(device, NEXT, 0)?;
        put(device, WORK, 0)?;
        Ok(if lost { 0 } else { next })
    }
}

impl Subject for Number {
    type Operation = u64;
    type Store = (Arc<dyn Device>, u64);
    type State = u64;

    fn disk(&self) -> DiskShape {
        DiskShape::new(4096, 512, 512)
    }

    fn blank(&self) -> u64 {
        1
    }

    fn format(&self, device: Arc<dyn Device>) -> Result<(), Violation> {
        put(&*device, NUMBER, 1).map_err(fault)
    }

    fn open(&self, device: Arc<dyn Device>) -> Result<Opened<Self::Store>, Refusal> {
        let number = self.recover(&*device).map_err(fault)?;
        if number == 0 {
            return Err(Refusal::NotFormatted);
        }
        Ok(Opened { store: (device, number), torn_tail: false, report: Box::new(number) })
    }

    fn apply(&self, session: &mut Session<Self>, value: &u64) -> Result<(), Violation> {
        session.begin(1);
        let device = Arc::clone(&session.open_store()?.0);
        put(&*device, NEXT, *value).map_err(fault)?;
        put(&*device, NUMBER, *value).map_err(fault)?;
        put(&*device, NEXT, 0).map_err(fault)?;
        session.push(Step::transaction(format!("set to {value}")), *value);
        session.acknowledge();
        session.reopen(self)
    }

    fn check(&self, store: &Self::Store, allowed: &Allowed<'_, u64>) -> Result<usize, Refusal> {
        let found = allowed.states.iter().rposition(|state| *state == store.1);
        let message = || format!("{} is none of {:?}", store.1, allowed.states);
        found.ok_or_else(|| Violation::new(Oracle::Model, message()).into())
    }

    fn any_operation(&self, rng: &mut Rng) -> u64 {
        2 + rng.below(1000)
    }

    fn fingerprint(&self, state: &u64) -> u64 {
        fault_injection::rng::mix(*state)
    }

    fn live_on(&self, _probe: &Probe<'_, Self>) -> Result<(), Violation> {
        assert!(self.0 != Mistake::PanicInLife, "planted");
        Ok(())
    }

    fn injure(&self, _run: &Run<Self>, _cut: &Cut, disk: &Arc<CowDisk>, _seed: u64) -> Option<Injured> {
        disk.poke(LEFTOVER, &[1]).ok()?;
        Some(Injured { what: "a leftover".to_owned(), allows: Damage::None })
    }
}

const SAMPLING: Sampling = Sampling { exhaustive: 64, sampled: 4, torn: 0, garbage_blocks: 0 };
const POLICY: Policy = Policy {
    sampling: SAMPLING,
    nested: SAMPLING,
    deeper: SAMPLING,
    exhaustive_depth: 2,
    nest: 0.0,
    nest_deeper: 0.0,
    probe: 0.0,
    live_on: 1.0,
    injure: 1.0,
};

/// Cuts one change of the number everywhere.
fn explore(number: &Number, policy: &Policy, tally: &Tally) -> Run<Number> {
    let start = Start { base: number.disk().blank(), state: None, serial: 1 };
    let (run, _) = run(number, &start, &[7]);
    assert_eq!(run.broken, None);
    let address = Address::of(Source::Sequence(vec![7]));
    Explorer::new(number, &run, address, policy, 1, tally).explore();
    run
}

/// The first violation; its address, as text, leads back to it.
fn found(mistake: Mistake) -> (Failure, Address) {
    let (number, tally) = (Number(mistake), Tally::new(Duration::from_secs(60)));
    let run = explore(&number, &POLICY, &tally);
    let failure = tally.failures().swap_remove(0);
    let address: Address = failure.address.as_ref().unwrap().to_string().parse().unwrap();
    let (story, ending) = tell(&number, &run, &address);
    assert_eq!(ending, Ending::Broken(failure.violation.clone()), "{address}\n{story}");
    assert!(story.contains("BROKEN, says "), "{story}");
    (failure, address)
}

#[test]
fn the_store_without_a_mistake_is_good() {
    let tally = Tally::new(Duration::from_secs(60));
    explore(&Number(Mistake::None), &POLICY, &tally);
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
    assert!(
        tally.damaged_recoveries.get() > 0 && tally.recoveries_by_depth.iter().take(3).all(|at| at.get() > 0)
    );
}

#[test]
fn a_panic_of_recovery_has_the_address_that_leads_to_it() {
    let (failure, address) = found(Mistake::PanicInRecovery);
    assert!(failure.violation.message.contains("panic: planted"));
    assert_eq!(address.choices.len(), 1);
}

#[test]
fn a_panic_of_a_recovery_inside_another_has_the_address_that_leads_to_it() {
    let (failure, address) = found(Mistake::PanicInSecondRecovery);
    assert!(failure.violation.message.contains("panic: planted"));
    assert_eq!(address.choices.len(), 2);
}

#[test]
fn a_panic_in_a_second_life_has_the_address_that_leads_to_it() {
    let (failure, address) = found(Mistake::PanicInLife);
    assert!(failure.violation.message.contains("panic: planted"));
    assert_eq!(address.choices.len(), 1);
}

#[test]
fn a_recovery_that_goes_round_in_circles_comes_to_an_end() {
    let (failure, _) = found(Mistake::Circles);
    assert!(failure.violation.message.contains("reads, writes and flushes"), "{}", failure.violation);
}

/// The damage is done to what the first cut left. The recovery of that is cut.
#[test]
fn damage_comes_before_the_cuts_inside_recovery() {
    let (_, address) = found(Mistake::LeftoverInSecondRecovery);
    assert!(address.injury.is_some() && address.choices.len() == 2, "{address}");
}

/// Looking for the state that the next round begins from recovers states, too.
#[test]
fn a_panic_between_two_rounds_ends_no_campaign() {
    let make = |_: &mut Rng| Number(Mistake::PanicInRecovery);
    let settings = Settings { seed: 5, operations: 3 };
    // Nothing is explored, so only that search can find it.
    let sampling = Sampling { exhaustive: 0, sampled: 0, torn: 0, garbage_blocks: 0 };
    let policy = Policy { sampling, live_on: 0.0, injure: 0.0, ..POLICY };
    let (tally, next) = (Tally::new(Duration::from_secs(20)), AtomicU64::new(0));
    run_chains(&settings, &policy, &tally, make, || next.fetch_add(1, Ordering::Relaxed));
    let failures = tally.failures();
    for failure in &failures {
        assert!(failure.violation.message.contains("panic: planted"));
        let address = failure.address.as_ref().unwrap();
        let (number, round) = retrace(&settings, address, make).unwrap();
        assert_eq!(tell(&number, &round, address).1, Ending::Broken(failure.violation.clone()), "{address}");
    }
    assert!(!failures.is_empty());
}

/// All images were met before, two recoveries deep, where they are not cut.
#[test]
fn what_was_met_deep_inside_recoveries_is_cut_when_it_comes_back() {
    let number = Number(Mistake::None);
    let policy = Policy { exhaustive_depth: 1, injure: 0.0, ..POLICY };
    let cut_inside = |depth_before: Option<usize>| {
        let tally = Tally::new(Duration::from_secs(60));
        if let Some(depth) = depth_before {
            let start = Start { base: number.disk().blank(), state: None, serial: 1 };
            let (run, _) = run(&number, &start, &[7]);
            let disk = number.disk().cow(&run.start.base);
            let mut walker = fault_injection::disk::CutWalker::new(
                &run.trace,
                Arc::clone(&run.start.base),
                &disk.geometry(),
            );
            let mut rng = Rng::new(1);
            for position in run.trace.io_points() {
                let cut = walker.cut_at(position);
                for choice in cut.choices(&SAMPLING, &mut rng) {
                    cut.apply(&choice, &disk).unwrap();
                    for state in [1, 7] {
                        tally.note_found(disk.content_hash(), depth, number.fingerprint(&state));
                    }
                }
            }
        }
        explore(&number, &policy, &tally);
        tally.recoveries_by_depth.get(1).unwrap().get()
    };
    assert!(cut_inside(None) > 0);
    assert_eq!(cut_inside(Some(2)), cut_inside(None));
    assert!(cut_inside(Some(0)) < cut_inside(None));
}

/// Damage may take a whole history. Then the store holds what a round before it went through, and nothing else.
#[test]
fn what_damage_leads_back_to_is_compared_with_earlier_rounds() {
    let number = Number(Mistake::None);
    let judged = |earlier: u64| {
        let history = History::from(7).after([3, earlier].into_iter());
        let disk = number.disk().cow(&number.disk().blank());
        number.format(Arc::clone(&disk) as Arc<dyn Device>).unwrap();
        let judge = Judge { subject: &number, history: &history };
        judge.recover(disk, Progress::default(), Damage::LastGroup(9)).map(|(verdict, _)| verdict)
    };
    assert_eq!(judged(1), Ok(Verdict::Earlier));
    assert_eq!(judged(2).unwrap_err().oracle, Oracle::Model);
}

#[test]
fn a_round_knows_the_states_of_those_before() {
    let number = Number(Mistake::None);
    let run = explore(&number, &POLICY, &Tally::new(Duration::from_secs(60)));
    let next = run.left_by_crash(run.trace.len(), 2, false).unwrap();
    assert_eq!((next.earlier(), next.states()), (&[1, 1][..], &[7][..]));
}
