//! redb: a copy-on-write B-tree.

use std::path::Path;

use freehold::Extent;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::Failure;
use crate::group_commit::{Change, Engine, extent, first_page, pages};
use crate::workload::OWNER;

const LIVE: TableDefinition<'_, u64, (u32, u64)> = TableDefinition::new("live");

pub(crate) struct Redb(Database);

impl Engine for Redb {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let database = Database::create(dir.join("live.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(LIVE)?;
        transaction.commit()?;
        Ok(Self(database))
    }

    fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), Failure> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = transaction.open_table(LIVE)?;
            for Change { freed, made } in changes {
                if let Some(freed) = freed {
                    table.remove(first_page(freed))?.ok_or("what is freed is not there")?;
                }
                if let Some(made) = made {
                    table.insert(first_page(made), (pages(made)?, OWNER))?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.apply(&[], true)
    }

    fn load(&self) -> Result<Vec<Extent>, Failure> {
        let table = self.0.begin_read()?.open_table(LIVE)?;
        let records = table.iter()?.map(|record| {
            let (first, record) = record?;
            Ok(extent(first.value(), record.value().0))
        });
        records.collect()
    }
}
