//! The estimated time of arrival of a place in a waiting line.
//!
//! It is the first instant at which all groups together can have let through what goes ahead. It is never too late:
//! what others take in between and what is kept for higher priorities are left out of account, and calls in flight may
//! give back all that they reserved for their answers. So a deadline before that instant cannot be met, and such a call
//! is refused at once. [`user_eta`] judges the calls of one user by that user's limits alone.

use std::time::Duration;

use crate::kernel::amounts::Amounts;
use crate::kernel::failure::Origin;
use crate::kernel::ledger::Ledger;
use crate::kernel::limits::{Limit, Period, Refill, Resource};
use crate::kernel::meters::{Meter, Rule};
use crate::kernel::moment::Moment;
use crate::kernel::reserve::lane::{Lane, Ledgers};

/// Further away than this is not looked for.
const HORIZON: Duration = Duration::from_secs(62 * 86_400);
/// How exactly an instant is found.
const EXACT: Duration = Duration::from_millis(1);

/// The first instant at which `lanes` together can have let through `amounts`; `None` when it is more than two months
/// away.
pub fn eta(
    ledgers: &Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    amounts: &Amounts,
    now: Moment,
) -> Option<Moment> {
    let enough_by = |span: Duration| {
        RESOURCES.iter().all(|resource| {
            let wanted = amounts.of(*resource);
            wanted == 0 || together(ledgers, lanes, excluded, *resource, span, now) >= wanted
        })
    };
    first(enough_by, now)
}

/// The first instant at which the limits of `ledger` alone can have let through `amounts`, and the limit that decides
/// it; `None` when it has no limit that counts them. The instant is `None` when it is more than two months away.
pub fn user_eta(
    ledger: &Ledger,
    amounts: &Amounts,
    now: Moment,
) -> Option<(Limit, Option<Moment>)> {
    let counted = ledger.rules_and_meters().filter(|(rule, _)| {
        RESOURCES.contains(&rule.limit.resource) && amounts.of(rule.limit.resource) > 0
    });
    let of_limit = |(rule, meter): (&Rule, &Meter)| {
        let resource = rule.limit.resource;
        let (wanted, returnable) = (amounts.of(resource), ledger.returnable(resource));
        let enough_by = |span| of_meter(rule, meter, returnable, span, now) >= wanted;
        (rule.limit.clone(), first(enough_by, now))
    };
    counted.map(of_limit).max_by_key(|(_, at)| at.unwrap_or(Moment::FAR_FUTURE))
}

/// What places in a line are judged by.
const RESOURCES: [Resource; 4] =
    [Resource::Requests, Resource::Tokens, Resource::InputTokens, Resource::OutputTokens];

/// The first instant that satisfies `enough_by`; `None` when it is too far away.
fn first(enough_by: impl Fn(Duration) -> bool, now: Moment) -> Option<Moment> {
    if enough_by(Duration::ZERO) {
        return Some(now);
    }
    if !enough_by(HORIZON) {
        return None;
    }
    let (mut early, mut late) = (Duration::ZERO, HORIZON);
    while late - early > EXACT {
        let middle = (early + late) / 2;
        if enough_by(middle) { late = middle } else { early = middle }
    }
    Some(now + late)
}

/// What all groups can have let through when `span` is over.
fn together(
    ledgers: &Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    resource: Resource,
    span: Duration,
    now: Moment,
) -> u64 {
    let mut sum: u64 = 0;
    for (place, lane) in lanes.iter().enumerate() {
        // Keys of one group share what it has.
        let is_first = !lanes[..place]
            .iter()
            .enumerate()
            .any(|(other, before)| before.group == lane.group && !excluded.contains(&other));
        if excluded.contains(&place) || !is_first {
            continue;
        }
        let of_ledger = |ledger: &usize| capacity_by(ledgers.get(*ledger), resource, span, now);
        sum = sum.saturating_add(lane.ledgers.iter().map(of_ledger).min().unwrap_or(u64::MAX));
    }
    sum
}

