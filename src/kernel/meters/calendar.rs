//! The calendar window: a count that ends when the civil day turns in a zone.
//!
//! The same holds for hours and months. A turn is taken to be 2 s late; what is sent in the last 2 s counts in both
//! windows.

use std::time::Duration;

use jiff::{ToSpan, Zoned};
use serde::{Deserialize, Serialize};

use super::rule::{Availability, Rule};
use crate::kernel::limits::Period;
use crate::kernel::moment::Moment;

/// What was taken in the window that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    opened: Moment,
    closes: Moment,
    used: u64,
    /// What was taken so shortly before the end that the provider may count it in the next window.
    carried: u64,
}

/// The civil window that `now` lies in, in the rule's zone.
fn window(rule: &Rule, now: Moment) -> (Moment, Moment) {
    let civil = now.in_zone(&rule.zone);
    let opened = match rule.limit.period {
        Period::Second => civil.round(
            jiff::ZonedRound::new().smallest(jiff::Unit::Second).mode(jiff::RoundMode::Trunc),
        ),
        Period::Minute => civil.round(
            jiff::ZonedRound::new().smallest(jiff::Unit::Minute).mode(jiff::RoundMode::Trunc),
        ),
        Period::Hour => civil
            .round(jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc)),
        Period::Day => civil.start_of_day(),
        Period::Month => civil.first_of_month().and_then(|first| first.start_of_day()),
    };
    let next = |opened: &Zoned| match rule.limit.period {
        Period::Second => opened.checked_add(1.second()),
        Period::Minute => opened.checked_add(1.minute()),
        Period::Hour => opened.checked_add(1.hour()),
        Period::Day => opened.tomorrow().and_then(|day| day.start_of_day()),
        Period::Month => opened.checked_add(1.month()).and_then(|first| first.start_of_day()),
    };
    match opened
        .and_then(|opened| Ok((Moment::from_zoned(&opened), Moment::from_zoned(&next(&opened)?))))
    {
        Ok(window) => window,
        // Only at the very end of the time scale: count a plain period from now.
        Err(_) => (now, now + rule.window()),
    }
}

/// The next instant at which the civil day turns in `zone`, after `now`: when a daily quota of Gemini
/// (`America/Los_Angeles`) or OpenRouter's free models (`UTC`) comes back.
///
/// ```
/// use quotaflow::kernel::{Moment, next_midnight};
/// // 2026-03-07 23:30 in Los Angeles; the next day is one hour short.
/// let now = Moment::from_seconds(1_772_955_000);
/// let zone = jiff::tz::TimeZone::get("America/Los_Angeles").unwrap();
/// assert_eq!(next_midnight(now, &zone).to_string(), "2026-03-08T08:00:00Z");
/// ```
pub fn next_midnight(now: Moment, zone: &jiff::tz::TimeZone) -> Moment {
    let turn = now.in_zone(zone).tomorrow().and_then(|day| day.start_of_day());
    turn.map_or(now + Duration::from_secs(86_400), |day| Moment::from_zoned(&day))
}

/// When the civil day that `now` is in ends in the zone of that name; in UTC when there is no such zone.
pub fn day_turns(now: Moment, zone: &str) -> Moment {
    next_midnight(now, &jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC))
}

/// When the civil day `YYYY-MM-DD` ends in the zone of that name; `None` when that is no date.
///
/// ```
/// use quotaflow::kernel::day_ends;
/// let end = day_ends("2026-03-08", "America/Los_Angeles").unwrap();
/// assert_eq!(end.to_string(), "2026-03-09T07:00:00Z"); // that day has 23 hours
/// assert_eq!(day_ends("yesterday", "UTC"), None);
/// ```
pub fn day_ends(date: &str, zone: &str) -> Option<Moment> {
    let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let next = date.trim().parse::<jiff::civil::Date>().ok()?.tomorrow().ok()?;
    Some(Moment::from_zoned(&next.to_zoned(zone).ok()?))
}

impl Calendar {
    pub(super) fn mend_clock(&mut self, rule: &Rule, now: Moment) {
        if self.opened > now {
            *self = self.at(rule, now);
        }
    }

    /// The state as it is at `now`: a window that has ended is closed, one from the future (the clock was stepped
    /// back) is taken for the present one, with everything that was counted in it.
    fn at(&self, rule: &Rule, now: Moment) -> Calendar {
        if self.opened <= now && now < self.closes {
            return *self;
        }
        let (opened, closes) = window(rule, now);
        let (used, carried) = if self.opened > now {
            (self.used, self.carried)
        } else if self.closes == opened {
            (self.carried, 0)
        } else {
            (0, 0)
        };
        Calendar { opened, closes, used, carried }
    }

