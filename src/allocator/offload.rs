//! Keeping calls that wait for hardware off the asynchronous tasks.

use std::io;

use crate::error::{Error, IoOperation, Result};

/// Runs `call` on a thread for blocking calls, or right here when it cannot block or there is no runtime.
pub(super) async fn offload<T: Send + 'static>(
    may_block: bool,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if may_block => runtime.spawn_blocking(call).await.unwrap_or_else(|error| {
            // The runtime is shutting down, or the call panicked: either way it has no result.
            let cause = io::Error::new(io::ErrorKind::Interrupted, error);
            Err(Error::io(IoOperation::Spawn, 0, 0, cause))
        }),
        _ => call(),
    }
}
