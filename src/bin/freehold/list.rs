//! `freehold list`.

use std::pin::pin;

use freehold::{Extent, ExtentInfo, OpenOptions};
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
    /// Left out where one owner is named for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<u64>,
    generation: u32,
}

impl From<Extent> for ListedExtent {
    fn from(extent: Extent) -> Self {
        let Extent { offset, len: bytes, generation } = extent;
        Self { offset, bytes, owner: None, generation }
    }
}

impl From<ExtentInfo> for ListedExtent {
    fn from(info: ExtentInfo) -> Self {
        Self { owner: Some(info.owner), ..info.extent.into() }
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
            if output.json {
                output.json(&ListedExtent::from(info))?;
            } else {
                let ExtentInfo { extent: Extent { offset, len, generation }, owner } = info;
                let size = human::size(len);
                output.line(&format!("{offset:>18}  {size:>12}  {owner:>20}  {generation:>10}"))?;
            }
            if output.is_closed() {
                break;
            }
        }
        Ok(Exit::Clean)
    })
}
