//! The command line: one store, one command.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use freehold::{Allocator, FormatOptions};

use super::error::{Error, Result};
use super::slot::check_name;
use super::store::BlobStore;
use super::torture;

const USAGE: &str = "usage: blob_store STORE [--size BYTES] COMMAND
  put DIR                                  store every file below a directory
  get NAME | delete NAME | list | verify   work with what is stored
  torture DIR [--tasks N] [--seed N]       put and delete files of a directory at random until killed";

/// A new store is at least this large, in bytes.
const MIN_BYTES: u64 = 64 << 20;
/// Files that `put` works on at once.
const PUTS_AT_ONCE: u64 = 8;

/// A file on its way into the store, and its name there.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its path below the directory.
    pub(crate) name: String,
}

/// Runs the program with these arguments.
pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    let mut words = Vec::new();
    let (mut size, mut tasks, mut seed) = (None, PUTS_AT_ONCE, 1);
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--size" => size = Some(number(rest.next())?),
            "--tasks" => tasks = number(rest.next())?.max(1),
            "--seed" => seed = number(rest.next())?,
            word => words.push(word),
        }
    }
    match *words.as_slice() {
        [path, "put", dir] => {
            let (sources, bytes) = find_files(dir)?;
            let store = open_or_create(path, size, bytes).await?;
            put_all(&store, sources).await?;
            store.close().await
        }
        [path, "torture", dir] => {
            let (sources, bytes) = find_files(dir)?;
            let store = open_or_create(path, size, bytes).await?;
            torture::run(&store, &sources, tasks, seed).await
        }
        [path, "get", name] => {
            let store = open(path).await?;
            let data = store.get(name).await?.ok_or_else(|| Error::Missing(name.to_owned()))?;
            std::io::stdout().lock().write_all(&data)?;
            store.close().await
        }
        [path, "delete", name] => {
            let store = open(path).await?;
            say(&format!("deleting {name}"))?;
            if !store.delete(name).await? {
                return Err(Error::Missing(name.to_owned()));
            }
            say(&format!("deleted {name}"))?;
            store.close().await
        }
        [path, "list"] => {
            let store = open(path).await?;
            for slot in store.list() {
                say(&format!("{} {:>10} {}", slot.hash.to_hex(), slot.len, slot.name))?;
            }
            store.close().await
        }
        [path, "verify"] => {
            let store = open(path).await?;
            let found = store.verify().await?;
            say(&format!(
                "{} blobs, {} bytes, all with their hashes; {} index extents; nothing leaked",
                found.blobs, found.blob_bytes, found.index_extents
            ))?;
            store.close().await
        }
        _ => Err(Error::Usage(USAGE.to_owned())),
    }
}

fn number(word: Option<&String>) -> Result<u64> {
    let number = word.and_then(|word| word.parse().ok());
    number.ok_or_else(|| Error::Usage(format!("a number is missing\n{USAGE}")))
}

async fn open(path: &str) -> Result<BlobStore> {
    BlobStore::open(Allocator::open(path).await?).await
}

/// Opens the store, or makes one with room for `bytes` bytes of blobs.
async fn open_or_create(path: &str, size: Option<u64>, bytes: u64) -> Result<BlobStore> {
    if !Path::new(path).exists() {
        // Extents are powers of two of pages, and a blob that is replaced is there twice for a moment.
        let suited = bytes.saturating_mul(4).max(MIN_BYTES).next_multiple_of(1 << 20);
        FormatOptions::new().create(path, size.unwrap_or(suited)).await?;
    }
    open(path).await
}

/// Prints a line that has left the process when this returns.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The regular files below a directory, in order of name, and the sum of their lengths. What cannot be a name is
/// skipped with a message; what is no UTF-8 is an error.
pub(crate) fn find_files(dir: &str) -> Result<(Vec<Source>, u64)> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::File { path, source }
    };
    let root = Path::new(dir);
    let (mut sources, mut bytes) = (Vec::new(), 0);
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(failed(&dir))? {
            let path = entry.map_err(failed(&dir))?.path();
            let facts = std::fs::symlink_metadata(&path).map_err(failed(&path))?;
            if facts.is_dir() {
                dirs.push(path);
            } else if facts.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path);
                // Two names must not become one.
                let Some(name) = name.to_str().map(str::to_owned) else {
                    let name = name.display().to_string();
                    return Err(Error::Name { name, reason: "it is not UTF-8; rename the file" });
                };
                match check_name(&name) {
                    Ok(()) => {
                        bytes += facts.len();
                        sources.push(Source { path, name });
                    }
                    Err(error) => eprintln!("skipped: {error}"),
                }
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((sources, bytes))
}

/// Reads a whole file.
pub(crate) async fn read_file(path: PathBuf) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let read =
        tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(|_| Error::Interrupted)?;
    read.map_err(|source| Error::File { path: name, source })
}

/// Stores one blob and says so, before and after.
pub(crate) async fn put_aloud(store: &BlobStore, name: &str, data: Vec<u8>) -> Result<()> {
    say(&format!("putting {name} {}", blake3::hash(&data).to_hex()))?;
    let slot = store.put(name, data).await?;
    say(&format!("put {name} {}", slot.hash.to_hex()))
}

async fn put_all(store: &BlobStore, sources: Vec<Source>) -> Result<()> {
    let queue = Arc::new(Mutex::new(VecDeque::from(sources)));
    let workers: Vec<_> = (0..PUTS_AT_ONCE)
        .map(|_| {
            let (store, queue) = (store.clone(), Arc::clone(&queue));
            tokio::spawn(async move {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(source) = next else { return Ok::<(), Error>(()) };
                    put_aloud(&store, &source.name, read_file(source.path).await?).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.map_err(|_| Error::Interrupted)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_that_are_no_utf8_are_refused_and_not_made_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "text").unwrap();
        let dir_name = dir.path().to_str().unwrap();
        assert_eq!(find_files(dir_name).unwrap().0.len(), 1);
        std::fs::write(dir.path().join(OsStr::from_bytes(b"a\xff")), "text").unwrap();
        assert!(matches!(find_files(dir_name), Err(Error::Name { .. })));
    }
}
