//! The limit a refusal names: resource, period, size, what is left.

use serde_json::Value;

use crate::kernel::{LimitFact, Period, RateHint, Resource};

use super::super::catalogue::Refills;
use super::super::hints;
use super::super::provider::Provider;
use super::super::wire::Headers;
use super::facts::Facts;

/// What messages call a limit, the more telling words first.
const WORDS: [(&str, Resource, Period); 19] = [
    ("free-models-per-min", Resource::Requests, Period::Minute),
    ("free-models-per-day", Resource::Requests, Period::Day),
    ("limit_rpm/", Resource::Requests, Period::Minute),
    ("limit_rpd/", Resource::Requests, Period::Day),
    ("(rpm)", Resource::Requests, Period::Minute),
    ("(rpd)", Resource::Requests, Period::Day),
    ("(tpm)", Resource::Tokens, Period::Minute),
    ("(tpd)", Resource::Tokens, Period::Day),
    ("(itpm)", Resource::InputTokens, Period::Minute),
    ("(otpm)", Resource::OutputTokens, Period::Minute),
    ("input tokens per minute", Resource::InputTokens, Period::Minute),
    ("output tokens per minute", Resource::OutputTokens, Period::Minute),
    ("tokens per minute", Resource::Tokens, Period::Minute),
    ("tokens per day", Resource::Tokens, Period::Day),
    ("requests per minute", Resource::Requests, Period::Minute),
    ("requests per day", Resource::Requests, Period::Day),
    ("tokens per hour", Resource::Tokens, Period::Hour),
    ("requests per hour", Resource::Requests, Period::Hour),
    ("requests per second", Resource::Requests, Period::Second),
];

/// The limit that the body names; of several that Gemini lists, the one that lasts longest.
pub(super) fn named(facts: &Facts<'_>) -> Option<LimitFact> {
    if let Some(limit) = facts.quotas.iter().map(of_quota).max_by_key(|limit| {
        let tokens = limit.resource == Resource::Tokens;
        (limit.period, tokens)
    }) {
        return Some(limit);
    }
    let (word, resource, period) = WORDS.iter().find(|(word, ..)| facts.lower.contains(word))?;
    // OpenRouter names the limit in words and writes its size beside them.
    let beside = || {
        let free = word.starts_with("free-models") || word.starts_with("limit_rp");
        let copied = || facts.error().pointer("/metadata/headers/X-RateLimit-Limit")?.as_str();
        let header = facts.response.headers.get("x-ratelimit-limit");
        header.or_else(copied).filter(|_| free)?.parse().ok()
    };
    let amount = number_after(&facts.lower, ": limit ")
        .or_else(|| number_after(&facts.lower, "rate limit of "))
        .or_else(|| Some(actual_and_limit(&facts.lower)?.1))
        .or_else(beside);
    let requested = number_after(&facts.lower, "requested ");
    Some(LimitFact { resource: *resource, period: *period, amount, requested })
}

/// What the body says about limits, as the headers would: their size, and what is left where it says what was used.
pub(super) fn rates(provider: &Provider, facts: &Facts<'_>) -> Vec<RateHint> {
    if ![402, 413, 429].contains(&facts.status) {
        return Vec::new();
    }
    let mut rates: Vec<RateHint> = copied(provider, facts).unwrap_or_default();
    let rate = |resource, period, amount, remaining| RateHint {
        resource,
        period,
        amount: Some(amount),
        remaining,
        reset_after: None,
        refills_continuously: provider.entry.refills == Refills::Buckets,
        zone: provider.zone_of(period),
    };
    let quotas = facts.quotas.iter().map(of_quota);
    rates.extend(
        quotas.filter_map(|quota| Some(rate(quota.resource, quota.period, quota.amount?, None))),
    );
    if let Some([requests, tokens]) = of_together(&facts.lower) {
        rates.push(rate(Resource::Requests, Period::Minute, requests, None));
        rates.push(rate(Resource::Tokens, Period::Minute, tokens, None));
    } else if facts.quotas.is_empty()
        && rates.is_empty()
        && let Some(LimitFact { resource, period, amount: Some(amount), .. }) = facts.limit
    {
        let used = number_after(&facts.lower, ", used ")
            .or_else(|| Some(actual_and_limit(&facts.lower)?.0));
        rates.push(rate(resource, period, amount, used.map(|used| amount.saturating_sub(used))));
    }
    rates.retain(|rate| rate.amount != Some(0));
    rates
}

