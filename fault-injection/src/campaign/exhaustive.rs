//! The bounded exhaustive run: every sequence of so many operations on a tiny store, cut at every I/O, every subset of
//! the unflushed sectors, each recovered and checked; every crash inside each recovery, and inside that one's.
//!
//! Sequences form a tree. A node is a sequence; its cuts are those of its last operation, for those before are its
//! ancestors'. Two sequences that leave equal disks, equal caches, equal models and equal memories are one node. Two crash
//! states with equal bytes under equal histories are judged once.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::allocator::{Operation, Plan, Request, Shape, Subject};
use crate::disk::Sampling;
use crate::harness::{Address, Counter, Explorer, Policy, Run, Source, Start, Subject as _, Tally, run};
use crate::rng::mix;

/// Everything is tried: all subsets up to 2^12 of each cut, all recoveries cut to depth 2, some to depth 5.
pub const POLICY: Policy = Policy {
    sampling: Sampling { exhaustive: 1 << 12, sampled: 64, torn: 16, garbage_blocks: 0 },
    nested: Sampling { exhaustive: 1 << 12, sampled: 64, torn: 4, garbage_blocks: 0 },
    deeper: Sampling { exhaustive: 16, sampled: 4, torn: 1, garbage_blocks: 0 },
    exhaustive_depth: 2,
    nest: 0.0,
    nest_deeper: 1.0 / 200.0,
    probe: 1.0 / 50.0,
    live_on: 1.0 / 50.0,
    injure: 0.0,
};

/// The operations of the allocator, each with a letter and in its plainest form.
#[must_use]
pub fn alphabet() -> Vec<(char, Operation)> {
    let one = || Plan::allocating(1);
    let oldest = |plan: Plan| Plan { free: vec![0], ..plan };
    let wish = |request: Request| {
        Operation::Transact(vec![Plan { alloc: vec![(request, Vec::new())], ..Plan::default() }])
    };
    let cell = |plan: Plan| Plan { cells: vec![[0, 0, 1]], ..plan };
    vec![
        ('a', Operation::Transact(vec![one()])),
        (
            'A',
            Operation::Transact(vec![Plan { alloc: vec![(Request::Pages(3), vec![0])], ..Plan::default() }]),
        ),
        ('i', wish(Request::Item(100, false))),
        ('I', wish(Request::Item(100, true))),
        ('S', wish(Request::Span(0))),
        ('g', Operation::Transact(vec![Plan { resize: vec![[0, 2]], ..Plan::default() }])),
        ('f', Operation::Transact(vec![oldest(Plan::default())])),
        ('s', Operation::Transact(vec![oldest(one())])),
        ('w', Operation::Transact(vec![cell(Plan::default())])),
        ('2', Operation::Transact(vec![oldest(Plan::default()), cell(one())])),
        ('o', Operation::Overwrite([0, 0])),
        ('c', Operation::Checkpoint),
        ('m', Operation::Maintain),
        ('r', Operation::Reopen),
        ('x', Operation::Close),
        ('b', Operation::Abort(oldest(one()))),
        ('d', Operation::Abandon(oldest(one()), 1)),
    ]
}

/// The store of the exhaustive run.
#[must_use]
pub const fn subject() -> Subject {
    Subject { shape: Shape::TINY }
}

/// How far it came.
#[derive(Debug, Default)]
pub struct Depths {
    /// Sequences run, by their length.
    pub sequences: [Counter; 8],
    /// Sequences that came to a node that was there, and so were not gone on from.
    pub merged: [Counter; 8],
}

/// Sequences that wait, shortest first.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    level: Vec<Vec<usize>>,
    next_level: Vec<Vec<usize>>,
    length: usize,
    busy: usize,
}

type Begin = Start<<Subject as crate::harness::Subject>::State>;

/// The formatted store that every sequence begins with, and the run that made it.
#[must_use]
pub fn formatted() -> (Run<Subject>, Begin) {
    let subject = subject();
    let blank = Start { base: subject.disk().blank(), state: None, serial: 64 };
    let (formatting, rest) = run(&subject, &blank, &[]);
    let state = formatting.history.last().cloned();
    drop(rest.store);
    let start = Start { base: rest.disk.freeze(), state, serial: formatting.serial };
    (formatting, start)
}

