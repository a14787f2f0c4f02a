//! Flushes of one file, and who is told what goes wrong.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use rustix::io::Errno;

/// Makes sure that no flush succeeds once it is known that something may be lost. The system tells an opened file of an error once, so
/// of two flushes at a time only one would know; and what was lost is not dirty any more, so that no later one would miss it.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// What went wrong first, with a flush or with a start.
    failed: OnceLock<Errno>,
    /// Held by those who start.
    starting: RwLock<()>,
    /// Held by the one who flushes.
    flushing: Mutex<()>,
}

impl Flushes {
    /// Flushes by this call, alone. Fails for ever when anything has failed.
    pub(super) fn flush(&self, flush: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.get().is_none() {
            self.note(flush())?;
            // Of what the flush has met, that which is just being started has not said yet what becomes of it.
            drop(self.starting.write().unwrap_or_else(PoisonError::into_inner));
        }
        self.failed.get().map_or(Ok(()), |error| Err((*error).into()))
    }

    /// Has the system start writing pages. An error may have cost pages, and is one of a flush that is under way or of the next.
    /// `None` without a call, when one who has flushed waits to see what becomes of those who start.
    pub(super) fn start(&self, start: impl FnOnce() -> Result<(), Errno>) -> Option<Result<(), Errno>> {
        let _starting = self.starting.try_read().ok()?;
        Some(self.note(start()))
    }

    /// Remembers an error.
    pub(super) fn note(&self, result: Result<(), Errno>) -> Result<(), Errno> {
        result.inspect_err(|error| {
            self.failed.get_or_init(|| *error);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn flushed(flushes: &Flushes) -> io::Result<()> {
        flushes.flush(|| Ok(()))
    }

    #[test]
    fn what_fails_is_told_by_every_flush() {
        let failed = || Err(Errno::NOSPC);
        let failing: [&dyn Fn(&Flushes); 4] = [
            &|flushes| assert_eq!(flushes.start(failed), Some(Err(Errno::NOSPC))),
            &|flushes| assert_eq!(flushes.note(failed()), Err(Errno::NOSPC)),
            &|flushes| assert!(flushes.flush(failed).is_err()),
            // While it is under way, too.
            &|flushes| {
                let meanwhile = flushes.flush(|| {
                    assert!(flushes.start(failed).is_some());
                    Ok(())
                });
                assert!(meanwhile.is_err());
            },
        ];
        for fail in failing {
            let flushes = Flushes::default();
            assert_eq!(flushes.start(|| Ok(())), Some(Ok(())));
            flushed(&flushes).unwrap();
            fail(&flushes);
            for _ in 0..2 {
                let error = flushed(&flushes).unwrap_err();
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
            }
        }
    }

    #[test]
    fn a_flush_waits_for_what_others_start_and_for_other_flushes() {
        let flushes = Flushes::default();
        let done = AtomicBool::new(false);
        let waits_for = |release: &dyn Fn()| {
            done.store(false, Ordering::SeqCst);
            thread::scope(|scope| {
                scope.spawn(|| {
                    flushed(&flushes).unwrap();
                    done.store(true, Ordering::SeqCst);
                });
                thread::sleep(Duration::from_millis(20));
                assert!(!done.load(Ordering::SeqCst));
                release();
            });
        };
        let starting = Cell::new(Some(flushes.starting.read().unwrap()));
        waits_for(&|| drop(starting.take()));
        let flushing = Cell::new(Some(flushes.flushing.lock().unwrap()));
        waits_for(&|| drop(flushing.take()));
    }

    #[test]
    fn nothing_is_started_while_a_flush_waits_for_those_who_start() {
        let flushes = Flushes::default();
        let _flushed = flushes.starting.write().unwrap();
        assert_eq!(flushes.start(|| Ok(())), None);
    }
}
