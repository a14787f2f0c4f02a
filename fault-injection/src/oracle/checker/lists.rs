//! The free lists.

use super::bytes::{index, u32_at};
use super::flaw::Flaw;
use super::recount::Record;

const ORDERS: u8 = 19;

/// Checks that each segment is on the list of its class and on no other, and that neighbours know each other.
pub(super) fn check_lists(state: &[u8], records: &[Record]) -> Result<(), Flaw> {
    let mut listed = 0;
    for order in 0..ORDERS {
        let mut previous = 0;
        let mut link = u32_at(state, 8 + 4 * usize::from(order));
        while link != 0 {
            let number = index(u64::from(link) - 1);
            let flaw = |what| Err(Flaw::segment(number, what));
            let Some(record) = records.get(number) else {
                return flaw("a list names it, but it does not exist");
            };
            if record.class != order + 1 {
                return flaw("it is on the list of another class");
            }
            // Of two ways into a segment, one must come from another neighbour: no list can run in a circle.
            if record.previous != previous {
                return flaw("its neighbour on the list is not the one that it names");
            }
            listed += 1;
            (previous, link) = (link, record.next);
        }
    }
    let linked = |record: &Record| record.previous != 0 || record.next != 0;
    if let Some(number) = records.iter().position(|record| record.class == 0 && linked(record)) {
        return Err(Flaw::segment(number, "it is full, but has neighbours on a list"));
    }
    if listed == records.iter().filter(|record| record.class != 0).count() {
        Ok(())
    } else {
        Err(Flaw::Inconsistent { structure: "leaf", number: 0, what: "a segment with room is on no list" })
    }
}
