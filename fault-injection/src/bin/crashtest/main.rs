//! tmp
fn main() {
    let tally = fault_injection::campaign::tally::Tally::new(std::time::Duration::from_secs(20));
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| fault_injection::campaign::explore::run_chains(1, &tally, || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        }
    });
    println!("io {} states {} distinct {} recoveries {} nested {} damaged {} refused {} exercised {} rounds {}", tally.io_points.get(), tally.crash_states.get(), tally.distinct_states.get(), tally.recoveries.get(), tally.nested_recoveries.get(), tally.damaged_recoveries.get(), tally.refusals.get(), tally.exercised.get(), tally.rounds.get());
    for f in tally.failures() {
        println!("{}\n   {}", f.message, f.address);
    }
    if let Some(a) = std::env::args().nth(1) {
        println!("{:?}", fault_injection::campaign::replay::parse(&a).and_then(|a| fault_injection::campaign::replay::replay(1, &a)));
    }
}
