//! The story of one crash state: what was done, what reached the disk, what the cut kept, what recovery did, and which
//! rule broke.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::Arc;

use freehold::device::Device;

use super::address::Address;
use super::judge::Verdict;
use super::run::Run;
use super::subject::{Damage, Probe, Subject};
use crate::disk::{Choice, CowBase, CowDisk, CutWalker, Trace};
use crate::oracle::{Oracle, Violation, without_panic};

/// How a story ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No rule is broken.
    Good,
    /// A rule is.
    Broken(Violation),
    /// The address leads nowhere.
    Lost(String),
}

/// Recovers the state that `address` names within `run`, and tells what happened.
pub fn tell<S: Subject>(subject: &S, run: &Run<S>, address: &Address) -> (String, Ending) {
    let mut teller = Teller { subject, run, story: String::new() };
    let ending = without_panic(|| Ok(teller.tell(address))).unwrap_or_else(Ending::Broken);
    let last = match &ending {
        Ending::Good => "no rule is broken".to_owned(),
        Ending::Broken(violation) => format!("BROKEN, says {violation}"),
        Ending::Lost(why) => format!("the address leads nowhere: {why}"),
    };
    teller.line(&last);
    (teller.story, ending)
}

struct Teller<'a, S: Subject> {
    subject: &'a S,
    run: &'a Run<S>,
    story: String,
}

