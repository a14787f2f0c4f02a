//! Operations that write pages directly: the same where nothing fails and where any call may; what an error of a call
//! means is for the caller to say.

use freehold::{Error, ExtentInfo, Transaction};

use super::model::{Effects, State};
use super::plan::claim;
use super::{Subject, payload};
use crate::executor::{self, Stuck};
use crate::harness::{Session, Step};
use crate::oracle::Violation;

/// A direct write over a page of a live extent, journaled cells and all, then made durable. Returns whether there was
/// an extent.
pub(crate) fn overwrite<E: From<Stuck> + From<Violation>>(
    session: &mut Session<Subject>,
    [pick, page]: [u32; 2],
    page_bytes: u64,
    refused: impl Fn(&'static str, Error) -> E,
) -> Result<bool, E> {
    let live: Vec<ExtentInfo> = session.state()?.infos().collect();
    let Some(info) = live.get(pick as usize % live.len().max(1)) else { return Ok(false) };
    let extent = info.extent;
    let page = u64::from(page) % (extent.len / page_bytes).max(1);
    let index = usize::try_from(page).unwrap_or(0);
    let tag = session.fresh(64);
    let store = session.open_store()?.allocator.clone();
    session.begin(2);
    let push = |session: &mut Session<Subject>, what: &str, state: State| {
        let text = format!("page {page} of {} {what}", extent.offset);
        session.push(Step { text, journaled: false }, state);
    };
    let unsettled = session.state()?.unsettled(&extent, index);
    push(session, "is being written directly", unsettled);
    let len = payload::part_len(&extent, index, usize::try_from(page_bytes).unwrap_or(0));
    executor::run(store.write_at(&extent, page * page_bytes, &payload::page(tag, len)))?
        .map_err(|error| refused("a direct write", error))?;
    executor::run(store.sync_data())?.map_err(|error| refused("a flush of data", error))?;
    let written = session.state()?.overwritten(&extent, index, tag);
    push(session, "is written directly", written);
    Ok(true)
}

/// Allocates until there is no space, and writes all of it; the transaction keeps what it got.
pub(crate) fn fill<E: From<Stuck> + From<Violation>>(
    session: &mut Session<Subject>,
    page_bytes: u64,
    refused: impl Fn(&'static str, Error) -> E,
) -> Result<(Transaction, Effects), E> {
    let store = session.open_store()?.allocator.clone();
    session.begin(1);
    let disk = session.disk().clone();
    let mut transaction = store.begin();
    let mut effects = Effects::default();
    let len = usize::try_from(page_bytes).unwrap_or(0);
    let mut pages = 8;
    while pages > 0 {
        let tag = session.fresh(64);
        match executor::run(claim(&mut transaction, &disk, pages * page_bytes, tag))? {
            Ok(extent) => {
                let bytes: Vec<u8> = (0..pages).flat_map(|page| payload::page(tag + page, len)).collect();
                executor::run(store.write_at(&extent, 0, &bytes))?
                    .map_err(|error| refused("a direct write", error))?;
                effects.allocated.push((ExtentInfo { extent, owner: tag }, tag));
            }
            Err(Error::NoSpace { .. }) => pages /= 2,
            Err(error) => return Err(refused("an allocation", error)),
        }
    }
    Ok((transaction, effects))
}
