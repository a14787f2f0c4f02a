//! A directory that does not stay.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;

/// Most names that are tried, for directories that killed programs left behind.
const ATTEMPTS: u32 = 1000;

/// A new directory; removed with everything in it when dropped, and when the program is interrupted.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    path: PathBuf,
    interrupt: &'a Interrupt,
    removed: bool,
}

fn failed(path: &Path, message: &str) -> Failure {
    Failure::new(Exit::Failed, "io", format!("{}: {message}", path.display()))
}

impl<'a> Scratch<'a> {
    /// Makes it in `dir`.
    pub(super) fn make(dir: &Path, interrupt: &'a Interrupt) -> Result<Self, Failure> {
        let found = std::fs::metadata(dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                failed(dir, "there is no such directory; choose one on the disk to measure")
            }
            _ => failed(dir, &format!("cannot look at it: {error}")),
        })?;
        if !found.is_dir() {
            return Err(failed(dir, "it is not a directory; choose one on the disk to measure"));
        }
        for attempt in 0..ATTEMPTS {
            let path = dir.join(format!("freehold-bench-{}-{attempt}", std::process::id()));
            match interrupt.make_dir(&path) {
                Ok(()) => return Ok(Self { path, interrupt, removed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(dir, &format!("cannot make a directory in it: {error}"))),
            }
        }
        Err(failed(dir, "it is full of directories of earlier runs; remove freehold-bench-*"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and says when that fails.
    pub(super) fn remove(mut self) -> Result<(), Failure> {
        self.remove_all().map_err(|error| failed(&self.path, &format!("cannot remove it: {error}")))
    }

    fn remove_all(&mut self) -> io::Result<()> {
        self.removed = true;
        let removed = std::fs::remove_dir_all(&self.path);
        self.interrupt.half_made(None);
        removed
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if !self.removed {
            // What led here is reported, and matters more.
            let _ = self.remove_all();
        }
    }
}
