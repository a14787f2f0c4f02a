//! Goal: it makes no difference to what is committed whether groups go past the page cache or through it.
//!
//! Method: stores on real files, with rings that are long enough for both ways, and more groups than it takes to try them; each is
//! left as a crash of the process leaves it, and opened again.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use freehold::inspect::check;
use freehold::{AllocRequest, Allocator, Extent, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;
use std::sync::Arc;

/// The first 500 or so lie where the ring shares folios with what is in front of it.
const TRANSACTIONS: u64 = 900;

async fn extents(store: &Allocator) -> Vec<(Extent, u64)> {
    store.extents().map_ok(|info| (info.extent, info.owner)).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_there_whichever_way_it_went() {
    let folder = tempfile::tempdir().unwrap();
    for (name, cached) in [("either", false), ("cached", true)] {
        let (path, copy) = (folder.path().join(name), folder.path().join(format!("{name} after a crash")));
        let format = FormatOptions::new().page_bytes(4096).journal_bytes(8 << 20);
        format.create(&path, 64 << 20).await.unwrap();
        let options = OpenOptions::new().cached_journal(cached);
        let (store, _) = options.open(&path).await.unwrap();
        let mut live = Vec::new();
        for owner in 1..=TRANSACTIONS {
            let mut transaction = store.begin();
            live.push(
                transaction.alloc(AllocRequest::bytes(4096 * (1 + owner % 5)).owner(owner)).await.unwrap(),
            );
            if owner % 3 == 0 {
                transaction.free(&live.swap_remove(0)).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
        let before = extents(&store).await;
        // Past the cache and through it, all of it is in the file.
        std::fs::copy(&path, &copy).unwrap();
        drop(store);
        let (store, report) = options.open(&copy).await.unwrap();
        assert_eq!((report.was_clean, report.torn_tail), (false, false));
        assert_eq!(extents(&store).await, before, "{name}");
        store.close().await.unwrap();
        drop(store);
        let device = freehold::device::FileDeviceOptions::new().read_only(true).open(&copy).unwrap();
        let report = check(Arc::new(device), &mut |_| {}).unwrap();
        assert!(report.errors.is_empty(), "{name}: {:?}", report.errors);
    }
}
