//! When is a bucket full again, and when would it be, had something not been taken from it?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::moment::Moment;

/// How empty a bucket is, told by when it is full again; and since when.
///
/// What was taken may turn out to be less. Then it is as if less had been taken in the first place; but a bucket that
/// was full later on all the same has lost nothing by it, and has nothing more now. To tell the two apart it remembers
/// when it would be full, had it been full at some later instants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Level {
    /// The instant at which it is (or was) full again: GCRA's theoretical arrival time.
    full_at: Moment,
    /// When it was full last.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    since: Moment,
    /// When it would be full again, had it been full at these instants: the later the instant, the sooner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later: Vec<(Moment, Moment)>,
}

/// So many instants are remembered; beyond, two are taken for one, so that less comes back.
const MOST: usize = 8;

fn never() -> Moment {
    Moment::EPOCH
}

fn is_never(moment: &Moment) -> bool {
    *moment == Moment::EPOCH
}

impl Level {
    /// That of a bucket from which nothing was taken.
    pub(super) fn full() -> Level {
        Level::full_at(Moment::EPOCH)
    }

    /// That of a bucket of which no more is known than when it is full again.
    pub(super) fn full_at(full_at: Moment) -> Level {
        Level { full_at, since: Moment::EPOCH, later: Vec::new() }
    }

    /// When it is full again, if not later than `bound`.
    pub(super) fn until(&self, bound: Moment) -> Moment {
        self.full_at.min(bound)
    }

    /// What lies beyond `bound` comes from a clock that was stepped back to `now` since.
    pub(super) fn bound(&mut self, bound: Moment, now: Moment) {
        if self.full_at > bound {
            *self = Level { full_at: bound, since: self.since.min(now), later: Vec::new() };
        }
    }

    /// Takes what needs `span` to come back.
    pub(super) fn take(&mut self, span: Duration, now: Moment) {
        if self.full_at <= now {
            *self = Level { full_at: now + span, since: now, later: Vec::new() };
            return;
        }
        self.full_at = self.full_at + span;
        for (_, full_at) in &mut self.later {
            *full_at = *full_at + span;
        }
        let had_it_been_full = now + span;
        self.later.retain(|(_, full_at)| *full_at > had_it_been_full);
        // At one and the same instant the first that was taken tells of all.
        if self.later.last().map_or(self.since, |(instant, _)| *instant) != now {
            self.later.push((now, had_it_been_full));
        }
        if self.later.len() > MOST {
            self.later[1].1 = self.later[0].1;
            self.later.remove(0);
        }
    }

    /// What needs `span` to come back was not taken at `taken_at` after all.
    pub(super) fn give_back(&mut self, span: Duration, taken_at: Moment) {
        if taken_at < self.since {
            return;
        }
        self.full_at = self.full_at.before(span);
        for (instant, full_at) in &mut self.later {
            if *instant <= taken_at {
                *full_at = full_at.before(span);
            }
        }
        // What is full latest counts; instants before that one are forgotten.
        let latest = self.later.iter().enumerate().rev().max_by_key(|(_, (_, full_at))| *full_at);
        if let Some((place, &(instant, full_at))) = latest
            && full_at >= self.full_at
        {
            (self.since, self.full_at) = (instant, full_at);
            self.later.drain(..=place);
        }
        let mut soonest = Moment::EPOCH;
        let later = std::mem::take(&mut self.later).into_iter().rev();
        let kept: Vec<_> = later
            .filter(|(_, full_at)| {
                let counts = *full_at > soonest && *full_at < self.full_at;
                soonest = soonest.max(*full_at);
                counts
            })
            .collect();
        self.later.extend(kept.into_iter().rev());
    }

    /// What needs `span` to come back was missing as well at `at`.
    pub(super) fn lower(&mut self, span: Duration, at: Moment) {
        if self.full_at <= at || self.since > at {
            *self = Level::full_at(self.full_at.max(at + span));
            return;
        }
        self.full_at = self.full_at + span;
        for (_, full_at) in self.later.iter_mut().filter(|(instant, _)| *instant <= at) {
            *full_at = *full_at + span;
        }
    }

    /// It is not full before `full_at`.
    pub(super) fn at_least(&mut self, full_at: Moment) {
        if self.full_at < full_at {
            *self = Level::full_at(full_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_seconds(1_800_000_000);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_given_back_is_not_given_twice() {
        let mut level = Level::full();
        level.take(ms(100), START);
        // All but 20 has come back when the next is taken; without the first it would have been full.
        level.take(ms(500), START + ms(80));
        level.give_back(ms(100), START);
        assert_eq!(level.full_at, START + ms(580));
    }

    #[test]
    fn what_was_taken_before_it_was_full_last_gives_nothing_back() {
        let mut level = Level::full();
        level.take(ms(100), START);
        level.take(ms(500), START + ms(200));
        level.give_back(ms(100), START);
        assert_eq!(level.full_at, START + ms(700));
    }

    proptest! {
        /// Whatever is given back in whatever order, it is as full as if that had never been taken; and when more has to
        /// be remembered than there is room for, less full.
        #[test]
        fn it_is_as_if_it_had_not_been_taken(
            takes in prop::collection::vec((0_u64..400, 1_u64..600, 0_u64..600, 0_usize..6), 1..60),
        ) {
            let mut level = Level::full();
            let mut taken: Vec<(Moment, u64)> = Vec::new();
            let mut to_come: Vec<(usize, usize, u64)> = Vec::new();
            let mut now = START;
            let mut is_exact = true;
            for (place, (pause, amount, less, after)) in takes.iter().copied().enumerate() {
                now = now + ms(pause);
                is_exact &= level.later.len() < MOST;
                level.take(ms(amount), now);
                taken.push((now, amount));
                to_come.push((place + after, place, less.min(amount)));
                for (_, of, less) in to_come.extract_if(.., |(when, ..)| *when <= place) {
                    level.give_back(ms(less), taken[of].0);
                    taken[of].1 -= less;
                }
                let mut truth = Moment::EPOCH;
                for (at, amount) in &taken {
                    truth = truth.max(*at) + ms(*amount);
                }
                if is_exact {
                    prop_assert_eq!(level.full_at.max(now), truth.max(now));
                }
                prop_assert!(level.full_at.max(now) >= truth);
                prop_assert!(level.later.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{:?}", level);
            }
        }
    }
}
