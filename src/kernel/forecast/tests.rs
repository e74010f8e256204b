//! Tests of forecasts: they say what the kernel would do.

use std::num::NonZeroU64;

use super::*;
use crate::kernel::limits::{Period, Refill, Source};
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::reserve::lane::Lane;

const NOW: Moment = Moment::from_seconds(1_800_000_000);
const FOR_EVER: PlannedManner = PlannedManner {
    patience: Patience::FOR_EVER,
    in_flight: 0,
    most_in_flight: 1_000,
    most_waiting: 40,
    stands_for: ONE_BY_ONE,
};

fn limit(resource: Resource, period: Period, amount: u64, refill: Refill) -> Limit {
    let amount = NonZeroU64::new(amount).unwrap();
    Limit { resource, period, amount, refill, source: Source::Configured }
}

fn ledgers(limits: &[Limit], keys: usize) -> Vec<Ledger> {
    let mut all = vec![Ledger::default(); 2 * keys];
    for ledger in all.iter_mut().skip(1).step_by(2) {
        ledger.conform(&limits.to_vec().into(), NOW);
    }
    all
}

fn target(keys: usize) -> PlannedTarget {
    PlannedTarget {
        picked: (0..2 * keys).collect(),
        own: None,
        lanes: (0..keys)
            .map(|key| Lane::new(key, 2 * key, 2 * key + 1, 2 * key + 1, None))
            .collect(),
        demand: Demand::of(0),
        output_tokens: 50,
        latency: Duration::from_secs(1),
        line: 0,
        next: None,
    }
}

fn per_minute(amount: u64) -> Limit {
    limit(Resource::Requests, Period::Minute, amount, Refill::Rolling)
}

#[test]
fn rolling_minutes_are_waited_out() {
    let made = forecast(ledgers(&[per_minute(10)], 3), &[target(3)], [5; 90], FOR_EVER, NOW);
    assert_eq!((made.answered, made.refused), (90, 0));
    let took = made.finish.since(NOW).as_secs_f64();
    assert!((121.0..122.0).contains(&took), "two more minutes and an answer: {took}");
    assert_eq!(made.waits[0].bound, Bound::Limit(per_minute(10)));
    assert!(made.shares[0].iter().all(|share| share.requests == 30));
}

#[test]
fn twice_the_limit_that_binds_is_half_the_wait() {
    let mut doubled = ledgers(&[per_minute(10)], 1);
    doubled.iter_mut().for_each(|ledger| ledger.scale(&per_minute(10), 2));
    let took =
        |all| forecast(all, &[target(1)], [5; 61], FOR_EVER, NOW).finish.since(NOW).as_secs() / 60;
    assert_eq!((took(ledgers(&[per_minute(10)], 1)), took(doubled)), (6, 3));
}

#[test]
fn money_is_reserved_and_what_answers_do_not_cost_comes_back() {
    // A call may cost 100 and costs 50; of a thousand, ten may be under way.
    let day = limit(Resource::Spend, Period::Day, 1_000, Refill::Rolling);
    let price = Some(crate::kernel::Price { call: 0, input: 0, output: 1_000_000 });
    let demand =
        Demand { price, max_output_tokens: Some(100), reserves_max_tokens: true, ..Demand::of(0) };
    let priced = PlannedTarget { demand, ..target(1) };
    let patient =
        PlannedManner { patience: Patience::AtHead(Duration::from_secs(300)), ..FOR_EVER };
    let made = forecast(ledgers(&[day], 1), &[priced], [5; 30], patient, NOW);
    assert_eq!((made.answered, made.refused), (19, 11));
    assert!(made.finish.since(NOW) < Duration::from_secs(10));
}

#[test]
fn what_is_too_far_away_goes_to_the_next_target_or_nowhere() {
    let day = limit(Resource::Requests, Period::Day, 20, Refill::Rolling);
    let mut all = ledgers(std::slice::from_ref(&day), 1);
    all.extend(ledgers(&[], 1));
    let second = PlannedTarget { picked: vec![2, 3], line: 1, ..target(1) };
    let patient =
        PlannedManner { patience: Patience::AtHead(Duration::from_secs(300)), ..FOR_EVER };
    let both = [PlannedTarget { next: Some(1), ..target(1) }, second];
    let made = forecast(all.clone(), &both, [5; 50], patient, NOW);
    let requests: Vec<u64> = made.shares.iter().map(|lanes| lanes[0].requests).collect();
    assert_eq!((requests, made.refused), (vec![20, 30], 0));

    let made = forecast(all, &[target(1)], [5; 50], patient, NOW);
    assert_eq!((made.answered, made.refused), (20, 30));
    let why = made.why_refused.unwrap().refusal.obstacle;
    assert!(matches!(why, Obstacle::Limit { limit, .. } if limit == day));
    assert_eq!((&made.waits[0].bound, made.waits[0].refused), (&Bound::Limit(day), 30));
}

