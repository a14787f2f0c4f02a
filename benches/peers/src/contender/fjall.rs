//! fjall: a log-structured merge tree.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use freehold::Extent;

use crate::Failure;
use crate::group_commit::{Change, Engine, first_page, from_record, record};

pub(crate) struct Fjall {
    database: Database,
    live: Keyspace,
}

impl Engine for Fjall {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let live = database.keyspace("live", KeyspaceCreateOptions::default)?;
        Ok(Self { database, live })
    }

    fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), Failure> {
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for Change { freed, made } in changes {
            if let Some(freed) = freed {
                batch.remove(&self.live, first_page(freed).to_be_bytes());
            }
            if let Some(made) = made {
                batch.insert(&self.live, first_page(made).to_be_bytes(), record(made)?);
            }
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn load(&self) -> Result<Vec<Extent>, Failure> {
        let records = self.live.iter().map(|record| {
            let (first, record) = record.into_inner()?;
            let first = first.first_chunk().ok_or("a key is too short")?;
            from_record(u64::from_be_bytes(*first), &record)
        });
        records.collect()
    }
}
