//! The rolling window: never more than the amount in any window of the period.
//!
//! Up to 64 takes are remembered one by one. More are put together in slices, each counted until its latest take has
//! left.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{Availability, Rule};
use crate::kernel::moment::Moment;

/// What was taken and when, oldest first. Few takes are remembered one by one; many are put together in slices of the
/// window, each counted until its latest take has left the window, so that the error is on the safe side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rolling {
    slices: VecDeque<Slice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slice {
    first: Moment,
    last: Moment,
    amount: u64,
}

/// How many slices a window has at most, about; also how many takes are remembered one by one.
const SLICES: usize = 64;

impl Rolling {
    fn leaves_at(slice: &Slice, rule: &Rule, now: Moment) -> Moment {
        // An entry from the future is from a clock that was stepped back: it happened at the latest now.
        slice.last.min(now) + rule.window() + rule.guard
    }

    pub(super) fn availability(&self, rule: &Rule, amount: u64, now: Moment) -> Availability {
        if amount > rule.amount() {
            return Availability::Never { most: rule.amount() };
        }
        let used = self.used(rule, now);
        let mut missing = used.saturating_add(amount).saturating_sub(rule.amount());
        if missing == 0 {
            return Availability::Now;
        }
        for slice in &self.slices {
            let leaves = Self::leaves_at(slice, rule, now);
            if leaves <= now {
                continue;
            }
            if slice.amount >= missing {
                return Availability::At(leaves);
            }
            missing -= slice.amount;
        }
        Availability::At(now + rule.window())
    }

    pub(super) fn take(&mut self, rule: &Rule, amount: u64, now: Moment) {
        while self.slices.front().is_some_and(|slice| Self::leaves_at(slice, rule, now) <= now) {
            self.slices.pop_front();
        }
        for slice in self.slices.iter_mut().rev().take_while(|slice| slice.last > now) {
            *slice = Slice { first: slice.first.min(now), last: now, amount: slice.amount };
        }
        let width = rule.window() / SLICES as u32;
        let crowded = self.slices.len() >= SLICES;
        match self.slices.back_mut() {
            Some(slice) if slice.last == now || (crowded && now.since(slice.first) < width) => {
                slice.last = now;
                slice.amount = slice.amount.saturating_add(amount);
            }
            _ => self.slices.push_back(Slice { first: now, last: now, amount }),
        }
        if self.slices.len() > 3 * SLICES {
            self.squeeze(width);
        }
    }

    /// Takes what `other` took, each at its time.
    pub(super) fn absorb(&mut self, rule: &Rule, other: &Rolling, now: Moment) {
        self.slices.extend(&other.slices);
        self.slices.make_contiguous().sort_by_key(|slice| (slice.last, slice.first));
        self.slices.retain(|slice| Self::leaves_at(slice, rule, now) > now);
        if self.slices.len() > 3 * SLICES {
            self.squeeze(rule.window() / SLICES as u32);
        }
    }

    /// Puts neighbours together that fit into one slice of the window.
    fn squeeze(&mut self, width: Duration) {
        let mut squeezed: VecDeque<Slice> = VecDeque::with_capacity(SLICES * 2);
        for slice in self.slices.drain(..) {
            match squeezed.back_mut() {
                Some(last) if slice.last.since(last.first) < width => {
                    last.last = slice.last;
                    last.amount = last.amount.saturating_add(slice.amount);
                }
                _ => squeezed.push_back(slice),
            }
        }
        self.slices = squeezed;
    }

    pub(super) fn give_back(&mut self, amount: u64, taken_at: Moment) {
        let taken = self
            .slices
            .iter_mut()
            .rev()
            .find(|slice| slice.first <= taken_at && taken_at <= slice.last);
        if let Some(slice) = taken {
            slice.amount = slice.amount.saturating_sub(amount);
        }
    }

    pub(super) fn used(&self, rule: &Rule, now: Moment) -> u64 {
        self.slices
            .iter()
            .filter(|slice| Self::leaves_at(slice, rule, now) > now)
            .fold(0, |sum, slice| sum.saturating_add(slice.amount))
    }

    pub(super) fn mend_clock(&mut self, now: Moment) {
        for slice in self.slices.iter_mut().rev().take_while(|slice| slice.last > now) {
            *slice = Slice { first: slice.first.min(now), last: now, amount: slice.amount };
        }
    }

