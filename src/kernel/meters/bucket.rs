//! A limit that refills continuously: governor's GCRA over a cell and a clock of our own.
//!
//! governor decides whether and when; the cell makes its state something that can be looked at without taking, given
//! back, re-tuned and stored, none of which a `RateLimiter` offers.

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

use super::{Availability, Rule};
use crate::kernel::charge::Charge;
use crate::kernel::limits::Refill;
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
    /// refilled since may reach the provider's bucket later than ours, by up to the guard.
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

    /// A call that left at `sent` was told that `used` units were missing then.
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
mod tests {
    use super::*;
    use crate::kernel::limits::{Limit, Period, Resource, Source};
    use proptest::prelude::*;

    fn rule(amount: u64, burst: u64) -> Rule {
        Rule::new(Limit {
            resource: Resource::Requests,
            period: Period::Minute,
            amount: NonZeroU64::new(amount).unwrap(),
            refill: Refill::Bucket { burst: NonZeroU64::new(burst).unwrap() },
            source: Source::Configured,
        })
    }

    const START: Moment = Moment::from_seconds(1_800_000_000);

    #[test]
    fn a_burst_passes_at_once_and_the_next_one_waits_for_one_interval_and_the_guard() {
        let rule = rule(600, 20);
        let mut bucket = Bucket::full();
        for _ in 0..20 {
            assert_eq!(bucket.availability(&rule, 1, START), Availability::Now);
            bucket.take(&rule, Charge::at_once(1), START);
        }
        let next = START + Duration::from_millis(100) + rule.guard;
        assert_eq!(bucket.availability(&rule, 1, START), Availability::At(next));
        assert_eq!(bucket.availability(&rule, 1, next), Availability::Now);
        assert_eq!(bucket.availability(&rule, 21, START), Availability::Never { most: 20 });
    }

    #[test]
    fn a_second_burst_right_after_the_bucket_is_full_waits_for_the_guard() {
        let rule = rule(600, 20);
        let mut bucket = Bucket::full();
        (0..20).for_each(|_| bucket.take(&rule, Charge::at_once(1), START));
        let full = START + Duration::from_secs(2);
        assert_eq!(bucket.availability(&rule, 20, full), Availability::At(full + rule.guard));
    }

    #[test]
    fn more_than_32_bits_can_be_counted() {
        let rule = rule(50_000_000_000, 50_000_000_000);
        let mut bucket = Bucket::full();
        assert_eq!(bucket.availability(&rule, 40_000_000_000, START), Availability::Now);
        bucket.take(&rule, Charge::at_once(40_000_000_000), START);
        assert!(matches!(bucket.availability(&rule, 20_000_000_000, START), Availability::At(_)));
        let most = 50_000_000_000;
        assert_eq!(bucket.availability(&rule, most + 1, START), Availability::Never { most });
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rule = rule(60, 60);
        let mut bucket = Bucket::full();
        bucket.take(&rule, Charge::at_once(60), START);
        assert_eq!(bucket.used(&rule, START), 60);
        bucket.give_back(&rule, 40, START, START);
        assert_eq!(bucket.used(&rule, START), 20);
        let soon = START + rule.guard;
        assert_eq!(bucket.availability(&rule, 40, soon), Availability::Now);
    }

    #[test]
    fn a_clock_stepped_back_costs_at_most_the_bucket_and_one_period() {
        let rule = rule(60, 60);
        let mut bucket = Bucket::full();
        bucket.take(&rule, Charge::at_once(60), START);
        let earlier = START.before(Duration::from_secs(86_400 * 365));
        let Availability::At(at) = bucket.availability(&rule, 1, earlier) else {
            panic!("an empty bucket has nothing now")
        };
        assert!(at.since(earlier) <= Duration::from_secs(121));
    }

