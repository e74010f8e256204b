//! Tests of the state machine of a call.

use super::*;
use crate::kernel::{Block, FailureClass, Origin, RefusedBy, Scope, Until};

const NOW: Moment = Moment::from_seconds(1_800_000_000);

fn call(targets: usize) -> Call {
    Call::new(CallPolicy {
        retry: true,
        retries: vec![RetryPolicy::default(); targets],
        fallback: true,
        deadline: None,
        max_wait: Duration::from_secs(300),
    })
}

fn failed(class: FailureClass) -> Event {
    failed_with(Failure::new(class, Scope::Call, ""))
}

fn failed_with(failure: Failure) -> Event {
    Event::Failed { failure: Box::new(failure), budget_wait: Duration::ZERO, entropy: 0.0 }
}

fn reserve(target: usize, excluded: &[usize]) -> Action {
    Action::Reserve { target, excluded: excluded.to_vec(), last_resort: false }
}

fn closed_for(seconds: u64) -> Event {
    let until = NOW + Duration::from_secs(seconds);
    let failure = Failure {
        until: Some(Until { at: until, origin: Origin::Provider }),
        ..Failure::new(FailureClass::DailyQuota, Scope::GroupModel, "")
    };
    let block = Block::after(&failure, 0, NOW, 0.0).unwrap();
    let obstacle = Obstacle::Block(block);
    let (at, opens) = (Some(until), Some(until));
    Event::NotNow(Refusal { by: RefusedBy::Lane(0), at, opens, obstacle, may_return: false }.into())
}

/// Feeds the events and returns the actions that followed.
fn run(call: &mut Call, events: Vec<Event>) -> Vec<Action> {
    events.into_iter().map(|event| call.step(NOW, event)).collect()
}

#[test]
fn a_refusal_for_rate_goes_to_the_next_lane_for_free_and_three_times_back_to_the_same_one() {
    let mut call = call(1);
    call.step(NOW, Event::Begin);
    for lane in [0, 1, 0, 1, 0] {
        assert_eq!(call.step(NOW, Event::Reserved { lane }), Action::Send);
        let next = call.step(NOW, failed(FailureClass::RateLimited));
        assert!(matches!(next, Action::Reserve { .. }));
    }
    // Two first visits and three retries: both lanes are excluded now.
    assert_eq!(call.reserve(), reserve(0, &[0, 1]));
    assert!(matches!(
        call.step(NOW, Event::Never(None)),
        Action::GiveUp(GiveUp::Failed(failure)) if failure.class == FailureClass::RateLimited
    ));
}

#[test]
fn a_server_that_always_breaks_is_tried_four_times_with_growing_pauses() {
    let mut call = call(1);
    call.step(NOW, Event::Begin);
    let mut pauses = Vec::new();
    let end = loop {
        call.step(NOW, Event::Reserved { lane: pauses.len() % 2 });
        match call.step(NOW, failed(FailureClass::ServerError)) {
            Action::Rest(until) => pauses.push((until - NOW).as_secs()),
            other => break other,
        }
        call.step(NOW, Event::Rested);
    };
    assert_eq!(pauses, [1, 2, 4]);
    assert!(matches!(end, Action::GiveUp(GiveUp::Failed(_))));
}

#[test]
fn with_a_fallback_an_overloaded_target_gets_one_more_chance() {
    let mut call = call(2);
    let actions = run(
        &mut call,
        vec![
            Event::Begin,
            Event::Reserved { lane: 0 },
            failed(FailureClass::Overloaded),
            Event::Rested,
            Event::Reserved { lane: 0 },
            failed(FailureClass::Overloaded),
        ],
    );
    assert_eq!(actions.last(), Some(&reserve(1, &[])));
}

#[test]
fn each_target_has_its_own_patience() {
    let quick = RetryPolicy { base: Duration::from_millis(100), ..RetryPolicy::default() };
    let slow = RetryPolicy { max_retries: 2, multiplier: 3.0, ..RetryPolicy::default() };
    let mut call = Call::new(CallPolicy { retries: vec![quick, slow], ..call(2).policy });
    call.step(NOW, Event::Begin);
    let mut pauses = Vec::new();
    let end = loop {
        call.step(NOW, Event::Reserved { lane: 0 });
        match call.step(NOW, failed(FailureClass::ServerError)) {
            Action::Rest(until) => {
                pauses.push((call.target(), (until - NOW).as_millis()));
                call.step(NOW, Event::Rested);
            }
            Action::Reserve { .. } => {}
            other => break other,
        }
    };
    assert_eq!(pauses, [(0, 100), (1, 1_000), (1, 3_000)]);
    assert!(matches!(end, Action::GiveUp(GiveUp::Failed(_))));
}

#[test]
fn what_cannot_succeed_is_never_tried_again() {
    for class in FailureClass::ALL {
        let mut call = call(1);
        let actions =
            run(&mut call, vec![Event::Begin, Event::Reserved { lane: 0 }, failed(class)]);
        let stops = matches!(actions[2], Action::GiveUp(_));
        let bars_the_lane = actions[2] == reserve(0, &[0]);
        match class.remedy().same_lane {
            SameLane::Never => assert!(stops || bars_the_lane, "{class}"),
            SameLane::AfterBlock => assert_eq!(actions[2], reserve(0, &[]), "{class}"),
            SameLane::AfterBackoff => assert!(matches!(actions[2], Action::Rest(_)), "{class}"),
        }
    }
}

