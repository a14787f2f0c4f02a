//! `freehold place`: a free map and a request in, a plan out.

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;

use clap::Args;
use freehold::placement::{
    Area, Avoid, Origin, Partition, Piece, PlacementError, Plan, Policy, Request, Segment, Source, explain,
    place,
};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// An example of what is read.
const INPUT: &str = r#"The input is one JSON document; all but 'sources', their names, 'request', 'units' and 'policy' may be left out:
{"sources": [{"name": "A", "tags": ["site1"], "units": 100, "free": [[0, 10], [20, 30]], "allocatable": true}],
 "default_policy": "normal",
 "previous": [{"units": 10, "legs": [{"source": "A", "start": 10}]}],
 "request": {"units": 20, "policy": "normal", "stripes": 1, "mirrors": 1, "parity": 0, "approximate": false,
   "tags": ["@site1"], "maximise_cling": true, "avoid": [{"units": 5, "sources": []}],
   "metadata_units": 0, "log_areas": 0, "log_units": 0, "log_separate": false}}

Policies: contiguous, cling, cling_by_tags, normal, anywhere, inherit. 'free' has half-open ranges of units.
The answer: {"legs": [[{"source", "start", "length"}, ...], ...], "metadata": [...], "log": [...], "placed_units": N},
with "partition": "bounded" if the search for legs that share no listed tag ended before it was through;
or, with exit code 1, {"error": KIND, "message": TEXT}."#;

/// What to place on what.
#[derive(Debug, Args)]
#[command(after_help = INPUT)]
pub(crate) struct PlaceArgs {
    /// The file with the free map and the request; standard input if none is given.
    pub(crate) file: Option<PathBuf>,
    /// Tell on standard error why each area was taken, and why others were not.
    #[arg(long)]
    explain: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    sources: Vec<SourceDocument>,
    #[serde(default = "normal")]
    default_policy: PolicyName,
    #[serde(default)]
    previous: Vec<SegmentDocument>,
    request: RequestDocument,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceDocument {
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    units: Option<u64>,
    #[serde(default)]
    free: Vec<(u64, u64)>,
    #[serde(default = "yes")]
    allocatable: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentDocument {
    units: u64,
    legs: Vec<OriginDocument>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginDocument {
    source: String,
    start: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AvoidDocument {
    units: u64,
    #[serde(default)]
    sources: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestDocument {
    units: u64,
    policy: PolicyName,
    #[serde(default = "one")]
    stripes: u32,
    #[serde(default = "one")]
    mirrors: u32,
    #[serde(default)]
    parity: u32,
    #[serde(default)]
    approximate: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default = "yes")]
    maximise_cling: bool,
    #[serde(default)]
    avoid: Vec<AvoidDocument>,
    #[serde(default)]
    metadata_units: u64,
    #[serde(default)]
    log_areas: u32,
    #[serde(default)]
    log_units: u64,
    #[serde(default)]
    log_separate: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyName {
    Contiguous,
    Cling,
    ClingByTags,
    Normal,
    Anywhere,
    Inherit,
}

const fn yes() -> bool {
    true
}

const fn one() -> u32 {
    1
}

const fn normal() -> PolicyName {
    PolicyName::Normal
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Contiguous => Self::Contiguous,
            PolicyName::Cling => Self::Cling,
            PolicyName::ClingByTags => Self::ClingByTags,
            PolicyName::Normal => Self::Normal,
            PolicyName::Anywhere => Self::Anywhere,
            PolicyName::Inherit => Self::Inherit,
        }
    }
}

#[derive(Debug, Serialize)]
struct PieceDocument<'a> {
    source: &'a str,
    start: u64,
    length: u64,
}

#[derive(Debug, Serialize)]
struct PlanDocument<'a> {
    legs: Vec<Vec<PieceDocument<'a>>>,
    metadata: Vec<PieceDocument<'a>>,
    log: Vec<PieceDocument<'a>>,
    placed_units: u64,
    /// Only when legs share tags and may not have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct ErrorDocument<'a> {
    error: &'a str,
    message: &'a str,
}

