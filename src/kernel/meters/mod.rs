//! Meters: the state of one limit, as token bucket, rolling or calendar window.
//!
//! A limit becomes a [`Rule`] (what need not be worked out for each call) and a [`Meter`] (the state that is stored):
//!
//! - [`bucket`]: refills continuously and holds a burst.
//! - [`rolling`]: never more than the amount in any window.
//! - [`calendar`]: a count that ends at the next civil turn in a named zone, daylight saving included.
//! - in flight: no stored state. The number of calls in flight stays in the process, since a crash would leak a stored
//!   one.
//!
//! **The arrival guard.** A provider sees a request later than it is counted here, and not always by the same delay. If
//! a permit were used at the instant it comes back, a request sent fast after one sent slow could reach the provider
//! too early. So what time gives back is given back 100 ms later, and a civil turn is taken to be 2 s late. A bucket
//! that was certainly full has no guard on its first burst. A property test plays a provider that sees requests up to
//! the guard late and checks that it never refuses.
//!
//! A wall clock that is stepped back never makes a wait longer than one window, and forgets nothing.
//!
//! **Kept shares** (`pause_threshold`, 0.9): a call of a priority below 5 leaves the last tenth of each limit to
//! others; of a bucket, the last tenth of its burst.

mod bucket;
mod calendar;
pub(super) mod charge;
mod rolling;
mod rule;

use serde::{Deserialize, Serialize};

use bucket::Bucket;
pub use bucket::default_burst;
use calendar::Calendar;
pub use calendar::{day_ends, day_turns, next_midnight};
use rolling::Rolling;
pub use rule::{Availability, Rule};

use super::limits::Refill;
use super::moment::Moment;
use charge::Charge;

/// The state of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// Refills continuously.
    Bucket(Bucket),
    /// Never too much in any window.
    Rolling(Rolling),
    /// Resets at civil midnight.
    Calendar(Calendar),
    /// Calls in flight; the number itself lives with the process, a crash would leak it.
    InFlight,
}

impl Meter {
    /// A meter of this rule on which nothing has been counted.
    pub fn fresh(rule: &Rule) -> Meter {
        match rule.limit.refill {
            Refill::Bucket { .. } => Meter::Bucket(Bucket::full()),
            Refill::Rolling => Meter::Rolling(Rolling::default()),
            Refill::Calendar { .. } => Meter::Calendar(Calendar::default()),
            Refill::Release => Meter::InFlight,
        }
    }

    /// Whether `amount` can be taken at `now`; `in_flight` calls are under way on this ledger.
    pub fn availability(
        &self,
        rule: &Rule,
        amount: u64,
        in_flight: u64,
        now: Moment,
    ) -> Availability {
        if amount == 0 {
            return Availability::Now;
        }
        match self {
            Meter::Bucket(bucket) => bucket.availability(rule, amount, now),
            Meter::Rolling(rolling) => rolling.availability(rule, amount, now),
            Meter::Calendar(calendar) => calendar.availability(rule, amount, now),
            Meter::InFlight if in_flight.saturating_add(amount) <= rule.amount() => {
                Availability::Now
            }
            Meter::InFlight => Availability::WhenOneEnds,
        }
    }

    /// Takes `amount`, whether there is enough or not: what was used was used.
    pub fn take(&mut self, rule: &Rule, amount: u64, now: Moment) {
        self.take_charge(rule, Charge::at_once(amount), now);
    }

    /// Takes what a call is charged or will be.
    pub fn take_charge(&mut self, rule: &Rule, charge: Charge, now: Moment) {
        if charge.all() == 0 {
            return;
        }
        match self {
            Meter::Bucket(bucket) => bucket.take(rule, charge, now),
            Meter::Rolling(rolling) => rolling.take(rule, charge.all(), now),
            Meter::Calendar(calendar) => calendar.take(rule, charge.all(), now),
            Meter::InFlight => {}
        }
    }

    /// What was taken as `had` at `taken_at` turns out to be `has`.
    pub fn settle(&mut self, rule: &Rule, had: Charge, has: Charge, taken_at: Moment, now: Moment) {
        if let Meter::Bucket(bucket) = self {
            bucket.settle(rule, had, has, taken_at, now);
        } else if has.all() > had.all() {
            self.take(rule, has.all() - had.all(), now);
        } else {
            self.give_back(rule, had.all() - has.all(), taken_at, now);
        }
    }

    /// Takes the `used` units that `other` counts of the same limit, each when it was taken, where that is known.
    pub fn absorb(&mut self, rule: &Rule, other: &Meter, used: u64, now: Moment) {
        match (self, other) {
            (Meter::Rolling(ours), Meter::Rolling(theirs)) => ours.absorb(rule, theirs, now),
            (ours, _) => ours.take(rule, used, now),
        }
    }