    #[test]
    fn an_answer_is_charged_when_it_is_made_and_not_when_its_call_left() {
        let rule = rule(600, 600);
        let mut bucket = Bucket::full();
        let had = Charge { at_once: 100, with_answer: 200 };
        bucket.take(&rule, had, START);
        assert_eq!(bucket.used(&rule, START), 300);
        // Until then all of it has come back by time.
        let made = START + Duration::from_secs(30);
        assert_eq!(bucket.used(&rule, made), 0);
        bucket.settle(&rule, had, had, START, made);
        assert_eq!(bucket.used(&rule, made), 200);
    }

    #[test]
    fn what_a_header_tells_does_not_hold_answers_that_are_not_made_yet() {
        let rule = rule(600, 600);
        let mut bucket = Bucket::full();
        let had = Charge { at_once: 100, with_answer: 200 };
        bucket.take(&rule, had, START);
        bucket.tighten(&rule, 100, START, START);
        assert_eq!(bucket.used(&rule, START), 300, "that much was known");
        bucket.tighten(&rule, 150, START, START);
        assert_eq!(bucket.used(&rule, START), 350, "somebody else used 50");
        let answered = Charge { at_once: 100, with_answer: 20 };
        bucket.settle(&rule, had, answered, START, START);
        assert_eq!(bucket.used(&rule, START), 170);
    }

    #[test]
    fn a_file_that_does_not_know_what_was_charged_counts_what_was_taken() {
        let kept = r#"{"full_at": 1800000030000000000, "opened": 0}"#;
        let bucket: Bucket = serde_json::from_str(kept).unwrap();
        assert_eq!(bucket.used(&rule(60, 60), START), 30);
    }

    #[test]
    fn what_came_back_by_time_is_not_given_again_after_a_header_told_of_others() {
        let rule = rule(6_000, 6_000);
        let mut bucket = Bucket::full();
        let at = |seconds| START + Duration::from_secs(seconds);
        bucket.take(&rule, Charge::at_once(1_000), START);
        // By then all of it has come back, and what is taken here has before the next.
        bucket.take(&rule, Charge::at_once(10), at(20));
        bucket.take(&rule, Charge::at_once(10), at(30));
        bucket.tighten(&rule, 5_000, at(20), at(31));
        let told = bucket.used(&rule, at(31));
        bucket.give_back(&rule, 990, START, at(31));
        assert_eq!(bucket.used(&rule, at(31)), told);
    }

    #[test]
    fn what_left_after_the_call_that_was_told_comes_on_top_of_what_it_was_told() {
        let rule = rule(6_000, 6_000);
        let mut bucket = Bucket::full();
        let at = |seconds| START + Duration::from_secs(seconds);
        bucket.take(&rule, Charge::at_once(10), START);
        bucket.take(&rule, Charge::at_once(2_000), at(10));
        // 5,000 were missing at the start: 3,900 still are when 11 seconds have passed.
        bucket.tighten(&rule, 5_000, START, at(11));
        assert_eq!(bucket.used(&rule, at(11)), 3_900 + 2_000);
        bucket.give_back(&rule, 1_500, at(10), at(11));
        assert_eq!(bucket.used(&rule, at(11)), 3_900 + 500);
    }

    /// When a bucket is full again from which this much was taken then, a millisecond a unit.
    fn replayed(mut taken: Vec<(Moment, u64)>) -> Moment {
        taken.sort();
        let full_at = |full: Moment, (at, amount): (Moment, u64)| {
            full.max(at) + Duration::from_millis(amount)
        };
        taken.into_iter().fold(Moment::EPOCH, full_at)
    }

