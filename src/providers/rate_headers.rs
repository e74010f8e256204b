//! Rate-limit headers of each provider, as a table.

use crate::kernel::{Period, Resource};

/// How the window of a family of headers is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// A minute or a day under the same name: only the arithmetic tells.
    MinuteOrDay,
    /// Always this one.
    Always(Period),
    /// Always this one, with resets too coarse for arithmetic, or none at all.
    Coarse(Period),
    /// Always this one, enforced over shorter slices: using all of it at once would be refused.
    Sliced(Period),
    /// As many seconds as this header says, a minute without it; sliced as well.
    Renewed(&'static str),
    /// A minute when the reset is at most a minute away, else a day.
    ByReset,
}

/// Three headers that describe one limit; a name that a provider does not send is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) resource: Resource,
    pub(super) window: Window,
    pub(super) limit: &'static str,
    pub(super) remaining: &'static str,
    pub(super) reset: &'static str,
    /// The window of the limit is no [`Period`]: times the first, divided by the second.
    pub(super) scale: (u64, u64),
}

/// The rate headers of one provider, and the one that names the organisation of the key.
///
/// Of several families for one limit the first that an answer has is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RateHeaders {
    pub(super) families: &'static [Family],
    /// Empty when there is none.
    pub(super) organization: &'static str,
}

const fn family(
    resource: Resource,
    window: Window,
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
) -> Family {
    Family { resource, window, limit, remaining, reset, scale: (1, 1) }
}

/// A limit for a window that is no [`Period`]; what is left of it says nothing about one.
const fn scaled(
    resource: Resource,
    period: Period,
    limit: &'static str,
    scale: (u64, u64),
) -> Family {
    let window = Window::Sliced(period);
    Family { scale, ..family(resource, window, limit, "", "") }
}

const fn of_openai(requests: Window, tokens: Window) -> [Family; 2] {
    [
        family(
            Resource::Requests,
            requests,
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ),
        family(
            Resource::Tokens,
            tokens,
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ),
    ]
}

/// OpenAI's names without the resets.
const fn without_resets(requests: Window, tokens: Window) -> [Family; 2] {
    let [one, other] = of_openai(requests, tokens);
    [Family { reset: "", ..one }, Family { reset: "", ..other }]
}

/// Nothing worth reading.
pub(super) const NOTHING: RateHeaders = RateHeaders { families: &[], organization: "" };

/// OpenAI and its imitators. Limits of a project stand under other names and are not read:
/// the group that is counted is the organisation.
pub(super) const OPENAI: RateHeaders = RateHeaders {
    families: &of_openai(Window::MinuteOrDay, Window::MinuteOrDay),
    organization: "openai-organization",
};

/// Groq uses OpenAI's names; requests are always of the day, tokens always of the minute.
pub(super) const GROQ: RateHeaders = RateHeaders {
    families: &of_openai(Window::Always(Period::Day), Window::Always(Period::Minute)),
    organization: "",
};

/// xAI uses OpenAI's names for minutes and sends no resets; it documents a second's share beside them.
pub(super) const XAI: RateHeaders = RateHeaders {
    families: &without_resets(Window::Sliced(Period::Minute), Window::Coarse(Period::Minute)),
    organization: "",
};

/// Azure writes resets in milliseconds on one route and in seconds on another, so they are not read;
/// the length of the window stands beside them.
pub(super) const AZURE: RateHeaders = RateHeaders {
    families: &without_resets(
        Window::Renewed("x-ratelimit-renewalperiod-requests"),
        Window::Renewed("x-ratelimit-renewalperiod-tokens"),
    ),
    organization: "",
};

/// OpenRouter describes one limit, on refusals only, with a reset in epoch milliseconds.
pub(super) const OPENROUTER: RateHeaders = RateHeaders {
    families: &[family(
        Resource::Requests,
        Window::ByReset,
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    )],
    organization: "",
};

/// Anthropic's four families, any of which may be missing; resets are whole seconds.
pub(super) const ANTHROPIC: RateHeaders = RateHeaders {
    families: &[
        family(
            Resource::Requests,
            Window::Coarse(Period::Minute),
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ),
        family(
            Resource::InputTokens,
            Window::Coarse(Period::Minute),
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ),
        family(
            Resource::OutputTokens,
            Window::Coarse(Period::Minute),
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Minute),
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ),
    ],
    organization: "anthropic-organization-id",
};

