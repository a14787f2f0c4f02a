//! Records of extents that no build writes.

use std::collections::BTreeMap;

use freehold::format::{
    ExtentChange, ExtentRecord, ExtentsEncoder, HeaderKind, Layout, PageHeader, headers_digest,
};

use super::super::forge::{Forge, put_header};
use super::odd;
use crate::rng::Rng;

const KINDS: [HeaderKind; 6] = [
    HeaderKind::None,
    HeaderKind::Buddy,
    HeaderKind::Extent,
    HeaderKind::Region,
    HeaderKind::Span,
    HeaderKind::SpanTail,
];

fn number(original: u64, width: u64, rng: &mut Rng) -> u32 {
    u32::try_from(odd(original, width, rng)).unwrap_or(u32::MAX)
}

/// A length that there may be, or not.
fn length(layout: &Layout, rng: &mut Rng) -> u32 {
    if rng.chance(0.8) {
        u32::try_from(rng.below(5)).unwrap_or(1)
    } else {
        number(layout.pages_per_segment().into(), 4, rng)
    }
}

fn record(layout: &Layout, rng: &mut Rng) -> ExtentRecord {
    let pages = layout.page_count();
    let page = if rng.chance(0.8) { rng.below(pages) } else { odd(pages, 8, rng) };
    let plain = rng.chance(0.7);
    let header = PageHeader {
        owner: if plain { rng.below(9) } else { odd(9, 8, rng) },
        generation: if plain { 1 } else { number(1, 4, rng) },
        kind: rng.pick(&KINDS).copied().unwrap_or(HeaderKind::Extent),
        pages: length(layout, rng),
        slack: if plain { 0 } else { u16::try_from(odd(1, 2, rng)).unwrap_or(u16::MAX) },
    };
    let change = match rng.below(3) {
        0 => ExtentChange::Begin { header },
        1 => ExtentChange::Replace { was_pages: length(layout, rng), header },
        _ => ExtentChange::End { pages: length(layout, rng) },
    };
    ExtentRecord { page, change }
}

/// Records, and the digest of what they leave.
pub(super) struct OddExtents {
    records: Vec<ExtentRecord>,
    pub(super) encoder: ExtentsEncoder,
    pub(super) digest: u64,
}

impl OddExtents {
    /// Some, or so many that they fill a group, each with all pages of a segment.
    pub(super) fn any(forge: &Forge, rng: &mut Rng) -> Self {
        let layout = &forge.superblock.layout;
        let records = if rng.chance(0.02) {
            let pages = layout.pages_per_segment();
            let page = layout.device_page(layout.first_segment() + 1, 0);
            let header = PageHeader { owner: 1, generation: 1, kind: HeaderKind::Extent, pages, slack: 0 };
            let changes = [ExtentChange::Begin { header }, ExtentChange::End { pages }];
            changes.into_iter().cycle().take(2000).map(|change| ExtentRecord { page, change }).collect()
        } else {
            (0..1 + rng.below(3)).map(|_| record(layout, rng)).collect()
        };
        let mut odd_ones = Self::of(forge, records);
        if rng.chance(0.3) {
            odd_ones.digest = odd(odd_ones.digest, 8, rng);
        }
        odd_ones
    }

    /// These records, with the digest that they should have.
    pub(super) fn of(forge: &Forge, records: Vec<ExtentRecord>) -> Self {
        let layout = &forge.superblock.layout;
        let (mut encoder, mut blocks) = (ExtentsEncoder::default(), BTreeMap::new());
        for record in &records {
            encoder.push(record.page, &record.change);
            let (segment, page) = layout.page_in_segment(record.page);
            let segment = u32::try_from(segment).ok().filter(|segment| *segment < layout.segment_count());
            if let Some(segment) = segment {
                let leaf = layout.header_place(segment, page).0.0;
                let first = record.page - u64::from(page % layout.headers_per_block());
                let (_, block) = blocks.entry(leaf).or_insert_with(|| (first, forge.headers(leaf)));
                put_header(layout, record, leaf, block);
            }
        }
        let digest = blocks.values().fold(0, |digest, (first, block)| digest ^ headers_digest(*first, block));
        Self { records, encoder, digest }
    }

    /// A bitmap that one of them changes.
    pub(super) fn bitmap(&self, layout: &Layout, rng: &mut Rng) -> Option<u64> {
        let (segment, page) = layout.page_in_segment(rng.pick(&self.records)?.page);
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < layout.segment_count())?;
        Some(layout.bitmap_leaf(segment, u64::from(page / layout.pages_per_bitmap_block())).0)
    }

    pub(super) fn text(&self) -> String {
        let first = self.records.first();
        format!("{} records of extents, first {first:?}, digest {:#x}", self.records.len(), self.digest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freehold::device::Device;
    use freehold::format::PayloadEncoder;
    use freehold::{ExtentInfo, OpenOptions};
    use futures_util::TryStreamExt;

    use super::super::super::samples::{Ending, Sample};
    use super::*;
    use crate::executor;

    /// The first extent, with another owner.
    fn another_owner(forge: &Forge) -> ExtentRecord {
        let layout = &forge.superblock.layout;
        let first = layout.data_offset() / u64::from(layout.page_bytes());
        let mut records = (first..layout.page_count()).filter_map(|page| {
            let (segment, within) = layout.page_in_segment(page);
            let (leaf, offset) = layout.header_place(u32::try_from(segment).unwrap(), within);
            let block = forge.headers(leaf.0);
            let header = PageHeader::decode(block[offset as usize..].first_chunk().unwrap()).unwrap();
            let change = ExtentChange::Replace {
                was_pages: header.pages,
                header: PageHeader { owner: 4711, ..header },
            };
            (header.kind == HeaderKind::Extent).then_some(ExtentRecord { page, change })
        });
        records.next().unwrap()
    }

    /// The owners of all extents behind a group with that record.
    fn owners(sample: &Sample, digest_differs: u64) -> freehold::Result<Vec<u64>> {
        let disk = sample.disk();
        let mut forge = Forge::of(&disk).unwrap();
        let forged = OddExtents::of(&forge, vec![another_owner(&forge)]);
        let mut encoder = PayloadEncoder::default();
        encoder.push_extents(&forged.encoder, forged.digest ^ digest_differs);
        let payload = encoder.finish(forge.superblock.layout.ring_granule_bytes());
        forge.append_group(payload, |_| {}).unwrap();
        let (store, _) = executor::run(OpenOptions::new().open_device(disk as Arc<dyn Device>)).unwrap()?;
        let extents: Vec<ExtentInfo> = executor::run(store.extents().try_collect()).unwrap()?;
        Ok(extents.iter().map(|info| info.owner).collect())
    }

    /// What has a good digest is taken: only then do forged records get behind it.
    #[test]
    fn digests_are_those_of_the_store() {
        for ending in Ending::ALL {
            let sample = Sample::usual(ending).unwrap();
            assert!(owners(&sample, 0).unwrap().contains(&4711), "{}", ending.name());
            let error = owners(&sample, 1).unwrap_err().to_string();
            assert!(error.contains("page headers are not what the journal says"), "{error}");
        }
    }
}
