//! `freehold journal`.

use freehold::inspect::{GroupEntry, journal};

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Output;

pub(crate) fn run(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let device = open_to_read(&target.device)?;
    let report = journal(device).map_err(|error| Failure::store(&target.device, &error))?;
    if output.json {
        for group in &report.groups {
            output.json(group)?;
        }
    } else {
        print(&report.groups, output)?;
    }
    output.flush()?;
    match report.refusal() {
        Some(error) => Err(Failure::store(&target.device, &error)),
        None => Ok(Exit::Clean),
    }
}

fn print(groups: &[GroupEntry], output: &mut Output) -> Result<(), Failure> {
    if groups.is_empty() {
        return output.line("the journal holds nothing that is not in place");
    }
    output.line(&format!(
        "{:>14}  {:>12}  {:>12}  {:>12}  {:>12}  {:>7}  state",
        "offset", "first LSN", "last LSN", "transactions", "bytes", "writes"
    ))?;
    let lsn = |lsn: Option<u64>| lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
    for group in groups {
        output.line(&format!(
            "{:>14}  {:>12}  {:>12}  {:>12}  {:>12}  {:>7}  {}",
            group.offset,
            lsn(group.first_lsn),
            lsn(group.last_lsn),
            group.transactions,
            human::size(group.bytes),
            group.writes,
            group.state.name(),
        ))?;
    }
    Ok(())
}