/// How much of `resource` a ledger can have let through, at most, when `span` is over; `u64::MAX` when nothing limits
/// it.
fn capacity_by(ledger: &Ledger, resource: Resource, span: Duration, now: Moment) -> u64 {
    // What a provider closed lets nothing through until it opens; our own guesses may be wrong.
    let closed = ledger.blocks().iter().filter(|block| block.origin == Origin::Provider);
    if closed.map(|block| block.until).max().is_some_and(|until| until > now + span) {
        return 0;
    }
    let counted = ledger.rules_and_meters().filter(|(rule, _)| rule.limit.resource == resource);
    let returnable = ledger.returnable(resource);
    let of_limit = |(rule, meter)| of_meter(rule, meter, returnable, span, now);
    counted.map(of_limit).min().unwrap_or(u64::MAX)
}

/// What a meter can have let through when `span` is over, if `returnable` is given back at once.
fn of_meter(rule: &Rule, meter: &Meter, returnable: u64, span: Duration, now: Moment) -> u64 {
    let limit = &rule.limit;
    let amount = limit.amount.get();
    let window = limit.period.length();
    match &limit.refill {
        Refill::Bucket { .. } => {
            // What is missing refills as evenly as what is taken next.
            let rate = amount as f64 / window.as_secs_f64();
            let missing = meter.whole_at(rule, now).since(now).as_secs_f64();
            let missing = (missing - returnable as f64 / rate).max(0.0);
            (rule.most() as f64 + rate * (span.as_secs_f64() - missing) + 1e-3).max(0.0) as u64
        }
        Refill::Rolling => {
            // What has passed in this window may pass once more in each later one.
            let windows = (span.as_nanos() / window.as_nanos()) as u64;
            let into = Duration::from_nanos((span.as_nanos() % window.as_nanos()) as u64);
            let stays = meter.used(rule, 0, now + into).saturating_sub(returnable);
            let there = amount.saturating_sub(stays);
            there.saturating_add(amount.saturating_mul(windows))
        }
        Refill::Calendar { .. } => {
            let stays = meter.used(rule, 0, now).saturating_sub(returnable);
            let there = amount.saturating_sub(stays);
            let turn = next_turn(rule, meter, now);
            let Some(after) = (now + span >= turn).then(|| (now + span).since(turn)) else {
                return there;
            };
            // A civil day may be an hour short, a month two days.
            let shortest = match limit.period {
                Period::Month => Duration::from_secs(28 * 86_400 - 3_600),
                _ => window.saturating_sub(Duration::from_secs(3_600)),
            };
            let turns = 1 + (after.as_nanos() / shortest.as_nanos().max(1)) as u64;
            there.saturating_add(amount.saturating_mul(turns))
        }
        Refill::Release => u64::MAX,
    }
}

