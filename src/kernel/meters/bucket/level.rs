//! The level of a bucket: the instant at which it is full again.
//!
//! A call takes what was estimated and gives back what it did not use. Then it must be as if less had been taken in the
//! first place. That is not always the same as refilling by the difference: a bucket that was full in between has lost
//! nothing, so nothing may come back. To tell the two apart, a level remembers when it would be full again *had it been
//! full* at a later instant.
//!
//! **Example.** A bucket of 60 a minute refills one unit a second. It is full at 0 s.
//!
//! | at | what happens | full again at | if it was full at 4 s |
//! |---|---|---|---|
//! | 0 s | a call takes 10 | 10 s | |
//! | 4 s | a call takes 20 | 30 s | 24 s |
//! | 5 s | the first call used 3: it gives back 7 | 24 s | |
//!
//! Giving back 7 units says 30 − 7 = 23 s. But with only 3 units taken at 0 s the bucket was full at 3 s, and the unit
//! that would have come back until 4 s flowed over. So the bucket is full at 24 s: the later of both instants holds.
//!
//! Up to eight such instants are remembered. Beyond that, the two neighbours that make the shortest range become one
//! range. What is thought to be missing then grows by what refills within that range at most, and never shrinks. A
//! property test replays every take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::moment::Moment;

/// How empty a bucket is, as the instant at which it is full again; see the module docs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Level {
    /// The instant at which it is (or was) full again: GCRA's theoretical arrival time.
    full_at: Moment,
    /// When it was full last.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    since: Moment,
    /// The later the instants, the sooner it would be full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later: Vec<IfFullAt>,
}

/// When it would be full again at the latest, had it been full at any instant from `from` to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
struct IfFullAt {
    from: Moment,
    to: Moment,
    full_at: Moment,
}

/// So many are remembered; beyond, the two neighbours that make the shortest range are taken for one, so that all are
/// of about one length. What is thought missing grows by what refills during the longest at most.
const MOST: usize = 8;

/// As files have it, which are written with every call: the first instant, and how many nanoseconds after it the others
/// are.
type Stored = (Moment, u64, u64);

impl From<Stored> for IfFullAt {
    fn from((from, to, full_at): Stored) -> IfFullAt {
        let [to, full_at] = [to, full_at].map(|after| from + Duration::from_nanos(after));
        IfFullAt { from, to, full_at }
    }
}