    pub(super) fn availability(&self, rule: &Rule, amount: u64, now: Moment) -> Availability {
        if amount > rule.amount() {
            return Availability::Never { most: rule.amount() };
        }
        let state = self.at(rule, now);
        // Just after the turn the provider's clock may still stand before it: then the old window's room counts.
        let turning = self.opened < state.opened && now < state.opened + rule.guard;
        let settled = !turning || self.used.saturating_add(amount) <= rule.amount();
        if state.used.saturating_add(amount) > rule.amount() {
            Availability::At(state.closes + rule.guard)
        } else if settled {
            Availability::Now
        } else {
            Availability::At(state.opened + rule.guard)
        }
    }

    pub(super) fn take(&mut self, rule: &Rule, amount: u64, now: Moment) {
        *self = self.at(rule, now);
        self.used = self.used.saturating_add(amount);
        if self.closes.since(now) < rule.guard {
            self.carried = self.carried.saturating_add(amount);
        }
    }

    pub(super) fn give_back(&mut self, rule: &Rule, amount: u64, taken_at: Moment, now: Moment) {
        *self = self.at(rule, now);
        if taken_at >= self.opened {
            self.used = self.used.saturating_sub(amount);
        }
        if self.closes.since(taken_at) < rule.guard {
            self.carried = self.carried.saturating_sub(amount);
        }
    }

    pub(super) fn used(&self, rule: &Rule, now: Moment) -> u64 {
        self.at(rule, now).used
    }

    pub(super) fn whole_at(&self, rule: &Rule, now: Moment) -> Moment {
        let state = self.at(rule, now);
        if state.used == 0 { now } else { state.closes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::limits::{Limit, Refill, Resource, Source};
    use std::num::NonZeroU64;

    fn rule(zone: &str, period: Period) -> Rule {
        Rule::new(Limit {
            resource: Resource::Requests,
            period,
            amount: NonZeroU64::new(10).unwrap(),
            refill: Refill::Calendar { zone: zone.to_owned() },
            source: Source::Configured,
        })
    }

    fn at(text: &str) -> Moment {
        Moment::from_zoned(&text.parse::<Zoned>().unwrap())
    }

    #[test]
    fn a_used_up_day_ends_at_pacific_midnight_on_both_nights_the_clocks_change() {
        let rule = rule("America/Los_Angeles", Period::Day);
        for (noon, midnight, hours) in [
            ("2026-03-08T00:30[America/Los_Angeles]", "2026-03-09T00:00[America/Los_Angeles]", 23),
            ("2026-11-01T00:30[America/Los_Angeles]", "2026-11-02T00:00[America/Los_Angeles]", 25),
            ("2026-11-21T00:30[America/Los_Angeles]", "2026-11-22T00:00[America/Los_Angeles]", 24),
        ] {
            let mut calendar = Calendar::default();
            calendar.take(&rule, 10, at(noon));
            assert_eq!(
                calendar.availability(&rule, 1, at(noon)),
                Availability::At(at(midnight) + rule.guard)
            );
            assert_eq!(at(midnight).since(at(noon)), Duration::from_secs(hours * 3_600 - 1_800));
            assert_eq!(
                calendar.availability(&rule, 10, at(midnight) + rule.guard),
                Availability::Now
            );
        }
    }

    #[test]
    fn a_month_ends_on_the_first() {
        let rule = rule("UTC", Period::Month);
        let mut calendar = Calendar::default();
        calendar.take(&rule, 10, at("2026-02-10T12:00[UTC]"));
        let first = at("2026-03-01T00:00[UTC]");
        assert_eq!(
            calendar.availability(&rule, 1, at("2026-02-28T23:00[UTC]")),
            Availability::At(first + rule.guard)
        );
    }

    #[test]
    fn what_leaves_just_before_midnight_counts_on_both_days() {
        let rule = rule("UTC", Period::Day);
        let mut calendar = Calendar::default();
        calendar.take(&rule, 3, at("2026-02-10T23:59:59[UTC]"));
        assert_eq!(calendar.used(&rule, at("2026-02-10T23:59:59[UTC]")), 3);
        assert_eq!(calendar.used(&rule, at("2026-02-11T00:00:10[UTC]")), 3);
        assert_eq!(calendar.used(&rule, at("2026-02-12T00:00:10[UTC]")), 0);
    }

    #[test]
    fn a_clock_stepped_back_over_midnight_forgets_nothing_and_a_year_costs_a_day_at_most() {
        let rule = rule("UTC", Period::Day);
        let mut calendar = Calendar::default();
        calendar.take(&rule, 10, at("2026-02-11T00:10[UTC]"));
        let earlier = at("2026-02-10T23:40[UTC]");
        assert_eq!(calendar.used(&rule, earlier), 10);
        let year_before = at("2025-02-11T00:10[UTC]");
        let Availability::At(free) = calendar.availability(&rule, 1, year_before) else {
            panic!("a used-up day has nothing now")
        };
        assert!(free.since(year_before) <= Duration::from_secs(86_402));
    }
}
