//! The input, checked and put in terms of positions: sources by their place in the caller's list, lengths in rows.

use std::borrow::Cow;

use super::avoid::{Range, ranges};
use super::free::Free;
use super::tags::Tags;
use super::{Area, MAX_LEGS, PlacementError, Request, Source, Step};

/// The volume so far, as far as it counts.
#[derive(Clone, Debug)]
pub(super) struct Previous {
    /// For each leg the source of its last unit, and the unit behind that.
    pub(super) ends: Vec<(usize, u64)>,
    /// For each leg the sources that it stays on, ascending.
    pub(super) homes: Vec<Vec<usize>>,
}

/// What is to be placed on what.
#[derive(Clone, Debug)]
pub(super) struct Instance<'a> {
    /// Free areas; none where nothing may be placed.
    pub(super) free: Vec<Free<'a>>,
    pub(super) allocatable: Vec<bool>,
    pub(super) tags: Tags,
    pub(super) legs: usize,
    pub(super) stripes: u64,
    /// Units of each leg.
    pub(super) rows: u64,
    /// The last step that is allowed.
    pub(super) limit: Step,
    pub(super) approximate: bool,
    pub(super) previous: Option<Previous>,
    /// Where sources are to be avoided, ascending; nowhere behind the last.
    pub(super) ranges: Vec<Range>,
    pub(super) metadata: u64,
    pub(super) logs: u32,
    pub(super) log_units: u64,
    pub(super) log_separate: bool,
    /// Whether a source has data of the volume before anything is placed.
    pub(super) has_data: Vec<bool>,
}

impl<'a> Instance<'a> {
    /// Checks everything that can be wrong with the input by itself.
    pub(super) fn new<H: Copy + Ord>(
        sources: &[Source<'a, H>],
        request: &Request<'_, H>,
    ) -> Result<Self, PlacementError> {
        let (limit, legs, rows) = shape(request)?;
        let handles = Handles::new(sources)?;
        let areas = sources.iter().enumerate().map(|(index, source)| ascending(index, source));
        let areas = areas.collect::<Result<Vec<_>, _>>()?;
        let tags = Tags::new(sources, request.tags);
        let mut has_data = vec![false; sources.len()];
        let segments = segments(sources, &areas, request, &handles, legs, &mut has_data)?;
        let ranges = ranges(request, &handles, &tags)?;
        for &source in ranges.iter().flat_map(|range| range.avoided.named()) {
            set(&mut has_data, source);
        }
        let offered = sources.iter().zip(areas);
        let offered =
            offered.map(|(source, areas)| if source.allocatable { areas } else { Cow::Borrowed(&[][..]) });
        let free = offered.map(Free::new).collect();
        let instance = Self {
            free,
            allocatable: sources.iter().map(|source| source.allocatable).collect(),
            tags,
            legs,
            stripes: request.stripes.into(),
            rows,
            limit,
            approximate: request.approximate,
            previous: Previous::new(&segments, legs, request.maximise_cling),
            ranges,
            metadata: request.metadata_units,
            logs: request.log_areas,
            log_units: request.log_units,
            log_separate: request.log_separate,
            has_data,
        };
        instance.is_large_enough()?;
        Ok(instance)
    }

    /// Compares what is needed with what there is, in numbers alone.
    fn is_large_enough(&self) -> Result<(), PlacementError> {
        let too_much = || PlacementError::invalid("the units in all do not fit in 64 bits");
        let free = self.free.iter().try_fold(0_u64, |sum, source| sum.checked_add(source.units()));
        let free = free.ok_or_else(too_much)?;
        let legs = self.legs as u64;
        let data = self.rows.checked_mul(legs).ok_or_else(too_much)?;
        let metadata = self.metadata.checked_mul(legs).ok_or_else(too_much)?;
        let logs = self.log_units.checked_mul(self.logs.into()).ok_or_else(too_much)?;
        let needed = data.checked_add(metadata).and_then(|sum| sum.checked_add(logs)).ok_or_else(too_much)?;
        let sources = self.allocatable.iter().filter(|&&allocatable| allocatable).count();
        if self.limit != Step::Anywhere && self.legs > sources {
            return Err(PlacementError::TooFewSources { legs: self.legs, sources });
        }
        if self.approximate {
            return Ok(());
        }
        let short = PlacementError::InsufficientTotal { needed, free };
        if data > free {
            return Err(short);
        }
        self.has_room_for_metadata()?;
        if needed > free { Err(short) } else { Ok(()) }
    }

    /// Whether every leg finds an area for its metadata and data behind it, if it finds one for data alone.
    pub(super) fn has_room_for_metadata(&self) -> Result<(), PlacementError> {
        let areas = self.heads(self.metadata);
        if areas < self.legs && self.heads(0) >= self.legs {
            return Err(PlacementError::MetadataTooBig { units: self.metadata, areas, legs: self.legs });
        }
        Ok(())
    }

    /// How many legs could begin somewhere, behind so much metadata; no more than there are legs.
    fn heads(&self, metadata: u64) -> usize {
        let head = metadata.saturating_add(1);
        let of = |free: &Free<'_>| {
            if self.limit == Step::Anywhere {
                let heads = free.areas().map(|area| area.units() / head).sum::<u64>();
                usize::try_from(heads).unwrap_or(usize::MAX)
            } else {
                usize::from(free.largest().is_some_and(|area| area.units() >= head))
            }
        };
        self.free.iter().map(of).fold(0, usize::saturating_add).min(self.legs)
    }

