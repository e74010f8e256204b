//! The decision about a request, and its place in the statistics.

use std::time::Duration;

use super::answer::Ticket;
use super::meters::{LimitView, Refusal};
use super::request::Problem;
use super::settings::{FaultEffect, FaultShape, MidStream, Provider, Then};
use super::verdict_status::{is_too_large, status_of_problem, status_of_refusal};

/// The verdict on a request and everything needed to put it into words.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// Counts the answers; ids are made of it.
    pub(super) serial: u64,
    pub(super) now: i64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// The answer was cut by `max_tokens`.
    pub(super) cut: bool,
    pub(super) organization: String,
    pub(super) free_tier: bool,
    pub(super) limits: Vec<LimitView>,
    /// A `retry-after` on a success, which means nothing (Anthropic sends such).
    pub(super) idle_retry_after: Option<u64>,
    pub(super) delay: Duration,
    /// In how many pieces a stream has its text.
    pub(super) pieces: u64,
    /// How long a stream waits before each of them.
    pub(super) pause: Duration,
    pub(super) mid_stream: Option<MidStream>,
    pub(super) ticket: Option<Ticket>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    Completion,
    Wrong(Problem),
    Refused(Refusal),
    Injected(FaultEffect),
}

impl Decision {
    pub(super) fn is_completion(&self) -> bool {
        matches!(self.verdict, Verdict::Completion)
    }

    /// The status for the statistics; 0 when there will be no whole answer.
    pub(super) fn status(&self, provider: Provider) -> u16 {
        match &self.verdict {
            Verdict::Completion => 200,
            Verdict::Wrong(problem) => status_of_problem(provider, problem),
            Verdict::Refused(refusal) => status_of_refusal(provider, refusal),
            Verdict::Injected(FaultEffect {
                shape: Some(FaultShape::Timeout | FaultShape::Reset | FaultShape::HalfBody),
                ..
            }) => 0,
            Verdict::Injected(FaultEffect {
                then: Some(MidStream { then: Then::Reset | Then::End, .. }),
                ..
            }) => 0,
            Verdict::Injected(effect) => effect.status.unwrap_or(200),
        }
    }

    /// The reason for the statistics.
    pub(super) fn reason(&self) -> &'static str {
        match &self.verdict {
            Verdict::Completion => "",
            Verdict::Injected(_) => "injected",
            Verdict::Wrong(Problem::BadKey) => "auth",
            Verdict::Wrong(Problem::NoSuchPath | Problem::NoSuchModel) => "not_found",
            Verdict::Wrong(_) => "invalid",
            Verdict::Refused(Refusal::Busy(_)) => "concurrency",
            Verdict::Refused(Refusal::Limits(broken)) => match broken.first() {
                Some(broken) if is_too_large(broken) => "too_large",
                Some(broken) => broken.kind.name(),
                None => "",
            },
        }
    }
}
