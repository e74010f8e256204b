//! Limits of a user: one more ledger in the reservation of a call.
//!
//! `users` in the config gives weights and limits. A call of such a user takes from its lane and from the ledger of the
//! user in one atomic change, so the limit holds across targets and processes. A further attempt of the same call takes
//! no second request. Such a refusal never leads to another key or target. A limit shorter than a day is waited for;
//! any other ends the call, with the failure of an earlier attempt if there was one.

use super::demand::Demand;
use super::refusal::Refusal;
use crate::kernel::amounts::Amounts;
use crate::kernel::ledger::{Ledger, Obstacle};
use crate::kernel::moment::Moment;

/// The refusal by the limits of the user of a call that takes `amounts` of them, if they stand in the way.
pub(super) fn refusal(
    user: &Ledger,
    amounts: &Amounts,
    demand: &Demand,
    now: Moment,
) -> Option<Refusal> {
    if demand.ahead_of_limits {
        return None;
    }
    let obstacle = user.obstacle(amounts, 0, false, now)?;
    let used = user.used_of(&obstacle, now);
    let may_return =
        matches!(obstacle, Obstacle::Limit { .. }) && user.may_return(amounts, 0, false, now);
    Some(Refusal::by_user(obstacle, used, 0, may_return))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;
    use crate::kernel::limits::{Limit, Period, Refill, Resource, Source};
    use crate::kernel::reserve::choose::reserve;
    use crate::kernel::reserve::lane::{Lane, Ledgers};
    use crate::kernel::reserve::refusal::{Choice, RefusedBy};
    use crate::kernel::reserve::reservation::{Ending, settle_reservation};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);
    /// What a call of the user asks for whose ledger is at place 2.
    const DEMAND: Demand = Demand { user: Some(2), ..Demand::of(5) };

    fn limit(resource: Resource, period: Period, amount: u64) -> Limit {
        let amount = NonZeroU64::new(amount).unwrap();
        Limit { resource, period, amount, refill: Refill::Rolling, source: Source::Configured }
    }

    /// A lane without limits, and at place 2 the ledger of a user with the limit `own`.
    fn scene(own: Limit) -> (Vec<Ledger>, Lane) {
        let mut all = vec![Ledger::default(); 3];
        let none = Vec::new().into();
        all[..2].iter_mut().for_each(|ledger| ledger.conform(&none, NOW));
        all[2].conform(&vec![own].into(), NOW);
        (all, Lane::new(0, 0, 1, 1, None))
    }

    #[test]
    fn a_used_up_user_limit_takes_nothing_from_the_lane() {
        let (mut all, lane) = scene(limit(Resource::Requests, Period::Minute, 2));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        let mut ask = |now| reserve(&mut ledgers, lanes, &[], &DEMAND, now);
        assert!(matches!(ask(NOW), Choice::Reserved(_)));
        assert!(matches!(ask(NOW), Choice::Reserved(_)));
        let Choice::NotNow(refused) = ask(NOW) else { panic!("two are all") };
        assert_eq!(refused.by, RefusedBy::User { used: 2, ahead: 0 });
        let until = refused.at.unwrap();
        assert!((60..62).contains(&until.since(NOW).as_secs()), "{until:?}");
        assert!(matches!(ask(until), Choice::Reserved(_)));
        assert_eq!(ledgers.get(1).totals().sent, 3);
    }

    #[test]
    fn money_is_counted_when_it_is_known_and_refused_when_it_is_spent() {
        let (mut all, lane) = scene(limit(Resource::Spend, Period::Day, 1_000_000));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        for spent in [400_000, 590_000, 10_000] {
            let Choice::Reserved(held) = reserve(&mut ledgers, lanes, &[], &DEMAND, NOW) else {
                panic!("there is money left")
            };
            let used = Amounts { spend: spent, ..held.amounts };
            settle_reservation(&mut ledgers, &lane, &held, Ending::Answered(Some(used)), NOW);
        }
        let Choice::NotNow(refused) = reserve(&mut ledgers, lanes, &[], &DEMAND, NOW) else {
            panic!("the money is spent")
        };
        assert_eq!(refused.by, RefusedBy::User { used: 1_000_000, ahead: 0 });
        assert!(refused.obstacle.to_string().starts_with("$1.00 per day used up until"));
        let next_day = NOW + Duration::from_secs(86_402);
        let choice = reserve(&mut ledgers, lanes, &[], &DEMAND, next_day);
        assert!(matches!(choice, Choice::Reserved(_)), "{choice:?}");
    }

    #[test]
    fn a_further_attempt_that_never_left_takes_nothing_from_what_was_sent() {
        let (mut all, lane) = scene(limit(Resource::Requests, Period::Minute, 2));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        for is_again in [false, true] {
            let demand = Demand { is_again, ..DEMAND };
            let Choice::Reserved(held) = reserve(&mut ledgers, lanes, &[], &demand, NOW) else {
                panic!("there is one left")
            };
            let ending = if is_again { Ending::NeverSent } else { Ending::Refused };
            settle_reservation(&mut ledgers, &lane, &held, ending, NOW);
        }
        assert_eq!(ledgers.get(2).totals().sent, 1);
    }
}