/// OpenRouter copies its headers into the body; a relay may keep only that.
fn copied(provider: &Provider, facts: &Facts<'_>) -> Option<Vec<RateHint>> {
    let copied = facts.error().pointer("/metadata/headers")?.as_object()?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let headers: Headers = copied.iter().map(|(name, value)| (name, text(value))).collect();
    let mut rates = hints::read(&provider.entry.rate_headers, &headers, facts.response.now).rates;
    for rate in &mut rates {
        rate.zone = provider.zone_of(rate.period);
    }
    Some(rates)
}

/// xAI: `Requests per Minute (actual/limit): 2/2`.
fn actual_and_limit(text: &str) -> Option<(u64, u64)> {
    const MARKER: &str = "(actual/limit): ";
    let rest = &text[text.find(MARKER)? + MARKER.len()..];
    let (actual, rest) = rest.split_once('/')?;
    let end = rest.find(|letter: char| !is_of_number(letter)).unwrap_or(rest.len());
    Some((number(actual.trim())?, number(&rest[..end])?))
}

/// Together: `is 6.0 queries and 180000000 tokens per minute`.
fn of_together(text: &str) -> Option<[u64; 2]> {
    let (head, tail) = text.split_once(" queries and ")?;
    let queries = head.rsplit(' ').next()?;
    let queries = queries.split_once('.').map_or(queries, |(whole, _)| whole);
    let tokens = tail.split_once(" tokens per minute")?.0;
    Some([number(queries)?, number(tokens)?])
}

/// A quota of Gemini; its tokens are those of the prompt, which is what its plain limit counts.
fn of_quota((id, amount): &(String, Option<u64>)) -> LimitFact {
    let day = id.contains("perday") || id.contains("daily");
    LimitFact {
        resource: if id.contains("token") { Resource::Tokens } else { Resource::Requests },
        period: if day { Period::Day } else { Period::Minute },
        amount: *amount,
        requested: None,
    }
}

/// Whether the refused request was larger than the limit it hit, so that waiting is useless.
pub(super) fn too_large(facts: &Facts<'_>) -> bool {
    let Some(LimitFact { amount: Some(amount), requested, resource, .. }) = facts.limit else {
        return false;
    };
    match requested {
        Some(requested) => requested > amount,
        // Gemini does not say how much was asked for; the estimate has to do.
        None => {
            !facts.quotas.is_empty()
                && resource == Resource::Tokens
                && facts.response.estimate.input_tokens > amount
        }
    }
}

/// Whether the call was thought to take more tokens than the header allows in a window.
pub(super) fn over_header(facts: &Facts<'_>, name: &str) -> bool {
    let allowed = facts.response.headers.get(name).and_then(|text| text.parse::<u64>().ok());
    let allowed = allowed.filter(|allowed| *allowed > 0);
    allowed.is_some_and(|allowed| facts.response.estimate.of(Resource::Tokens) > allowed)
}

/// A limit of nothing, as a number or as `limit: 0` in the text, a whole zero: this key never had this model.
pub(super) fn zero(facts: &Facts<'_>) -> bool {
    let told = facts.limit.is_some_and(|limit| limit.amount == Some(0));
    told || facts.lower.match_indices("limit: 0").any(|(start, found)| {
        let mut rest = facts.lower[start + found.len()..].chars();
        match rest.next() {
            Some('.') => !rest.next().is_some_and(|letter| letter.is_ascii_digit()),
            Some(letter) => !letter.is_ascii_digit(),
            None => true,
        }
    })
}

/// Whether the window would have held the input, so that a smaller cap on output would do.
pub(super) fn input_fits(facts: &Facts<'_>) -> bool {
    let Some(window) = number_after(&facts.lower, "maximum context length is ") else {
        return false;
    };
    let told = number_before(&facts.lower, " of text input")
        .or_else(|| number_before(&facts.lower, " in the messages"));
    let estimate = facts.response.estimate.input_tokens;
    told.or((estimate > 0).then_some(estimate)).is_some_and(|input| input < window)
}

fn number_after(text: &str, marker: &str) -> Option<u64> {
    let rest = &text[text.find(marker)? + marker.len()..];
    let end = rest.find(|letter: char| !is_of_number(letter)).unwrap_or(rest.len());
    number(&rest[..end])
}

fn number_before(text: &str, marker: &str) -> Option<u64> {
    let head = &text[..text.find(marker)?];
    let start = head.rfind(|letter: char| !is_of_number(letter)).map_or(0, |at| at + 1);
    // What ends the search may be longer than one byte.
    number(head.get(start..)?)
}

fn is_of_number(letter: char) -> bool {
    letter.is_ascii_digit() || letter == ','
}

fn number(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}
