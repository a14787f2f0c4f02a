//! Ctrl-C: the program ends at once. A store survives that as it survives a power cut.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.half_made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a new file that must not stay behind half made; `None` when it is whole.
    pub(crate) fn half_made(&self, path: Option<&Path>) {
        *self.lock() = path.map(Path::to_owned);
    }

    /// Makes a directory that must not stay behind, with all that comes into it, until it is told that nothing is
    /// [half made](Self::half_made) any more.
    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<()> {
        // Held while it is made: an interrupt comes before or finds it.
        let mut half_made = self.lock();
        std::fs::create_dir(path)?;
        *half_made = Some(path.to_owned());
        Ok(())
    }

    fn end(&self) {
        let half_made = self.lock();
        if let Some(path) = &*half_made {
            // It may not be there yet; then there is nothing to remove.
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        complain("interrupted");
        std::process::exit(Exit::Interrupted as i32);
    }
}