#[test]
fn what_never_fits_does_not_hold_up_the_rest() {
    let bucket = Refill::Bucket { burst: NonZeroU64::new(100).unwrap() };
    let tokens = limit(Resource::Tokens, Period::Minute, 100, bucket);
    let made = forecast(ledgers(&[tokens], 1), &[target(1)], [10, 5_000, 10], FOR_EVER, NOW);
    assert_eq!((made.answered, made.refused), (2, 1));
    assert!(matches!(made.why_refused.unwrap().refusal.obstacle, Obstacle::TooLarge { .. }));
}

#[test]
fn calls_in_flight_bind_when_nothing_else_does() {
    let most = limit(Resource::Concurrency, Period::Second, 4, Refill::Release);
    let made = forecast(ledgers(&[most], 1), &[target(1)], [5; 40], FOR_EVER, NOW);
    assert_eq!(made.finish.since(NOW), Duration::from_secs(10));
    assert_eq!(made.waits[0].bound, Bound::InFlight(4));
}

#[test]
fn a_deadline_is_how_long_they_wait() {
    let day = limit(Resource::Requests, Period::Day, 20, Refill::Rolling);
    let until = |hours: u64| {
        let end = NOW + Duration::from_secs(3_600 * hours);
        PlannedManner { patience: Patience::Until(end), ..FOR_EVER }
    };
    let go = |hours| {
        forecast(ledgers(std::slice::from_ref(&day), 1), &[target(1)], [5; 50], until(hours), NOW)
    };
    assert_eq!((go(23).answered, go(23).refused), (20, 30));
    assert_eq!((go(25).answered, go(25).refused), (40, 10));
    assert_eq!(go(49).answered, 50);
}

#[test]
fn what_would_be_answered_after_the_deadline_is_not_answered() {
    let most = limit(Resource::Concurrency, Period::Second, 2, Refill::Release);
    let end = NOW + Duration::from_secs(5);
    let hurried = PlannedManner { patience: Patience::Until(end), ..FOR_EVER };
    let slow = PlannedTarget { latency: Duration::from_secs(2), ..target(1) };
    let made = forecast(ledgers(&[most], 1), &[slow], [5; 40], hurried, NOW);
    assert_eq!((made.answered, made.refused), (4, 36));
    assert!(made.finish <= end);
}

#[test]
fn calls_that_are_under_way_leave_room_when_they_end() {
    let most = limit(Resource::Concurrency, Period::Second, 4, Refill::Release);
    let mut all = ledgers(&[most], 1);
    for _ in 0..4 {
        let one = Amounts { requests: 1, ..Amounts::default() };
        all.iter_mut().for_each(|ledger| ledger.take(&one, AnswerCharged::AtOnce, NOW));
    }
    let made = forecast(all, &[target(1)], [5; 8], FOR_EVER, NOW);
    let took = made.finish.since(NOW).as_secs_f64();
    assert!((2.5..=3.0).contains(&took), "{took}");
    let ours = PlannedManner { in_flight: 4, ..FOR_EVER };
    let made = forecast(ledgers(&[], 1), &[target(1)], [0_u64; 0], ours, NOW);
    assert_eq!((made.answered, made.finish.since(NOW)), (4, Duration::from_secs(1)));
}

#[test]
fn limits_of_the_caller_hold_as_well() {
    let mut all = ledgers(&[per_minute(6_000)], 1);
    all.push(Ledger::default());
    all[2].conform(&vec![per_minute(10)].into(), NOW);
    let of_user = PlannedTarget { picked: vec![0, 1, 2], own: Some(2), ..target(1) };
    let made = forecast(all.clone(), std::slice::from_ref(&of_user), [5; 30], FOR_EVER, NOW);
    let took = made.finish.since(NOW).as_secs_f64();
    assert!((121.0..122.0).contains(&took), "{took}");
    assert_eq!(made.waits[0].bound, Bound::Limit(per_minute(10)));

    all[2] = Ledger::default();
    let day = limit(Resource::Requests, Period::Day, 10, Refill::Rolling);
    all[2].conform(&vec![day].into(), NOW);
    let of_user = PlannedTarget { next: Some(1), ..of_user };
    let second = PlannedTarget { line: 1, ..target(1) };
    let made = forecast(all, &[of_user, second], [5; 30], FOR_EVER, NOW);
    assert_eq!((made.answered, made.refused), (10, 20), "a day of one's own is told at once");
}

