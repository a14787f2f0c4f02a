//! SQLite: a B-tree with a write-ahead log.

use std::path::Path;

use freehold::Extent;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::Failure;
use crate::group_commit::{Change, Engine, extent, first_page, pages};
use crate::workload::OWNER;

pub(crate) struct Sqlite {
    connection: Connection,
    durable: bool,
}

impl Sqlite {
    fn set_durable(&mut self, durable: bool) -> Result<(), Failure> {
        if self.durable != durable {
            self.connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
            self.durable = durable;
        }
        Ok(())
    }
}

impl Engine for Sqlite {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(dir.join("live.sqlite"))?;
        // One process has it, as Freehold has its store: no shared memory, no file locks for each transaction.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // KiB. As much as Freehold may have by default.
        connection.pragma_update(None, "cache_size", -(256 << 10))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS live (page INTEGER PRIMARY KEY, pages INTEGER, owner INTEGER)",
        )?;
        Ok(Self { connection, durable: true })
    }

    fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), Failure> {
        self.set_durable(durable)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut remove = transaction.prepare_cached("DELETE FROM live WHERE page = ?1")?;
            let mut insert = transaction.prepare_cached("INSERT INTO live VALUES (?1, ?2, ?3)")?;
            for Change { freed, made } in changes {
                if let Some(freed) = freed
                    && remove.execute([i64::try_from(first_page(freed))?])? != 1
                {
                    return Err("what is freed is not there".into());
                }
                if let Some(made) = made {
                    let page = i64::try_from(first_page(made))?;
                    insert.execute(params![page, pages(made)?, i64::try_from(OWNER)?])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.set_durable(true)?;
        // A frame in the log, so that there is something to checkpoint; that flushes the log and the database.
        self.connection.pragma_update(None, "user_version", 1)?;
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0))?;
        Ok(())
    }

    fn load(&self) -> Result<Vec<Extent>, Failure> {
        let mut statement = self.connection.prepare("SELECT page, pages FROM live")?;
        let records = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)))?;
        records
            .map(|record| {
                let (first, pages) = record?;
                Ok(extent(u64::try_from(first)?, pages))
            })
            .collect()
    }
}