    /// Positions of the sources.
    pub(super) fn sources(&self) -> std::ops::Range<usize> {
        0..self.free.len()
    }
}

/// The last step, the number of legs and their length.
fn shape<H>(request: &Request<'_, H>) -> Result<(Step, usize, u64), PlacementError> {
    let default = request.default_policy.step().ok_or_else(|| {
        PlacementError::invalid("the default policy is 'inherit'; it must be one that can be inherited")
    })?;
    let mut limit = request.policy.step().unwrap_or(default);
    if limit == Step::Cling && !request.tags.is_empty() {
        limit = Step::ClingByTags;
    }
    if request.units == 0 {
        return Err(PlacementError::invalid("0 units are asked for; ask for one at least"));
    }
    if request.stripes == 0 || request.mirrors == 0 {
        return Err(PlacementError::invalid(
            "there are no parallel areas; stripes and mirrors must be 1 at least",
        ));
    }
    if request.log_areas > 0 && request.log_units == 0 {
        return Err(PlacementError::invalid("logs of 0 units are asked for; log_units must be 1 at least"));
    }
    let data = u64::from(request.stripes).saturating_mul(request.mirrors.into());
    let legs = usize::try_from(data.saturating_add(request.parity.into())).unwrap_or(usize::MAX);
    if legs > MAX_LEGS || request.log_areas as usize > MAX_LEGS {
        return Err(PlacementError::invalid(format!(
            "{legs} legs and {} logs are asked for; {MAX_LEGS} of each are the most",
            request.log_areas
        )));
    }
    let rows = rows(request.units, request.stripes)?;
    Ok((limit, legs, rows))
}

fn rows(units: u64, stripes: u32) -> Result<u64, PlacementError> {
    let divisor = u64::from(stripes);
    if !units.is_multiple_of(divisor) {
        return Err(PlacementError::NotDivisible { units, stripes });
    }
    Ok(units / divisor)
}

/// Finds sources by their handles.
pub(super) struct Handles<H>(Vec<(H, usize)>);

impl<H: Copy + Ord> Handles<H> {
    fn new(sources: &[Source<'_, H>]) -> Result<Self, PlacementError> {
        let mut handles: Vec<(H, usize)> =
            sources.iter().enumerate().map(|(index, source)| (source.handle, index)).collect();
        handles.sort_unstable();
        let mut twice = handles.iter().zip(handles.iter().skip(1));
        match twice.find(|(one, other)| one.0 == other.0) {
            Some((_, &(_, source_index))) => Err(PlacementError::DuplicateSource { source_index }),
            None => Ok(Self(handles)),
        }
    }

    pub(super) fn find(&self, handle: H, whose: impl Fn() -> String) -> Result<usize, PlacementError> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(&handle));
        at.ok().and_then(|at| self.0.get(at)).map(|&(_, index)| index).ok_or_else(|| {
            let whose = whose();
            PlacementError::invalid(format!(
                "a source of {whose} is none of the sources; list it, if with no free areas"
            ))
        })
    }
}

