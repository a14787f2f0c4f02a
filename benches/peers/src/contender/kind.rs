//! The contenders by name, and how each is set.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::Floor;
use super::freehold::Freehold;
use crate::Failure;
use crate::driver::{Driver, Store, Subject};
use crate::workload::capacity;

/// Whoever takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    Direct,
    Freehold,
    FreeholdDirect,
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "redb")]
    Redb,
    #[cfg(feature = "lmdb")]
    Lmdb,
    #[cfg(feature = "fjall")]
    Fjall,
    #[cfg(feature = "write-journal")]
    WriteJournal,
}

/// The lock file says which versions are built in.
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The version of a package, the highest if there are several.
fn locked(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK.lines();
    let mut version = None;
    while lines.by_ref().any(|line| line == name) {
        version = lines.next()?.strip_prefix("version = ").map(|version| version.trim_matches('"'));
    }
    version
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Append,
        Self::Direct,
        Self::Freehold,
        Self::FreeholdDirect,
        #[cfg(feature = "sqlite")]
        Self::Sqlite,
        #[cfg(feature = "redb")]
        Self::Redb,
        #[cfg(feature = "lmdb")]
        Self::Lmdb,
        #[cfg(feature = "fjall")]
        Self::Fjall,
        #[cfg(feature = "write-journal")]
        Self::WriteJournal,
    ];

    /// In arguments, directories and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "floor",
            Self::Direct => "floor-direct",
            Self::Freehold => "freehold",
            Self::FreeholdDirect => "freehold-direct",
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "sqlite",
            #[cfg(feature = "redb")]
            Self::Redb => "redb",
            #[cfg(feature = "lmdb")]
            Self::Lmdb => "lmdb",
            #[cfg(feature = "fjall")]
            Self::Fjall => "fjall",
            #[cfg(feature = "write-journal")]
            Self::WriteJournal => "write-journal",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Append | Self::Direct)
    }

    pub(crate) fn is_freehold(self) -> bool {
        matches!(self, Self::Freehold | Self::FreeholdDirect)
    }

    /// Past the page cache.
    pub(crate) fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::FreeholdDirect)
    }

    pub(crate) fn is_peer(self) -> bool {
        !self.is_floor() && !self.is_freehold()
    }

    /// One whose waiting transactions do not share a flush: with more tasks, each only waits longer.
    pub(crate) fn most_tasks(self) -> usize {
        match self {
            #[cfg(feature = "write-journal")]
            Self::WriteJournal => 256,
            _ => usize::MAX,
        }
    }

    pub(crate) fn version(self) -> String {
        let packages: &[&str] = match self {
            Self::Append | Self::Direct => &[],
            Self::Freehold | Self::FreeholdDirect => &["freehold"],
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                return format!("{}, rusqlite {}", rusqlite::version(), locked("rusqlite").unwrap_or("?"));
            }
            #[cfg(feature = "redb")]
            Self::Redb => &["redb"],
            #[cfg(feature = "lmdb")]
            Self::Lmdb => {
                let lmdb = heed::lmdb_version();
                let heed = locked("heed").unwrap_or("?");
                return format!("{}.{}.{}, heed {heed}", lmdb.major, lmdb.minor, lmdb.patch);
            }
            #[cfg(feature = "fjall")]
            Self::Fjall => &["fjall"],
            #[cfg(feature = "write-journal")]
            Self::WriteJournal => &["write-journal"],
        };
        packages.iter().find_map(|package| locked(package)).unwrap_or("").to_owned()
    }

    /// What it keeps, how it is set, and why that is its best fair setting.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Append => {
                "64 bytes per transaction, those of all tasks in one write, then `fdatasync`, into a file that was \
                 written in full before; no clients, no allocator. The least that a durable append costs"
            }
            Self::Direct => {
                "the same in whole blocks of 4 KiB, with `O_DIRECT` and `O_DSYNC`; no clients, no allocator. Less than \
                 `floor` where the device can write through its cache"
            }
            Self::Freehold => "default settings: through the page cache, groups of the journal past it where that turns out to be quicker, `fdatasync`. What a user gets",
            Self::FreeholdDirect => {
                "`direct_io(true)`, else defaults. For devices that nobody else writes to"
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                "a row per extent, primary key the first page; WAL, `synchronous=FULL`, `locking_mode=EXCLUSIVE`, a cache \
                 of 256 MiB, prepared statements, else defaults. WAL needs one flush for a transaction where the rollback \
                 journal needs several, FULL is the weakest setting that makes each durable, and EXCLUSIVE spares it locks on files"
            }
            #[cfg(feature = "redb")]
            Self::Redb => {
                "a row per extent; `Durability::Immediate`, one-phase commit, its cache of 1 GiB (the defaults). The only setting \
                 that is durable when `commit` returns; two-phase commit would flush twice"
            }
            #[cfg(feature = "lmdb")]
            Self::Lmdb => {
                "a key per extent; default flags. `MDB_NOSYNC`, `MDB_NOMETASYNC` and `MDB_MAPASYNC` would lose what was \
                 acknowledged; `MDB_WRITEMAP` gives up the protection of the file from stray writes"
            }
            #[cfg(feature = "fjall")]
            Self::Fjall => {
                "a key per extent; each batch with `PersistMode::SyncData`, no compression, else defaults. `SyncAll` would also make \
                 times of the file durable, which nobody needs; values of 12 bytes are not worth compressing"
            }
            #[cfg(feature = "write-journal")]
            Self::WriteJournal => {
                "a header of 8 bytes per block in a table, written through the engine; its own queue. The only setting that it has, \
                 and the fewest bytes that a buddy can journal"
            }
        }
    }

    /// Opens one that keeps something.
    pub(crate) fn store(
        self,
        runtime: &Arc<Runtime>,
        dir: &Path,
        live: usize,
    ) -> Result<Box<dyn Store>, Failure> {
        #[cfg(any(feature = "sqlite", feature = "redb", feature = "lmdb", feature = "fjall"))]
        use crate::group_commit::Peer;
        std::fs::create_dir_all(dir)?;
        let bytes = capacity(live);
        Ok(match self {
            Self::Append | Self::Direct => return Err("the floor keeps nothing".into()),
            Self::Freehold => Box::new(Driver::<Freehold<false>>::open(runtime, dir, bytes)?),
            Self::FreeholdDirect => Box::new(Driver::<Freehold<true>>::open(runtime, dir, bytes)?),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => Box::new(Driver::<Peer<super::sqlite::Sqlite>>::open(runtime, dir, bytes)?),
            #[cfg(feature = "redb")]
            Self::Redb => Box::new(Driver::<Peer<super::redb::Redb>>::open(runtime, dir, bytes)?),
            #[cfg(feature = "lmdb")]
            Self::Lmdb => Box::new(Driver::<Peer<super::lmdb::Lmdb>>::open(runtime, dir, bytes)?),
            #[cfg(feature = "fjall")]
            Self::Fjall => Box::new(Driver::<Peer<super::fjall::Fjall>>::open(runtime, dir, bytes)?),
            #[cfg(feature = "write-journal")]
            Self::WriteJournal => {
                Box::new(Driver::<super::write_journal::Journaled>::open(runtime, dir, bytes)?)
            }
        })
    }

    /// Makes one that has so many extents.
    pub(crate) fn subject(
        self,
        runtime: &Arc<Runtime>,
        dir: &Path,
        live: usize,
    ) -> Result<Box<dyn Subject>, Failure> {
        std::fs::create_dir_all(dir)?;
        match self {
            Self::Append => Ok(Box::new(Floor::new(dir, false)?)),
            Self::Direct => Ok(Box::new(Floor::new(dir, true)?)),
            _ => {
                let mut store = self.store(runtime, dir, live)?;
                store.fill(live)?;
                Ok(store)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn every_product_has_its_version_and_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
            assert!(kind.is_floor() || kind.version().contains('.'), "{}", kind.name());
        }
        assert_eq!(locked("write-journal"), Some("0.15.2"));
        assert_eq!(locked("no-such-package"), None);
    }
}
