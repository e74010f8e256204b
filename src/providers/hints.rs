//! What do the headers of an answer say about limits, and about whose key it was?

use std::time::Duration;

use crate::kernel::{Hints, Moment, Period, RateHint, Resource};

use super::delays;
use super::wire::Headers;

/// How the window of a family of headers is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// A minute or a day under the same name: only the arithmetic tells.
    MinuteOrDay,
    /// Always this one.
    Always(Period),
    /// Always this one, with resets too coarse for arithmetic.
    Coarse(Period),
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
}

/// The rate headers of one provider, and the one that names the organisation of the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RateHeaders {
    pub(super) families: &'static [Family],
    /// Empty when there is none.
    pub(super) organization: &'static str,
}

const fn of_openai(requests: Window, tokens: Window) -> [Family; 2] {
    [
        Family {
            resource: Resource::Requests,
            window: requests,
            limit: "x-ratelimit-limit-requests",
            remaining: "x-ratelimit-remaining-requests",
            reset: "x-ratelimit-reset-requests",
        },
        Family {
            resource: Resource::Tokens,
            window: tokens,
            limit: "x-ratelimit-limit-tokens",
            remaining: "x-ratelimit-remaining-tokens",
            reset: "x-ratelimit-reset-tokens",
        },
    ]
}

/// Nothing worth reading.
pub(super) const NOTHING: RateHeaders = RateHeaders { families: &[], organization: "" };

/// OpenAI, and whoever imitates it. Limits of a project stand under other names and are not read:
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

/// OpenRouter describes one limit, on refusals only, with a reset in epoch milliseconds.
pub(super) const OPENROUTER: RateHeaders = RateHeaders {
    families: &[Family {
        resource: Resource::Requests,
        window: Window::ByReset,
        limit: "x-ratelimit-limit",
        remaining: "x-ratelimit-remaining",
        reset: "x-ratelimit-reset",
    }],
    organization: "",
};

/// Anthropic's four families, any of which may be missing; resets are whole seconds.
pub(super) const ANTHROPIC: RateHeaders = RateHeaders {
    families: &[
        Family {
            resource: Resource::Requests,
            window: Window::Coarse(Period::Minute),
            limit: "anthropic-ratelimit-requests-limit",
            remaining: "anthropic-ratelimit-requests-remaining",
            reset: "anthropic-ratelimit-requests-reset",
        },
        Family {
            resource: Resource::InputTokens,
            window: Window::Coarse(Period::Minute),
            limit: "anthropic-ratelimit-input-tokens-limit",
            remaining: "anthropic-ratelimit-input-tokens-remaining",
            reset: "anthropic-ratelimit-input-tokens-reset",
        },
        Family {
            resource: Resource::OutputTokens,
            window: Window::Coarse(Period::Minute),
            limit: "anthropic-ratelimit-output-tokens-limit",
            remaining: "anthropic-ratelimit-output-tokens-remaining",
            reset: "anthropic-ratelimit-output-tokens-reset",
        },
        Family {
            resource: Resource::Tokens,
            window: Window::Coarse(Period::Minute),
            limit: "anthropic-ratelimit-tokens-limit",
            remaining: "anthropic-ratelimit-tokens-remaining",
            reset: "anthropic-ratelimit-tokens-reset",
        },
    ],
    organization: "anthropic-organization-id",
};

/// Reads the headers of an answer of any status.
pub(super) fn read(provider: &RateHeaders, headers: &Headers, now: Moment) -> Hints {
    let hint = |family: &Family| hint(family.window, trio(family, headers, now)?);
    let named = headers.get(provider.organization).filter(|name| !name.is_empty());
    Hints {
        organization: named.map(str::to_owned),
        rates: provider.families.iter().filter_map(hint).collect(),
    }
}

fn hint(window: Window, trio: Trio) -> Option<RateHint> {
    let (minute, day) = (Period::Minute, Period::Day);
    match window {
        Window::Always(period) => Some(trio.hint(period, trio.fits(period))),
        Window::Coarse(period) => Some(trio.hint(period, false)),
        Window::ByReset if trio.reset_after? <= minute.length() => Some(trio.hint(minute, false)),
        Window::ByReset => Some(trio.hint(day, false)),
        Window::MinuteOrDay => {
            let proven = [minute, day].into_iter().find(|period| trio.fits(*period));
            match proven {
                Some(period) => Some(trio.hint(period, true)),
                // Tokens are of the minute unless shown otherwise; requests may be either.
                None if trio.resource == Resource::Tokens => Some(trio.hint(minute, false)),
                None => None,
            }
        }
    }
}

/// `None` when the limit is missing, zero or negative: servers have sent `-1` and `0` by mistake.
fn trio(family: &Family, headers: &Headers, now: Moment) -> Option<Trio> {
    let count = |name| headers.get(name).and_then(|text| text.parse::<u64>().ok());
    Some(Trio {
        resource: family.resource,
        amount: count(family.limit).filter(|amount| *amount > 0)?,
        remaining: count(family.remaining),
        reset_after: headers.get(family.reset).and_then(|text| delays::header(text, now)),
    })
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
