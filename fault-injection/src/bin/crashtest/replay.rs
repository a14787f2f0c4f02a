//! `crashtest replay`.

use std::time::Duration;

use fault_injection::allocator::{Operation, Subject};
use fault_injection::campaign::chain::{Settings, retrace};
use fault_injection::campaign::exhaustive;
use fault_injection::harness::{
    Address, Ending, Run, Source, Start, Subject as _, run as run_operations, shrink, tell,
};

use crate::arguments::ReplayArguments;
use crate::campaign::subject;
use crate::summary::replay_command;

/// Tells the story of a state. Returns whether no rule is broken.
///
/// # Errors
/// When the address leads nowhere.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<bool, String> {
    let address: Address = arguments.state.join(" ").parse()?;
    let settings = Settings { seed: arguments.seed, operations: arguments.ops };
    let limit = (!arguments.as_is).then(|| Duration::from_secs(arguments.seconds));
    let (story, is_good) = story(&settings, &address, limit)?;
    print!("{story}");
    Ok(is_good)
}

/// The story of a state, of the shortest history that fails alike if there is a limit for finding it; and whether no
/// rule is broken.
///
/// # Errors
/// When the address leads nowhere.
pub(crate) fn story(
    settings: &Settings,
    address: &Address,
    limit: Option<Duration>,
) -> Result<(String, bool), String> {
    let (subject, failing) = find(settings, address)?;
    let (story, ending) = tell(&subject, &failing, address);
    let violation = match ending {
        Ending::Lost(why) => return Err(why),
        Ending::Good => return Ok((story, true)),
        Ending::Broken(violation) => violation,
    };
    let shrunk = limit.and_then(|limit| shrink(&subject, &failing, address, &violation, limit));
    let Some(shrunk) = shrunk else { return Ok((story, false)) };
    let (story, _) = tell(&subject, &shrunk.run, &shrunk.address);
    let (enough, before) = (shrunk.run.operations.len(), failing.operations.len());
    let again = replay_command(settings, &format!("--as-is '{}'", shrunk.address));
    Ok((format!("{enough} of {before} operations are enough:\n{story}again: {again}\n"), false))
}

fn find(settings: &Settings, address: &Address) -> Result<(Subject, Run<Subject>), String> {
    let (subject, round) = match &address.source {
        Source::Chain { round, .. } => {
            retrace(settings, address, subject).ok_or_else(|| format!("there is no round {round}"))?
        }
        Source::Sequence(numbers) if numbers.is_empty() => (exhaustive::subject(), exhaustive::formatted().0),
        Source::Sequence(numbers) => {
            let run = exhaustive::sequence(&exhaustive::formatted().1, numbers);
            let unknown = || format!("there is no operation with one of the numbers {numbers:?}");
            (exhaustive::subject(), run.ok_or_else(unknown)?)
        }
    };
    if address.kept.is_none() && !address.fresh {
        return Ok((subject, round));
    }
    let operations: Vec<Operation> = match &address.kept {
        Some(kept) => {
            let operation = |&at: &usize| {
                let unknown = || format!("there is no operation {at} among {}", round.operations.len());
                round.operations.get(at).cloned().ok_or_else(unknown)
            };
            kept.iter().map(operation).collect::<Result<_, _>>()?
        }
        None => round.operations.clone(),
    };
    let (run, _) = if address.fresh {
        let start = Start { base: subject.disk().blank(), state: None, serial: 0 };
        run_operations(&subject, &start, &operations)
    } else {
        // With what the crash before left open.
        round.again(&subject, &operations)
    };
    Ok((subject, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_left_out() {
        let settings = Settings { seed: 1, operations: 3 };
        let told = |text: &str| story(&settings, &text.parse().unwrap(), None).map(|(_, is_good)| is_good);
        assert_eq!(told("sequence=0 cut=7 keep=all"), Ok(true));
        assert_eq!(told("sequence=0 operations=0 cut=7 keep=all"), Ok(true));
        for text in [
            "sequence=99 cut=7 keep=all",
            "sequence=0,99",
            "sequence=0 operations=0,1",
            "sequence=0 cut=99999 keep=all",
            "sequence=0 injury=0x1",
            "chain=0 round=99",
        ] {
            assert!(told(text).is_err(), "{text}");
        }
    }
}
