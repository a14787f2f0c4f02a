//! The page that the matrix is written to.

use std::fmt::Write as _;

use super::Settings;
use super::sheet::{FAULTS, FaultNumber, Row, Sheet};
use crate::report::count;

/// What a fault is.
#[must_use]
pub const fn title(fault: FaultNumber) -> &'static str {
    match fault {
        1 => "process killed at any instruction",
        2 => "power cut, a prefix of the writes kept",
        3 => "power cut, any subset of unflushed writes kept",
        4 => "torn multi-sector write",
        5 => "torn or garbage sector, garbage physical block",
        6 => "crash during recovery, again and again",
        7 => "crash during format",
        8 => "crash during grow or shrink",
        9 => "EIO on a write, once, for ever, or in part",
        10 => "EIO on a read",
        11 => "a flush fails once",
        12 => "a flush that lies",
        13 => "short transfers, EINTR, EAGAIN",
        14 => "ENOSPC on a write or preallocation",
        15 => "allocator or journal full",
        16 => "rot in the journal and the witness",
        17 => "rot in one superblock copy",
        18 => "rot in tree, bitmaps, headers, records, state",
        19 => "rot in padding, reserved bytes, unused slots",
        20 => "lost write",
        21 => "misdirected write",
        22 => "misdirected read",
        23 => "record of an earlier lap or epoch",
        24 => "record of another store or an earlier format",
        25 => "device truncated or enlarged",
        26 => "a second opener",
        27 => "unknown version or feature bits",
        28 => "hostile image, all checksums right",
        29 => "interleavings of tasks, drops and panics",
        _ => "",
    }
}

/// What was injected and what it shows, where the table does not say it.
const fn note(fault: FaultNumber) -> &'static str {
    match fault {
        1 => {
            "At every I/O point of the recorded runs the process dies with the write in flight done, and not done; a killed process loses nothing that it wrote. Besides, real processes were killed with SIGKILL in mid-commit."
        }
        2 => "At every I/O point, each prefix of the pending writes.",
        3 => {
            "At every I/O point, every combination of pending sectors where there are at most 256 of them; else of those that recovery reads, or of whole writes, and 32 seeded ones."
        }
        4 => {
            "Each write of more than one sector, with every subset of its sectors up to eight, else 64 seeded ones; with all writes before it, and with none."
        }
        5 => {
            "Each write: of up to eight of its sectors, the first or last 1, half, all but one, and a seeded number of bytes are new; the sector is zeros, ones or noise; the physical block around it is."
        }
        6 => {
            "Recoveries of a few states at each I/O point are cut at each of their own I/Os, and the recoveries after that again: to depth 2. Equal states are judged once."
        }
        7 => {
            "Detected is 'not formatted'; recovered is an empty store, or, where one was formatted over, still the whole earlier one."
        }
        9 => {
            "Each write of formatting, opening and work: fails once; for ever until the store is opened again; after 512 and after 4000 bytes. A failed write of the journal or a checkpoint stops the store: no acknowledgement, no I/O any more, and opening again recovers, also from a power cut anywhere in that. A failed direct write, or one of formatting, is an error of that call: detected."
        }
        10 => {
            "Each read of formatting, opening, work, listing and reading, with hardly any metadata cached. The call gets a typed error; made again, it works."
        }
        11 => {
            "Each flush. The system takes what it should have written for clean. The store stops and never flushes again; opening again recovers, whatever part of that had reached the medium."
        }
        12 => {
            "Weaker by nature: some state of the history, whole, or a typed refusal. One lie, with power cut before the next honest flush; lies from each flush on; lies only. Of the caller's pages nothing is said, for direct writes are lost too."
        }
        13 => {
            "One byte, 700 bytes, EINTR and EAGAIN at each call in turn, and at two of three calls, through the product's own loop. Survived: the same answers and, at the end, the same bytes."
        }
        14 => {
            "As F9 and F10. Preallocation that fails is a typed error of the allocation or commit, and nothing is left of it."
        }
        15 => {
            "After every operation: more than the device in one piece; page after page in a transaction that also frees; more journaled bytes than the ring takes. Counters, listing and bytes are the same before and after, and after opening again. Twelve large transactions at once wait for checkpoints and all come through: survived."
        }
        16 => {
            "Detected: refused with its place, or, when it is the last group and nothing later says that it was durable, dropped and reported as a torn tail. Survived: a damaged witness says nothing, the groups do."
        }
        17 => "Recovered from the other copy.",
        18 => {
            "Detected: refused with its place, when opening or listing reads it. Each block is only as good as its parent says."
        }
        19 => {
            "Survived: nothing refers to it, and the state is exactly right. Padding of a superblock copy costs that copy only."
        }
        20 => {
            "Each write of the workloads; the store is killed or closed after that operation, or at the end. What was lost and overwritten since is recovered. Weaker: the last groups of the journal, when they vanished before a witness was written, cannot be told from groups never written; that is counted apart. A lost write into the caller's pages leaves the allocation right; the bytes are the caller's to check."
        }
        21 => {
            "Each write, sent to six seeded blocks of the metadata. As F20; the blocks that it fell on are damaged besides. Weaker: a write of one superblock copy that falls on the other one leaves the superblock before it, as a power cut in that write would. The extents are right then or the store is refused, but a caller's page that was journaled, checkpointed and written over directly may get its journaled bytes back; counted apart."
        }
        22 => {
            "Each read of opening and listing, answered from each other block of the metadata. The ring of these stores is read in one piece: answered from elsewhere, all of its groups vanish at once unless the witness knows of them; counted apart."
        }
        23 => {
            "Groups written earlier, at each place of the free part of the ring; and groups with an older epoch, another position, or an LSN that is not new, just behind the end. Recovered: passed over. Detected: of a later lap, refused, because only superblocks that are gone can have made room for it."
        }
        24 => {
            "Each sector, block and 16 KiB of a twin with another identity, and of another store, at its own place in ours, one at a time; and a store made over an earlier one, cut at each I/O. As in F20, the last groups may vanish under them."
        }
        25 => "Each multiple of 512 bytes, and some between, is refused; longer devices are no trouble.",
        26 => {
            "Writers, readers and formatters, on a file and on a loop device where the machine lets one be made. Survived: readers among themselves."
        }
        27 => {
            "Refused, and the image unchanged to the byte. A read-only compatible bit refuses writers and lets readers in; a compatible bit is no trouble; version 0 was never written, and counts as damage."
        }
        28 => {
            "Detected: a typed error. Survived: a store that works. Each image is opened, listed, worked on and closed twice, one in four checked, with bounds on polls, reads and time."
        }
        29 => {
            "Six workers and a housekeeper, polled in seeded random order; tasks are dropped at any await and panic in mid-transaction, and the store is closed meanwhile. Calm rounds are cut at 24 instants."
        }
        _ => "",
    }
}

