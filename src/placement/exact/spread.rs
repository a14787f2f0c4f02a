//! From what each source gives to rows on the legs.

use super::flow::Classes;
use crate::placement::draft::{Draft, Taken};

/// Units of one source in one leg, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    row: u64,
    leg: usize,
    rows: u64,
    source: usize,
}

/// Gives the rows of the classes to the legs. The legs of a class are laid end to end and filled with one source after
/// the other; a source that goes over the end of a leg goes on at the start of the next, in rows that it has not had,
/// because it gives no more units than there are rows.
pub(super) fn rows(draft: &mut Draft<'_, '_>, classes: &Classes, amounts: &[Vec<u64>]) {
    let mut blocks: Vec<Block> = Vec::new();
    for (class, amounts) in classes.all.iter().zip(amounts) {
        let (mut leg, mut row) = (0, 0);
        for (source, &amount) in by_amount(amounts) {
            let mut left = amount;
            while left > 0 {
                let rows = left.min(class.rows - row);
                push(&mut blocks, &class.spans, Block { row, leg, rows, source });
                left -= rows;
                row += rows;
                if row == class.rows {
                    (leg, row) = (leg + 1, 0);
                }
            }
        }
    }
    blocks.sort_unstable();
    for block in blocks {
        take(draft, block);
    }
}

/// Those that give most first, so that few legs are cut.
fn by_amount(amounts: &[u64]) -> Vec<(usize, &u64)> {
    let mut order: Vec<(usize, &u64)> =
        amounts.iter().enumerate().filter(|(_, amount)| **amount > 0).collect();
    order.sort_by_key(|&(source, &amount)| (std::cmp::Reverse(amount), source));
    order
}

/// Adds a block whose rows are counted within its class, cut where the rows of the class are not in a row.
fn push(blocks: &mut Vec<Block>, spans: &[(u64, u64)], block: Block) {
    let (mut before, mut from, end) = (0, block.row, block.row + block.rows);
    for &(start, behind) in spans {
        let span_end = before + (behind - start);
        if from < span_end && from < end {
            let to = end.min(span_end);
            blocks.push(Block { row: start + (from - before), rows: to - from, ..block });
            from = to;
        }
        before = span_end;
    }
}

/// Takes the units of a block: where its leg goes on already, or else as a round would.
fn take(draft: &mut Draft<'_, '_>, block: Block) {
    let mut left = block.rows;
    while left > 0 {
        let last = draft.legs.get(block.leg).and_then(|pieces| pieces.last());
        let end = last.filter(|last| last.source == block.source).map(|last| last.start + last.length);
        let Some(free) = draft.free.get_mut(block.source) else { return };
        let next = end.and_then(|end| free.starting_at(end));
        let area = next.or_else(|| free.smallest_holding(left)).or_else(|| free.largest());
        let Some(area) = area else { return };
        let length = free.take(area.start, left);
        draft.append(block.leg, Taken { source: block.source, start: area.start, length });
        left -= length;
    }
}
