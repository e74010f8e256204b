//! Classification of refusals: one interpreter for all tables of rows.
//!
//! The rows (`refusal_rows/`) say which answers are which failure class and what they close. Each row has fixtures in
//! `tests/fixtures`. A status alone never decides: an invalid key is a 400 at Gemini, missing credit is a 429 at
//! OpenAI. An error inside a 200, or in an event of a stream, goes through the same rows with the status it stands
//! for. A `retry-after` beside a 200 is not about it.

mod event;
mod facts;
mod limit;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::kernel::{Failure, FailureClass, Moment, Origin, Period, RateHint, Resource, Until};

use super::catalogue::Refills;
use super::provider::Provider;
use super::refusal_rows::{GENERIC, LAST, Row, UntilFrom, When};
use super::wire::WireResponse;
use super::{delays, redact};
use facts::Facts;

pub(super) use event::could_be;

/// What an answer that is not one means.
pub(super) fn judge(provider: &Provider, response: &WireResponse<'_>) -> Failure {
    judged(provider, &facts_of(response))
}

/// The refusal in an event of a stream, or `None` when it is an ordinary one, a comment or the end.
pub(super) fn in_event(
    provider: &Provider,
    event: &str,
    response: &WireResponse<'_>,
) -> Option<Failure> {
    Some(judged(provider, &with_limit(event::refusal(event, response)?)))
}

fn facts_of<'a>(response: &WireResponse<'a>) -> Facts<'a> {
    with_limit(Facts::of(response))
}