pub(crate) fn run(args: &PlaceArgs, output: &mut Output) -> Result<Exit, Failure> {
    let bytes = read(args)?;
    let document: Document = match serde_json::from_slice(&bytes) {
        Ok(document) => document,
        Err(error) => return refuse(output, "invalid_request", &format!("cannot read the input: {error}")),
    };
    match answer(&document, args.explain) {
        Ok(plan) => output.json(&PlanDocument::new(&plan)).map(|()| Exit::Clean),
        Err(error) => refuse(output, error.kind(), &with_name(&error, &document)),
    }
}

fn read(args: &PlaceArgs) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let (result, from) = match &args.file {
        Some(path) => (std::fs::read(path).map(|read| bytes = read), path.display().to_string()),
        None => (std::io::stdin().read_to_end(&mut bytes).map(|_| ()), "standard input".to_owned()),
    };
    result.map_err(|error| Failure::new(Exit::Failed, "io", format!("cannot read {from}: {error}")))?;
    Ok(bytes)
}

/// The answer is a document here too, and there is one line of complaint.
fn refuse(output: &mut Output, kind: &'static str, message: &str) -> Result<Exit, Failure> {
    output.json(&ErrorDocument { error: kind, message })?;
    Err(Failure::new(Exit::Failed, kind, message))
}

fn answer(document: &Document, explained: bool) -> Result<Plan<&str>, PlacementError> {
    let areas: Vec<Vec<Area>> = document
        .sources
        .iter()
        .map(|source| source.free.iter().map(|&(start, end)| Area::new(start, end)).collect())
        .collect();
    let tags: Vec<Vec<&str>> = document.sources.iter().map(|source| names(&source.tags)).collect();
    let sources: Vec<Source<'_, &str>> = document
        .sources
        .iter()
        .zip(areas.iter().zip(&tags))
        .map(|(source, (areas, tags))| Source {
            handle: source.name.as_str(),
            tags,
            areas,
            units: source.units,
            allocatable: source.allocatable,
        })
        .collect();
    let origins: Vec<Vec<Origin<&str>>> = document
        .previous
        .iter()
        .map(|segment| {
            segment.legs.iter().map(|leg| Origin { source: leg.source.as_str(), start: leg.start }).collect()
        })
        .collect();
    let previous: Vec<Segment<'_, &str>> = document
        .previous
        .iter()
        .zip(&origins)
        .map(|(segment, legs)| Segment { units: segment.units, legs })
        .collect();
    let asked = &document.request;
    let avoided: Vec<Vec<&str>> = asked.avoid.iter().map(|avoid| names(&avoid.sources)).collect();
    let avoid: Vec<Avoid<'_, &str>> = asked
        .avoid
        .iter()
        .zip(&avoided)
        .map(|(avoid, sources)| Avoid { units: avoid.units, sources })
        .collect();
    let request = Request {
        units: asked.units,
        policy: asked.policy.into(),
        default_policy: document.default_policy.into(),
        stripes: asked.stripes,
        mirrors: asked.mirrors,
        parity: asked.parity,
        approximate: asked.approximate,
        tags: &names(&asked.tags),
        maximise_cling: asked.maximise_cling,
        previous: &previous,
        avoid: &avoid,
        metadata_units: asked.metadata_units,
        log_areas: asked.log_areas,
        log_units: asked.log_units,
        log_separate: asked.log_separate,
    };
    if explained && let Ok(explanation) = explain(&sources, &request) {
        // Nobody may be there to read it.
        let mut out = BufWriter::new(std::io::stderr().lock());
        let _ = write!(out, "{explanation}").and_then(|()| out.flush());
    }
    place(&sources, &request)
}

fn names(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

/// The library counts sources; people have names for them.
fn with_name(error: &PlacementError, document: &Document) -> String {
    let source = error.source_index().and_then(|index| Some((index, document.sources.get(index)?)));
    match source {
        Some((index, source)) => format!("{error} (number {index} is {:?})", source.name),
        None => error.to_string(),
    }
}

impl<'a> PlanDocument<'a> {
    fn new(plan: &Plan<&'a str>) -> Self {
        let piece = |piece: &Piece<&'a str>| PieceDocument {
            source: piece.source,
            start: piece.start,
            length: piece.length,
        };
        Self {
            legs: plan.legs.iter().map(|leg| leg.iter().map(piece).collect()).collect(),
            metadata: plan.metadata.iter().map(piece).collect(),
            log: plan.log.iter().map(piece).collect(),
            placed_units: plan.placed_units,
            partition: (plan.partition == Partition::Bounded).then_some("bounded"),
        }
    }
}
