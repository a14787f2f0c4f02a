//! Goal: the fault matrix reaches every fault, and nothing of it is silent; and it can say so when something is. Method: a few
//! points of each fault; then a run whose history was tampered with is cut, and its cases must be silent.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use fault_injection::allocator::{Operation, Plan, Shape, Subject};
use fault_injection::campaign::matrix::{FAULTS, Recorded, Settings, Sheet, cut, page, run};
use fault_injection::harness::{Address, Source, Start, Subject as _, run as run_operations};

#[test]
fn a_few_points_of_each_fault_are_not_silent() {
    let settings = Settings::brief(3, 401);
    let sheet = run(&settings, &|_, _, _, _| {});
    let lines: Vec<&str> = sheet.lines().collect();
    assert!(lines.is_empty(), "{lines:#?}");
    for fault in (1..=FAULTS).filter(|fault| *fault != 8) {
        assert!(sheet.row(fault).injected() > 0, "F{fault} was not injected");
    }
    assert!(page(&settings, &sheet).contains("| F29 |"));
}

fn recorded() -> Recorded {
    let subject = Subject { shape: Shape::TINY };
    let blank = Start { base: subject.disk().blank(), state: None, serial: 64 };
    let commit = || Operation::Transact(vec![Plan::allocating(1)]);
    let (run, _) = run_operations(&subject, &blank, &[commit(), commit()]);
    Recorded { subject, run, address: Address::of(Source::Sequence(Vec::new())) }
}

fn cut_all(recorded: &Recorded) -> Sheet {
    let mut sheet = Sheet::default();
    cut(recorded, &Settings::whole(3, 1), &mut sheet);
    sheet
}

#[test]
fn a_forgotten_transaction_is_silent() {
    let mut recorded = recorded();
    let sheet = cut_all(&recorded);
    assert!(sheet.row(1).recovered > 20 && sheet.lines().next().is_none());

    // The model loses the second transaction, which was acknowledged.
    let states = recorded.run.history.states_mut();
    let (last, before) = states.split_last_mut().unwrap();
    *last = before.last().unwrap().clone();
    let sheet = cut_all(&recorded);
    assert!(sheet.row(1).silent > 0, "{:?}", sheet.row(1));
    assert!(sheet.lines().next().unwrap().contains("crashtest replay --seed 3 'sequence= cut="));
}
