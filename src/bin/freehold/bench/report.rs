//! What was measured, as a document and as tables.

use freehold::{AllocatorStats, CommitStages, Histogram, Summary};
use serde::Serialize;

use super::clients::Clients;
use super::floor::Floor;
use crate::exit::Failure;
use crate::human;
use crate::output::Output;

/// Figures of the store, with those of the floor beside them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    clients: usize,
    /// Live.
    extents: usize,
    page_bytes: u32,
    txns: u64,
    seconds: f64,
    txns_per_second: f64,
    #[serde(flatten)]
    latencies: Quantiles,
    /// Of the medians, that of the store to that of the floor.
    ratio: f64,
    groups: u64,
    /// Groups without padding.
    encoded_bytes: u64,
    /// Groups as written.
    journal_bytes: u64,
    checkpoints: u64,
    /// Of everything, checkpoints included, as the next two.
    writes: u64,
    flushes: u64,
    device_bytes: u64,
    cpu_us_per_txn: f64,
    /// Where the time of groups goes, those that filled the store included. In nanoseconds.
    stages: CommitStages,
    floor: FloorReport,
}

#[derive(Debug, Serialize)]
struct FloorReport {
    writes: u64,
    seconds: f64,
    #[serde(flatten)]
    latencies: Quantiles,
}

/// In microseconds.
#[derive(Debug, Serialize)]
struct Quantiles {
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl Quantiles {
    fn of(latencies: &Histogram) -> Self {
        let [p50_us, p99_us, p999_us] =
            [500, 990, 999].map(|thousandths| latencies.quantile(thousandths) as f64 / 1e3);
        Self { p50_us, p99_us, p999_us }
    }
}

impl Report {
    /// Of all turns since `before`.
    pub(super) fn new(clients: &Clients, floor: &Floor, before: &AllocatorStats) -> Self {
        let after = clients.stats();
        let grown = |counter: fn(&AllocatorStats) -> u64| counter(&after).saturating_sub(counter(before));
        let (txns, seconds) = (clients.latencies.count(), clients.time.as_secs_f64());
        let (latencies, floor_latencies) =
            (Quantiles::of(&clients.latencies), Quantiles::of(&floor.latencies));
        Self {
            clients: clients.count(),
            extents: clients.live(),
            page_bytes: clients.page_bytes(),
            txns,
            seconds,
            txns_per_second: txns as f64 / seconds,
            ratio: latencies.p50_us / floor_latencies.p50_us,
            latencies,
            groups: grown(|stats| stats.journal.groups),
            encoded_bytes: grown(|stats| stats.journal.encoded_bytes),
            journal_bytes: grown(|stats| stats.journal.written_bytes),
            checkpoints: grown(|stats| stats.journal.checkpoints),
            writes: grown(|stats| stats.device.writes),
            flushes: grown(|stats| stats.device.flushes),
            device_bytes: grown(|stats| stats.device.write_bytes),
            stages: clients.stages(),
            cpu_us_per_txn: clients.cpu.as_secs_f64() * 1e6 / txns as f64,
            floor: FloorReport {
                writes: floor.latencies.count(),
                seconds: floor.time.as_secs_f64(),
                latencies: floor_latencies,
            },
        }
    }

    /// Prints it for people.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let page = human::size(self.page_bytes.into());
        for (name, value) in [
            ("clients", self.clients.to_string()),
            ("extents", format!("{} live, pages of {page}", self.extents)),
            ("time", format!("{:.2} s, {}", self.seconds, human::count(self.checkpoints, "checkpoint"))),
            ("transactions", format!("{}, {:.0} a second", self.txns, self.txns_per_second)),
        ] {
            output.line(&format!("{name:<13} {value}"))?;
        }
        self.print_times(output)?;
        self.print_costs(output)
    }

    fn print_times(&self, output: &mut Output) -> Result<(), Failure> {
        let row = |name: &str, columns: [String; 3]| {
            format!("{name:<24}{}", columns.map(|column| format!("  {column:>12}")).concat())
        };
        let times = |times: &Quantiles| [times.p50_us, times.p99_us, times.p999_us].map(tenths);
        let stage =
            |stage: &Summary| [stage.p50, stage.p99, stage.p999].map(|nanos| tenths(nanos as f64 / 1e3));
        output.line("")?;
        output.line(&row("microseconds", ["p50", "p99", "p99.9"].map(str::to_owned)))?;
        output.line(&row("transaction", times(&self.latencies)))?;
        output.line(&row("floor", times(&self.floor.latencies)))?;
        output.line(&format!("{:<24}  {:>12.2}", "ratio", self.ratio))?;
        for (name, times) in [
            ("group waits", &self.stages.wait),
            ("group takes effect", &self.stages.publish),
            ("group is encoded", &self.stages.encode),
            ("group is written", &self.stages.write),
            ("group is flushed", &self.stages.flush),
            ("clients are told", &self.stages.tell),
        ] {
            output.line(&row(name, stage(times)))?;
        }
        Ok(())
    }

    fn print_costs(&self, output: &mut Output) -> Result<(), Failure> {
        let (txns, groups) = (self.txns as f64, self.groups as f64);
        let row = |name: &str, all: f64, digits: usize| {
            let [each, group] = [all / txns, all / groups];
            format!("{name:<24}  {each:>12.digits$}  {group:>12.digits$}")
        };
        output.line("")?;
        output.line(&format!("{:<24}  {:>12}  {:>12}", "", "transaction", "group"))?;
        output.line(&row("transactions", txns, 3))?;
        output.line(&row("writes", self.writes as f64, 3))?;
        output.line(&row("flushes", self.flushes as f64, 3))?;
        output.line(&row("journal bytes, encoded", self.encoded_bytes as f64, 1))?;
        output.line(&row("journal bytes, written", self.journal_bytes as f64, 1))?;
        output.line(&row("device bytes", self.device_bytes as f64, 1))?;
        output.line(&row("CPU microseconds", self.cpu_us_per_txn * txns, 1))
    }
}

fn tenths(micros: f64) -> String {
    format!("{micros:.1}")
}