    pub(super) fn whole_at(&self, rule: &Rule) -> Moment {
        self.slices
            .iter()
            .rev()
            .find(|slice| slice.amount > 0)
            .map_or(Moment::EPOCH, |slice| slice.last + rule.window() + rule.guard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::limits::{Limit, Period, Refill, Resource, Source};
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    const START: Moment = Moment::from_seconds(1_800_000_000);

    fn rule(amount: u64) -> Rule {
        Rule::new(Limit {
            resource: Resource::Requests,
            period: Period::Minute,
            amount: NonZeroU64::new(amount).unwrap(),
            refill: Refill::Rolling,
            source: Source::Configured,
        })
    }

    #[test]
    fn what_another_took_is_given_back_as_if_it_were_ones_own() {
        let rule = rule(100);
        let (mut ours, mut theirs) = (Rolling::default(), Rolling::default());
        ours.take(&rule, 10, START + Duration::from_secs(5));
        theirs.take(&rule, 20, START);
        theirs.take(&rule, 30, START + Duration::from_secs(9));
        let now = START + Duration::from_secs(10);
        ours.absorb(&rule, &theirs, now);
        assert_eq!(ours.used(&rule, now), 60);
        ours.give_back(20, START + Duration::from_secs(9));
        ours.give_back(15, START);
        assert_eq!(ours.used(&rule, now), 25);
        assert_eq!(ours.used(&rule, START + Duration::from_secs(64)), 20);
    }

    #[test]
    fn the_next_one_passes_when_the_oldest_has_left_the_window() {
        let rule = rule(2);
        let mut rolling = Rolling::default();
        rolling.take(&rule, 1, START);
        rolling.take(&rule, 1, START + Duration::from_secs(10));
        let now = START + Duration::from_secs(20);
        let next = START + Duration::from_secs(60) + rule.guard;
        assert_eq!(rolling.availability(&rule, 1, now), Availability::At(next));
        assert_eq!(rolling.availability(&rule, 1, next), Availability::Now);
        assert_eq!(rolling.availability(&rule, 3, now), Availability::Never { most: 2 });
    }

    #[test]
    fn giving_back_after_the_window_has_passed_gives_nothing() {
        let rule = rule(5);
        let mut rolling = Rolling::default();
        rolling.take(&rule, 5, START);
        let later = START + Duration::from_secs(70);
        rolling.take(&rule, 5, later);
        rolling.give_back(5, START);
        assert_eq!(rolling.used(&rule, later), 5);
    }

    proptest! {
        /// Whatever is taken when it is allowed: no window of a minute ever holds more than the limit, the state stays
        /// small, and everybody who waits the stated time is served.
        #[test]
        fn no_window_ever_holds_more_than_the_limit(
            amount in 1_u64..400,
            pauses in prop::collection::vec(0_u64..4_000, 1..600),
        ) {
            let rule = rule(amount);
            let mut rolling = Rolling::default();
            let mut now = START;
            let mut taken: Vec<Moment> = Vec::new();
            for pause in pauses {
                now = now + Duration::from_millis(pause);
                if let Availability::At(at) = rolling.availability(&rule, 1, now) {
                    now = at;
                    prop_assert_eq!(rolling.availability(&rule, 1, now), Availability::Now);
                }
                rolling.take(&rule, 1, now);
                taken.push(now);
                let opened = now.before(rule.window());
                let in_window = taken.iter().rev().take_while(|at| **at > opened).count() as u64;
                prop_assert!(in_window <= amount);
                prop_assert!(rolling.slices.len() <= 3 * SLICES + 1);
            }
        }

        /// A clock that jumps about never makes anyone wait for longer than a window.
        #[test]
        fn a_jumping_clock_never_costs_more_than_a_window(jumps in prop::collection::vec(-100_000_i64..100_000, 1..200)) {
            let rule = rule(3);
            let mut rolling = Rolling::default();
            for jump in jumps {
                let now = START + Duration::from_secs(200_000);
                let now = if jump < 0 { now.before(Duration::from_secs(jump.unsigned_abs())) } else { now + Duration::from_secs(jump as u64) };
                match rolling.availability(&rule, 1, now) {
                    Availability::Now => rolling.take(&rule, 1, now),
                    Availability::At(at) => prop_assert!(at.since(now) <= rule.window() + rule.guard),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
