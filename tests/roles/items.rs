//! Items and their regions, in a store of segments with two regions each.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; none uses all of them")]

use freehold::format::ItemClass;
use freehold::{AllocRequest, Extent};

use super::Bed;

/// A region of [`Bed::small`].
pub(crate) const REGION: u64 = 32 << 10;

/// Items of a class in a region.
pub(crate) fn capacity(bed: &Bed, bytes: u64, tagged: bool) -> u64 {
    let class = ItemClass::for_bytes(bytes).unwrap();
    bed.store.layout().region_layout(class, tagged).unwrap().capacity().into()
}

pub(crate) fn region_of(extent: &Extent) -> u64 {
    extent.offset / REGION
}

/// So many of the same, in several transactions, each small enough for the journal.
pub(crate) async fn alloc_many(bed: &Bed, count: u64, request: AllocRequest) -> Vec<Extent> {
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let mut txn = bed.store.begin();
        for _ in 0..(count - all.len() as u64).min(64) {
            all.push(txn.alloc(request).await.unwrap());
        }
        txn.commit().await.unwrap();
    }
    all
}