    proptest! {
        /// Whatever calls take, settle and give back in whatever order, it is never thought fuller than it is when all
        /// that is known by then is gone through from the beginning; while few are under way it is known to the unit.
        #[test]
        fn it_is_never_thought_fuller_than_going_through_everything_again_says(
            calls in prop::collection::vec(
                (0_u64..200, 0_u64..300, 0_u64..300, 0_u64..400, 0_u64..300, 0_usize..40, 0_u8..4),
                1..60,
            ),
            at_most in 1_usize..60,
        ) {
            /// At once, with the answer, and when that was made.
            type Known = (Moment, u64, u64, u64, Option<(Moment, u64)>);
            let rule = rule(60_000, 60_000);
            let mut bucket = Bucket::full();
            let mut known: Vec<Known> = Vec::new();
            let mut to_come: Vec<(usize, usize, u64, u64, u8)> = Vec::new();
            let mut now = START;
            let calls = &calls[..at_most.min(calls.len())];
            let is_few = calls.len() <= 4;
            for (place, (pause, at_once, reserved, input, answer, after, ending)) in calls.iter().copied().enumerate() {
                now = now + Duration::from_millis(pause);
                if at_once + reserved > 0 {
                    bucket.take(&rule, Charge { at_once, with_answer: reserved }, now);
                }
                known.push((now, at_once, 0, reserved, None));
                to_come.push((place + after, place, input, answer, ending));
                for (_, of, input, answer, ending) in to_come.extract_if(.., |(when, ..)| *when <= place) {
                    let (left, at_once, _, reserved, _) = known[of];
                    let had = Charge { at_once, with_answer: reserved };
                    let has = match ending {
                        0 => Charge::default(),
                        1 => had,
                        _ => Charge { at_once: input, with_answer: answer },
                    };
                    bucket.settle(&rule, had, has, left, now);
                    known[of] = (left, at_once.min(has.at_once), has.at_once.saturating_sub(at_once), 0, Some((now, has.with_answer)));
                }
                let charged = known.iter().flat_map(|(left, at_once, more, _, made)| {
                    let (made, answer) = made.unwrap_or((*left, 0));
                    [(*left, *at_once), (made, more + answer)]
                });
                let held = known.iter().map(|(left, _, _, reserved, _)| (*left, *reserved));
                let truly_charged = replayed(charged.clone().collect());
                let truly_taken = replayed(charged.chain(held).collect());
                let thought = |level: &Level| level.until(Moment::FAR_FUTURE).max(now);
                prop_assert!(thought(bucket.charged()) >= truly_charged, "{:?} {:?}", bucket, truly_charged);
                prop_assert!(thought(&bucket.taken) >= truly_taken, "{:?} {:?}", bucket, truly_taken);
                if is_few {
                    prop_assert_eq!(thought(bucket.charged()), truly_charged.max(now));
                    prop_assert_eq!(thought(&bucket.taken), truly_taken.max(now));
                }
                let kept = serde_json::to_string(&bucket).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Bucket>(&kept).unwrap(), &bucket);
            }
        }
    }

    proptest! {
        /// A provider that charges a prompt when it admits the call, up to the guard later, and the answer when it has
        /// been made, never has less than a call that may leave needs for its prompt. What it tells of what is left when
        /// it admits a call is no news then.
        #[test]
        fn a_provider_that_charges_answers_when_they_are_made_never_sees_too_many(
            amount in 600_u64..6_000,
            calls in prop::collection::vec(
                (0_u64..4_000, 1_u64..120, 0_u64..80, 0_u64..80, 100_u64..60_000, 0_u64..100),
                1..120,
            ),
        ) {
            let rule = rule(amount, amount);
            let mut bucket = Bucket::full();
            let (mut level, mut seen_at) = (amount as f64, START);
            // When each answer is made, with what was had, what is used and what was told.
            let mut under_way: Vec<(Moment, Moment, Charge, Charge, u64)> = Vec::new();
            let mut now = START;
            let mut rise = |level: &mut f64, at: Moment| {
                let gained = at.since(seen_at).as_secs_f64() * amount as f64 / 60.0;
                *level = (*level + gained).min(amount as f64);
                seen_at = seen_at.max(at);
            };
            for (pause, prompt, reserved, answer, lasts, late) in calls {
                now = now + Duration::from_millis(pause);
                let had = Charge { at_once: prompt, with_answer: reserved };
                loop {
                    let leaves = match bucket.availability(&rule, had.all(), now) {
                        Availability::At(at) => now.max(at),
                        _ => now,
                    };
                    under_way.sort_by_key(|(made, ..)| *made);
                    match under_way.first().copied() {
                        Some((made, left, had, has, told)) if made <= leaves + Duration::from_millis(late) => {
                            under_way.remove(0);
                            rise(&mut level, made);
                            level -= has.with_answer as f64;
                            now = now.max(made);
                            let before = bucket.clone();
                            bucket.tighten(&rule, told, left, now);
                            prop_assert_eq!(&bucket, &before);
                            bucket.settle(&rule, had, has, left, now);
                        }
                        _ => {
                            now = leaves;
                            break;
                        }
                    }
                }
                bucket.take(&rule, had, now);
                rise(&mut level, now + Duration::from_millis(late));
                prop_assert!(level >= prompt as f64 - 1e-6, "the provider would have refused");
                level -= prompt as f64;
                let has = Charge { at_once: prompt, with_answer: answer };
                let made = now + Duration::from_millis(late + lasts);
                let told = (amount as f64 - level - 1e-6).ceil() as u64;
                under_way.push((made, now, had, has, told));
            }
        }

        /// A provider with a plain level-based bucket, which sees each request up to the guard later, never refuses.
        #[test]
        fn a_provider_that_sees_requests_late_never_sees_too_many(
            amount in 1_u64..2_000,
            burst in 1_u64..50,
            steps in prop::collection::vec((0_u64..3_000, 0_u64..100), 1..300),
        ) {
            let burst = burst.min(amount);
            let rule = rule(amount, burst);
            let mut bucket = Bucket::full();
            let mut now = START;
            let (mut level, mut seen_at) = (burst as f64, START);
            for (pause, late) in steps {
                now = now + Duration::from_millis(pause);
                if let Availability::At(at) = bucket.availability(&rule, 1, now) {
                    now = now.max(at);
                    prop_assert_eq!(bucket.availability(&rule, 1, now), Availability::Now);
                }
                bucket.take(&rule, Charge::at_once(1), now);
                let arrival = (now + Duration::from_millis(late)).max(seen_at);
                level = (level + arrival.since(seen_at).as_secs_f64() * amount as f64 / 60.0).min(burst as f64);
                seen_at = arrival;
                prop_assert!(level >= 1.0 - 1e-6, "the provider would have refused");
                level -= 1.0;
            }
        }
    }

    /// Calls leave every 10 ms for two minutes and are told after `latency` ms what was used when they arrived, `before`
    /// of it by somebody else. How many the provider refuses, and how many pass.
    fn after_another_run(before: u64, latency: u64) -> (u32, u32) {
        let rule = rule(600, 600);
        let mut bucket = Bucket::full();
        let (mut left, mut now) = (600.0 - before as f64, START);
        let mut headers = std::collections::VecDeque::<(Moment, Moment, u64)>::new();
        let (mut refused, mut passed) = (0, 0);
        for _ in 0..12_000 {
            now = now + Duration::from_millis(10);
            left = f64::min(left + 0.1, 600.0);
            while let Some((_, sent, used)) = headers.pop_front_if(|(back, ..)| *back <= now) {
                bucket.tighten(&rule, used, sent, now);
            }
            if bucket.availability(&rule, 1, now) == Availability::Now {
                bucket.take(&rule, Charge::at_once(1), now);
                if left < 1.0 {
                    refused += 1;
                    continue;
                }
                left -= 1.0;
                passed += 1;
                let back = now + Duration::from_millis(latency);
                headers.push_back((back, now, (600.0 - left).ceil() as u64));
            }
        }
        (refused, passed)
    }

    #[test]
    fn what_somebody_else_used_is_heard_however_many_calls_left_since() {
        for (before, latency) in [(100, 1_000), (300, 1_000), (300, 3_000), (500, 300)] {
            let (refused, passed) = after_another_run(before, latency);
            assert!(refused <= 10, "{before} {latency}: {refused} refused, {passed} passed");
            let most = 1_800 - u32::try_from(before).unwrap();
            assert!(passed >= most - 10, "{before} {latency}: {passed} of {most} passed");
        }
    }
}
