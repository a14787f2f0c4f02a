//! What a reader has learnt of a disk: the chunks that it read before anybody wrote over them.
//!
//! A reader that is deterministic does the same on two disks that agree in its footprint, whatever else is on them. So
//! crash states are told apart by the hash of the footprint of their recovery, and not by bytes that nobody reads.

use std::ops::Range;

use super::layer::Layer;

/// Chunks read so far, and the sum of their hashes.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// For each chunk, whether its first content is known or gone.
    settled: Vec<bool>,
    touched: Vec<usize>,
    sum: u128,
}

impl Footprint {
    /// Begins again.
    pub(super) fn clear(&mut self) {
        for &chunk in &self.touched {
            if let Some(settled) = self.settled.get_mut(chunk) {
                *settled = false;
            }
        }
        self.touched.clear();
        self.sum = 0;
    }

    /// The hash of what was read.
    pub(super) const fn hash(&self) -> u128 {
        self.sum
    }

    /// Whether this is the first time that the chunk is touched.
    fn touch(&mut self, chunk: usize) -> bool {
        if self.settled.len() <= chunk {
            self.settled.resize(chunk + 1, false);
        }
        match self.settled.get_mut(chunk) {
            Some(settled) if !*settled => {
                *settled = true;
                self.touched.push(chunk);
                true
            }
            _ => false,
        }
    }

    pub(super) fn read(&mut self, layer: &mut Layer, range: &Range<usize>) {
        if range.is_empty() {
            return;
        }
        let size = layer.chunk_bytes();
        for chunk in range.start / size..=(range.end - 1) / size {
            if self.touch(chunk) {
                self.sum = self.sum.wrapping_add(layer.hash_of(chunk));
            }
        }
    }

    /// To be told before the bytes change.
    pub(super) fn write(&mut self, layer: &mut Layer, range: &Range<usize>) {
        if range.is_empty() {
            return;
        }
        let size = layer.chunk_bytes();
        for chunk in range.start / size..=(range.end - 1) / size {
            let whole = range.start <= chunk * size && (chunk + 1) * size <= range.end;
            // What is left of a chunk that is written in part may still be read.
            if self.touch(chunk) && !whole {
                self.sum = self.sum.wrapping_add(layer.hash_of(chunk));
            }
        }
    }
}