fn line(fault: FaultNumber, row: &Row) -> String {
    if fault == 8 {
        return format!("| F8 | {} | no resize yet | | | | |", title(fault));
    }
    let figures = [row.injected(), row.recovered, row.detected, row.survived, row.silent];
    format!("| F{fault} | {} | {} |", title(fault), figures.map(|figure| figure.to_string()).join(" | "))
}

/// The whole page.
#[must_use]
pub fn page(settings: &Settings, sheet: &Sheet) -> String {
    let mut text = String::from(HEAD);
    let _ = writeln!(
        text,
        "```sh\ncargo run --release --bin crashtest -- matrix --seed {}\n```\n",
        settings.seed
    );
    text.push_str(COLUMNS);
    for fault in (1..=FAULTS).filter(|&fault| settings.wants(fault)) {
        let _ = writeln!(text, "{}", line(fault, &sheet.row(fault)));
    }
    let images: u64 = (16..=19).map(|fault| sheet.row(fault).injected()).sum();
    if images > 0 {
        let _ = writeln!(
            text,
            "\nF16 to F19: every bit of every metadata block, each byte to 0x00 and 0xff, header and length bytes to all \
             values, in three stores of 256 KiB (closed in order, crashed, crashed when idle): {} images.",
            count(images)
        );
    }
    text.push_str("\n## Notes\n");
    for fault in (1..=FAULTS).filter(|&fault| settings.wants(fault) && !note(fault).is_empty()) {
        let _ = write!(text, "- **F{fault}.** {}", note(fault));
        let apart: Vec<String> = sheet
            .row(fault)
            .apart
            .iter()
            .filter(|(_, cases)| **cases > 0)
            .map(|(name, cases)| format!("{name}: {}", count(*cases)))
            .collect();
        let _ =
            writeln!(text, "{}{}", if apart.is_empty() { "" } else { " Counted apart: " }, with_stop(&apart));
    }
    let lines: Vec<&str> = sheet.lines().collect();
    if !lines.is_empty() {
        text.push_str("\n## Silent cases\n");
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

fn with_stop(parts: &[String]) -> String {
    if parts.is_empty() { String::new() } else { format!("{}.", parts.join("; ")) }
}

const HEAD: &str = "# The fault matrix

Every fault that storage is known to suffer, injected at every point that it applies to, over a fixed set of seeded workloads: disks
with sectors and physical blocks of 512/512, 512/4096 and 4096/4096 bytes; histories with checkpoints, a journal that wraps, full devices and
openings. This page is written by the program that does it:

";

const COLUMNS: &str = "Each injected case ends in exactly one column. The reference model of the harness decides which states are right, contents included.

- **points injected**: cases, each one fault at one place;
- **recovered**: opened again, the store holds exactly a state that its history allows, with every acknowledged transaction;
- **detected**: refused or reported by a typed error that says what is wrong, or a typed error of the one call, with nothing changed;
- **survived**: the call or the store went on correctly as if nothing had happened;
- **silent**: anything else: a wrong state, acknowledged work missing, a panic, an await that never ends, an error that does not say
  what happened. Zero everywhere, or the program fails.

| # | fault | points injected | recovered | detected | survived | silent |
|---|---|--:|--:|--:|--:|--:|
";

#[cfg(test)]
mod tests {
    use super::super::sheet::Column;
    use super::*;

    #[test]
    fn rows_stand_in_order_and_resizing_has_no_figures() {
        let mut sheet = Sheet::default();
        for _ in 0..1234 {
            sheet.enter(1, Column::Recovered, String::new);
        }
        sheet.enter(2, Column::Silent("bad".to_owned()), || "case 9".to_owned());
        let text = page(&Settings::whole(7, 1), &sheet);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| F")).collect();
        assert_eq!(rows.len(), 29);
        assert_eq!(rows[0], "| F1 | process killed at any instruction | 1234 | 1234 | 0 | 0 | 0 |");
        assert_eq!(rows[7], "| F8 | crash during grow or shrink | no resize yet | | | | |");
        assert!(rows.iter().zip(1..).all(|(row, number)| row.starts_with(&format!("| F{number} |"))));
        assert!(text.contains("--seed 7") && text.contains("- F2: case 9: bad"));
    }
}