fn with_limit(mut facts: Facts<'_>) -> Facts<'_> {
    facts.limit = limit::named(&facts);
    facts
}

fn judged(provider: &Provider, facts: &Facts<'_>) -> Failure {
    let response = &facts.response;
    let row = find(provider, facts);
    // The provider's own advice against trying again; elsewhere its class says so already.
    let advised_against = response.headers.get("x-should-retry") == Some("false")
        && matches!(
            row.class,
            FailureClass::Overloaded | FailureClass::ServerError | FailureClass::Timeout
        );
    let header = |name| response.headers.get(name).map(str::to_owned);
    let in_body = || facts.whole.get("request_id").and_then(Value::as_str).map(str::to_owned);
    Failure {
        status: Some(facts.status),
        until: until(row.until, provider, facts),
        limit: facts.limit,
        never_here: row.never_here || advised_against,
        needs_confirmation: row.needs_confirmation,
        request_id: header("x-request-id").or_else(|| header("request-id")).or_else(in_body),
        ..Failure::new(row.class, row.scope, redact::redacted(&facts.message))
    }
}

/// What the body of a refusal says about limits, as headers would.
pub(super) fn limits_told(provider: &Provider, response: &WireResponse<'_>) -> Vec<RateHint> {
    limit::rates(provider, &facts_of(response))
}

/// The name of the row that judges an answer.
pub(super) fn row_of(provider: &Provider, response: &WireResponse<'_>) -> &'static str {
    find(provider, &facts_of(response)).id
}

/// All rows that can judge answers of this provider, in the order in which they are tried.
pub(super) fn rows(provider: &Provider) -> impl Iterator<Item = &'static Row> {
    provider.entry.refusals.iter().chain(GENERIC)
}

fn find(provider: &Provider, facts: &Facts<'_>) -> &'static Row {
    let fits = |row: &&Row| {
        (row.statuses.is_empty() || row.statuses.contains(&facts.status)) && holds(&row.when, facts)
    };
    rows(provider).find(fits).unwrap_or(&LAST)
}

fn holds(when: &When, facts: &Facts<'_>) -> bool {
    let one_of = |words: &[&str], value: &str| {
        words.is_empty() || words.iter().any(|word| word.eq_ignore_ascii_case(value))
    };
    let at = |root: &Value, path: &str, words: &[&str]| match root.pointer(path) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => one_of(words, text),
        Some(other) => one_of(words, &other.to_string()),
    };
    match when {
        When::Always => true,
        When::Named(words) => facts.names.iter().any(|name| one_of(words, name)),
        When::Says(words) => words.iter().any(|word| facts.lower.contains(word)),
        When::At(path, words) => at(facts.error(), path, words),
        When::Whole(path, words) => at(&facts.whole, path, words),
        When::Header(name, value) => facts.response.headers.get(name) == Some(value),
        When::Quota(words) => {
            facts.quotas.iter().any(|(id, _)| words.iter().any(|word| id.contains(word)))
        }
        When::Status(from, to) => (*from..=*to).contains(&facts.status),
        When::TooLarge => limit::too_large(facts),
        When::OverHeader(name) => limit::over_header(facts, name),
        When::ZeroLimit => limit::zero(facts),
        When::InputFits => limit::input_fits(facts),
        When::DelayWithin(most) => facts.delay.is_some_and(|delay| delay.as_secs() <= *most),
        When::DelayOver(least) => facts.delay.is_some_and(|delay| delay.as_secs() > *least),
        When::Any(tests) => tests.iter().any(|test| holds(test, facts)),
        When::All(tests) => tests.iter().all(|test| holds(test, facts)),
        When::Not(test) => !holds(test, facts),
    }
}

/// The first instant at which the provider says that trying makes sense.
fn until(from: UntilFrom, provider: &Provider, facts: &Facts<'_>) -> Option<Until> {
    let now = facts.response.now;
    // Beside a 200 the header says nothing about a refusal: Anthropic sends it with good answers.
    let refused = !(200..300).contains(&facts.response.status);
    let floor = refused.then(|| delays::retry_after(facts.response.headers, now)).flatten();
    let floor = floor.map(|delay| now + delay);
    let in_words = facts.delay.map(|delay| now + delay);
    let midnight = || delays::next_midnight(provider.reset_zone?, now);
    let in_headers = || from_rate_headers(provider, facts).map(|delay| now + delay);
    let told = match from {
        UntilFrom::Nothing => return None,
        UntilFrom::RetryAfter => in_words,
        UntilFrom::Delay if floor.is_some() => in_words,
        UntilFrom::Delay => in_words.or_else(in_headers).or_else(|| reset(facts)),
        UntilFrom::Midnight => midnight(),
        UntilFrom::ResetOrMidnight => reset(facts).or_else(midnight),
        UntilFrom::Date => facts.date().filter(|date| *date > now),
    };
    told.max(floor).map(|at| Until { at, origin: Origin::Provider })
}

/// OpenRouter's reset, as a header or copied into the body.
fn reset(facts: &Facts<'_>) -> Option<Moment> {
    let now = facts.response.now;
    let copied = facts.error().pointer("/metadata/headers/X-RateLimit-Reset");
    let copied = copied.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let header = facts.response.headers.get("x-ratelimit-reset").map(str::to_owned);
    let delay = header.or(copied).and_then(|text| delays::header(&text, now))?;
    (delay > Duration::ZERO).then_some(now + delay)
}

/// How long until the emptiest limit of the headers holds what this call needs.
fn from_rate_headers(provider: &Provider, facts: &Facts<'_>) -> Option<Duration> {
    let hints = provider.hints(facts.response.headers, facts.response.now);
    // Anthropic's whole seconds prove no bucket, its documentation promises one.
    let buckets = provider.entry.refills == Refills::Buckets;
    let bucket = |rate: &RateHint| buckets && rate.period <= Period::Minute;
    let wait = |rate: &RateHint| refilled(rate, rate.refills_continuously || bucket(rate), facts);
    hints.rates.iter().filter_map(wait).max()
}

fn refilled(rate: &RateHint, continuously: bool, facts: &Facts<'_>) -> Option<Duration> {
    let (amount, remaining, reset) = (rate.amount?, rate.remaining?, rate.reset_after?);
    let needed = match rate.resource {
        Resource::Requests => 1,
        resource => facts.response.estimate.of(resource).max(1),
    };
    if remaining >= needed {
        return None;
    }
    if !continuously {
        return Some(reset);
    }
    // `reset` is when all of it is back; this call needs only a part.
    let part = (needed - remaining) as f64 / amount.saturating_sub(remaining).max(1) as f64;
    Some(reset.mul_f64(part.min(1.0)))
}
