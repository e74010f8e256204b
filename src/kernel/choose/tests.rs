//! Is the right lane chosen, and the right amount taken?

use super::*;
use crate::kernel::limits::{Limit, Period, Refill, Source};
use crate::kernel::reservation::{Ending, settle};
use std::num::NonZeroU64;

const NOW: Moment = Moment::from_seconds(1_800_000_000);

#[test]
fn a_small_token_limit_is_not_taken_whole_by_a_guess() {
    let amount = NonZeroU64::new(200).unwrap();
    let limit = Limit {
        resource: Resource::Tokens,
        period: Period::Minute,
        amount,
        refill: Refill::Bucket { burst: amount },
        source: Source::Configured,
    };
    let lane = Lane::new(0, 0, 1, 1, None);
    let limits = [Vec::new().into(), vec![limit].into()];
    let mut all = [Ledger::default(), Ledger::default()];
    let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
    (0..2).for_each(|place| ledgers.get_mut(place).conform(&limits[place], NOW));
    let need = Need {
        input_tokens: 5,
        max_output_tokens: None,
        reserves_max_tokens: true,
        counts_output: true,
        ..Need::of(5)
    };
    let lanes = std::slice::from_ref(&lane);
    let Choice::Reserved(first) = reserve(&mut ledgers, lanes, &[], &need, NOW) else {
        panic!("nothing was used yet")
    };
    // How long answers are only one call finds out.
    let second = reserve(&mut ledgers, lanes, &[], &need, NOW);
    assert!(matches!(second, Choice::NotNow(_)), "{second:?}");
    settle(&mut ledgers, &lane, &first, Ending::Answered(Some(first.amounts)), NOW);
    for _ in 0..4 {
        let choice = reserve(&mut ledgers, lanes, &[], &need, NOW);
        assert!(matches!(choice, Choice::Reserved(_)), "{choice:?}");
    }
    assert!(matches!(reserve(&mut ledgers, lanes, &[], &need, NOW), Choice::NotNow(_)));
}