/// Runs the operations of a sequence; none when there is no operation with one of the numbers.
#[must_use]
pub fn sequence(start: &Begin, numbers: &[usize]) -> Option<Run<Subject>> {
    let alphabet = alphabet();
    let operations = numbers.iter().map(|&at| alphabet.get(at).map(|(_, operation)| operation.clone()));
    let operations: Vec<Operation> = operations.collect::<Option<_>>()?;
    Some(run(&subject(), start, &operations).0)
}

/// Runs all sequences of up to `length` operations, or as many as the tally has time for, on `jobs` threads.
pub fn run_all(length: usize, jobs: usize, tally: &Tally, depths: &Depths) {
    let subject = subject();
    let (formatting, start) = formatted();
    // Formatting and the first opening: no operations yet.
    let address = Address::of(Source::Sequence(Vec::new()));
    Explorer::new(&subject, &formatting, address, &POLICY, 0, tally).explore();
    let tree = Tree {
        subject,
        start,
        alphabet: alphabet().into_iter().map(|(_, operation)| operation).collect(),
        nodes: Mutex::default(),
        tally,
        depths,
    };
    let level = longer(&[], tree.alphabet.len());
    let waiting = Waiting { level, next_level: Vec::new(), length: 1, busy: 0 };
    let queue = Queue { state: Mutex::new(waiting), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(numbers) = queue.take(length, tally) {
                    let is_new = tree.visit(&numbers);
                    let children = if is_new { longer(&numbers, tree.alphabet.len()) } else { Vec::new() };
                    queue.give(children);
                }
            });
        }
    });
}

/// All sequences that have one more operation.
fn longer(prefix: &[usize], letters: usize) -> Vec<Vec<usize>> {
    (0..letters).map(|number| prefix.iter().copied().chain([number]).collect()).collect()
}

impl Queue {
    /// The next sequence to be run. Waits for the others at the end of a level.
    fn take(&self, length: usize, tally: &Tally) -> Option<Vec<usize>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if tally.is_over() {
                self.changed.notify_all();
                return None;
            }
            if let Some(prefix) = state.level.pop() {
                state.busy += 1;
                return Some(prefix);
            }
            if state.busy > 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.length += 1;
            if state.length > length || state.next_level.is_empty() {
                self.changed.notify_all();
                return None;
            }
            state.level = std::mem::take(&mut state.next_level);
            // Neighbours share crash states; the last ones are taken first.
            state.level.reverse();
        }
    }

    fn give(&self, children: Vec<Vec<usize>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next_level.extend(children);
        state.busy -= 1;
        self.changed.notify_all();
    }
}

/// The tree of sequences.
struct Tree<'a> {
    subject: Subject,
    start: Begin,
    alphabet: Vec<Operation>,
    nodes: Mutex<HashSet<u128>>,
    tally: &'a Tally,
    depths: &'a Depths,
}

impl Tree<'_> {
    /// Runs a sequence and cuts its last operation. Returns whether it leads to a node that is new.
    fn visit(&self, numbers: &[usize]) -> bool {
        let operations: Vec<Operation> =
            numbers.iter().filter_map(|&at| self.alphabet.get(at)).cloned().collect();
        let (sequence, rest) = run(&self.subject, &self.start, &operations);
        let seed = numbers.iter().fold(1, |seed, &number| mix(seed ^ number as u64));
        let from = match numbers {
            // The opening before the first operation is an ancestor of all.
            [0] => 0,
            _ => sequence.begins.last().copied().unwrap_or(0),
        };
        let to = sequence.trace.len() + 1;
        let address = Address::of(Source::Sequence(numbers.to_vec()));
        Explorer::new(&self.subject, &sequence, address, &POLICY, seed, self.tally).explore_range(from..to);
        let count = |counters: &[Counter]| {
            counters.get(numbers.len()).into_iter().for_each(|counter| counter.add(1));
        };
        // One that was broken off for want of time does not count.
        if !self.tally.is_over() {
            count(&self.depths.sequences);
        }
        self.tally.operations.add(1);
        let memory = rest.store.as_ref().and_then(|store| self.subject.memory(store));
        let is_new = memory.is_none_or(|memory| {
            let model = sequence.history.last().map_or(0, |state| self.subject.fingerprint(state));
            // Numbers that were given out show up on the disk later, so they are part of the state.
            let known = mix(memory ^ mix(model ^ mix(sequence.serial)));
            let durable = rest.disk.freeze_durable().hash().rotate_left(64);
            let key = rest.disk.freeze().hash() ^ durable ^ u128::from(known);
            self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
        });
        if !is_new {
            count(&self.depths.merged);
        }
        is_new
    }
}
