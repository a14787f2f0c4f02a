//! Requests of every kind; one that is refused must not be possible anywhere.

use freehold::allocator::FreeArea;
use freehold::{AllocRequest, Error};

use super::{Model, Step};
use crate::roles::{PAGE, areas};

/// Whether a run of so many pages is there, at a multiple of `align` pages of its segment.
fn has_run(areas: &[FreeArea], pages: u64, align: u64) -> bool {
    areas.iter().any(|area| {
        let start = area.offset.next_multiple_of(align * PAGE);
        start + pages * PAGE <= area.offset + area.len
    })
}

fn has_span(areas: &[FreeArea], segment: u64, segments: u64, tail: u64) -> bool {
    let free_from = |offset: u64, len: u64| {
        areas.iter().any(|area| area.offset <= offset && area.offset + area.len >= offset + len)
    };
    areas.iter().filter(|area| area.offset.is_multiple_of(segment)).any(|area| {
        (0..segments).all(|number| free_from(area.offset + number * segment, segment))
            && (tail == 0 || free_from(area.offset + segments * segment, tail * PAGE))
    })
}

impl Model {
    async fn request(&mut self, plan: usize, request: AllocRequest, bytes: u64, owner: u64) -> bool {
        match self.plans[plan].txn.as_mut().unwrap().alloc(request).await {
            Ok(extent) => {
                self.take(plan, extent, bytes, owner).await;
                true
            }
            Err(Error::NoSpace { .. }) => false,
            Err(error) => panic!("{request:?}: {error}"),
        }
    }

    async fn free_areas(&self) -> Vec<FreeArea> {
        areas(&self.bed.store).await
    }

    pub(super) async fn alloc(&mut self, plan: usize, step: Step) {
        let owner = self.next_tag;
        let segment = self.bed.store.layout().segment_bytes();
        match step {
            Step::Item { bytes, tagged } => {
                let owner = if tagged { owner | 1 } else { 0 };
                let request = AllocRequest::bytes(bytes.into()).owner(owner);
                if !self.request(plan, request, bytes.into(), owner).await {
                    assert_eq!(self.free_areas().await, [], "an item gets a page when there is one");
                }
            }
            Step::Run { pages, group, near } => {
                let bytes = u64::from(pages) * PAGE - owner % PAGE;
                let mut request = AllocRequest::bytes(bytes.max(PAGE / 2 + 1)).owner(owner);
                if let Some(group) = group {
                    request = request.group(group.into());
                }
                if let Some((near, _)) = near.and_then(|which| self.pick(plan, which)) {
                    request = request.near(near.extent);
                }
                if bytes > segment {
                    return;
                }
                if self.request(plan, request, bytes.max(PAGE / 2 + 1), owner).await {
                    let last = self.plans[plan].allocated.last().unwrap();
                    assert_eq!(last.extent.len, u64::from(pages) * PAGE);
                } else {
                    assert!(!has_run(&self.free_areas().await, pages.into(), 1), "{pages} pages are free");
                }
            }
            Step::Buddy { order } => {
                let pages = 1_u64 << order;
                if pages * PAGE > segment {
                    return;
                }
                let bytes = pages * PAGE / 2 + 1;
                let request = AllocRequest::bytes(bytes).owner(owner).power_of_two();
                if self.request(plan, request, bytes, owner).await {
                    let last = self.plans[plan].allocated.last_mut().unwrap();
                    last.keeps_length = true;
                    assert_eq!((last.extent.len, last.extent.offset % last.extent.len), (pages * PAGE, 0));
                } else {
                    assert!(!has_run(&self.free_areas().await, pages, pages), "2^{order} pages are free");
                }
            }
            Step::Aligned { pages, order } => {
                let (pages, align) = (u64::from(pages), 1_u64 << order);
                let request = AllocRequest::bytes(pages * PAGE).owner(owner).align(align * PAGE);
                if pages * PAGE > segment || align * PAGE > segment {
                    return;
                }
                if self.request(plan, request, pages * PAGE, owner).await {
                    let last = self.plans[plan].allocated.last().unwrap().extent;
                    assert_eq!((last.len, last.offset % (align * PAGE)), (pages * PAGE, 0));
                } else {
                    assert!(!has_run(&self.free_areas().await, pages, align), "{step:?} is free");
                }
            }
            Step::Span { segments, tail } => {
                let (segments, tail) = (u64::from(segments), u64::from(tail) % (segment / PAGE));
                let bytes = segments * segment + tail * PAGE;
                if bytes <= segment {
                    return;
                }
                if !self.request(plan, AllocRequest::bytes(bytes).owner(owner), bytes, owner).await {
                    assert!(!has_span(&self.free_areas().await, segment, segments, tail), "{step:?} is free");
                }
            }
            Step::Pieces { pages, most } => {
                let bytes = u64::from(pages) * PAGE;
                let request = AllocRequest::bytes(bytes).owner(owner).max_extents(most.into());
                match self.plans[plan].txn.as_mut().unwrap().alloc_extents(request).await {
                    Ok(extents) => {
                        assert!(extents.len() <= usize::from(most));
                        assert_eq!(extents.iter().map(|extent| extent.len).sum::<u64>(), bytes);
                        for extent in extents {
                            self.take(plan, extent, extent.len, owner).await;
                        }
                    }
                    Err(Error::NoSpace { .. }) => {
                        let mut lens: Vec<u64> =
                            self.free_areas().await.iter().map(|area| area.len).collect();
                        lens.sort_unstable();
                        let most: u64 = lens.iter().rev().take(most.into()).sum();
                        assert!(most < bytes, "{bytes} bytes in pieces of {lens:?}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::At { which, pages } => {
                let areas = self.free_areas().await;
                let Some(area) = areas.get(usize::from(which) % areas.len().max(1)) else { return };
                let pages = u64::from(pages).min(area.len / PAGE);
                let offset = area.offset + area.len - pages * PAGE;
                let request = AllocRequest::bytes(pages * PAGE).owner(owner).at(offset);
                assert!(self.request(plan, request, pages * PAGE, owner).await, "{area:?} is free");
                assert_eq!(self.plans[plan].allocated.last().unwrap().extent.offset, offset);
            }
            _ => {}
        }
    }
}
