//! Goal: every group and every checkpoint is in the histograms, stage by stage, with the times of the clock.
//!
//! Method: a store in memory with a clock that is moved by hand between append and write: nothing else takes time there.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use freehold::device::{ManualClock, MemoryDevice};
use freehold::{CommitStages, FormatOptions, OpenOptions};

#[tokio::test]
async fn each_group_is_counted_in_each_stage() {
    let clock = Arc::new(ManualClock::default());
    let device = Arc::new(MemoryDevice::zeroed(4 << 20));
    FormatOptions::new().format_device(Arc::clone(&device) as _).await.unwrap();
    let (store, _) = OpenOptions::new().clock(Arc::clone(&clock) as _).open_device(device).await.unwrap();
    assert_eq!(store.stages(), CommitStages::default());

    for together in [1, 1, 3] {
        let mut commits = Vec::new();
        for _ in 0..together {
            let mut transaction = store.begin();
            transaction.alloc(4096).await.unwrap();
            commits.push(transaction.commit());
        }
        let mut commits = futures_util::future::join_all(commits);
        // All join the group when they are first polled; the first of them writes it when it is polled again.
        assert!(futures_util::poll!(&mut commits).is_pending());
        clock.advance(Duration::from_millis(together));
        assert!(commits.await.iter().all(Result::is_ok));
    }
    store.checkpoint().await.unwrap();

    let (stages, stats) = (store.stages(), store.stats());
    assert_eq!(stats.journal.groups, 3);
    for stage in [stages.wait, stages.encode, stages.write, stages.flush, stages.tell, stages.transactions] {
        assert_eq!(stage.count, 3);
    }
    assert_eq!((stages.transactions.p50, stages.transactions.max), (1, 3));
    let near = |found: u64, millis: u64| found.abs_diff(millis * 1_000_000) * 60 <= millis * 1_000_000;
    assert!(near(stages.wait.p50, 1) && near(stages.wait.max, 3), "{stages:?}");
    assert_eq!((stages.flush.max, stages.checkpoint.count), (0, 1));
    assert!(stats.journal.cache_hits > 0 && stats.journal.cache_misses > 0, "{stats:?}");
}
