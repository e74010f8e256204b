//! The choice of a lane, or the refusal that ends first.
//!
//! Among the lanes that can take a call now, one whose key did well lately comes first, then the least used, then the
//! one with the fewest calls in flight, then the one that rested longest. All meters of the lane, and those of the
//! user, are taken from together or not at all.
//!
//! Where no limit is configured (`Lane::feels_its_way`), four calls may be in flight at first, and one more for each
//! eight that were answered, so that the first refusal meets few.

use super::demand::Demand;
use super::lane::{Lane, Ledgers};
use super::refusal::{Choice, Refusal, RefusedBy};
use super::reservation::Reservation;
use super::user_limit;
use crate::kernel::amounts::Amounts;
use crate::kernel::health::key_health::DEGRADED_BELOW;
use crate::kernel::ledger::Obstacle;
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::moment::Moment;

/// Chooses among `lanes` as [`choose`] does and takes `demand` from the chosen one.
pub fn reserve(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Choice {
    let choice = choose(ledgers, lanes, excluded, demand, now);
    if let Choice::Reserved(reservation) = &choice {
        take_lane(ledgers, lanes, reservation, demand, now);
    }
    choice
}

/// Takes what was chosen.
fn take_lane(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    reservation: &Reservation,
    demand: &Demand,
    now: Moment,
) {
    take(ledgers, &lanes[reservation.lane], reservation);
    if demand.last_resort {
        for place in &lanes[reservation.lane].ledgers {
            ledgers.get_mut(*place).probe_early(now);
        }
    }
    if let Some(user) = reservation.user {
        ledgers.get_mut(user).take(&reservation.of_user, AnswerCharged::AtOnce, now);
    }
}

/// Takes what a call took that was sent without asking. Its lane is the one that would be chosen, or
/// would be free first; the first there is when none would ever be.
pub fn reserve_anyway(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    demand: &Demand,
    now: Moment,
) -> Option<Reservation> {
    let may = |lane: &Lane| demand.only_key.is_none_or(|key| key == lane.key);
    let lane = match choose(ledgers, lanes, &[], demand, now) {
        Choice::Reserved(reservation) => Some(reservation.lane),
        Choice::NotNow(refusal) | Choice::Never(Some(refusal)) => refusal.lane(),
        Choice::Never(None) => None,
    };
    let lane = lane.or_else(|| lanes.iter().position(may))?;
    let (amounts, _) = demand.amounts(&lanes[lane], ledgers);
    let reservation = Reservation::new(lane, &lanes[lane], amounts, demand, ledgers, now);
    take(ledgers, &lanes[lane], &reservation);
    Some(reservation)
}

fn take(ledgers: &mut Ledgers<'_>, lane: &Lane, reservation: &Reservation) {
    if lane.feels_its_way {
        ledgers.get_mut(lane.group_model).watch(reservation.at);
    }
    for place in &lane.ledgers {
        ledgers.get_mut(*place).take(&reservation.amounts, reservation.answer, reservation.at);
    }
}

/// The lane among `lanes` that would take `demand` now, those `excluded` left out: one whose key did well lately before
/// one that did not, then the least used, then the one with the fewest calls in flight, then the one that rested
/// longest; if there is none, the one that will first. A limit of the call's user refuses whatever the lanes say. Takes
/// nothing.
pub fn choose(
    ledgers: &Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Choice {
    let choice = choose_lane(ledgers, lanes, excluded, demand, now);
    let Some(user) = demand.user else { return choice };
    let amounts = match &choice {
        Choice::Reserved(reservation) => reservation.amounts,
        _ => demand.least(),
    };
    let of_user = demand.of_user(&amounts, ledgers.get(user));
    match (user_limit::refusal(ledgers.get(user), &of_user, demand, now), choice) {
        (Some(refusal), _) if refusal.at.is_none() => Choice::Never(Some(refusal)),
        (Some(refusal), _) => Choice::NotNow(refusal),
        (None, Choice::Reserved(mut chosen)) => {
            (chosen.user, chosen.of_user) = (Some(user), of_user);
            Choice::Reserved(chosen)
        }
        (None, choice) => choice,
    }
}

fn choose_lane(
    ledgers: &Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Choice {
    let mut best: Option<(Wear, Reservation)> = None;
    let mut soonest: Option<Refusal> = None;
    let mut too_large: Option<Refusal> = None;
    let mut may_return = false;
    let mut opens = None;
    for (place, lane) in lanes.iter().enumerate() {
        if excluded.contains(&place) || demand.only_key.is_some_and(|key| key != lane.key) {
            continue;
        }
        let (amounts, cut_short) = demand.amounts(lane, ledgers);
        let found = obstacle(ledgers, lane, &amounts, demand, now)
            .or_else(|| ledgers.get(lane.group_model).first_steps(lane.feels_its_way, cut_short))
            .filter(|found| !demand.ahead_of_limits || matches!(found, Obstacle::Block(_)));
        match found {
            None => {
                let wear = wear(ledgers, lane, now);
                if best.as_ref().is_none_or(|(known, _)| wear < *known) {
                    best =
                        Some((wear, Reservation::new(place, lane, amounts, demand, ledgers, now)));
                }
            }
            Some(obstacle @ Obstacle::TooLarge { .. }) => {
                let may_return = false;
                let (at, opens) = (None, None);
                let by = RefusedBy::Lane(place);
                too_large = Some(Refusal { by, at, opens, obstacle, may_return });
            }
            Some(obstacle) => {
                may_return |= matches!(obstacle, Obstacle::Limit { .. })
                    && lane.ledgers.iter().all(|place| {
                        let ledger = ledgers.get(*place);
                        ledger.may_return(&amounts, demand.kept, demand.last_resort, now)
                    });
                let at = obstacle.until();
                opens = opens.into_iter().chain(at).min();
                let by = RefusedBy::Lane(place);
                let refusal = Refusal { by, at, opens, obstacle, may_return: false };
                if soonest.as_ref().is_none_or(|known| sooner(refusal.at, known.at)) {
                    soonest = Some(refusal);
                }
            }
        }
    }
    match (best, soonest) {
        (Some((_, reservation)), _) => Choice::Reserved(reservation),
        (None, Some(refusal)) => Choice::NotNow(Refusal { may_return, opens, ..refusal }),
        (None, None) => Choice::Never(too_large),
    }
}

/// A call in flight may end at any moment, so that counts as sooner than any instant.
fn sooner(at: Option<Moment>, than: Option<Moment>) -> bool {
    match (at, than) {
        (None, Some(_)) => true,
        (Some(at), Some(than)) => at < than,
        (_, None) => false,
    }
}

fn obstacle(
    ledgers: &Ledgers<'_>,
    lane: &Lane,
    amounts: &Amounts,
    demand: &Demand,
    now: Moment,
) -> Option<Obstacle> {
    let mut worst: Option<Obstacle> = None;
    for place in &lane.ledgers {
        match ledgers.get(*place).obstacle(amounts, demand.kept, demand.last_resort, now) {
            Some(found @ Obstacle::TooLarge { .. }) => return Some(found),
            Some(found) if worst.as_ref().is_none_or(|known| found.until() > known.until()) => {
                worst = Some(found);
            }
            _ => {}
        }
    }
    worst
}

/// What speaks against a lane that is free, the first thing most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wear {
    is_degraded: bool,
    fullness: u64,
    in_flight: u64,
    last_sent: Moment,
}

fn wear(ledgers: &Ledgers<'_>, lane: &Lane, now: Moment) -> Wear {
    let health = ledgers.get(lane.key_alone).health().percent(now);
    let mut wear = Wear {
        is_degraded: health < DEGRADED_BELOW,
        fullness: 0,
        in_flight: 0,
        last_sent: Moment::EPOCH,
    };
    for place in &lane.ledgers {
        let ledger = ledgers.get(*place);
        wear.fullness = wear.fullness.max(ledger.fullness(now));
        wear.in_flight = wear.in_flight.max(ledger.in_flight());
        wear.last_sent = wear.last_sent.max(ledger.totals().last_sent);
    }
    wear
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ledger::Ledger;
    use crate::kernel::limits::{Limit, Period, Refill, Resource, Source};
    use crate::kernel::reserve::reservation::{Ending, settle_reservation};
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
        let demand = Demand {
            input_tokens: 5,
            max_output_tokens: None,
            reserves_max_tokens: true,
            counts_output: true,
            ..Demand::of(5)
        };
        let lanes = std::slice::from_ref(&lane);
        let Choice::Reserved(first) = reserve(&mut ledgers, lanes, &[], &demand, NOW) else {
            panic!("nothing was used yet")
        };
        // How long answers are only one call finds out.
        let second = reserve(&mut ledgers, lanes, &[], &demand, NOW);
        assert!(matches!(second, Choice::NotNow(_)), "{second:?}");
        settle_reservation(&mut ledgers, &lane, &first, Ending::Answered(Some(first.amounts)), NOW);
        for _ in 0..4 {
            let choice = reserve(&mut ledgers, lanes, &[], &demand, NOW);
            assert!(matches!(choice, Choice::Reserved(_)), "{choice:?}");
        }
        assert!(matches!(reserve(&mut ledgers, lanes, &[], &demand, NOW), Choice::NotNow(_)));
    }
}
