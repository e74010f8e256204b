//! The token bucket: governor's GCRA over a cell that can be stored.
//!
//! governor decides whether and when: a `RateLimiter` over this cell and a fixed clock is built for one question. All
//! it needs is one instant, GCRA's theoretical arrival time. Since the cell is ours, its state can be read without
//! taking, given back to, moved under another rule and stored; governor's own stores offer none of that.
//!
//! A bucket has two [`Level`]s: what was taken, reservations included, and, where that differs, the part of it that the
//! provider can have charged by now. The second one is what headers are compared with.

mod level;

use std::cell::Cell;
use std::cmp::Ordering;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{NotUntil, Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use level::Level;

use super::rule::{Availability, Rule};
use crate::kernel::limits::Refill;
use crate::kernel::meters::charge::Charge;
use crate::kernel::moment::Moment;

/// The state of a continuously refilling limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Bucket {
    /// What was taken of it, reservations included.
    taken: Level,
    /// What of that the provider can have charged: all but what calls under way reserve for answers that are charged
    /// when they are made. `None`: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<Level>,
    /// When something was last taken from it while it was full beyond doubt. Of that burst every unit was there; what
    /// refilled since may reach the provider's bucket later than this one, by up to the guard.
    opened: Moment,
}

/// As files have it; older ones know only when it is full again.
#[derive(Deserialize)]
struct Stored {
    taken: Option<Level>,
    charged: Option<Level>,
    full_at: Option<Moment>,
    opened: Moment,
}

impl From<Stored> for Bucket {
    fn from(stored: Stored) -> Bucket {
        let known = || Level::full_at(stored.full_at.unwrap_or(Moment::EPOCH));
        let taken = stored.taken.unwrap_or_else(known);
        Bucket { taken, charged: stored.charged, opened: stored.opened }
    }
}

/// Nanoseconds since the epoch, as governor wants its clock readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reading(u64);

impl Add<Nanos> for Reading {
    type Output = Reading;
    fn add(self, span: Nanos) -> Reading {
        Reading(self.0.saturating_add(span.as_u64()))
    }
}

impl Reference for Reading {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }
    fn saturating_sub(&self, span: Nanos) -> Self {
        Reading(self.0.checked_sub(span.as_u64()).unwrap_or(self.0))
    }
}

/// A clock that stands where it was set: at the epoch while the limiter is built (so that its state counts from
/// there), at `now` when it is asked.
struct SetClock(Cell<u64>);

impl Clock for &SetClock {
    type Instant = Reading;
    fn now(&self) -> Reading {
        Reading(self.0.get())
    }
}

/// One cell for one decision.
struct DecisionCell(Cell<Option<Nanos>>);

impl StateStore for &DecisionCell {
    type Key = ();
    fn measure_and_replace<T, F, E>(&self, _key: &(), decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(self.0.get())?;
        self.0.set(Some(next));
        Ok(outcome)
    }
}

