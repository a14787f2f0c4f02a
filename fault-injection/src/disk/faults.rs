//! Faults to inject, and when.

use std::io;
use std::ops::Range;

use freehold::device::Purpose;

/// A kind of call of the device seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IoKind {
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `flush`.
    Flush,
    /// `discard`.
    Discard,
    /// `preallocate`.
    Preallocate,
}

/// The system's answer to a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
}

impl ErrorCode {
    /// The error as the system gives it.
    #[must_use]
    pub fn to_error(self) -> io::Error {
        // The numbers are the same on every Linux architecture.
        io::Error::from_raw_os_error(match self {
            Self::Io => 5,
            Self::NoSpace => 28,
        })
    }
}

/// What goes wrong. A fault that makes no sense for the call it meets (a lost flush, say) does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing. A failed flush moreover leaves the writes before it taken for clean.
    Fail(ErrorCode),
    /// A write fails, but its first bytes were written.
    FailAfter {
        /// The answer.
        code: ErrorCode,
        /// How many bytes were written.
        written_bytes: u64,
    },
    /// A flush answers "done" and does nothing.
    LyingFlush,
    /// A write answers "done" and the old content stays, for readers too.
    LostWrite,
    /// A write goes elsewhere. Cut off at the end of the disk.
    MisdirectedWrite {
        /// Where to, in bytes from the start of the disk.
        to: u64,
    },
    /// A read is answered from elsewhere. Moved so that it ends within the disk.
    MisdirectedRead {
        /// Where from, in bytes from the start of the disk.
        from: u64,
    },
    /// Bits of the medium flip before the call, which itself goes well.
    Rot {
        /// Where, in bytes from the start of the disk.
        offset: u64,
        /// The bits that flip.
        mask: Vec<u8>,
    },
}

/// Which calls a fault meets. Starts as "the first call of any kind, once".
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct When {
    kind: Option<IoKind>,
    purpose: Option<Purpose>,
    touching: Option<Range<u64>>,
    skip: u64,
    for_ever: bool,
}

impl When {
    /// Any call that changes the disk or reads it.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls of one kind.
    #[must_use]
    pub fn kind(kind: IoKind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Writes for one purpose.
    #[must_use]
    pub fn purpose(purpose: Purpose) -> Self {
        Self { kind: Some(IoKind::Write), purpose: Some(purpose), ..Self::default() }
    }

    /// Only calls whose range touches this one, in bytes. A flush has no range and touches none.
    #[must_use]
    pub fn touching(self, range: Range<u64>) -> Self {
        Self { touching: Some(range), ..self }
    }

    /// The n-th matching call, counted from 0.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { skip: n, ..self }
    }

    /// That call and every matching one after it.
    #[must_use]
    pub fn for_ever(self) -> Self {
        Self { for_ever: true, ..self }
    }

    fn matches(&self, call: &Call) -> bool {
        self.kind.is_none_or(|kind| kind == call.kind)
            && self.purpose.is_none_or(|purpose| call.purpose == Some(purpose))
            && self.touching.as_ref().is_none_or(|range| {
                call.len > 0 && call.offset < range.end && range.start < call.offset.saturating_add(call.len)
            })
    }
}

/// A call as the plan sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) kind: IoKind,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) purpose: Option<Purpose>,
}

#[derive(Clone, Debug)]
struct Rule {
    when: When,
    fault: Fault,
    seen: u64,
    fired: u64,
}

/// Faults to inject. Every rule counts the calls it matches by itself, from the moment the plan is put on a disk.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

impl FaultPlan {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault.
    #[must_use]
    pub fn one(when: When, fault: Fault) -> Self {
        Self::none().and(when, fault)
    }

    /// One more. When several rules meet one call, every rot happens, and of the others the one added first.
    #[must_use]
    pub fn and(mut self, when: When, fault: Fault) -> Self {
        self.rules.push(Rule { when, fault, seen: 0, fired: 0 });
        self
    }

    /// How many times a fault was injected. A test whose fault never fired has tested nothing.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.rules.iter().map(|rule| rule.fired).sum()
    }

    /// The faults that meet this call: rots, and at most one other at the end.
    pub(super) fn meet(&mut self, call: &Call) -> Vec<Fault> {
        let mut rots = Vec::new();
        let mut other = None;
        for rule in &mut self.rules {
            if !rule.when.matches(call) {
                continue;
            }
            let number = rule.seen;
            rule.seen += 1;
            let due = if rule.when.for_ever { number >= rule.when.skip } else { number == rule.when.skip };
            if !due {
                continue;
            }
            if matches!(rule.fault, Fault::Rot { .. }) {
                rule.fired += 1;
                rots.push(rule.fault.clone());
            } else if other.is_none() && rule.fault.fits(call.kind) {
                rule.fired += 1;
                other = Some(rule.fault.clone());
            }
        }
        rots.extend(other);
        rots
    }
}

impl Fault {
    const fn fits(&self, kind: IoKind) -> bool {
        match self {
            Self::Fail(_) | Self::Rot { .. } => true,
            Self::FailAfter { .. } | Self::LostWrite | Self::MisdirectedWrite { .. } => {
                matches!(kind, IoKind::Write)
            }
            Self::MisdirectedRead { .. } => matches!(kind, IoKind::Read),
            Self::LyingFlush => matches!(kind, IoKind::Flush),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn write(offset: u64, purpose: Purpose) -> Call {
        Call { kind: IoKind::Write, offset, len: 512, purpose: Some(purpose) }
    }

    #[test]
    fn counts_matching_calls_only() {
        let mut plan = FaultPlan::one(When::purpose(Purpose::Journal).nth(1), Fault::LostWrite);
        assert_eq!(plan.meet(&write(0, Purpose::Journal)), []);
        assert_eq!(plan.meet(&write(0, Purpose::Metadata)), []);
        assert_eq!(plan.meet(&write(0, Purpose::Journal)), [Fault::LostWrite]);
        assert_eq!(plan.meet(&write(0, Purpose::Journal)), []);
        assert_eq!(plan.fired(), 1);
    }

    #[test]
    fn for_ever_and_range() {
        let when = When::kind(IoKind::Write).touching(1000..1001).for_ever();
        let mut plan = FaultPlan::one(when, Fault::Fail(ErrorCode::Io));
        assert_eq!(plan.meet(&write(0, Purpose::Journal)), []);
        assert_eq!(plan.meet(&write(512, Purpose::Journal)).len(), 1);
        assert_eq!(plan.meet(&write(512, Purpose::Format)).len(), 1);
        assert_eq!(plan.meet(&write(1024, Purpose::Format)), []);
        let flush = Call { kind: IoKind::Flush, offset: 0, len: 0, purpose: None };
        assert_eq!(plan.meet(&flush), []);
        assert_eq!(plan.fired(), 2);
    }

    #[test]
    fn any_counts_every_call_and_rot_comes_along() {
        let mask = vec![1];
        let mut plan = FaultPlan::one(When::any().nth(1), Fault::Fail(ErrorCode::Io))
            .and(When::any().for_ever(), Fault::Rot { offset: 3, mask });
        let flush = Call { kind: IoKind::Flush, offset: 0, len: 0, purpose: None };
        assert_eq!(plan.meet(&flush).len(), 1);
        assert!(matches!(plan.meet(&write(0, Purpose::Journal))[..], [Fault::Rot { .. }, Fault::Fail(_)]));
        let mut misfit = FaultPlan::one(When::any(), Fault::LyingFlush);
        assert_eq!(misfit.meet(&write(0, Purpose::Journal)), []);
        assert_eq!(misfit.fired(), 0);
    }
}
