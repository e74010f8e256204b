//! Which limit does a refusal name, and how large is it?

use crate::kernel::{LimitFact, Period, Resource};

use super::facts::Facts;

/// What messages call a limit, the more telling words first.
const WORDS: [(&str, Resource, Period); 17] = [
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
    ("requests per second", Resource::Requests, Period::Second),
    ("free-models-per-min", Resource::Requests, Period::Minute),
    ("free-models-per-day", Resource::Requests, Period::Day),
    ("limit_rpm/", Resource::Requests, Period::Minute),
    ("limit_rpd/", Resource::Requests, Period::Day),
];

/// The limit that the body names; of several that Gemini lists, the one that lasts longest.
pub(super) fn named(facts: &Facts<'_>) -> Option<LimitFact> {
    if let Some(limit) = facts.quotas.iter().map(of_quota).max_by_key(|limit| {
        let tokens = limit.resource == Resource::Tokens;
        (limit.period, tokens)
    }) {
        return Some(limit);
    }
    let (_, resource, period) = WORDS.iter().find(|(word, ..)| facts.lower.contains(word))?;
    let header = facts.response.headers.get("x-ratelimit-limit");
    let amount = number_after(&facts.lower, ": limit ")
        .or_else(|| number_after(&facts.lower, "rate limit of "))
        .or_else(|| header.and_then(|text| text.parse().ok()));
    let requested = number_after(&facts.lower, "requested ");
    Some(LimitFact { resource: *resource, period: *period, amount, requested })
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

/// `limit: 0` in the text, a whole zero: this key never had this model.
pub(super) fn zero(facts: &Facts<'_>) -> bool {
    facts.lower.match_indices("limit: 0").any(|(start, found)| {
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
