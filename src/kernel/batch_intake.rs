//! The intake of a batch: how many more prompts to take from its source now.
//!
//! While no call of the batch waits, the number of calls may double, up to 1,024 (fewer where the process may open
//! few files), as long as that brings a seventh more answers a second. When some calls wait, only so many are started
//! that about two per key plus 64 wait, and never more than half of what the line has room for. So quotas, slow
//! starts and concurrency limits decide, and few calls stand in line. Answers that were not read yet count as in
//! flight: a slow reader is not sent more. After 10 s it is tried again whether more calls are worth it.

use std::time::Duration;

use super::moment::Moment;

/// The most calls of one batch that are under way at once when no number is given.
pub const MOST_AT_ONCE: usize = 1_024;

/// When nothing came back for so long, the calls are slow and do not get slower by company.
const SILENCE: Duration = Duration::from_millis(50);
/// What more calls at once must bring to be kept: so much more by second.
const WORTH_IT: f64 = 1.15;
/// After so long it is tried again whether more are worth it.
const CONTENT: Duration = Duration::from_secs(10);

/// Finds out how many calls of a batch may be under way from what they meet: as long as none of them has to wait, twice
/// as many each time, as long as that brings more answers by second; as soon as some wait, only so many that few stand
/// in line.
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
/// now = now + Duration::from_millis(50);
/// assert_eq!(intake.more(now, 0, 74, 0), 74, "nobody waits, nothing came back: twice as many");
/// assert_eq!(intake.more(now, 70, 148, 0), 4, "some wait: only as many as leave few of them");
/// assert_eq!(Intake::new(Some(8), 5, 100_000, now).more(now, 0, 3, 0), 5);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Intake {
    most: usize,
    few: usize,
    /// How many may be under way for now.
    level: usize,
    /// Since when it is watched how many come back, and how many had before.
    since: Moment,
    came: u64,
    /// How many came back by second before the level was raised; 0 when it was not.
    before: f64,
    content_until: Moment,
}

impl Intake {
    /// `most`: calls under way at once, [`MOST_AT_ONCE`] if `None`; `lanes`: keys that may take them; `room`: how
    /// many the waiting line holds, of which a batch takes half at most.
    pub fn new(most: Option<usize>, lanes: usize, room: usize, now: Moment) -> Self {
        let most = most.unwrap_or(MOST_AT_ONCE).max(1);
        let few = lanes.saturating_mul(2).saturating_add(64).min(room / 2).clamp(1, most);
        // Whatever is taken in at once may all come to stand in line.
        let most = most.min((room / 2).max(1));
        Intake { most, few, level: few, since: now, came: 0, before: 0.0, content_until: now }
    }

    /// How many to take in now, when `waiting` of the `under_way` calls wait for something and `came` have come back
    /// since the batch began. Answers that were not read yet count as in flight: a slow reader gets no more.
    pub fn more(&mut self, now: Moment, waiting: usize, under_way: usize, came: u64) -> usize {
        if waiting > 0 {
            self.watch_from(now, came);
            self.before = 0.0;
            let free = self.most.saturating_sub(under_way);
            let more = free.min(self.few.saturating_sub(waiting));
            // When no call waits any more it goes on from here.
            self.level = (under_way + more).clamp(self.few, self.most);
            return more;
        }
        // What is not full says nothing of what more would bring.
        let is_full = under_way * 2 >= self.level;
        let (passed, back) = (now.since(self.since), came.saturating_sub(self.came));
        if back == 0 && passed >= SILENCE && is_full {
            self.level = self.level.saturating_mul(2).min(self.most);
            self.watch_from(now, came);
        } else if back >= 2 * self.level as u64 && !passed.is_zero() {
            self.weigh(back as f64 / passed.as_secs_f64(), is_full, now);
            self.watch_from(now, came);
        }
        self.level.saturating_sub(under_way)
    }

    /// Everything under way came back twice, at this rate.
    fn weigh(&mut self, rate: f64, is_full: bool, now: Moment) {
        if self.before > 0.0 && rate < self.before * WORTH_IT {
            self.level = (self.level / 2).max(self.few);
            self.before = 0.0;
            self.content_until = now + CONTENT;
        } else if is_full && now >= self.content_until && self.level < self.most {
            self.before = rate;
            self.level = self.level.saturating_mul(2).min(self.most);
        } else {
            self.before = 0.0;
        }
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

    /// The level it comes to in some seconds when all that are under way bring so many answers by second.
    fn level_where(rate: impl Fn(usize) -> f64) -> usize {
        let mut intake = Intake::new(None, 5, 100_000, at(0));
        let (mut came, mut under_way) = (0.0, 0);
        for look in 0..1_000 {
            under_way += intake.more(at(look * 5), 0, under_way, came as u64);
            let back = (rate(under_way) * 0.005).min(under_way as f64);
            came += back;
            under_way -= back as usize;
        }
        intake.level
    }

    #[test]
    fn it_grows_as_far_as_that_brings_more() {
        // A server that takes 20 ms for each, whatever else it has to do; and one that does 10,000 a second at most.
        assert_eq!(level_where(|under_way| under_way as f64 / 0.02), MOST_AT_ONCE);
        assert_eq!(level_where(|under_way| (under_way as f64 / 0.02).min(10_000.0)), 296);
        assert_eq!(level_where(|_| 10_000.0), 74);
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