#[test]
fn without_retry_one_attempt_is_made_at_each_target() {
    let mut call = Call::new(CallPolicy { retry: false, ..call(2).policy });
    let actions = run(
        &mut call,
        vec![
            Event::Begin,
            Event::Reserved { lane: 0 },
            failed(FailureClass::RateLimited),
            Event::Reserved { lane: 0 },
            failed(FailureClass::ServerError),
        ],
    );
    assert_eq!(actions[2], reserve(1, &[]));
    assert!(matches!(actions[4], Action::GiveUp(GiveUp::Failed(_))));
}

#[test]
fn a_minute_is_waited_for_and_a_day_is_not() {
    let mut short = call(1);
    assert!(matches!(run(&mut short, vec![Event::Begin, closed_for(60)])[1], Action::Wait { .. }));
    let mut long = call(1);
    assert!(matches!(
        run(&mut long, vec![Event::Begin, closed_for(40_000)])[1],
        Action::GiveUp(GiveUp::TooFar(_))
    ));
    let mut elsewhere = call(2);
    assert_eq!(run(&mut elsewhere, vec![Event::Begin, closed_for(40_000)])[1], reserve(1, &[]));
}

#[test]
fn what_may_be_given_back_is_waited_for_once_by_who_has_nowhere_else_to_go() {
    let may_return = |seconds| match closed_for(seconds) {
        Event::NotNow(refusal) => Event::NotNow(Refusal { may_return: true, ..*refusal }.into()),
        other => other,
    };
    let mut alone = call(1);
    let actions = run(&mut alone, vec![Event::Begin, may_return(40_000), may_return(40_000)]);
    assert!(matches!(actions[1], Action::Wait { .. }));
    assert!(matches!(actions[2], Action::GiveUp(GiveUp::TooFar(_))));
    let mut elsewhere = call(2);
    let actions = run(&mut elsewhere, vec![Event::Begin, may_return(40_000)]);
    assert_eq!(actions[1], reserve(1, &[]));
}

#[test]
fn a_limit_of_its_user_ends_the_call_with_what_failed_before() {
    let limit = || {
        let limit = crate::kernel::Limit {
            resource: crate::kernel::Resource::Tokens,
            period: crate::kernel::Period::Day,
            amount: std::num::NonZeroU64::MIN,
            refill: crate::kernel::Refill::Rolling,
            source: crate::kernel::Source::Configured,
        };
        let until = NOW + Duration::from_secs(40_000);
        let obstacle = Obstacle::Limit { limit, until, is_kept: false };
        Event::NotNow(Refusal::by_user(obstacle, 1, 0, false).into())
    };
    let actions = run(&mut call(2), vec![Event::Begin, limit()]);
    let Action::GiveUp(GiveUp::TooFar(refusal)) = &actions[1] else { panic!("{:?}", actions[1]) };
    assert!(refusal.is_by_user(), "{refusal:?}");
    let broke = failed_with(Failure::new(FailureClass::ServerError, Scope::Call, "it burns"));
    let events = vec![Event::Begin, Event::Reserved { lane: 0 }, broke, Event::Rested, limit()];
    let actions = run(&mut call(1), events);
    let Action::GiveUp(GiveUp::Failed(failure)) = &actions[4] else { panic!("{:?}", actions[4]) };
    assert!(failure.message.starts_with("it burns; it was not tried again"), "{failure:?}");
}

#[test]
fn a_deadline_that_cannot_be_met_fails_at_once_and_a_far_one_is_waited_for() {
    let with_deadline = |seconds| {
        let deadline = Some(NOW + Duration::from_secs(seconds));
        Call::new(CallPolicy { deadline, ..call(1).policy })
    };
    let mut near = with_deadline(10);
    assert!(matches!(
        run(&mut near, vec![Event::Begin, closed_for(60)])[1],
        Action::GiveUp(GiveUp::TooFar(_))
    ));
    let mut far = with_deadline(50_000);
    assert!(matches!(
        run(&mut far, vec![Event::Begin, closed_for(40_000)])[1],
        Action::Wait { .. }
    ));
}

#[test]
fn a_providers_retry_after_is_the_floor_of_a_pause() {
    let mut call = call(1);
    let failure = Failure {
        until: Some(Until { at: NOW + Duration::from_secs(30), origin: Origin::Provider }),
        ..Failure::new(FailureClass::Overloaded, Scope::Call, "")
    };
    let actions =
        run(&mut call, vec![Event::Begin, Event::Reserved { lane: 0 }, failed_with(failure)]);
    assert_eq!(actions[2], Action::Rest(NOW + Duration::from_secs(30)));
}

proptest::proptest! {
    /// Whatever happens, a call ends after a bounded number of attempts.
    #[test]
    fn every_call_ends(
        classes in proptest::collection::vec(0_usize..14, 200),
        lanes in proptest::collection::vec(0_usize..3, 200),
    ) {
        let mut call = call(3);
        let mut action = call.step(NOW, Event::Begin);
        let mut attempts = 0;
        loop {
            action = match action {
                Action::Reserve { excluded, .. } => {
                    match (0..3).map(|n| (n + lanes[attempts]) % 3).find(|lane| !excluded.contains(lane)) {
                        Some(lane) => call.step(NOW, Event::Reserved { lane }),
                        None => call.step(NOW, Event::Never(None)),
                    }
                }
                Action::Send => {
                    attempts += 1;
                    call.step(NOW, failed(FailureClass::ALL[classes[attempts]]))
                }
                Action::Rest(_) => call.step(NOW, Event::Rested),
                Action::Wait { .. } | Action::Succeed => unreachable!(),
                Action::GiveUp(_) => break,
            };
            proptest::prop_assert!(attempts <= 3 * (3 + 3));
        }
    }
}