#[test]
fn what_can_never_change_is_refused_with_its_reason() {
    let most = limit(Resource::Concurrency, Period::Second, 1, Refill::Release);
    let mut all = ledgers(&[most], 1);
    // A call that is under way nowhere in the plan: its ledger is not one of those that calls end on.
    let one = Amounts { requests: 1, ..Amounts::default() };
    (0..3).for_each(|_| all[1].take(&one, AnswerCharged::AtOnce, NOW));
    let made = forecast(all, &[target(1)], [5; 4], FOR_EVER, NOW);
    assert_eq!((made.answered, made.refused), (4, 0), "three end within the second");

    let small = limit(Resource::Tokens, Period::Minute, 4, Refill::Rolling);
    let made = forecast(ledgers(&[small], 1), &[target(1)], [5; 4], FOR_EVER, NOW);
    assert_eq!((made.answered, made.refused), (0, 4));
}

#[test]
fn two_routes_share_what_their_ledgers_share() {
    let mut all = ledgers(&[per_minute(10)], 1);
    all.push(Ledger::default());
    let second = PlannedTarget {
        picked: vec![2, 1],
        line: 1,
        lanes: vec![Lane::new(0, 0, 1, 1, None)],
        ..target(1)
    };
    let prompts = (0..40).map(|number| PlannedPrompt { target: number % 2, ..5.into() });
    let made = forecast(all, &[target(1), second], prompts, FOR_EVER, NOW);
    let took = made.finish.since(NOW).as_secs_f64();
    assert!((181.0..182.0).contains(&took), "{took}");
    assert_eq!((made.shares[0][0].requests, made.shares[1][0].requests), (20, 20));
}

#[test]
fn whoever_is_held_up_by_a_limit_of_their_own_holds_up_nobody_else() {
    let mut all = ledgers(&[], 1);
    all.extend([Ledger::default(), Ledger::default()]);
    all[2].conform(&vec![per_minute(1)].into(), NOW);
    let of = |own| PlannedTarget { picked: vec![0, 1, own], own: Some(2), ..target(1) };
    let prompt = |target| PlannedPrompt { target, ..5.into() };
    let prompts = [prompt(0), prompt(0), prompt(1), prompt(1)];
    let made = forecast(all, &[of(2), of(3)], prompts, FOR_EVER, NOW);
    assert_eq!(made.answered, 4);
    assert_eq!(made.waits[0].bound, Bound::Limit(per_minute(1)));
    let took = made.finish.since(NOW).as_secs_f64();
    assert!((61.0..62.0).contains(&took), "{took}");
}

#[test]
fn calls_of_others_only_stand_before() {
    let prompts = [false, false, true].map(|is_ours| PlannedPrompt { is_ours, ..5.into() });
    let made = forecast(ledgers(&[per_minute(1)], 1), &[target(1)], prompts, FOR_EVER, NOW);
    assert_eq!((made.answered, made.shares[0][0].requests), (1, 1));
    assert!(made.finish.since(NOW) > Duration::from_secs(120));
}

#[test]
fn a_stated_concurrency_is_doubled_and_steps_are_not() {
    let most = limit(Resource::Concurrency, Period::Second, 4, Refill::Release);
    let mut all = ledgers(&[most], 1);
    let mut manner = FOR_EVER;
    assert!(!doubled(&mut all, &mut manner, &Bound::InFlight(5)));
    assert!(doubled(&mut all, &mut manner, &Bound::InFlight(4)));
    let made = forecast(all, &[target(1)], [5; 40], manner, NOW);
    assert_eq!(made.finish.since(NOW), Duration::from_secs(5));
    assert!(doubled(&mut [], &mut manner, &Bound::Concurrency(10)));
    assert_eq!(manner.most_in_flight, 20);
}

#[test]
fn a_lane_that_waits_for_a_call_to_end_hides_no_lane_that_opens_before() {
    let one = limit(Resource::Concurrency, Period::Second, 1, Refill::Release);
    let bucket = Refill::Bucket { burst: NonZeroU64::new(1).unwrap() };
    let each_second = limit(Resource::Requests, Period::Minute, 60, bucket);
    let mut all = ledgers(&[one], 1);
    all.extend(ledgers(&[each_second], 1));
    let slow = PlannedTarget { latency: Duration::from_secs(60), ..target(2) };
    let made = forecast(all, &[slow], [5; 11], FOR_EVER, NOW);
    assert_eq!(made.shares[0][1].requests, 10, "one a second");
    let took = made.finish.since(NOW);
    assert!(took < Duration::from_secs(72), "nine seconds and a bit, and an answer: {took:?}");
}
