//! `crashtest replay`.

use std::time::Duration;

use fault_injection::allocator::{Operation, Subject};
use fault_injection::campaign::chain::Chain;
use fault_injection::campaign::exhaustive;
use fault_injection::harness::{
    Address, Ending, Run, Source, Start, Subject as _, run as run_operations, shrink, tell,
};

use crate::arguments::ReplayArguments;
use crate::campaign::subject;

/// Tells the story of a state. Returns whether no rule is broken.
///
/// # Errors
/// When the address leads nowhere.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<bool, String> {
    let address: Address = arguments.state.join(" ").parse()?;
    let (subject, failing) = find(arguments, &address)?;
    let (story, ending) = tell(&subject, &failing, &address);
    match ending {
        Ending::Lost(why) => Err(why),
        Ending::Good => {
            print!("{story}");
            Ok(true)
        }
        Ending::Broken(violation) => {
            let limit = Duration::from_secs(arguments.seconds);
            let shorter =
                if arguments.as_is { None } else { shrink(&subject, &failing, &address, &violation, limit) };
            match shorter {
                None => print!("{story}"),
                Some(shrunk) => {
                    let before = failing.operations.len();
                    println!("{} of {before} operations are enough:", shrunk.run.operations.len());
                    let (story, _) = tell(&subject, &shrunk.run, &shrunk.address);
                    print!("{story}");
                    println!(
                        "again: crashtest replay --as-is --seed {} '{}'",
                        arguments.seed, shrunk.address
                    );
                }
            }
            Ok(false)
        }
    }
}

fn find(arguments: &ReplayArguments, address: &Address) -> Result<(Subject, Run<Subject>), String> {
    let (subject, round) = match &address.source {
        Source::Chain { chain, round } => {
            let mut chain = Chain::new(arguments.seed, *chain, subject);
            let mut runs = std::iter::from_fn(|| chain.next(arguments.ops));
            let run = usize::try_from(*round).ok().and_then(|round| runs.nth(round));
            drop(runs);
            (*chain.subject(), run.ok_or_else(|| format!("there is no round {round}"))?)
        }
        Source::Sequence(numbers) if numbers.is_empty() => (exhaustive::subject(), exhaustive::formatted().0),
        Source::Sequence(numbers) => {
            (exhaustive::subject(), exhaustive::sequence(&exhaustive::formatted().1, numbers))
        }
    };
    if address.kept.is_none() && !address.fresh {
        return Ok((subject, round));
    }
    let operations: Vec<Operation> = match &address.kept {
        Some(kept) => kept.iter().filter_map(|&at| round.operations.get(at).cloned()).collect(),
        None => round.operations,
    };
    let start = if address.fresh {
        Start { base: subject.disk().blank(), state: None, serial: 0 }
    } else {
        round.start
    };
    let (run, _) = run_operations(&subject, &start, &operations);
    Ok((subject, run))
}