impl From<IfFullAt> for Stored {
    fn from(IfFullAt { from, to, full_at }: IfFullAt) -> Stored {
        let after = |at: Moment| u64::try_from(at.since(from).as_nanos()).unwrap_or(u64::MAX);
        (from, after(to), after(full_at))
    }
}

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
            (self.full_at, self.since) = (now + span, now);
            self.later.clear();
            return;
        }
        self.full_at = self.full_at + span;
        for supposed in &mut self.later {
            supposed.full_at = supposed.full_at + span;
        }
        let had_it_been_full = now + span;
        self.later.retain(|supposed| supposed.full_at > had_it_been_full);
        // At one and the same instant the first that was taken tells of all.
        if self.later.last().map_or(self.since, |supposed| supposed.to) != now {
            self.later.push(IfFullAt { from: now, to: now, full_at: had_it_been_full });
        }
        if self.later.len() > MOST {
            self.merge_nearest();
        }
    }

    /// What was taken since the first instant of two was taken since every later one at most.
    fn merge_nearest(&mut self) {
        let length = |place: usize| self.later[place + 1].to.since(self.later[place].from);
        let Some(place) = (0..self.later.len() - 1).min_by_key(|place| length(*place)) else {
            return;
        };
        let later = self.later.remove(place + 1);
        let by = later.to.since(self.later[place].to);
        let merged = &mut self.later[place];
        (merged.to, merged.full_at) = (later.to, merged.full_at + by);
        let full_at = merged.full_at;
        // Whatever is given back, those before will never be full later than that one.
        let mut before = 0..place;
        let counts = before.position(|earlier| self.later[earlier].full_at <= full_at);
        self.later.drain(counts.unwrap_or(place)..place);
    }

    /// What needs `span` to come back was not taken at `taken_at` after all.
    pub(super) fn give_back(&mut self, span: Duration, taken_at: Moment) {
        if taken_at < self.since {
            return;
        }
        self.full_at = self.full_at.before(span);
        for supposed in self.later.iter_mut().filter(|supposed| supposed.from <= taken_at) {
            supposed.full_at = supposed.full_at.before(span);
        }
        // What is full latest counts; instants before that one are forgotten.
        let latest = self.later.iter().enumerate().rev().max_by_key(|(_, later)| later.full_at);
        if let Some((place, &IfFullAt { from, full_at, .. })) = latest
            && full_at >= self.full_at
        {
            (self.since, self.full_at) = (from, full_at);
            self.later.drain(..=place);
        }
        // Of those that are left one counts only if every later one would be full before it.
        let (latest, mut soonest) = (self.full_at, Moment::EPOCH);
        self.later.reverse();
        self.later.retain(|later| {
            let counts = later.full_at > soonest && later.full_at < latest;
            soonest = soonest.max(later.full_at);
            counts
        });
        self.later.reverse();
    }

    /// How long what was taken after `at` needs to come back at least: a statement of how it stood at
    /// `at` includes nothing of that.
    pub(super) fn taken_after(&self, at: Moment) -> Duration {
        if self.since > at {
            return self.full_at.since(self.since);
        }
        let after = self.later.iter().find(|supposed| supposed.from > at);
        after.map_or(Duration::ZERO, |supposed| supposed.full_at.since(supposed.to))
    }

    /// What needs `span` to come back was missing as well at `at`.
    ///
    /// What was taken before it was full last still gives nothing back: it had come back by then, whatever others took.
    pub(super) fn lower(&mut self, span: Duration, at: Moment) {
        if self.full_at <= at {
            *self = Level { full_at: at + span, since: at, later: Vec::new() };
            return;
        }
        if self.since > at {
            // It was not full then after all; if it had been, it would be full when it was thought to be.
            let supposed = IfFullAt { from: self.since, to: self.since, full_at: self.full_at };
            self.later.insert(0, supposed);
            self.since = at;
        }
        self.full_at = self.full_at + span;
        for supposed in self.later.iter_mut().filter(|supposed| supposed.from <= at) {
            supposed.full_at = supposed.full_at + span;
        }
        if self.later.len() > MOST {
            self.merge_nearest();
        }
    }

    /// It is not full before `full_at`, whatever was taken when.
    pub(super) fn at_least(&mut self, full_at: Moment) {
        self.full_at = self.full_at.max(full_at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_module_docs() {
        let at = Moment::from_seconds;
        let mut level = Level::full();
        level.take(Duration::from_secs(10), at(1_000));
        assert_eq!(level.full_at, at(1_010));
        level.take(Duration::from_secs(20), at(1_004));
        assert_eq!((level.full_at, level.later[0].full_at), (at(1_030), at(1_024)));
        level.give_back(Duration::from_secs(7), at(1_000));
        assert_eq!(level.full_at, at(1_024));
    }

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

    #[test]
    fn of_calls_at_an_even_pace_little_more_is_thought_missing_than_is() {
        // Each takes 400 of which it needs 90, and 100 come back between two; 300 are under way at once.
        let mut level = Level::full();
        let mut taken: Vec<(Moment, u64)> = Vec::new();
        for step in 0..1_000_usize {
            let now = START + ms(100 * step as u64);
            level.take(ms(400), now);
            taken.push((now, 400));
            if let Some(over) = step.checked_sub(300) {
                level.give_back(ms(310), taken[over].0);
                taken[over].1 = 90;
            }
            let full_at = |full: Moment, (at, amount): &(Moment, u64)| full.max(*at) + ms(*amount);
            let truth = taken.iter().fold(Moment::EPOCH, full_at);
            let thought = level.full_at.since(truth.max(now));
            assert!(thought < ms(8_000), "{thought:?} too much at {step}: {level:?}");
        }
    }

    #[test]
    fn what_others_took_stays_when_something_from_before_is_given_back() {
        let mut level = Level::full();
        (0..3).for_each(|nth| level.take(ms(100), START + ms(10 * nth)));
        level.lower(ms(50), START + ms(15));
        level.give_back(ms(100), START);
        // As if it had been full when the second was taken.
        assert_eq!(level.full_at, START + ms(10 + 250));
    }

    #[test]
    fn after_a_clock_was_stepped_back_far_what_is_taken_now_can_be_given_back() {
        let mut level = Level::full();
        level.take(ms(500), START);
        let hour_before = START.before(Duration::from_secs(3_600));
        level.bound(hour_before + ms(1_000), hour_before);
        level.take(ms(200), hour_before);
        level.give_back(ms(200), hour_before);
        assert_eq!(level.full_at, hour_before + ms(1_000));
    }

    proptest! {
        /// Whatever is given back in whatever order, it is as full as if that had never been taken; and when more has
        /// to be remembered than there is room for, less full.
        #[test]
        fn it_is_as_if_it_had_not_been_taken(
            takes in prop::collection::vec((0_u64..400, 1_u64..600, 0_u64..600, 0_usize..6), 1..60),
        ) {
            let mut level = Level::full();
            let mut taken: Vec<(Moment, u64)> = Vec::new();
            let mut to_come: Vec<(usize, usize, u64)> = Vec::new();
            let mut now = START;
            let mut is_exact = true;
            let mut longest = Duration::ZERO;
            for (place, (pause, amount, less, after)) in takes.iter().copied().enumerate() {
                now = now + ms(pause);
                is_exact &= level.later.len() < MOST;
                level.take(ms(amount), now);
                let merged = level.later.iter().map(|later| later.to.since(later.from)).max();
                longest = longest.max(merged.unwrap_or_default());
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
                prop_assert!(level.full_at.max(now) <= truth.max(now) + longest);
                let in_order = |a: &IfFullAt, b: &IfFullAt| a.to < b.from && a.full_at > b.full_at;
                prop_assert!(level.later.is_sorted_by(in_order), "{:?}", level);
            }
        }
    }
}
