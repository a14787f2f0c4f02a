//! Going back to one crash state, and telling its story.

use std::fmt::Write as _;
use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port};
use freehold::journal::{SuperblockPair, scan_journal};

use super::chain::{Chain, Round};
use super::damage::{Injury, places};
use super::explore::{Address, Settings};
use crate::disk::{Choice, CowBase, CowDisk, CutWalker, Trace};
use crate::subject::judge::{Damage, Verdict};

/// Parses what [`Address`] prints.
pub fn parse(text: &str) -> Result<Address, String> {
    let (text, injury) = match text.split_once(" injury=") {
        Some((text, injury)) => (text, Some(injury.trim().parse::<Injury>()?)),
        None => (text, None),
    };
    let mut words = text.trim().splitn(3, ' ');
    let mut number = |key: &str| {
        words
            .next()
            .and_then(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
            .ok_or_else(|| format!("'{text}' has no {key}=NUMBER where one is due"))
    };
    let (chain, round) = (number("chain")?, number("round")?);
    let choices = words
        .next()
        .map(|choices| choices.split(" / ").map(|choice| choice.trim().parse::<Choice>()).collect())
        .unwrap_or(Ok(Vec::new()))
        .map_err(|error| error.to_string())?;
    Ok(Address { chain, round, choices, injury })
}

/// Recovers one state again and says what happened.
///
/// # Errors
/// What broke, after the story.
pub fn replay(settings: &Settings, address: &Address) -> Result<String, String> {
    let mut chain = Chain::new(settings.seed, address.chain);
    let mut story = String::new();
    let round = loop {
        match chain.next(settings.operations) {
            Ok(Some(round)) if round.number == address.round => break round,
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("chain {} has no round {}", address.chain, address.round)),
            Err(violation) => return Err(format!("the workload itself: {}", violation.message)),
        }
    };
    let _ = writeln!(story, "store: {:?}", round.shape);
    let mut trace = round.trace.clone();
    let mut base = Arc::clone(&round.base);
    let disk = round.disk();
    let mut steps = None;
    let Some(first) = address.choices.first() else {
        return Ok(story + "the round runs through\n");
    };
    let progress = round.progress(first.cut);
    let _ = writeln!(
        story,
        "history: {} steps acknowledged, {} begun at the cut",
        progress.acknowledged, progress.started
    );
    for (number, entry) in round.history.entries.iter().enumerate().take(progress.started) {
        let _ = writeln!(story, "  step {}: {entry:?}", number + 1);
    }
    for (depth, choice) in address.choices.iter().enumerate() {
        cut_once(&round, &trace, &base, choice, &disk, &mut story)?;
        let last = depth + 1 == address.choices.len();
        let mut damage = Damage::None;
        if last && let Some(injury) = &address.injury {
            let ring = places(&disk).map_or(0..0, |(_, ring)| ring);
            injury.apply(&round, &disk);
            damage = injury.allows(&ring);
            let _ = writeln!(story, "injury: {injury}");
        }
        base = disk.freeze();
        describe_journal(&disk, &mut story);
        disk.start_recording();
        let judged = round.judge().recover(Arc::clone(&disk) as Arc<dyn Device>, progress, damage);
        trace = disk.take_trace();
        let _ = writeln!(story, "recovery: {} writes and flushes", trace.io_points().count());
        match judged {
            Ok((Verdict::Recovered { steps: found, report }, _)) => {
                let _ = writeln!(story, "  holds {found} steps; {report:?}");
                let allowed = found..=if report.torn_tail { progress.started } else { found };
                if let Some(before) = steps.replace(allowed)
                    && !before.contains(&found)
                {
                    return Err(format!("{story}broken: the recovery before had found {before:?} steps"));
                }
            }
            Ok((verdict, _)) => {
                let _ = writeln!(story, "  {verdict:?}");
            }
            Err(violation) => return Err(format!("{story}broken: {}", violation.message)),
        }
    }
    Ok(story + "no rule is broken\n")
}

/// What recovery is going to find.
fn describe_journal(disk: &Arc<CowDisk>, story: &mut String) {
    let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), true);
    let pair = match SuperblockPair::read(&port) {
        Ok(pair) => pair,
        Err(error) => {
            let _ = writeln!(story, "superblock: {error}");
            return;
        }
    };
    let superblock = pair.current();
    let _ = writeln!(
        story,
        "superblock: sequence {}, epoch {}, {:?}, tail at {} with LSN {}, copies {}",
        superblock.sequence,
        superblock.epoch,
        superblock.state,
        superblock.tail_position,
        superblock.tail_lsn,
        if pair.is_agreed() { "agree" } else { "do not agree" }
    );
    match scan_journal(&port, superblock) {
        Ok(scan) => {
            for group in &scan.groups {
                let header = &group.header;
                let _ = writeln!(
                    story,
                    "  group at {} (offset {}): LSN {} to {}, durable {}, {} bytes, {} updates",
                    header.position,
                    group.offset,
                    header.first_lsn,
                    header.last_lsn(),
                    header.durable_lsn,
                    header.length,
                    header.updates
                );
            }
            let _ = writeln!(
                story,
                "  end at {}, torn {:?}, witness {:?}",
                scan.end_position, scan.torn, scan.witness
            );
        }
        Err(error) => {
            let _ = writeln!(story, "  journal: {error}");
        }
    }
}

fn cut_once(
    round: &Round,
    trace: &Trace,
    base: &Arc<CowBase>,
    choice: &Choice,
    disk: &Arc<CowDisk>,
    story: &mut String,
) -> Result<(), String> {
    let geometry = round.geometry();
    let mut walker = CutWalker::new(trace, Arc::clone(base), &geometry);
    let cut = walker.cut_at(choice.cut);
    let first = cut.pending_writes().first().map_or(choice.cut, |write| write.event());
    let _ = writeln!(story, "power fails at event {} of {}; since the last flush:", choice.cut, trace.len());
    for (number, event) in
        trace.events().iter().enumerate().take(choice.cut + 1).skip(first.saturating_sub(4))
    {
        let _ = writeln!(story, "  {number}: {event}");
    }
    let _ = writeln!(story, "kept: {choice}");
    cut.apply(choice, disk).map_err(|error| error.to_string())
}