/// When the civil period turns; an unused one may turn at any moment.
fn next_turn(rule: &Rule, meter: &Meter, now: Moment) -> Moment {
    if meter.used(rule, 0, now) == 0 { now } else { meter.whole_at(rule, now) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Choice, Demand, Limit, Source, choose, reserve};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn limit(resource: Resource, amount: u64, refill: u8) -> Limit {
        let number = NonZeroU64::new(amount).unwrap();
        let refill = match refill {
            0 => Refill::Bucket { burst: number },
            1 => Refill::Rolling,
            _ => Refill::Bucket { burst: NonZeroU64::new(amount.div_ceil(3)).unwrap() },
        };
        Limit {
            resource,
            period: Period::Minute,
            amount: number,
            refill,
            source: Source::Configured,
        }
    }

    /// Two keys under these limits, each a group of its own.
    fn scene(limits: Vec<Limit>) -> (Vec<Ledger>, Vec<Lane>) {
        let mut all = vec![Ledger::default(); 4];
        let (stated, none) = (limits.into(), Vec::new().into());
        for (place, ledger) in all.iter_mut().enumerate() {
            ledger.conform(if place % 2 == 1 { &stated } else { &none }, NOW);
        }
        (all, (0..2).map(|key| Lane::new(key, 2 * key, 2 * key + 1, 2 * key + 1, None)).collect())
    }

    proptest! {
        /// Whatever the limits and sizes: served one after the other as fast as the meters allow, nobody is served
        /// before the instant that was estimated for its place.
        #[test]
        fn nobody_is_served_before_its_estimate(
            sizes in prop::collection::vec(1_u64..40, 2..60),
            rpm in 1_u64..20,
            tpm in 40_u64..300,
            refill in 0_u8..3,
        ) {
            let limits = vec![limit(Resource::Requests, rpm, refill), limit(Resource::Tokens, 120.max(tpm), refill)];
            let (mut all, lanes) = scene(limits);
            let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2, 3]);
            let mut ahead = Amounts::default();
            let estimates: Vec<Option<Moment>> = sizes.iter().map(|size| {
                ahead = ahead.plus(&Amounts { requests: 1, input_tokens: *size, ..Amounts::default() });
                eta(&ledgers, &lanes, &[], &ahead, NOW)
            }).collect();
            let mut now = NOW;
            for (size, estimate) in sizes.iter().zip(estimates) {
                loop {
                    match reserve(&mut ledgers, &lanes, &[], &Demand::of(*size), now) {
                        Choice::Reserved(_) => break,
                        Choice::NotNow(refusal) => now = refusal.at.unwrap(),
                        Choice::Never(_) => unreachable!(),
                    }
                }
                let estimate = estimate.unwrap();
                prop_assert!(estimate <= now + EXACT, "estimated {estimate:?}, served {now:?}");
            }
        }
    }

    #[test]
    fn what_calls_in_flight_reserved_for_their_answers_may_be_there_at_once() {
        for refill in 0..3 {
            let (mut all, lanes) = scene(vec![limit(Resource::Tokens, 300, refill)]);
            let mut ledgers = Ledgers::new(&mut all, &[0, 1, 2, 3]);
            let demand = Demand {
                max_output_tokens: Some(90),
                reserves_max_tokens: true,
                counts_output: true,
                ..Demand::of(10)
            };
            let mut held = Vec::new();
            while let Choice::Reserved(one) = reserve(&mut ledgers, &lanes, &[], &demand, NOW) {
                held.push(one);
            }
            // Of each call only the prompt is sure to be used.
            let free: u64 = if refill == 2 { 2 * 90 } else { 2 * 270 };
            let at = |tokens| {
                let amounts = Amounts { requests: 1, input_tokens: tokens, ..Amounts::default() };
                eta(&ledgers, &lanes, &[], &amounts, NOW)
            };
            assert_eq!(at(free), Some(NOW), "{refill}");
            assert!(at(free + 20) > Some(NOW), "{refill}");
        }
    }

    #[test]
    fn a_place_behind_a_hundred_is_minutes_away() {
        let (mut all, lanes) = scene(vec![limit(Resource::Requests, 10, 0)]);
        let ledgers = Ledgers::new(&mut all, &[0, 1, 2, 3]);
        assert!(matches!(choose(&ledgers, &lanes, &[], &Demand::of(1), NOW), Choice::Reserved(_)));
        let ahead = Amounts { requests: 101, ..Amounts::default() };
        let seconds = eta(&ledgers, &lanes, &[], &ahead, NOW).unwrap().since(NOW).as_secs();
        // Twenty at once, then twenty a minute; the other key alone takes twice as long.
        assert!((220..=247).contains(&seconds), "{seconds}");
        let alone = eta(&ledgers, &lanes, &[0], &ahead, NOW).unwrap().since(NOW).as_secs();
        assert!((530..=547).contains(&alone), "{alone}");
    }
}
