//! The caller's own data goes through the asynchronous seam of `seekable-async-file`.
//!
//! The traits of that crate carry no `Result`, so each call has an object of its own here, [`SeekableDevice`], which
//! latches the error. The object also holds what must outlive the call. A future that is dropped does not stop a call
//! that blocks in another thread; a range lock must not be given back before that call has really ended.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use off64::{Off64AsyncRead, Off64AsyncWrite};
use seekable_async_file::common::{ISyncIO, SyncIOAsyncAdapter};

use super::{Port, Purpose};
use crate::error::{Error, IoOperation, Result};

/// Where a call that cannot return an error leaves it. Clones share one place.
#[derive(Clone, Debug, Default)]
pub struct ErrorLatch(Arc<Mutex<Option<Error>>>);

impl ErrorLatch {
    /// Leaves an error. The first one is kept.
    pub fn set(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Takes the error out, if there is one.
    ///
    /// # Errors
    ///
    /// The error that the call left.
    pub fn take(&self) -> Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

/// One read, write or flush of a [`Port`] through the seam of `seekable-async-file`.
///
/// What the call returns is worth nothing before [`ErrorLatch::take`] has said that it succeeded: a failed read
/// returns zeros of the wanted length. `G` is dropped with the object, which the thread that runs the call keeps alive
/// until the call has ended. `F` runs after a successful write, in the same thread.
pub struct SeekableDevice<G, F> {
    port: Arc<Port>,
    latch: ErrorLatch,
    on_written: F,
    _guard: G,
}

impl<G, F> fmt::Debug for SeekableDevice<G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeekableDevice").field("latch", &self.latch).finish_non_exhaustive()
    }
}

impl<G, F> SeekableDevice<G, F>
where
    G: Send + Sync + 'static,
    F: Fn() + Send + Sync + 'static,
{
    /// An object for one call, and the latch that gets the call's error.
    #[must_use]
    pub fn new(port: Arc<Port>, guard: G, on_written: F) -> (Self, ErrorLatch) {
        let latch = ErrorLatch::default();
        (Self { port, latch: latch.clone(), on_written, _guard: guard }, latch)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.port.read_vec(offset, len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.port.write(offset, data, Purpose::CallerDirect)?;
        (self.on_written)();
        Ok(())
    }
}

impl<G, F> ISyncIO for SeekableDevice<G, F>
where
    G: Send + Sync + 'static,
    F: Fn() + Send + Sync + 'static,
{
    fn read_at_sync(&self, offset: u64, len: u64) -> Vec<u8> {
        let Ok(wanted) = usize::try_from(len) else {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "more than fits into memory");
            self.latch.set(Error::io(IoOperation::Read, offset, len, cause));
            return Vec::new();
        };
        self.read(offset, wanted).unwrap_or_else(|error| {
            self.latch.set(error);
            vec![0; wanted]
        })
    }

    fn write_at_sync(&self, offset: u64, data: &[u8]) {
        if let Err(error) = self.write(offset, data) {
            self.latch.set(error);
        }
    }

    fn sync_data_sync(&self) {
        if let Err(error) = self.port.flush() {
            self.latch.set(error);
        }
    }
}

/// Reads `len` bytes at byte `offset`, in a thread for blocking calls if the device may block and a Tokio runtime is
/// there, and in place otherwise. `guard` is dropped when the read has ended, also when the future was dropped before.
///
/// # Errors
///
/// That of the device, or an [`Error::Io`] of the kind [`io::ErrorKind::Interrupted`] when the runtime shut down.
pub async fn read_through<G>(port: Arc<Port>, offset: u64, len: usize, guard: G) -> Result<Vec<u8>>
where
    G: Send + Sync + 'static,
{
    let elsewhere = runs_elsewhere(&port);
    let (device, latch) = SeekableDevice::new(port, guard, || {});
    if !elsewhere {
        return device.read(offset, len);
    }
    let adapter = SyncIOAsyncAdapter::new(Arc::new(device));
    let outcome = unwound(Off64AsyncRead::read_at(&adapter, offset, len as u64)).await;
    latch.take()?;
    outcome.ok_or_else(|| interrupted(IoOperation::Read, offset, len))
}

/// Writes `data` at byte `offset`: in place if so asked for, and else where [`read_through`] would read. Not durable before the
/// next flush.
///
/// `on_written` runs when the write has succeeded, before `guard` is dropped. Both happen at the end of the write, also
/// when the future was dropped before it; a write that had not started by the time the runtime shut down never does.
///
/// # Errors
///
/// As for [`read_through`]. After an error the bytes of the range may be old, new, or a mixture.
pub async fn write_through<G, F>(
    port: Arc<Port>,
    offset: u64,
    data: &[u8],
    in_place: bool,
    guard: G,
    on_written: F,
) -> Result<()>
where
    G: Send + Sync + 'static,
    F: Fn() + Send + Sync + 'static,
{
    let elsewhere = !in_place && runs_elsewhere(&port);
    let (device, latch) = SeekableDevice::new(port, guard, on_written);
    if !elsewhere {
        return device.write(offset, data);
    }
    let adapter = SyncIOAsyncAdapter::new(Arc::new(device));
    let outcome = unwound(Off64AsyncWrite::write_at(&adapter, offset, data)).await;
    latch.take()?;
    outcome.ok_or_else(|| interrupted(IoOperation::Write, offset, data.len()))
}

fn runs_elsewhere(port: &Port) -> bool {
    port.may_block() && tokio::runtime::Handle::try_current().is_ok()
}

/// Waits for the adapter, which panics when the runtime drops its call or has no thread for it.
async fn unwound<T>(call: impl Future<Output = T>) -> Option<T> {
    // Nothing that the call could have left half changed is looked at afterwards: the object of the call goes with it.
    AssertUnwindSafe(call).catch_unwind().await.ok()
}

fn interrupted(operation: IoOperation, offset: u64, len: usize) -> Error {
    let cause = io::Error::new(io::ErrorKind::Interrupted, "the runtime gave the call up");
    Error::io(operation, offset, len as u64, cause)
}

#[cfg(test)]
mod tests;
