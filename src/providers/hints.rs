//! Rate limits and organisation, read from response headers.

use std::time::Duration;

use crate::kernel::{Hints, Moment, Period, RateHint, Resource};

use super::delays;
use super::rate_headers::{Family, RateHeaders, Window};
use super::wire::Headers;

/// Reads the headers of an answer of any status.
pub(super) fn read(provider: &RateHeaders, headers: &Headers, now: Moment) -> Hints {
    let named = headers.get(provider.organization).filter(|name| !name.is_empty());
    let mut rates: Vec<RateHint> = Vec::new();
    for family in provider.families {
        let Some(told) = trio(family, headers, now) else { continue };
        let Some(rate) = hint(family.window, told, headers) else { continue };
        let known =
            |other: &RateHint| (other.resource, other.period) == (rate.resource, rate.period);
        if !rates.iter().any(known) {
            rates.push(rate);
        }
    }
    Hints { organization: named.map(str::to_owned), rates }
}

fn hint(window: Window, trio: Trio, headers: &Headers) -> Option<RateHint> {
    let (minute, day) = (Period::Minute, Period::Day);
    match window {
        Window::Always(period) => Some(trio.hint(period, trio.fits(period))),
        Window::Coarse(period) => Some(trio.hint(period, false)),
        Window::Sliced(period) => Some(trio.hint(period, true)),
        Window::Renewed(header) => Some(trio.hint(renewed(headers.get(header))?, true)),
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

/// A window of that many seconds; `None` when no [`Period`] has that length.
fn renewed(seconds: Option<&str>) -> Option<Period> {
    match seconds {
        None | Some("60") => Some(Period::Minute),
        Some("1") => Some(Period::Second),
        Some("3600") => Some(Period::Hour),
        Some("86400") => Some(Period::Day),
        Some(_) => None,
    }
}

/// `None` when the limit is missing, zero or negative: servers have sent `-1` and `0` by mistake.
fn trio(family: &Family, headers: &Headers, now: Moment) -> Option<Trio> {
    let (times, over) = family.scale;
    let scaled = |limit: u64| Some(limit.checked_mul(times)? / over);
    Some(Trio {
        resource: family.resource,
        amount: count(headers, family.limit).and_then(scaled).filter(|amount| *amount > 0)?,
        remaining: count(headers, family.remaining),
        reset_after: headers.get(family.reset).and_then(|text| delays::header(text, now)),
    })
}

/// A whole number, also when it is written as `6.0`; a part of one is left out.
fn count(headers: &Headers, name: &str) -> Option<u64> {
    let text = headers.get(name)?;
    let whole = text.split_once('.').map_or(text, |(whole, part)| {
        if part.bytes().all(|digit| digit.is_ascii_digit()) { whole } else { text }
    });
    whole.parse().ok()
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
            zone: None,
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
