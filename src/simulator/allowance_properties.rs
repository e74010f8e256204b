//! Property tests: the wait that an allowance names is exact.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::allowance::{Allowance, Wait};

const MINUTE: i64 = 60_000_000_000;
/// The evening before the clocks of Los Angeles change.
const EVENING: i64 = 1_772_935_200 * 1_000_000_000;

fn allowances(amount: u64, burst: u64) -> Vec<Allowance> {
    let zone = TimeZone::get("America/Los_Angeles").unwrap();
    vec![
        Allowance::bucket(amount, burst, MINUTE, EVENING),
        Allowance::rolling(amount, MINUTE),
        Allowance::fixed(amount, MINUTE),
        Allowance::calendar_day(amount, zone),
    ]
}

proptest! {
    /// A request that waits as long as it says may pass, and a nanosecond earlier not.
    #[test]
    fn a_wait_is_neither_too_long_nor_too_short(
        amount in 1_u64..200,
        burst in 1_u64..200,
        steps in prop::collection::vec((0_i64..20_000_000_000, 0_u64..60), 1..80),
    ) {
        for mut allowance in allowances(amount, burst) {
            let mut now = EVENING;
            for &(pause, wanted) in &steps {
                now += pause;
                match allowance.wait_for(wanted, now) {
                    Wait::Not => allowance.take(wanted, now),
                    Wait::Nanos(nanos) => {
                        prop_assert!(nanos > 0);
                        let mut then = allowance.clone();
                        prop_assert_ne!(then.wait_for(wanted, now + nanos - 1), Wait::Not);
                        prop_assert_eq!(then.wait_for(wanted, now + nanos), Wait::Not);
                    }
                    Wait::Never => prop_assert!(wanted > amount.min(burst)),
                }
            }
            let whole_in = allowance.whole_in(now);
            prop_assert_eq!(allowance.left(now + whole_in), amount);
            prop_assert_eq!(allowance.whole_in(now + whole_in), 0);
        }
    }

    /// What is taken and then corrected to something else leaves the same as taking that at once.
    #[test]
    fn a_correction_is_the_same_as_having_known(
        before in 0_u64..50,
        charged in 0_u64..50,
        real in 0_u64..50,
    ) {
        for mut allowance in allowances(200, 200) {
            let mut known = allowance.clone();
            for (each, second) in [(&mut allowance, charged), (&mut known, real)] {
                each.take(before, EVENING);
                each.take(second, EVENING + 1_000);
            }
            let change = i64::try_from(real).unwrap() - i64::try_from(charged).unwrap();
            allowance.correct(change, EVENING + 1_000, EVENING + 2_000);
            prop_assert_eq!(allowance.left(EVENING + 2_000), known.left(EVENING + 2_000));
        }
    }
}
