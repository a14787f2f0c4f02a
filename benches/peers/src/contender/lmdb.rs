//! LMDB: a memory-mapped copy-on-write B-tree.

use std::path::Path;

use freehold::Extent;
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode};

use crate::Failure;
use crate::group_commit::{Change, Engine, first_page, from_record, record};

/// Room for some ten million records.
const MAP_BYTES: usize = 4 << 30;

pub(crate) struct Lmdb {
    env: Env,
    live: Database<'static, U64<BigEndian>, Bytes>,
    durable: bool,
}

impl Lmdb {
    fn set_durable(&mut self, durable: bool) -> Result<(), Failure> {
        if self.durable != durable {
            let mode = if durable { FlagSetMode::Disable } else { FlagSetMode::Enable };
            #[expect(unsafe_code, reason = "the engine is behind a lock: no other thread sets flags")]
            // SAFETY: see the reason.
            unsafe {
                self.env.set_flags(EnvFlags::NO_SYNC, mode)?;
            }
            self.durable = durable;
        }
        Ok(())
    }
}

impl Engine for Lmdb {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        #[expect(unsafe_code, reason = "nobody else changes the file while it is mapped")]
        // SAFETY: see the reason.
        let env = unsafe { options.open(dir)? };
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        match opened? {
            CommitOrAbort::Commit(live) => Ok(Self { env, live, durable: true }),
            CommitOrAbort::Abort(()) => Err("LMDB has no database".into()),
        }
    }

    fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), Failure> {
        self.set_durable(durable)?;
        let mut transaction = self.env.write_txn()?;
        for Change { freed, made } in changes {
            if let Some(freed) = freed
                && !self.live.delete(&mut transaction, &first_page(freed))?
            {
                return Err("what is freed is not there".into());
            }
            if let Some(made) = made {
                self.live.put(&mut transaction, &first_page(made), &record(made)?)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(self.env.force_sync()?)
    }

    fn load(&self) -> Result<Vec<Extent>, Failure> {
        let transaction = self.env.read_txn()?;
        let records = self.live.iter(&transaction)?.map(|record| {
            let (first, record) = record?;
            from_record(first, record)
        });
        records.collect()
    }
}