    /// Gives back `amount` of what was taken at `taken_at`; what has come back by time since is not given twice.
    pub fn give_back(&mut self, rule: &Rule, amount: u64, taken_at: Moment, now: Moment) {
        if amount == 0 {
            return;
        }
        match self {
            Meter::Bucket(bucket) => bucket.give_back(rule, amount, taken_at, now),
            Meter::Rolling(rolling) => rolling.give_back(amount, taken_at),
            Meter::Calendar(calendar) => calendar.give_back(rule, amount, taken_at, now),
            Meter::InFlight => {}
        }
    }

    /// How much counts as used at `now`, in units of the resource.
    pub fn used(&self, rule: &Rule, in_flight: u64, now: Moment) -> u64 {
        match self {
            Meter::Bucket(bucket) => bucket.used(rule, now),
            Meter::Rolling(rolling) => rolling.used(rule, now),
            Meter::Calendar(calendar) => calendar.used(rule, now),
            Meter::InFlight => in_flight,
        }
    }

    /// When all of it will be back if nothing more is taken.
    pub fn whole_at(&self, rule: &Rule, now: Moment) -> Moment {
        match self {
            Meter::Bucket(bucket) => bucket.whole_at().max(now),
            Meter::Rolling(rolling) => rolling.whole_at(rule).max(now),
            Meter::Calendar(calendar) => calendar.whole_at(rule, now),
            Meter::InFlight => now,
        }
    }

    /// The answer to a call that left at `sent` stated that `told` of the amount were used: never assume less. What
    /// came back by time while the answer was on its way has come back.
    pub fn tighten(&mut self, rule: &Rule, told: u64, sent: Moment, now: Moment) {
        let known = self.used(rule, 0, now);
        match self {
            Meter::Bucket(bucket) => bucket.tighten(rule, told, sent, now),
            Meter::Rolling(_) if now.since(sent) >= rule.window() => {}
            _ if told > known => self.take(rule, told - known, now),
            _ => {}
        }
    }

    /// What counts at `now` of `used` units that were stated and will all be back at `whole_at`: in a bucket they come
    /// back one by one.
    pub fn left_of(&self, rule: &Rule, used: u64, whole_at: Moment, now: Moment) -> u64 {
        let Meter::Bucket(_) = self else { return used };
        let share = whole_at.since(now).as_secs_f64() / rule.window().as_secs_f64().max(1.0);
        used.min((rule.amount() as f64 * share).ceil() as u64)
    }

    /// What a clock counted that was stepped back since was counted at the latest now.
    pub fn mend_clock(&mut self, rule: &Rule, now: Moment) {
        match self {
            Meter::Bucket(bucket) => bucket.mend_clock(rule, now),
            Meter::Rolling(rolling) => rolling.mend_clock(now),
            Meter::Calendar(calendar) => calendar.mend_clock(rule, now),
            Meter::InFlight => {}
        }
    }

    /// The same consumption under another rule, when a limit was configured or learned anew.
    pub fn under(&self, old: &Rule, new: &Rule, now: Moment) -> Meter {
        if old.limit.refill == new.limit.refill && old.limit.amount == new.limit.amount {
            return self.clone();
        }
        match (self, &new.limit.refill) {
            (Meter::Rolling(_), Refill::Rolling)
            | (Meter::Calendar(_), Refill::Calendar { .. })
            | (Meter::InFlight, Refill::Release) => self.clone(),
            _ => {
                let mut meter = Meter::fresh(new);
                meter.take(new, self.used(old, 0, now), now);
                meter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::kernel::limits::{Limit, Period, Resource, Source};

    fn rule(amount: u64, refill: Refill) -> Rule {
        let amount = NonZeroU64::new(amount).unwrap();
        let (resource, period) = (Resource::Requests, Period::Minute);
        Rule::new(Limit { resource, period, amount, refill, source: Source::Configured })
    }

    fn bucket(amount: u64, burst: u64) -> Rule {
        rule(amount, Refill::Bucket { burst: NonZeroU64::new(burst).unwrap() })
    }

    #[test]
    fn a_tenth_is_kept_of_what_there_can_be_at_once() {
        assert_eq!(rule(60, Refill::Rolling).with_kept(1, 100), 7);
        assert_eq!(bucket(60, 20).with_kept(1, 100), 3);
        assert_eq!(bucket(6_000, 200).with_kept(1, 100), 21);
        assert_eq!(bucket(60, 9).with_kept(1, 100), 1, "nothing of less than ten");
        assert_eq!(bucket(60, 20).with_kept(19, 100), 20, "what is nearly all needs all");
        assert_eq!(bucket(60, 20).with_kept(21, 100), 21);
        assert_eq!(bucket(60, 20).with_kept(1, 0), 1);
    }
}
