//! Nobody is fast by not doing the work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::HashSet;
use std::time::Duration;

use ::freehold::Extent;

use super::freehold::Freehold;
use super::{Clients, Contender};
use crate::workload::{PAGE_BYTES, Pool};

const CAPACITY: u64 = 64 << 20;
const LIVE: usize = 50;
const TRANSACTIONS: usize = 200;

fn sorted(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_unstable();
    extents
}

async fn check<C: Contender>() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::new(7);
    let contender = C::open(dir.path(), CAPACITY).await.unwrap();
    let sizes: Vec<u64> = (0..LIVE).map(|_| pool.random.size()).collect();
    pool.live = contender.fill(&sizes).await.unwrap();
    for (made, bytes) in pool.live.iter().zip(&sizes) {
        assert!(made.len >= *bytes && made.len.is_multiple_of(PAGE_BYTES));
    }
    for number in 0..TRANSACTIONS {
        let clients = if number % 2 == 0 { Clients::One } else { Clients::Many };
        let (freed, bytes) = pool.choose();
        let made = contender.transact(freed, bytes, clients).await.unwrap();
        assert!(made.len >= bytes);
        pool.live.push(made);
    }
    assert_eq!(pool.live.len(), LIVE);
    let mut next = 0;
    for extent in sorted(pool.live.clone()) {
        assert!(extent.offset >= next, "{extent:?} has two owners");
        next = extent.end();
    }
    drop(contender);

    let contender = C::open(dir.path(), CAPACITY).await.unwrap();
    assert_eq!(sorted(contender.live().await.unwrap()), sorted(pool.live.clone()));

    // Those that nobody waits for are there as well, and space is not handed out twice.
    let count = contender.rush(&mut pool, Duration::from_millis(50)).await.unwrap();
    assert!(count > 0);
    let many: Vec<(Option<Extent>, u64)> = (0..20).map(|_| pool.choose()).collect();
    let made = many.into_iter().map(|(freed, bytes)| contender.transact(freed, bytes, Clients::Many));
    for made in futures_util::future::join_all(made).await {
        pool.live.push(made.unwrap());
    }
    drop(contender);
    let contender = C::open(dir.path(), CAPACITY).await.unwrap();
    let found = contender.live().await.unwrap();
    assert_eq!(sorted(found.clone()), sorted(pool.live.clone()));
    assert_eq!(found.iter().map(|extent| extent.offset).collect::<HashSet<_>>().len(), LIVE);
}

macro_rules! check {
    ($($(#[$feature:meta])? $name:ident: $contender:ty,)*) => {
        $($(#[$feature])?
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check::<$contender>().await;
        })*
    };
}

check! {
    freehold: Freehold<false>,
    freehold_direct: Freehold<true>,
    #[cfg(feature = "sqlite")]
    sqlite: crate::group_commit::Peer<super::sqlite::Sqlite>,
    #[cfg(feature = "redb")]
    redb: crate::group_commit::Peer<super::redb::Redb>,
    #[cfg(feature = "lmdb")]
    lmdb: crate::group_commit::Peer<super::lmdb::Lmdb>,
    #[cfg(feature = "fjall")]
    fjall: crate::group_commit::Peer<super::fjall::Fjall>,
    #[cfg(feature = "write-journal")]
    write_journal: super::write_journal::Journaled,
}
