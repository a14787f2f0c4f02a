//! Goal: a short campaign breaks no rule, and the judge can say no. Method: a few chains are cut at every I/O; then the
//! judge gets states that the history does not allow, and must refuse each.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fault_injection::campaign::chain::Chain;
use fault_injection::campaign::explore::{OPERATIONS, Settings, run_chains};
use fault_injection::campaign::replay;
use fault_injection::campaign::tally::Tally;
use fault_injection::disk::{CutWalker, Keep};
use fault_injection::subject::judge::{Damage, Judge, Verdict};
use fault_injection::subject::model::Entry;
use freehold::device::Device;

#[test]
fn a_short_campaign_breaks_no_rule() {
    let tally = Tally::new(Duration::from_secs(8));
    let next = AtomicU64::new(0);
    run_chains(&Settings { seed: 77, operations: OPERATIONS }, &tally, || {
        next.fetch_add(1, Ordering::Relaxed)
    });
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
    assert!(tally.distinct_states.get() > 1000);
    assert_eq!(tally.io_points.get(), tally.io_points_cut.get());
    assert!(tally.damaged_recoveries.get() > 0 && tally.refusals.get() > 0);
}

/// Runs the first round of a chain whose history has at least this many steps.
fn round() -> fault_injection::campaign::chain::Round {
    (0..)
        .filter_map(|number| Chain::new(5, number).next(OPERATIONS).unwrap())
        .find(|round| round.history.entries.len() > 8 && round.history.last().extents.len() > 2)
        .unwrap()
}

#[test]
fn the_judge_accepts_the_end_and_nothing_else() {
    let round = round();
    let geometry = round.geometry();
    let mut walker = CutWalker::new(&round.trace, Arc::clone(&round.base), &geometry);
    let end = round.trace.len();
    let cut = walker.cut_at(end);
    let disk = round.disk();
    let put = || {
        cut.apply(&cut.choice(Keep::All), &disk).unwrap();
        Arc::clone(&disk) as Arc<dyn Device>
    };
    let progress = round.progress(end);
    let judged = round.judge().recover(put(), progress, Damage::None).unwrap();
    assert!(matches!(judged.0, Verdict::Recovered { .. }));

    // An acknowledged transaction is missing from what was promised, or there is one too many.
    let mut shorter = round.history.clone();
    shorter.entries.pop();
    let mut forgotten = round.history.clone();
    let at = forgotten.entries.iter().position(|entry| matches!(entry, Entry::Transaction(_))).unwrap();
    for state in forgotten.states.iter_mut().skip(at + 1) {
        let first = *state.extents.keys().next().unwrap_or(&0);
        state.extents.remove(&first);
    }
    let judge = Judge { history: &forgotten, page_bytes: round.shape.page_bytes };
    assert!(judge.recover(put(), progress, Damage::None).is_err());

    // A byte of a page is another one.
    let held = round.history.last().extents.values().next().unwrap().info.extent;
    let device = put();
    let mut byte = [0];
    device.read_at(held.offset + 1000, &mut byte).unwrap();
    disk.poke(held.offset + 1000, &[byte[0] ^ 1]).unwrap();
    assert!(round.judge().recover(device, progress, Damage::None).is_err());

    // A metadata block is not what was written: refused, which a mere power cut does not excuse.
    let device = put();
    let mut superblock = vec![0; 16384];
    device.read_at(0, &mut superblock).unwrap();
    disk.poke(0, &vec![0xee; 16384]).unwrap();
    assert!(round.judge().recover(device, progress, Damage::None).is_err());
}

#[test]
fn an_address_leads_back() {
    let text = "chain=3 round=1 cut=7 keep=0xb1 / cut=4 keep=first:2 tear=12:prefix:100 injury=flip:31569:4";
    assert_eq!(replay::parse(text).unwrap().to_string(), text);
    let settings = Settings { seed: 1, operations: OPERATIONS };
    let story = replay::replay(&settings, &replay::parse("chain=0 round=0 cut=9 keep=all").unwrap()).unwrap();
    assert!(story.contains("power fails at event 9") && story.contains("no rule is broken"), "{story}");
    assert!(replay::parse("chain=x").is_err());
}