/// The time one unit takes to come back; rounded up, so that rounding never lets more through.
fn interval(rule: &Rule) -> Duration {
    let nanos = rule.window().as_nanos().div_ceil(u128::from(rule.amount()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
}

fn burst(rule: &Rule) -> u64 {
    match rule.limit.refill {
        Refill::Bucket { burst } => burst.get(),
        _ => rule.amount(),
    }
}

fn span(rule: &Rule, amount: u64) -> Duration {
    let nanos = interval(rule).as_nanos().saturating_mul(u128::from(amount));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A stored instant further away than the bucket's own length comes from a clock that was stepped back since.
fn bound(rule: &Rule, now: Moment) -> Moment {
    // Debt from settling may exceed the burst, but never by more than one whole period.
    now + span(rule, burst(rule)) + rule.window()
}

/// What was taken as `had` at `taken_at` turns out to be `has`.
fn correct(level: &mut Level, rule: &Rule, had: u64, has: u64, taken_at: Moment, now: Moment) {
    match has.cmp(&had) {
        Ordering::Greater => level.take(span(rule, has - had), now),
        Ordering::Equal => {}
        Ordering::Less => level.give_back(span(rule, had - has), taken_at),
    }
}

impl Bucket {
    /// A bucket from which nothing was taken.
    pub fn full() -> Self {
        Bucket { taken: Level::full(), charged: None, opened: Moment::EPOCH }
    }

    pub(super) fn availability(&self, rule: &Rule, amount: u64, now: Moment) -> Availability {
        let most = burst(rule);
        if amount > most {
            return Availability::Never { most };
        }
        // governor counts in 32 bits: what does not fit is counted in larger cells, rounded to the safe side.
        let cell = most.div_ceil(u64::from(u32::MAX));
        let cells = |units: u64| u32::try_from(units).ok().and_then(NonZeroU32::new);
        let (Some(cells), Some(capacity)) = (cells(amount.div_ceil(cell)), cells(most / cell))
        else {
            return Availability::Now;
        };
        let cells = cells.min(capacity);
        let Some(quota) = Quota::with_period(span(rule, cell)) else {
            return Availability::Now;
        };
        let full_at = self.taken.until(bound(rule, now));
        let cell = DecisionCell(Cell::new(Some(Nanos::new(full_at.as_nanos().max(0) as u64))));
        let clock = SetClock(Cell::new(0));
        let limiter: RateLimiter<(), _, _, NoOpMiddleware<Reading>> =
            RateLimiter::new(quota.allow_burst(capacity), &cell, &clock);
        let refilled_until = now.before(rule.guard).max(self.opened.min(now));
        clock.0.set(refilled_until.as_nanos().max(0) as u64);
        match limiter.check_key_n(&(), cells) {
            Ok(Ok(())) => Availability::Now,
            Ok(Err(not_until)) => Availability::At(earliest(&not_until) + rule.guard),
            Err(_) => Availability::Never { most },
        }
    }

    fn charged(&self) -> &Level {
        self.charged.as_ref().unwrap_or(&self.taken)
    }

    pub(super) fn take(&mut self, rule: &Rule, charge: Charge, now: Moment) {
        self.mend_clock(rule, now);
        let full_at = self.taken.until(bound(rule, now));
        if full_at + rule.guard <= now {
            self.opened = now;
        }
        if full_at <= now {
            self.charged = None;
        }
        if charge.with_answer > 0 && self.charged.is_none() {
            self.charged = Some(self.taken.clone());
        }
        self.taken.take(span(rule, charge.all()), now);
        if let Some(charged) = self.charged.as_mut().filter(|_| charge.at_once > 0) {
            charged.take(span(rule, charge.at_once), now);
        }
    }

    /// What was taken as `had` at `taken_at` turns out to be `has`: the answer has been made, and is charged now.
    pub(super) fn settle(
        &mut self,
        rule: &Rule,
        had: Charge,
        has: Charge,
        taken_at: Moment,
        now: Moment,
    ) {
        self.mend_clock(rule, now);
        let charged = self.charged.as_mut().map(|charged| (charged, 0));
        for (level, with_answer) in
            [Some((&mut self.taken, had.with_answer)), charged].into_iter().flatten()
        {
            correct(level, rule, had.at_once, has.at_once, taken_at, now);
            if with_answer > 0 {
                level.give_back(span(rule, with_answer), taken_at);
            }
            if has.with_answer > 0 {
                level.take(span(rule, has.with_answer), now);
            }
        }
        if let Some(charged) = &self.charged {
            self.taken.at_least(charged.until(bound(rule, now)));
        }
    }

    pub(super) fn give_back(&mut self, rule: &Rule, amount: u64, taken_at: Moment, now: Moment) {
        self.mend_clock(rule, now);
        self.taken.give_back(span(rule, amount), taken_at);
        if let Some(charged) = &mut self.charged {
            charged.give_back(span(rule, amount), taken_at);
        }
    }

    /// The answer to a call that left at `sent` stated that `used` units were missing then.
    pub(super) fn tighten(&mut self, rule: &Rule, used: u64, sent: Moment, now: Moment) {
        self.mend_clock(rule, now);
        let sent = sent.min(now);
        // Providers tell whole units, and see a call up to the guard after it left: that is no contradiction yet.
        let after = self.charged().taken_after(sent + rule.guard);
        let at_least = sent + span(rule, used.saturating_sub(1)) + after;
        let charged = self.charged().until(bound(rule, now));
        if charged + rule.guard < at_least {
            let told = sent + span(rule, used) + after;
            let more = told.since(charged.max(sent));
            if let Some(charged) = &mut self.charged {
                charged.lower(more, sent);
            }
            // What is reserved for answers that are not made yet comes on top.
            self.taken.lower(more, sent);
            // What was left then was there.
            self.opened = sent;
        }
    }

    pub(super) fn used(&self, rule: &Rule, now: Moment) -> u64 {
        let missing = self.taken.until(bound(rule, now)).since(now).as_nanos();
        let units = missing.div_ceil(interval(rule).as_nanos());
        // A burst smaller than the amount is still shown against the amount.
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    pub(super) fn mend_clock(&mut self, rule: &Rule, now: Moment) {
        self.taken.bound(bound(rule, now), now);
        if let Some(charged) = &mut self.charged {
            charged.bound(bound(rule, now), now);
        }
        self.opened = self.opened.min(now);
    }

    pub(super) fn whole_at(&self) -> Moment {
        self.taken.until(Moment::from_nanos(i64::MAX))
    }
}

fn earliest(not_until: &NotUntil<Reading>) -> Moment {
    Moment::from_nanos(i64::try_from(not_until.earliest_possible().0).unwrap_or(i64::MAX))
}

/// How many units a bucket holds by default when only a rate is stated.
///
/// OpenAI and Anthropic both document that a minute's limit may be enforced over shorter slices, so a large limit is
/// not spent in one burst; small limits are, because a slice of them would be less than one call.
///
/// ```
/// use std::num::NonZeroU64;
/// use quotaflow::kernel::default_burst;
/// assert_eq!(default_burst(NonZeroU64::new(3).unwrap()).get(), 3);
/// assert_eq!(default_burst(NonZeroU64::new(600).unwrap()).get(), 20);
/// assert_eq!(default_burst(NonZeroU64::new(6_000).unwrap()).get(), 200);
/// ```
pub fn default_burst(amount: NonZeroU64) -> NonZeroU64 {
    const SMALL: u64 = 20;
    let slice = (amount.get() / 30).max(SMALL).min(amount.get());
    NonZeroU64::new(slice).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests;
