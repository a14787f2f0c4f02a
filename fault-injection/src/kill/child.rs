//! The process that is killed: several tasks commit transactions for ever, and tell.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use freehold::{AllocRequest, Allocator, ExtentInfo};
use futures_util::TryStreamExt;

use super::PAGE_BYTES;
use super::lines::Line;
use crate::allocator::model::{Effects, Put};
use crate::allocator::payload;
use crate::rng::Rng;

const TASKS: u64 = 8;
/// A task frees when it has more extents than this.
const HELD: usize = 40;

/// Lines are written with one call each, so that none is cut by the kill.
fn say(line: &Line) -> std::io::Result<()> {
    let mut text = line.to_text();
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// Opens the store and works on it until the process dies.
///
/// # Errors
/// Whatever goes wrong before that, in words.
pub fn run_child(path: &Path, seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let store = Allocator::open(path).await.map_err(|error| error.to_string())?;
        let extents: Vec<ExtentInfo> =
            store.extents().try_collect().await.map_err(|error| error.to_string())?;
        say(&Line::Ready).map_err(|error| error.to_string())?;
        let store = Arc::new(store);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let mine =
                    extents.iter().copied().filter(|info| info.extent.offset / PAGE_BYTES % TASKS == task);
                let worker = Worker {
                    store: Arc::clone(&store),
                    rng: Rng::new(seed).fork_numbered("task", task),
                    mine: mine.collect(),
                    next: task + (seed & 0xffff_ffff) * 1_000_000 * TASKS,
                };
                tokio::spawn(worker.run())
            })
            .collect();
        for task in tasks {
            task.await.map_err(|error| error.to_string())??;
        }
        Ok(())
    })
}

struct Worker {
    store: Arc<Allocator>,
    rng: Rng,
    mine: Vec<ExtentInfo>,
    next: u64,
}

impl Worker {
    async fn run(mut self) -> Result<(), String> {
        loop {
            self.commit_one().await?;
        }
    }

    async fn commit_one(&mut self) -> Result<(), String> {
        let number = self.next;
        self.next += TASKS;
        let fail = |error: freehold::Error| error.to_string();
        let mut transaction = self.store.begin();
        let mut effects = Effects::default();
        for _ in 0..self.rng.below(2) + u64::from(self.mine.len() > HELD) * 2 {
            if self.mine.is_empty() {
                break;
            }
            let info = self.mine.swap_remove(self.rng.index(self.mine.len()));
            transaction.free(&info.extent).await.map_err(fail)?;
            effects.freed.push(info.extent);
        }
        for _ in 0..1 + self.rng.below(2) {
            let tag = number << 16 | (effects.allocated.len() as u64) << 8;
            // Classes of items are multiples of 8 from 64 bytes on.
            let bytes = 64 + self.rng.below(*self.rng.clone().pick(&[4096, 16384, 65536]).unwrap_or(&4096));
            let request = AllocRequest::bytes(bytes).owner(tag);
            let extent = match transaction.alloc(request).await {
                Ok(extent) => extent,
                Err(freehold::Error::NoSpace { .. }) => break,
                Err(error) => return Err(fail(error)),
            };
            let page_bytes = usize::try_from(PAGE_BYTES).unwrap_or(0);
            let pages: Vec<u8> = (0..extent.len.div_ceil(PAGE_BYTES))
                .flat_map(|page| {
                    let index = usize::try_from(page).unwrap_or(0);
                    payload::page(tag + page, payload::part_len(&extent, index, page_bytes))
                })
                .collect();
            self.store.write_at(&extent, 0, &pages).await.map_err(fail)?;
            if extent.len >= PAGE_BYTES && self.rng.chance(0.5) {
                let unit = self.rng.index(8);
                let cell = payload::cell(tag + 255);
                transaction.write(&extent, payload::cell_offset(unit) as u64, &cell).await.map_err(fail)?;
                effects.puts.push(Put { extent, page: 0, unit: Some(unit), tag: tag + 255 });
            }
            effects.allocated.push((ExtentInfo { extent, owner: tag }, tag));
        }
        if effects.allocated.is_empty() {
            // Without an extent of its own there is nothing to tell by whether it was committed.
            self.mine.extend(effects.freed.iter().map(|&extent| ExtentInfo { extent, owner: 0 }));
            return Ok(());
        }
        say(&Line::Begin(number, effects.clone())).map_err(|error| error.to_string())?;
        transaction.commit().await.map_err(fail)?;
        say(&Line::Acknowledged(number)).map_err(|error| error.to_string())?;
        self.mine.extend(effects.allocated.iter().map(|(info, _)| *info));
        Ok(())
    }
}
