//! How many more prompts of a batch are to be taken in now?

/// The most calls of one batch that are under way at once when nobody says how many.
pub const MOST_AT_ONCE: usize = 1_024;

/// Finds out how many calls of a batch may be under way from what they meet: as long as none of them has to wait, more
/// are taken in, twice as many each time; as soon as some wait, only so many that few stand in line.
///
/// So quotas and limits on calls in flight decide how many fly. What stands in line is bounded, because a prompt that
/// waits there could as well wait in its file, and because a line holds up who comes later with the same priority.
///
/// ```
/// use quotaflow::kernel::Intake;
/// let mut intake = Intake::new(None, 5, 100_000);
/// assert_eq!(intake.more(0, 0), 74);
/// assert_eq!(intake.more(0, 74), 148);
/// assert_eq!(intake.more(70, 100), 4, "some wait: only as many as leave few of them");
/// assert_eq!(Intake::new(Some(8), 5, 100_000).more(0, 3), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    most: usize,
    few: usize,
    step: usize,
}

impl Intake {
    /// `most`: calls under way at once, [`MOST_AT_ONCE`] if nobody says; `lanes`: keys that may take them; `room`: how
    /// many the waiting line holds, of which a batch takes half at most.
    pub fn new(most: Option<usize>, lanes: usize, room: usize) -> Self {
        let most = most.unwrap_or(MOST_AT_ONCE).max(1);
        let few = lanes.saturating_mul(2).saturating_add(64).min(room / 2).clamp(1, most);
        // Whatever is taken in at once may all come to stand in line.
        let most = most.min((room / 2).max(1));
        Intake { most, few, step: few }
    }

    /// How many to take in now, when `waiting` of the `under_way` calls wait for something. Answers nobody has looked at
    /// yet count as under way: who does not read is not sent more.
    pub fn more(&mut self, waiting: usize, under_way: usize) -> usize {
        let free = self.most.saturating_sub(under_way);
        if waiting > 0 {
            self.step = self.few;
            return free.min(self.few.saturating_sub(waiting));
        }
        let step = self.step;
        if free > 0 {
            self.step = step.saturating_mul(2).min(self.most);
        }
        free.min(step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Intake, MOST_AT_ONCE};

    #[test]
    fn it_grows_to_its_bound_while_nobody_waits() {
        let (mut intake, mut under_way) = (Intake::new(None, 1, 100_000), 0);
        let mut steps = 0;
        while under_way < MOST_AT_ONCE {
            under_way += intake.more(0, under_way);
            steps += 1;
        }
        assert_eq!((under_way, intake.more(0, under_way)), (MOST_AT_ONCE, 0));
        assert!(steps <= 5, "{steps}");
    }

    #[test]
    fn a_wait_makes_it_begin_small_again() {
        let mut intake = Intake::new(None, 1, 100_000);
        let first = intake.more(0, 0);
        assert!(intake.more(0, 0) > first);
        assert_eq!(intake.more(first, first), 0);
        assert_eq!(intake.more(0, 0), first);
    }

    proptest! {
        #[test]
        fn never_more_than_asked_and_never_many_in_line(
            most in proptest::option::of(1_usize..5_000),
            lanes in 0_usize..100,
            room in 0_usize..1_000,
            seen in proptest::collection::vec((0_usize..2_000, 0_usize..2_000), 1..40),
        ) {
            let mut intake = Intake::new(most, lanes, room);
            let bound = most.unwrap_or(MOST_AT_ONCE);
            for (waiting, others) in seen {
                let under_way = waiting + others;
                let more = intake.more(waiting, under_way);
                prop_assert!(more == 0 || under_way + more <= bound);
                prop_assert!(more == 0 || more + waiting <= (room / 2).max(1));
                if waiting > 0 {
                    prop_assert!(more == 0 || waiting + more <= 2 * lanes + 64);
                }
            }
        }

        #[test]
        fn it_never_stops_for_good(lanes in 0_usize..100, most in 1_usize..2_000, room in 0_usize..1_000) {
            let mut intake = Intake::new(Some(most), lanes, room);
            intake.more(most, most);
            prop_assert!(intake.more(0, 0) > 0);
        }
    }
}
