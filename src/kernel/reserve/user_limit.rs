//! Does a caller's own limit allow a call, beside those of the lane it would take?

use super::choose::{Choice, choose, take_lane};
use super::demand::{Demand, Patience};
use super::lane::{Lane, Ledgers};
use super::reservation::{Ending, Reservation};
use crate::kernel::amounts::Amounts;
use crate::kernel::ledger::{Ledger, Obstacle};
use crate::kernel::limits::Period;
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::moment::Moment;

/// A limit of the caller that stands in the way. Another key or another model would not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLimit {
    /// The limit and when it ends.
    pub obstacle: Obstacle,
    /// How much of it is used, in units of its resource.
    pub used: u64,
    /// Whether calls of the same caller that are in flight may give back enough before that.
    pub may_return: bool,
    /// How many calls of the same caller wait already and go first.
    pub ahead: u64,
}

impl OwnLimit {
    /// When there is enough again; `None`: never.
    pub fn until(&self) -> Option<Moment> {
        self.obstacle.until()
    }

    /// Until when to wait in line for it; `None` when that is not worth it: a used-up day is told at once, and so is
    /// what lasts longer than the caller's patience.
    pub fn worth_waiting(&self, patience: Patience, now: Moment) -> Option<Moment> {
        let Obstacle::Limit { limit, until, .. } = &self.obstacle else { return None };
        (limit.period < Period::Day && patience.covers(*until, now)).then_some(*until)
    }
}

/// Ends what a reservation holds of the caller's own ledger.
pub fn settle_own(own: &mut Ledger, held: &Reservation, ending: Ending, now: Moment) {
    own.ended(held.at);
    own.release(&held.own);
    // A call of many attempts is one request to the caller; all that providers bill is the caller's.
    let used = ending.used(&held.own);
    let used = Amounts { requests: used.requests.min(held.own.requests), ..used };
    own.correct(&held.own, &used, AnswerCharged::AtOnce, held.at, now);
    // A further attempt was not counted as one more.
    if matches!(ending, Ending::NeverSent) && held.own.requests > 0 {
        own.forget_send();
    }
}

/// Chooses among `lanes` as [`super::choose`] does, asks the ledger at `own` as well, and takes from both when both
/// allow it.
///
/// # Errors
/// [`OwnLimit`] when the caller's own limit stands in the way, whatever the lanes say; nothing was taken.
pub fn reserve_for(
    own: usize,
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Result<Choice, OwnLimit> {
    let mut choice = choose(ledgers, lanes, excluded, demand, now);
    let amounts = match &choice {
        Choice::Reserved(reservation) => reservation.amounts,
        _ => Amounts {
            input_tokens: demand.input_tokens,
            spend: demand.price.map_or(0, |price| price.spend(demand.input_tokens, 0)),
            ..Amounts::default()
        },
    };
    let amounts = demand.of_own(&amounts, ledgers.get(own));
    if !demand.ahead_of_limits
        && let Some(obstacle) = ledgers.get(own).obstacle(&amounts, 0, false, now)
    {
        let used = ledgers.get(own).used_of(&obstacle, now);
        let may_return = matches!(obstacle, Obstacle::Limit { .. })
            && ledgers.get(own).may_return(&amounts, 0, false, now);
        return Err(OwnLimit { obstacle, used, may_return, ahead: 0 });
    }
    if let Choice::Reserved(reservation) = &mut choice {
        reservation.own = amounts;
        take_lane(ledgers, lanes, reservation, demand, now);
        ledgers.get_mut(own).take(&amounts, AnswerCharged::AtOnce, now);
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;
    use crate::kernel::{Limit, Refill, Resource, Source};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn limit(resource: Resource, period: Period, amount: u64) -> Limit {
        let amount = NonZeroU64::new(amount).unwrap();
        Limit { resource, period, amount, refill: Refill::Rolling, source: Source::Configured }
    }

    /// A lane without limits, and at place 2 the ledger of somebody with `own`.
    fn scene(own: Limit) -> (Vec<Ledger>, Lane) {
        let mut all = vec![Ledger::default(); 3];
        let none = Vec::new().into();
        all[..2].iter_mut().for_each(|ledger| ledger.conform(&none, NOW));
        all[2].conform(&vec![own].into(), NOW);
        (all, Lane::new(0, 0, 1, 1, None))
    }

    #[test]
    fn a_used_up_own_limit_takes_nothing_from_the_lane() {
        let (mut all, lane) = scene(limit(Resource::Requests, Period::Minute, 2));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        let mut ask = |now| reserve_for(2, &mut ledgers, lanes, &[], &Demand::of(5), now);
        assert!(matches!(ask(NOW), Ok(Choice::Reserved(_))));
        assert!(matches!(ask(NOW), Ok(Choice::Reserved(_))));
        let refused = ask(NOW).unwrap_err();
        assert_eq!(refused.used, 2);
        let until = refused.until().unwrap();
        assert!((60..62).contains(&until.since(NOW).as_secs()), "{until:?}");
        assert!(matches!(ask(until), Ok(Choice::Reserved(_))));
        assert_eq!(ledgers.get(1).totals().sent, 3);
    }

    #[test]
    fn money_is_counted_when_it_is_known_and_refused_when_it_is_spent() {
        let (mut all, lane) = scene(limit(Resource::Spend, Period::Day, 1_000_000));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        for spent in [400_000, 590_000, 10_000] {
            let Ok(Choice::Reserved(held)) =
                reserve_for(2, &mut ledgers, lanes, &[], &Demand::of(5), NOW)
            else {
                panic!("there is money left")
            };
            let used = Amounts { spend: spent, ..held.amounts };
            settle_own(ledgers.get_mut(2), &held, Ending::Answered(Some(used)), NOW);
        }
        let refused = reserve_for(2, &mut ledgers, lanes, &[], &Demand::of(5), NOW).unwrap_err();
        assert_eq!(refused.used, 1_000_000);
        assert!(refused.obstacle.to_string().starts_with("$1.00 per day used up until"));
        let next_day = NOW + Duration::from_secs(86_402);
        assert!(reserve_for(2, &mut ledgers, lanes, &[], &Demand::of(5), next_day).is_ok());
    }

    #[test]
    fn a_further_attempt_that_never_left_takes_nothing_from_what_was_sent() {
        let (mut all, lane) = scene(limit(Resource::Requests, Period::Minute, 2));
        let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2]);
        let lanes = std::slice::from_ref(&lane);
        for is_again in [false, true] {
            let demand = Demand { is_again, ..Demand::of(5) };
            let Ok(Choice::Reserved(held)) = reserve_for(2, &mut ledgers, lanes, &[], &demand, NOW)
            else {
                panic!("there is one left")
            };
            let ending = if is_again { Ending::NeverSent } else { Ending::Refused };
            settle_own(ledgers.get_mut(2), &held, ending, NOW);
        }
        assert_eq!(ledgers.get(2).totals().sent, 1);
    }
}
