//! F12: flushes that answer "done" and do nothing, and then power fails.
//!
//! The store cannot notice while it runs, so the recorded runs are what it would have done: their flushes are turned
//! into lies, one at a time, and from each one on for good.

use std::sync::Arc;

use freehold::device::Device;

use super::sheet::{Column, Sheet};
use super::trial::{Outcome, Trial};
use super::workloads::Recorded;
use super::{Settings, Task};
use crate::disk::{Choice, CutWalker, Event, Keep, Trace};
use crate::harness::{Damage, Subject as _};
use crate::rng::Rng;

pub(super) fn tasks(settings: &Settings, recorded: &Arc<Vec<Recorded>>) -> Vec<Task> {
    let mut tasks = Vec::new();
    // Runs that begin with a blank disk: every state that there ever was is in their history.
    let from_blank = (0..recorded.len())
        .filter(|&at| recorded.get(at).is_some_and(|recorded| !recorded.run.history.begins_formatted()));
    for at in from_blank {
        let (runs, settings) = (Arc::clone(recorded), settings.clone());
        tasks.push(Task::new(&[12], format!("F12: lies in run {at}"), move |sheet| {
            if let Some(recorded) = runs.get(at) {
                lie(recorded, &settings, sheet);
            }
        }));
    }
    tasks
}

/// The trace in which these flushes lied.
fn lying(trace: &Trace, lies: impl Fn(usize) -> bool) -> Trace {
    let mut lied = Trace::default();
    lied.extend(trace.events().iter().enumerate().map(|(position, event)| match event {
        Event::Flush if lies(position) => Event::LyingFlush,
        event => event.clone(),
    }));
    lied
}

fn lie(recorded: &Recorded, settings: &Settings, sheet: &mut Sheet) {
    let trace = &recorded.run.trace;
    let flushes: Vec<usize> = trace
        .events()
        .iter()
        .enumerate()
        .filter(|(_, event)| **event == Event::Flush)
        .map(|(at, _)| at)
        .collect();
    let mut rng = Rng::new(settings.seed).fork(&format!("lies {}", recorded.address));
    for (number, &flush) in flushes.iter().enumerate().step_by(settings.stride) {
        // What one lie leaves open is settled by the next flush.
        let next = flushes.get(number + 1).copied().unwrap_or(trace.len());
        let once = lying(trace, |position| position == flush);
        let points: Vec<usize> =
            once.io_points().filter(|point| (flush + 1..=next).contains(point)).collect();
        cut(recorded, &once, &points, &format!("flush at {flush} lied"), &mut rng, sheet);
        let for_ever = lying(trace, |position| position >= flush);
        let points: Vec<usize> = for_ever.io_points().filter(|&point| point > flush).collect();
        let some: Vec<usize> = rng
            .sample(points.len(), 6)
            .into_iter()
            .filter_map(|at| points.get(at).copied())
            .chain([trace.len()])
            .collect();
        cut(recorded, &for_ever, &some, &format!("flush at {flush} and all after it lied"), &mut rng, sheet);
    }
    if settings.is_brief() {
        return;
    }
    let always = lying(trace, |_| true);
    let points: Vec<usize> = always.io_points().chain([trace.len()]).collect();
    cut(recorded, &always, &points, "all flushes lied", &mut rng, sheet);
}

fn cut(recorded: &Recorded, trace: &Trace, points: &[usize], what: &str, rng: &mut Rng, sheet: &mut Sheet) {
    let Recorded { subject, run, address } = recorded;
    let disk = subject.disk().cow(&run.start.base);
    let mut walker = CutWalker::new(trace, Arc::clone(&run.start.base), &subject.disk().geometry());
    for &position in points {
        let cut = walker.cut_at(position);
        let pending = cut.pending_writes().len() as u64;
        let mut choices: Vec<Choice> = vec![cut.choice(Keep::None), cut.choice(Keep::All)];
        choices.extend((0..3).map(|_| cut.choice(Keep::First(rng.below(pending + 1)))));
        choices.extend((0..5).map(|_| cut.choice(Keep::Seed(rng.next_u64()))));
        let progress = run.progress(position);
        let trial = Trial { subject, history: &run.history, progress }.lenient();
        for choice in choices {
            if cut.apply(&choice, &disk).is_err() {
                continue;
            }
            let judged = trial.judge(Arc::clone(&disk) as Arc<dyn Device>, Damage::LastGroup(usize::MAX));
            let column = match judged {
                Ok(Outcome::Opened(found)) => {
                    if found.steps < progress.acknowledged {
                        sheet.apart(12, "recovered to an earlier state of the history", 1);
                    }
                    Column::Recovered
                }
                Ok(Outcome::NotFormatted | Outcome::Refused) => Column::Detected,
                Err(violation) => Column::broken(&violation),
            };
            sheet.enter(12, column, || format!("{address}, {what}, {choice}"));
        }
    }
}
