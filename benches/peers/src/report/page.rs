//! The page: what is measured, the figures, and what is to be kept in mind.

use super::text::{grouped, tasks};
use super::{Figures, Report, goals, own, pictures, tables};
use crate::driver::Load;

const HOW: &str = "One command makes this page and its pictures anew, in about twelve minutes; leave the machine alone meanwhile:\n\
\n\
```text\n\
cargo run --release -p freehold-peers --features contenders -- --write\n\
```\n\
\n\
With `--quick` it takes about three minutes, and says less. `--dir DIR` chooses the disk, `--only NAME,...` who takes part. \
The program is in `benches/peers/`; nothing else depends on it or on what it needs.\n\
\n\
A figure is the median over rounds. Behind it, in brackets, is the interval that holds the true median with 95 % confidence (by the sign test, so that nothing is assumed of how the \
figures spread). In each round everybody has a turn under each load, one after the other, so that a slow minute of the machine is in every figure; transactions and puts of one client and of 16 tasks are had in several parts, between which the others have theirs. Ratios are formed within a round. \
p99 and p99.9 of the tables are over all transactions of all rounds.";

const WORK: &str = "One transaction frees a random live extent and makes one: 70 % have 4 to 16 KiB, 25 % 32 to 128 KiB, 5 % 256 KiB to 1 MiB, in pages of 4 KiB. \
No data is written but in the section on blobs. Each task waits until its transaction is durable, and then goes on with the next.";

const COUNTED: &str = "*Device bytes* and *flushes* come from `/proc/diskstats`: what the device was asked to write up to when all that \
the turn left in the page cache had been written back, and the flush requests of the turn itself. *CPU* is the time of all threads of the process, in the kernel too, and so has the cost of the tasks that \
wait, and of the bench itself.";

const NOT_COUNTED: &str = "The system has no counters for the device under these files. *Device bytes* are what the process caused to be written, by `/proc/self/io`; flushes are not counted.";

const SETTINGS: &str = "Freehold decides by itself where things go. The others keep records, as a program would that uses them for that: one per live extent, with its first page, its length and a tag \
of 8 bytes; a transaction removes one and adds one. That is less than a bitmap or a list of free runs costs, of which whole pages change. In front of them is the same best-fit \
map in memory (in front of `write-journal` a buddy), built from the records when they are opened. Where a product has no group commit of its own, the tasks hand their changes to one thread, which puts \
all that wait into one transaction of the product and wakes them when it is durable; a lone client calls the product directly. Each is set to be as fast as it can be while a commit that has returned is durable.";

const KEPT_IN_MIND: &str = "- The floor has no clients: it writes the records of all tasks in one call and flushes once, again and again. With many tasks that is what the device could take, and nothing that \
anybody could reach who has to wake them.
- When others keep the cores busy, a thread that waits for the device is woken late, by up to a tick of the scheduler, and not everybody suffers from that alike. Whoever seems faster than the floor, or than the ideal, \
shows that the floor was held up, not that a flush was saved: the flushes are counted. No verdict is given then. The load and the priority are above.
- Differences below 30 % mean little on a machine with others at work. What those write to the same device is in its counters as well.
- A product's files that still grow cost a write of the file system's journal with each flush. The floor, Freehold and `write-journal` have theirs in full; SQLite reaches that when its log \
has gone round; the others make new files as they go.
- What a product writes later, by itself (checkpoints, compaction), may fall into the turn of another. Checkpoints of Freehold come when the oldest change is 5 seconds old, or the journal half full, \
and are in the figures as far as they fall into its turns; all of them are in the section on steady work.
- Peers are general: they keep any records. Freehold keeps more than the records here: the generation of each extent, against stale handles, and checksums over all of it.
- `write-journal` is driven in its favour: nothing is journaled but one header for each block, in one table. A buddy that keeps its lists of free blocks on the device as well writes several times \
as much. A transaction is a synchronous write of the journal, one of each header, and one that blanks the journal. Its queue commits one transaction after the other, so that it is not asked for more than 256 tasks. When a kill comes \
between the journal and the headers, its recovery leaves out what starts in the last 36 bytes: that is what goes astray above. An I/O error panics or hangs it.
- The group-commit thread is ours. Without it, redb, LMDB, fjall and SQLite stay at one flush per transaction.
- Latencies with many tasks contain the wait for the group before; they say how long a turn of all tasks takes rather than how long a commit does.";

const NOT_MEASURED: &str = "- libpmemobj: the library comes with the system's packages (`libpmemobj-dev`), but the bindings that are published for Rust (`pmdk-sys`) have no transactions, and two allocations outside of \
a transaction are not the same work.
- RocksDB. Other file systems and devices, raw block devices, more than one disk; a power loss (`docs/CRASH-TESTING.md` has that); more than one process.
- Whether the device keeps its word about flushes.
- The instruction counts of hot paths, which say what changed where times are noise.";

/// All of it.
pub(crate) fn page(figures: &Figures) -> Report {
    let mut report = Report::new();
    report.say("# Beside its peers\nFreehold and what a program would use instead, doing the same work. Made by a program, not by hand.");
    report.say("## How to read it, and how to run it again");
    report.say(HOW);
    if figures.options.is_quick {
        report.say("**This is a short look** (`--quick`): few rounds, short turns, smaller stores. Take its verdicts as hints.");
    }
    report.say("## Goals\nWhether a goal is reached follows from the median of this run.");
    goals::goals(&mut report, figures);
    surroundings(&mut report, figures);
    contenders(&mut report, figures);
    loads(&mut report, figures);
    freehold(&mut report, figures);
    others(&mut report, figures);
    report.say("## To be kept in mind");
    report.say(KEPT_IN_MIND);
    report.say("## Not measured");
    let memory =
        if figures.memory.is_none() { "\n- Files in memory: there is no `/dev/shm` here." } else { "" };
    report.say(&format!("{NOT_MEASURED}{memory}"));
    report
}