impl<S: Subject> Teller<'_, S> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.story, "{text}");
    }

    fn tell(&mut self, address: &Address) -> Ending {
        let run = self.run;
        let shape = self.subject.disk();
        self.line(&format!(
            "disk: {} bytes, sectors of {}, physical blocks of {}; {}",
            shape.len_bytes,
            shape.sector_bytes,
            shape.physical_block_bytes,
            if run.history.begins_formatted() { "a store is on it" } else { "blank" }
        ));
        self.line("operations:");
        for operation in &run.operations {
            self.line(&format!("  {operation}"));
        }
        let Some(first) = address.choices.first() else {
            return match address.injury {
                None => self.tell_without_cut(),
                Some(_) => Ending::Lost("without a cut there is nothing to damage".to_owned()),
            };
        };
        let progress = run.progress(first.cut);
        self.line("history:");
        for (number, step) in run.history.steps().iter().enumerate().take(progress.started) {
            let mark = if number < progress.acknowledged { "acknowledged" } else { "begun" };
            self.line(&format!("  {}. {} ({mark})", number + 1, step.text));
        }
        let disk = shape.cow(&run.start.base);
        let mut trace = run.trace.clone();
        let mut base = Arc::clone(&run.start.base);
        let (mut expected, mut damage) = (None, Damage::None);
        for (depth, choice) in address.choices.iter().enumerate() {
            if let Err(why) = self.cut(&trace, &base, choice, &disk, depth) {
                return Ending::Lost(why);
            }
            let last = depth + 1 == address.choices.len();
            // What the power cut left is damaged, before any recovery.
            if let Some(seed) = address.injury.filter(|_| depth == 0) {
                match self.injure(&trace, &base, choice, &disk, seed) {
                    Some(allows) => damage = allows,
                    None => return Ending::Lost("there is nothing to damage".to_owned()),
                }
            }
            base = disk.freeze();
            for line in self.subject.describe(&disk) {
                self.line(&format!("  {line}"));
            }
            disk.start_recording();
            let mut report = String::new();
            let judged = without_panic(|| {
                let opened = self.subject.open(Arc::clone(&disk) as Arc<dyn Device>);
                report =
                    opened.as_ref().map_or_else(|_| String::new(), |opened| format!("{:?}", opened.report));
                run.judge(self.subject).judge(opened, progress, damage)
            });
            trace = disk.take_trace();
            self.line(&format!("recovery ({} writes and flushes):", trace.io_points().count()));
            for (number, event) in trace.events().iter().enumerate() {
                self.line(&format!("  {number}: {event}"));
            }
            let (steps, torn_tail, store) = match judged {
                Ok((Verdict::Recovered { steps, torn_tail }, store)) => {
                    self.line(&format!("  it holds the state after step {steps}; {report}"));
                    (steps, torn_tail, store)
                }
                Ok((Verdict::NotFormatted, _)) => {
                    self.line("  there is no store, as there may be none yet");
                    continue;
                }
                Ok((Verdict::Refused(why), _)) => {
                    self.line(&format!("  refused, as it may be: {why}"));
                    continue;
                }
                Ok((Verdict::Earlier, _)) => {
                    self.line("  it holds a state from before this history, as it may");
                    continue;
                }
                Err(violation) => return Ending::Broken(violation),
            };
            if let Some(before) = &expected
                && !RangeInclusive::contains(before, &steps)
            {
                let message =
                    format!("recovered {steps} steps after a crash in a recovery that had found {before:?}");
                return Ending::Broken(Violation::new(Oracle::Twice, message));
            }
            let at_end = address.choices.get(depth + 1).is_some_and(|next| next.cut == trace.len());
            let allowed = expected.unwrap_or_else(|| progress.allowed());
            expected = Some(run.after_crash_in_recovery(first.cut, &allowed, steps, torn_tail, at_end));
            if let Some(store) = store.filter(|_| last && damage == Damage::None) {
                let probe = Probe { run, image: &base, disk: &disk, store: &store, steps, torn_tail };
                let closer = self.subject.probe(&probe).and_then(|()| self.subject.live_on(&probe));
                if let Err(violation) = closer {
                    return Ending::Broken(violation);
                }
            }
        }
        Ending::Good
    }

    fn tell_without_cut(&mut self) -> Ending {
        let run = self.run;
        self.line("history:");
        for (number, step) in run.history.steps().iter().enumerate() {
            self.line(&format!("  {}. {}", number + 1, step.text));
        }
        self.line("at the disk, at the end:");
        let from = run.begins.last().copied().unwrap_or(0).saturating_sub(4);
        for (number, event) in run.trace.events().iter().enumerate().skip(from) {
            self.line(&format!("  {number}: {event}"));
        }
        match run.broken.clone().map_or_else(|| self.subject.watch(run), Err) {
            Ok(()) => Ending::Good,
            Err(violation) => Ending::Broken(violation),
        }
    }

    fn cut(
        &mut self,
        trace: &Trace,
        base: &Arc<CowBase>,
        choice: &Choice,
        disk: &Arc<CowDisk>,
        depth: usize,
    ) -> Result<(), String> {
        let geometry = self.subject.disk().geometry();
        let mut walker = CutWalker::new(trace, Arc::clone(base), &geometry);
        let cut = walker.cut_at(choice.cut);
        let first = cut.pending_writes().first().map_or(choice.cut, |write| write.event());
        let from = first.saturating_sub(3);
        let inside = if depth == 0 { "" } else { " inside the recovery" };
        self.line(&format!("power fails{inside} at event {} of {}:", choice.cut, trace.len()));
        for (number, event) in trace.events().iter().enumerate().take(choice.cut + 1).skip(from) {
            let here = if number == choice.cut { ">" } else { " " };
            self.line(&format!(" {here}{number}: {event}"));
        }
        self.line("what was not flushed, and what of it reached the medium:");
        for line in cut.describe(choice) {
            self.line(&format!("  {line}"));
        }
        cut.apply(choice, disk).map_err(|error| error.to_string())
    }

    fn injure(
        &mut self,
        trace: &Trace,
        base: &Arc<CowBase>,
        choice: &Choice,
        disk: &Arc<CowDisk>,
        seed: u64,
    ) -> Option<Damage> {
        let geometry = self.subject.disk().geometry();
        let mut walker = CutWalker::new(trace, Arc::clone(base), &geometry);
        let cut = walker.cut_at(choice.cut);
        let injured = self.subject.injure(self.run, cut, disk, seed)?;
        self.line(&format!("damaged besides: {}", injured.what));
        Some(injured.allows)
    }
}
