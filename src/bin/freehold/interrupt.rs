//! Ctrl-C: the program ends at once. A store survives that as it survives a power cut.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::exit::Exit;
use crate::output::complain;

/// What has to be put in order when the program is interrupted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    half_made: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Listens from now on. Called inside a runtime.
    pub(crate) fn listen(&self) {
        let interrupt = self.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupt.end();
            }
        });
    }

    /// Names a new file that must not stay behind half made; `None` when it is whole.
    pub(crate) fn half_made(&self, path: Option<&Path>) {
        *self.half_made.lock().unwrap_or_else(PoisonError::into_inner) = path.map(Path::to_owned);
    }

    fn end(&self) {
        let half_made = self.half_made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*half_made {
            // It may not be there yet; then there is nothing to remove.
            let _ = std::fs::remove_file(path);
        }
        complain("interrupted");
        std::process::exit(Exit::Interrupted as i32);
    }
}