fn surroundings(report: &mut Report, figures: &Figures) {
    let options = &figures.options;
    report.say("## Machine and work");
    report.say(&format!(
        "{} {} rounds, turns of {} ms; all of it took {} minutes.",
        figures.machine.describe(),
        options.rounds,
        options.turn.as_millis(),
        figures.took.as_secs().div_ceil(60)
    ));
    report.say(&format!(
        "{WORK} {} extents are live, so that at least 2,000 are whatever the tasks have in hand.",
        grouped(options.live())
    ));
    report.say(if figures.machine.has_counters { COUNTED } else { NOT_COUNTED });
}

fn contenders(report: &mut Report, figures: &Figures) {
    report.say("## Contenders");
    report.say(SETTINGS);
    let kinds = figures.options.kinds.iter();
    let rows = kinds.map(|kind| [kind.name(), &kind.version(), kind.setting()].map(str::to_owned).to_vec());
    let head = ["contender", "version", "what it is, how it is set, and why so"];
    report.aligned("|---", &head, &rows.collect::<Vec<_>>());
}

fn loads(report: &mut Report, figures: &Figures) {
    let options = &figures.options;
    for &count in &options.tasks {
        let name = tasks(count);
        let mut letters = name.chars();
        let capital: String =
            letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        report.say(&format!("## {capital}"));
        tables::under_load(report, &options.kinds, &figures.transactions, Load::Tasks(count));
    }
    report.picture("rates", &pictures::rates(figures));
    report.picture("latencies", &pictures::p50s(figures));
    report.picture("processor", &pictures::processor(figures));
    report.say("## The ideal\n`N / (flush + N x CPU per transaction / cores)`: all tasks commit together, and nobody waits for anything but the flush and a core. The flush is the median latency of the \
                floor for one client in the same round (for `freehold-direct` that of `floor-direct`), the processor time that of Freehold in the same turn.");
    tables::ideals(report, figures);
    if let Some(results) = &figures.memory {
        report.say("## Files in memory\nThe same on a file system in memory, where a flush costs next to nothing: what is left is the work of the processors.");
        for load in options.in_memory().loads {
            tables::without_device(report, &options.kinds, results, load);
        }
        report.picture("memory", &pictures::memory(figures, results));
    }
}

fn others(report: &mut Report, figures: &Figures) {
    report.say("## Not waited for\nOne client that does not wait for each transaction; at the end of the turn, and within its time, everything is made durable. The peers do not synchronise: redb with `Durability::None`, LMDB with \
                `MDB_NOSYNC`, SQLite with `synchronous=OFF`, fjall with `PersistMode::Buffer`, and then flush once. Until then a power loss takes everything back to the turn's start, or worse (LMDB, SQLite). \
                Freehold and `write-journal` have no such mode: here commits are begun and joined later, at most 1,024 (64) at a time, and \
                each group is flushed as always. The floor appends 64 bytes a time, and flushes once.");
    tables::not_waited_for(report, figures);
    report.say(&format!(
        "## After a kill\nA process of its own fills the store, works with 256 tasks, and is killed with SIGKILL in the middle of that; {} times the next one opens what is left, works, and is killed as well. *Ready*: from opening to \
         the end of the first durable transaction; for all but Freehold, which loads what it needs when it needs it, that includes reading all records. *List*: reading all extents behind that. \
         *Astray*: extents too many or too few in those lists, over all openings; a transaction at work frees one and makes one, so that their number is known. The page cache is warm: this is no power loss. \
         *Memory*: what the process grew by from before opening until the kill, with the list and the tasks; what is mapped counts, of LMDB the pages of its file that were touched.",
        figures.options.openings
    ));
    tables::openings(report, figures);
    report.picture("ready", &pictures::ready(figures));
    report.say("## Blobs\nA put of 16 KiB: a place is allocated, the data is written to it, and a transaction commits the place with the blob's entry in an index, and frees the blob that it replaces. Beside it the same bytes \
                (data, and the journal as it is written) go to one file that exists in full, from one thread without clients, with as many flushes as Freehold needed for each put just before. \
                Freehold has the medium begin with a blob as soon as it is in the page cache, which a plain write does not; the last two columns are about a floor that does, too. Neither has clients, an allocator or an index to keep.");
    tables::puts(report, figures);
    report.say("A get: a blob that the page cache has is read whole, into memory of its own. Beside it as many bytes are read from a file, into the same memory each time, on as many threads as there are cores (and tasks).");
    tables::gets(report, figures);
}

fn freehold(report: &mut Report, figures: &Figures) {
    report.say("## Freehold from inside\nIts own counters, over the turns of the first sections. A transaction's bytes in the journal are *encoded*; what fills up the last block of a group is *padding*. \
                Besides groups and checkpoints, a store at work notes the last durable transaction, about 20 times a second, without a flush.");
    own::inside(report, figures);
    report
        .say("Space reserved by a transaction that is then dropped: nothing is committed, nothing written.");
    tables::reserved(report, figures);
    if let Some(probes) = &figures.probes {
        report.say("Work of 256 tasks without a pause, and a checkpoint behind it: all bytes that reach the device, in place and in the journal. *Overlay*: blocks of metadata in memory before that checkpoint.");
        own::steady(report, probes);
        report.say("Opening alone, without a transaction.");
        own::opening(report, probes);
    }
}
