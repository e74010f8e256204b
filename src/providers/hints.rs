//! What do the headers of an answer say about limits, and about whose key it was?

use std::time::Duration;

use crate::kernel::{Hints, Moment, Period, RateHint, Resource};

use super::delays;
use super::entries::RateHeaders;
use super::wire::Headers;

/// OpenAI's two families (and those of its relatives).
const OPENAI: [(Resource, [&str; 3]); 2] = [
    (
        Resource::Requests,
        [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
    ),
    (
        Resource::Tokens,
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ),
];

/// Anthropic's four; any of them may be missing.
const ANTHROPIC: [(Resource, [&str; 3]); 4] = [
    (
        Resource::Requests,
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
    ),
    (
        Resource::InputTokens,
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
    ),
    (
        Resource::OutputTokens,
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    ),
    (
        Resource::Tokens,
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
    ),
];

const OPENROUTER: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Reads the headers of an answer of any status.
pub(super) fn read(family: RateHeaders, headers: &Headers, now: Moment) -> Hints {
    let rates = match family {
        RateHeaders::Nothing => Vec::new(),
        RateHeaders::OpenAi => trios(&OPENAI, headers, now).filter_map(minute_or_day).collect(),
        RateHeaders::Groq => trios(&OPENAI, headers, now).map(day_and_minute).collect(),
        RateHeaders::Anthropic => {
            // Documented to refill continuously, but the resets are whole seconds and prove nothing.
            trios(&ANTHROPIC, headers, now).map(|trio| trio.hint(Period::Minute, false)).collect()
        }
        RateHeaders::OpenRouter => openrouter(headers, now).into_iter().collect(),
    };
    let organization = headers
        .get("openai-organization")
        .or_else(|| headers.get("anthropic-organization-id"))
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    Hints { organization, rates }
}

/// What one family of three headers says.
#[derive(Clone, Copy)]
struct Trio {
    resource: Resource,
    amount: u64,
    remaining: Option<u64>,
    reset_after: Option<Duration>,
}

impl Trio {
    fn hint(self, period: Period, refills_continuously: bool) -> RateHint {
        RateHint {
            resource: self.resource,
            period,
            amount: Some(self.amount),
            remaining: self.remaining,
            reset_after: self.reset_after,
            refills_continuously,
        }
    }

    /// The window in seconds if the limit refills continuously and `reset` is when it is full again.
    fn window(self) -> Option<f64> {
        let reset = self.reset_after?.as_secs_f64();
        let used = self.amount.checked_sub(self.remaining?).filter(|used| *used > 0)?;
        (reset > 0.0).then(|| reset * self.amount as f64 / used as f64)
    }

    /// Whether the arithmetic fits `period`; resets are rounded to milliseconds, hence the margin.
    fn fits(self, period: Period) -> bool {
        let length = period.length().as_secs_f64();
        self.window().is_some_and(|window| (0.6..1.6).contains(&(window / length)))
    }
}

fn trios<'a, const N: usize>(
    families: &'static [(Resource, [&'static str; 3]); N],
    headers: &'a Headers,
    now: Moment,
) -> impl Iterator<Item = Trio> + 'a {
    families.iter().filter_map(move |(resource, names)| trio(*resource, names, headers, now))
}

/// `None` when the limit is missing, zero or negative: servers have sent `-1` and `0` by mistake.
fn trio(resource: Resource, names: &[&str; 3], headers: &Headers, now: Moment) -> Option<Trio> {
    let count = |name| headers.get(name).and_then(|text| text.parse::<u64>().ok());
    Some(Trio {
        resource,
        amount: count(names[0]).filter(|amount| *amount > 0)?,
        remaining: count(names[1]),
        reset_after: headers.get(names[2]).and_then(|text| delays::header(text, now)),
    })
}

/// OpenAI names a minute and a day alike; only `reset × limit ÷ used` tells them apart.
/// Requests of unknown window say nothing; tokens are of the minute unless shown otherwise.
fn minute_or_day(trio: Trio) -> Option<RateHint> {
    let proven = [Period::Minute, Period::Day].into_iter().find(|period| trio.fits(*period));
    match (proven, trio.resource) {
        (Some(period), _) => Some(trio.hint(period, true)),
        (None, Resource::Tokens) => Some(trio.hint(Period::Minute, false)),
        (None, _) => None,
    }
}

/// Groq: requests are always of the day, tokens always of the minute.
fn day_and_minute(trio: Trio) -> RateHint {
    let period = if trio.resource == Resource::Requests { Period::Day } else { Period::Minute };
    trio.hint(period, trio.fits(period))
}

/// OpenRouter names one limit, on refusals only, and not its window: the reset tells it,
/// for the minute's limit is never more than a minute away.
fn openrouter(headers: &Headers, now: Moment) -> Option<RateHint> {
    let trio = trio(Resource::Requests, &OPENROUTER, headers, now)?;
    let minute = trio.reset_after? <= Period::Minute.length();
    Some(trio.hint(if minute { Period::Minute } else { Period::Day }, false))
}
