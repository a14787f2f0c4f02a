//! `freehold list`.

use std::pin::pin;

use freehold::{ExtentInfo, OpenOptions};
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cli::{Target, open_to_read};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Output;

/// An extent as scripts see it.
#[derive(Debug, Serialize)]
pub(crate) struct ListedExtent {
    offset: u64,
    bytes: u64,
    owner: u64,
    generation: u32,
}

impl From<ExtentInfo> for ListedExtent {
    fn from(info: ExtentInfo) -> Self {
        let ExtentInfo { extent, owner } = info;
        Self { offset: extent.offset, bytes: extent.len, owner, generation: extent.generation }
    }
}

pub(crate) fn run(target: &Target, runtime: &Runtime, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: freehold::Error| Failure::store(&target.device, &error);
    let device = open_to_read(&target.device)?;
    runtime.block_on(async {
        let (store, _) = OpenOptions::new().read_only(true).open_device(device).await.map_err(failed)?;
        let mut extents = pin!(store.extents());
        if !output.json {
            output
                .line(&format!("{:>18}  {:>12}  {:>20}  {:>10}", "offset", "size", "owner", "generation"))?;
        }
        while let Some(info) = extents.try_next().await.map_err(failed)? {
            let listed = ListedExtent::from(info);
            if output.json {
                output.json(&listed)?;
            } else {
                let ListedExtent { offset, bytes, owner, generation } = listed;
                output.line(&format!(
                    "{offset:>18}  {:>12}  {owner:>20}  {generation:>10}",
                    human::size(bytes)
                ))?;
            }
            if output.is_closed() {
                break;
            }
        }
        Ok(Exit::Clean)
    })
}
