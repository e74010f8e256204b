//! How many more prompts of a batch are to be taken in now?

use std::time::Duration;

use super::moment::Moment;

/// The most calls of one batch that are under way at once when nobody says how many.
pub const MOST_AT_ONCE: usize = 1_024;

/// Calls that all come back within this time need no company: more of them would only wait for each other.
const QUICK: Duration = Duration::from_millis(10);

/// Finds out how many calls of a batch may be under way from what they meet: as long as none of them has to wait, twice
/// as many each time, unless they come back so fast that more would be no faster; as soon as some wait, only so many
/// that few stand in line.
///
/// So quotas and limits on calls in flight decide how many fly. What stands in line is bounded, because a prompt that
/// waits there could as well wait in its file, and because a line holds up who comes later with the same priority.
///
/// ```
/// use std::time::Duration;
/// use quotaflow::kernel::{Intake, Moment};
/// let mut now = Moment::from_seconds(1_800_000_000);
/// let mut intake = Intake::new(None, 5, 100_000, now);
/// assert_eq!(intake.more(now, 0, 0, 0), 74);
/// now = now + Duration::from_millis(10);
/// assert_eq!(intake.more(now, 0, 74, 0), 74, "nobody waits, nothing came back: twice as many");
/// assert_eq!(intake.more(now, 70, 148, 0), 4, "some wait: only as many as leave few of them");
/// assert_eq!(Intake::new(Some(8), 5, 100_000, now).more(now, 0, 3, 0), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    most: usize,
    few: usize,
    /// How many may be under way for now.
    level: usize,
    /// Since when it is watched how many come back, and how many had before.
    since: Moment,
    came: u64,
}

impl Intake {
    /// `most`: calls under way at once, [`MOST_AT_ONCE`] if nobody says; `lanes`: keys that may take them; `room`: how
    /// many the waiting line holds, of which a batch takes half at most.
    pub fn new(most: Option<usize>, lanes: usize, room: usize, now: Moment) -> Self {
        let most = most.unwrap_or(MOST_AT_ONCE).max(1);
        let few = lanes.saturating_mul(2).saturating_add(64).min(room / 2).clamp(1, most);
        // Whatever is taken in at once may all come to stand in line.
        let most = most.min((room / 2).max(1));
        Intake { most, few, level: few, since: now, came: 0 }
    }

    /// How many to take in now, when `waiting` of the `under_way` calls wait for something and `came` have come back
    /// since the batch began. Answers nobody has looked at yet count as under way: who does not read is not sent more.
    pub fn more(&mut self, now: Moment, waiting: usize, under_way: usize, came: u64) -> usize {
        if waiting > 0 {
            self.watch_from(now, came);
            let free = self.most.saturating_sub(under_way);
            let more = free.min(self.few.saturating_sub(waiting));
            // When nobody waits any more it goes on from here.
            self.level = (under_way + more).clamp(self.few, self.most);
            return more;
        }
        if now.since(self.since) >= QUICK {
            let is_quick = came.saturating_sub(self.came) >= self.level as u64;
            // What was never full says nothing.
            if !is_quick && under_way * 2 >= self.level {
                self.level = self.level.saturating_mul(2).min(self.most);
            }
            self.watch_from(now, came);
        }
        self.level.saturating_sub(under_way)
    }

    fn watch_from(&mut self, now: Moment, came: u64) {
        (self.since, self.came) = (now, came);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Intake, MOST_AT_ONCE};
    use crate::kernel::Moment;

    fn at(millis: u64) -> Moment {
        Moment::from_seconds(1_800_000_000) + Duration::from_millis(millis)
    }

    #[test]
    fn it_grows_to_its_bound_while_nobody_waits() {
        let (mut intake, mut under_way) = (Intake::new(None, 1, 100_000, at(0)), 0);
        let mut looks = 0;
        while under_way < MOST_AT_ONCE {
            under_way += intake.more(at(100 * looks), 0, under_way, 0);
            looks += 1;
        }
        assert_eq!((under_way, intake.more(at(9_000), 0, under_way, 0)), (MOST_AT_ONCE, 0));
        assert!(looks <= 5, "{looks}");
    }

    #[test]
    fn it_stays_small_where_answers_come_at_once() {
        let (mut intake, mut came) = (Intake::new(None, 5, 100_000, at(0)), 0);
        let mut under_way = intake.more(at(0), 0, 0, came) as u64;
        for look in 1..1_000 {
            // Everything comes back within five milliseconds.
            came += under_way;
            under_way = intake.more(at(look * 5), 0, 0, came) as u64;
        }
        assert_eq!(under_way, 74);
    }

    #[test]
    fn a_wait_stops_it_and_it_goes_on_from_there() {
        let mut intake = Intake::new(None, 1, 100_000, at(0));
        assert_eq!(intake.more(at(0), 0, 0, 0), 66);
        assert_eq!(intake.more(at(100), 66, 70, 0), 0);
        assert_eq!(intake.more(at(200), 60, 70, 0), 6);
        assert_eq!(intake.more(at(200), 0, 70, 0), 6);
    }

    proptest! {
        #[test]
        fn never_more_than_asked_and_never_many_in_line(
            most in proptest::option::of(1_usize..5_000),
            lanes in 0_usize..100,
            room in 0_usize..1_000,
            seen in proptest::collection::vec((0_u64..50, 0_usize..2_000, 0_usize..2_000, 0_u64..99), 1..40),
        ) {
            let mut intake = Intake::new(most, lanes, room, at(0));
            let bound = most.unwrap_or(MOST_AT_ONCE);
            let (mut now, mut came) = (0, 0);
            for (passed, waiting, others, back) in seen {
                (now, came) = (now + passed, came + back);
                let under_way = waiting + others;
                let more = intake.more(at(now), waiting, under_way, came);
                prop_assert!(more == 0 || under_way + more <= bound);
                prop_assert!(more == 0 || more + waiting <= (room / 2).max(1));
                if waiting > 0 {
                    prop_assert!(more == 0 || waiting + more <= 2 * lanes + 64);
                }
            }
        }

        #[test]
        fn it_never_stops_for_good(lanes in 0_usize..100, most in 1_usize..2_000, room in 0_usize..1_000) {
            let mut intake = Intake::new(Some(most), lanes, room, at(0));
            intake.more(at(5), most, most, 0);
            prop_assert!(intake.more(at(10), 0, 0, 0) > 0);
        }
    }
}