/// Mistral's three generations, the newest first; only the oldest has a reset.
pub(super) const MISTRAL: RateHeaders = RateHeaders {
    families: &[
        family(
            Resource::Requests,
            Window::Coarse(Period::Minute),
            "x-ratelimit-limit-req-minute",
            "x-ratelimit-remaining-req-minute",
            "",
        ),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Minute),
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
            "",
        ),
        scaled(Resource::Requests, Period::Second, "x-ratelimit-limit-req-10-second", (1, 10)),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Month),
            "x-ratelimit-limit-tokens-month",
            "x-ratelimit-remaining-tokens-month",
            "",
        ),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Minute),
            "ratelimitbysize-limit",
            "ratelimitbysize-remaining",
            "ratelimitbysize-reset",
        ),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Minute),
            "x-ratelimitbysize-limit-minute",
            "x-ratelimitbysize-remaining-minute",
            "",
        ),
        family(
            Resource::Tokens,
            Window::Coarse(Period::Month),
            "x-ratelimitbysize-limit-month",
            "x-ratelimitbysize-remaining-month",
            "",
        ),
    ],
    organization: "",
};

/// Together counts a second; the limit that follows its live capacity is the one it enforces. Tokens of a second are
/// read as those of a minute: one request may well be larger than a second's share.
pub(super) const TOGETHER: RateHeaders = RateHeaders {
    families: &[
        family(
            Resource::Requests,
            Window::Sliced(Period::Second),
            "x-ratelimit-limit-dynamic",
            "x-ratelimit-remaining-dynamic",
            "",
        ),
        family(
            Resource::Requests,
            Window::Sliced(Period::Second),
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ),
        scaled(Resource::Tokens, Period::Minute, "x-tokenlimit-limit-dynamic", (60, 1)),
        scaled(Resource::Tokens, Period::Minute, "x-tokenlimit-limit", (60, 1)),
    ],
    organization: "",
};

/// Cerebras has the same scheme for three windows, with resets in seconds and fractions of them.
pub(super) const CEREBRAS: RateHeaders = RateHeaders {
    families: &[
        family(
            Resource::Requests,
            Window::Always(Period::Minute),
            "x-ratelimit-limit-requests-minute",
            "x-ratelimit-remaining-requests-minute",
            "x-ratelimit-reset-requests-minute",
        ),
        family(
            Resource::Requests,
            Window::Always(Period::Hour),
            "x-ratelimit-limit-requests-hour",
            "x-ratelimit-remaining-requests-hour",
            "x-ratelimit-reset-requests-hour",
        ),
        family(
            Resource::Requests,
            Window::Always(Period::Day),
            "x-ratelimit-limit-requests-day",
            "x-ratelimit-remaining-requests-day",
            "x-ratelimit-reset-requests-day",
        ),
        family(
            Resource::Tokens,
            Window::Always(Period::Minute),
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
            "x-ratelimit-reset-tokens-minute",
        ),
        family(
            Resource::Tokens,
            Window::Always(Period::Hour),
            "x-ratelimit-limit-tokens-hour",
            "x-ratelimit-remaining-tokens-hour",
            "x-ratelimit-reset-tokens-hour",
        ),
        family(
            Resource::Tokens,
            Window::Always(Period::Day),
            "x-ratelimit-limit-tokens-day",
            "x-ratelimit-remaining-tokens-day",
            "x-ratelimit-reset-tokens-day",
        ),
    ],
    organization: "",
};

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENTRIES;
    use super::super::wire::Headers;
    use super::*;

    #[test]
    fn a_transport_keeps_every_header_that_is_read() {
        for entry in &ENTRIES {
            let told = &entry.rate_headers;
            let renewed = |family: &Family| match family.window {
                Window::Renewed(name) => name,
                _ => "",
            };
            let names = told
                .families
                .iter()
                .flat_map(|family| [family.limit, family.remaining, family.reset, renewed(family)]);
            for name in names.chain([told.organization]).filter(|name| !name.is_empty()) {
                assert!(Headers::is_read(name), "{name} of {}", entry.name);
            }
        }
    }
}