/// The areas of a source, ascending, those that touch made one.
fn ascending<'a, H>(index: usize, source: &Source<'a, H>) -> Result<Cow<'a, [Area]>, PlacementError> {
    let areas = source.areas;
    let mut in_order = true;
    let mut end = None;
    for area in areas {
        if area.start >= area.end {
            return Err(PlacementError::invalid_source(
                index,
                format!("area [{}, {}) of source number {index} has no units", area.start, area.end),
            ));
        }
        in_order &= end.is_none_or(|end| end < area.start);
        end = Some(area.end);
    }
    let areas = if in_order { Cow::Borrowed(areas) } else { Cow::Owned(joined(index, areas)?) };
    match (areas.last(), source.units) {
        (Some(last), Some(units)) if last.end > units => Err(PlacementError::invalid_source(
            index,
            format!(
                "area [{}, {}) of source number {index} goes beyond its {units} units",
                last.start, last.end
            ),
        )),
        _ => Ok(areas),
    }
}

fn joined(source_index: usize, areas: &[Area]) -> Result<Vec<Area>, PlacementError> {
    let mut sorted = areas.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<Area> = Vec::with_capacity(sorted.len());
    let mut before: Option<Area> = None;
    for area in sorted {
        if let Some(first) = before.filter(|before| before.end > area.start) {
            return Err(PlacementError::OverlappingAreas { source_index, first, second: area });
        }
        before = Some(area);
        match joined.last_mut() {
            Some(last) if last.end == area.start => last.end = area.end,
            _ => joined.push(area),
        }
    }
    Ok(joined)
}

fn set(flags: &mut [bool], at: usize) {
    if let Some(flag) = flags.get_mut(at) {
        *flag = true;
    }
}

/// For each segment the source of each leg and the unit behind its last one there. None when the last segment has
/// another number of legs, for then no leg can be continued. Notes on which sources the volume is.
fn segments<H: Copy + Ord>(
    sources: &[Source<'_, H>],
    areas: &[Cow<'_, [Area]>],
    request: &Request<'_, H>,
    handles: &Handles<H>,
    legs: usize,
    has_data: &mut [bool],
) -> Result<Vec<Vec<(usize, u64)>>, PlacementError> {
    let mut all = Vec::with_capacity(request.previous.len());
    for (number, segment) in request.previous.iter().enumerate() {
        let mut ends = Vec::with_capacity(segment.legs.len());
        for (leg, origin) in segment.legs.iter().enumerate() {
            let whose = || format!("leg {leg} of earlier segment {number}, both counted from 0,");
            let index = handles.find(origin.source, whose)?;
            set(has_data, index);
            if segment.legs.len() == legs {
                let length = rows(segment.units, request.stripes)?;
                let units = sources.get(index).and_then(|source| source.units);
                let free = areas.get(index).map_or(&[][..], |areas| areas);
                ends.push((index, end_of(index, units, free, origin.start, length)?));
            }
        }
        if segment.legs.len() == legs {
            all.push(ends);
        }
    }
    let counts = request.previous.last().is_some_and(|last| last.legs.len() == legs);
    Ok(if counts { all } else { Vec::new() })
}

/// The unit behind `length` units from `start` on, which must not be free.
fn end_of(
    index: usize,
    units: Option<u64>,
    free: &[Area],
    start: u64,
    length: u64,
) -> Result<u64, PlacementError> {
    let Some(end) = start.checked_add(length) else {
        return Err(PlacementError::invalid_source(
            index,
            format!(
                "an earlier segment has {length} units from {start} on of source number {index}; no source is that long"
            ),
        ));
    };
    if let Some(units) = units.filter(|&units| end > units) {
        return Err(PlacementError::invalid_source(
            index,
            format!(
                "an earlier segment has [{start}, {end}) of source number {index}, beyond its {units} units"
            ),
        ));
    }
    let at = free.partition_point(|area| area.end <= start);
    match free.get(at) {
        Some(&second) if second.start < end => {
            let first = Area::new(start, end);
            Err(PlacementError::OverlappingAreas { source_index: index, first, second })
        }
        _ => Ok(end),
    }
}

impl Previous {
    fn new(segments: &[Vec<(usize, u64)>], legs: usize, maximise_cling: bool) -> Option<Self> {
        let last = segments.last()?;
        let counting = if maximise_cling { segments } else { std::slice::from_ref(last) };
        let homes = (0..legs).map(|leg| {
            let mut homes: Vec<usize> =
                counting.iter().filter_map(|segment| segment.get(leg)).map(|&(source, _)| source).collect();
            homes.sort_unstable();
            homes.dedup();
            homes
        });
        Some(Self { ends: last.clone(), homes: homes.collect() })
    }
}
