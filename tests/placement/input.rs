//! Input that owns what it has, and the notation of the cases: `A[0,10)[20,30)@x B`, `10: A0 B0`.

use freehold::placement::{
    Area, Avoid, Explanation, Origin, PlacementError, Plan, Policy, Request, Segment, Source, explain, place,
};

#[derive(Clone, Debug)]
pub(crate) struct OwnedSource {
    pub(crate) name: char,
    pub(crate) tags: Vec<String>,
    pub(crate) areas: Vec<Area>,
    pub(crate) allocatable: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) sources: Vec<OwnedSource>,
    pub(crate) previous: Vec<(u64, Vec<(char, u64)>)>,
    pub(crate) avoid: Vec<(u64, Vec<char>)>,
    pub(crate) tags: Vec<String>,
    pub(crate) units: u64,
    pub(crate) policy: Policy,
    pub(crate) stripes: u32,
    pub(crate) mirrors: u32,
    pub(crate) parity: u32,
    pub(crate) approximate: bool,
    pub(crate) maximise_cling: bool,
    pub(crate) metadata_units: u64,
    pub(crate) log_areas: u32,
    pub(crate) log_units: u64,
    pub(crate) log_separate: bool,
}

/// Sources in the notation of the cases, and a request for one leg.
pub(crate) fn on(sources: &str, units: u64, policy: Policy) -> Input {
    Input {
        sources: sources.split_whitespace().map(source).collect(),
        previous: Vec::new(),
        avoid: Vec::new(),
        tags: Vec::new(),
        units,
        policy,
        stripes: 1,
        mirrors: 1,
        parity: 0,
        approximate: false,
        maximise_cling: true,
        metadata_units: 0,
        log_areas: 0,
        log_units: 0,
        log_separate: false,
    }
}

fn source(text: &str) -> OwnedSource {
    let mut parts = text.split('@');
    let place = parts.next().unwrap();
    let areas = place[1..].split_terminator(')').map(|area| {
        let (start, end) = area.trim_start_matches('[').split_once(',').unwrap();
        Area::new(start.parse().unwrap(), end.parse().unwrap())
    });
    OwnedSource {
        name: text.chars().next().unwrap(),
        areas: areas.collect(),
        tags: parts.map(str::to_owned).collect(),
        allocatable: true,
    }
}

impl Input {
    /// A segment in the notation of the cases.
    pub(crate) fn prev(mut self, segment: &str) -> Self {
        let (units, legs) = segment.split_once(": ").unwrap();
        let leg = |leg: &str| (leg.chars().next().unwrap(), leg[1..].parse().unwrap());
        self.previous.push((units.parse().unwrap(), legs.split_whitespace().map(leg).collect()));
        self
    }

    pub(crate) fn avoid(mut self, units: u64, sources: &str) -> Self {
        self.avoid.push((units, sources.chars().collect()));
        self
    }

    pub(crate) fn tags(mut self, tags: &[&str]) -> Self {
        self.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        self
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn stripes(self, stripes: u32) -> Self {
        self.set(|input| input.stripes = stripes)
    }

    pub(crate) fn mirrors(self, mirrors: u32) -> Self {
        self.set(|input| input.mirrors = mirrors)
    }

    pub(crate) fn approximate(self) -> Self {
        self.set(|input| input.approximate = true)
    }

    pub(crate) fn policy(self, policy: Policy) -> Self {
        self.set(|input| input.policy = policy)
    }

    pub(crate) fn legs(&self) -> usize {
        (self.stripes * self.mirrors + self.parity) as usize
    }

    pub(crate) fn rows(&self) -> u64 {
        self.units / u64::from(self.stripes)
    }

    /// Hands sources and request to the library.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&[Source<'_, char>], &Request<'_, char>) -> T) -> T {
        let tags: Vec<Vec<&str>> =
            self.sources.iter().map(|source| source.tags.iter().map(String::as_str).collect()).collect();
        let sources: Vec<Source<'_, char>> = self
            .sources
            .iter()
            .zip(&tags)
            .map(|(source, tags)| Source {
                tags,
                allocatable: source.allocatable,
                ..Source::new(source.name, &source.areas)
            })
            .collect();
        let origins: Vec<Vec<Origin<char>>> = self
            .previous
            .iter()
            .map(|(_, legs)| legs.iter().map(|&(source, start)| Origin { source, start }).collect())
            .collect();
        let previous: Vec<Segment<'_, char>> = self
            .previous
            .iter()
            .zip(&origins)
            .map(|(segment, legs)| Segment { units: segment.0, legs })
            .collect();
        let avoid: Vec<Avoid<'_, char>> =
            self.avoid.iter().map(|(units, sources)| Avoid { units: *units, sources }).collect();
        let listed: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let request = Request {
            stripes: self.stripes,
            mirrors: self.mirrors,
            parity: self.parity,
            approximate: self.approximate,
            tags: &listed,
            maximise_cling: self.maximise_cling,
            previous: &previous,
            avoid: &avoid,
            metadata_units: self.metadata_units,
            log_areas: self.log_areas,
            log_units: self.log_units,
            log_separate: self.log_separate,
            ..Request::new(self.units, self.policy)
        };
        call(&sources, &request)
    }

    pub(crate) fn place(&self) -> Result<Plan<char>, PlacementError> {
        self.with(place)
    }

    pub(crate) fn explain(&self) -> Result<Explanation<char>, PlacementError> {
        self.with(explain)
    }

    /// The legs of the plan: `A[0,5) B[0,2) / C[0,7)`.
    pub(crate) fn legs_placed(&self) -> String {
        let plan = self.place().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let legs = plan.legs.iter().map(|leg| {
            let pieces = leg
                .iter()
                .map(|piece| format!("{}[{},{})", piece.source, piece.start, piece.start + piece.length));
            pieces.collect::<Vec<_>>().join(" ")
        });
        legs.collect::<Vec<_>>().join(" / ")
    }

    /// The kind of error.
    pub(crate) fn kind(&self) -> &'static str {
        match self.place() {
            Ok(plan) => panic!("{self:?} is placed: {plan:?}"),
            Err(error) => error.kind(),
        }
    }
}
