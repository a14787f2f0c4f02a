//! What happens to extents that are there: another length, other bytes, their end.

use freehold::{Error, Extent};

use super::{Live, Model};
use crate::roles::PAGE;

impl Model {
    pub(super) async fn resize(&mut self, plan: usize, which: u16, pages: u8) {
        let page = PAGE * u64::from(pages.max(1));
        // Sometimes one that this transaction gives another length already.
        let again = &self.plans[plan].resized;
        let again = (pages & 1 == 1 && !again.is_empty()).then(|| usize::from(which) % again.len());
        let (live, own) = match again {
            Some(at) => (self.plans[plan].resized[at].1, false),
            None => match self.pick(plan, which) {
                Some(picked) => picked,
                None => return,
            },
        };
        let bytes = if pages == 0 { live.extent.len } else { page };
        let txn = self.plans[plan].txn.as_mut().unwrap();
        let new = match txn.resize(&live.extent, bytes).await {
            Ok(new) => new,
            Err(Error::CannotResize { .. }) => return,
            Err(error) => panic!("{live:?} to {bytes}: {error}"),
        };
        assert_eq!((new.offset, new.generation), (live.extent.offset, live.extent.generation));
        assert!(new.len >= bytes, "{new:?} for {bytes}");
        let tail = self.tag();
        let changed = Live { extent: new, asked: bytes, tail, ..live };
        // A committed one that keeps its length keeps what was noted of it.
        if live.keeps_length && !own {
            assert_eq!(new, live.extent);
            return;
        }
        if own {
            let place = self.plans[plan].allocated.iter().position(|old| *old == live).unwrap();
            self.plans[plan].allocated[place] = changed;
        } else if let Some(at) = again {
            self.plans[plan].resized[at].1 = changed;
        } else {
            self.plans[plan].resized.push((live.extent, changed));
        }
        self.no_overlap();
        self.put(plan, &new, new.len - 8, tail, false).await;
    }

    pub(super) async fn free(&mut self, plan: usize, which: u16) {
        if which.is_multiple_of(5) && !self.plans[plan].resized.is_empty() {
            let at = usize::from(which / 5) % self.plans[plan].resized.len();
            let (old, live) = self.plans[plan].resized.swap_remove(at);
            self.plans[plan].txn.as_mut().unwrap().free(&live.extent).await.unwrap();
            self.plans[plan].freed.push(old);
            return;
        }
        let Some((live, own)) = self.pick(plan, which) else { return };
        self.plans[plan].txn.as_mut().unwrap().free(&live.extent).await.unwrap();
        if own {
            self.plans[plan].allocated.retain(|other| *other != live);
        } else {
            self.plans[plan].freed.push(live.extent);
        }
    }

    /// The bytes of a committed extent in a transaction of its own.
    pub(super) async fn write(&mut self, which: u16) {
        let open: Vec<Extent> = self
            .plans
            .iter()
            .flat_map(|plan| plan.freed.iter().copied().chain(plan.resized.iter().map(|(old, _)| *old)))
            .collect();
        let all: Vec<Live> =
            self.live.values().filter(|live| !open.contains(&live.extent)).copied().collect();
        if all.is_empty() {
            return;
        }
        let mut live = all[usize::from(which) % all.len()];
        (live.head, live.tail) = (self.tag(), self.tag());
        for (offset, tag) in [(0, live.head), (live.extent.len - 8, live.tail)] {
            if which & 1 == 1 {
                self.bed.store.write_at(&live.extent, offset, &tag.to_le_bytes()).await.unwrap();
            } else {
                let mut txn = self.bed.store.begin();
                txn.write(&live.extent, offset, &tag.to_le_bytes()).await.unwrap();
                txn.commit().await.unwrap();
            }
        }
        self.live.insert(live.extent.offset, live);
    }
}
