//! Tests of the bucket against a provider that counts the same way.

use super::*;
use crate::kernel::limits::{Limit, Period, Resource, Source};
use proptest::prelude::*;

fn rule(amount: u64, burst: u64) -> Rule {
    Rule::new(Limit {
        resource: Resource::Requests,
        period: Period::Minute,
        amount: NonZeroU64::new(amount).unwrap(),
        refill: Refill::Bucket { burst: NonZeroU64::new(burst).unwrap() },
        source: Source::Configured,
    })
}

const START: Moment = Moment::from_seconds(1_800_000_000);

#[test]
fn a_burst_passes_at_once_and_the_next_one_waits_for_one_interval_and_the_guard() {
    let rule = rule(600, 20);
    let mut bucket = Bucket::full();
    for _ in 0..20 {
        assert_eq!(bucket.availability(&rule, 1, START), Availability::Now);
        bucket.take(&rule, Charge::at_once(1), START);
    }
    let next = START + Duration::from_millis(100) + rule.guard;
    assert_eq!(bucket.availability(&rule, 1, START), Availability::At(next));
    assert_eq!(bucket.availability(&rule, 1, next), Availability::Now);
    assert_eq!(bucket.availability(&rule, 21, START), Availability::Never { most: 20 });
}

#[test]
fn a_second_burst_right_after_the_bucket_is_full_waits_for_the_guard() {
    let rule = rule(600, 20);
    let mut bucket = Bucket::full();
    (0..20).for_each(|_| bucket.take(&rule, Charge::at_once(1), START));
    let full = START + Duration::from_secs(2);
    assert_eq!(bucket.availability(&rule, 20, full), Availability::At(full + rule.guard));
}

#[test]
fn more_than_32_bits_can_be_counted() {
    let rule = rule(50_000_000_000, 50_000_000_000);
    let mut bucket = Bucket::full();
    assert_eq!(bucket.availability(&rule, 40_000_000_000, START), Availability::Now);
    bucket.take(&rule, Charge::at_once(40_000_000_000), START);
    assert!(matches!(bucket.availability(&rule, 20_000_000_000, START), Availability::At(_)));
    let most = 50_000_000_000;
    assert_eq!(bucket.availability(&rule, most + 1, START), Availability::Never { most });
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let rule = rule(60, 60);
    let mut bucket = Bucket::full();
    bucket.take(&rule, Charge::at_once(60), START);
    assert_eq!(bucket.used(&rule, START), 60);
    bucket.give_back(&rule, 40, START, START);
    assert_eq!(bucket.used(&rule, START), 20);
    let soon = START + rule.guard;
    assert_eq!(bucket.availability(&rule, 40, soon), Availability::Now);
}

#[test]
fn a_clock_stepped_back_costs_at_most_the_bucket_and_one_period() {
    let rule = rule(60, 60);
    let mut bucket = Bucket::full();
    bucket.take(&rule, Charge::at_once(60), START);
    let earlier = START.before(Duration::from_secs(86_400 * 365));
    let Availability::At(at) = bucket.availability(&rule, 1, earlier) else {
        panic!("an empty bucket has nothing now")
    };
    assert!(at.since(earlier) <= Duration::from_secs(121));
}

#[test]
fn an_answer_is_charged_when_it_is_made_and_not_when_its_call_left() {
    let rule = rule(600, 600);
    let mut bucket = Bucket::full();
    let had = Charge { at_once: 100, with_answer: 200 };
    bucket.take(&rule, had, START);
    assert_eq!(bucket.used(&rule, START), 300);
    // Until then all of it has come back by time.
    let made = START + Duration::from_secs(30);
    assert_eq!(bucket.used(&rule, made), 0);
    bucket.settle(&rule, had, had, START, made);
    assert_eq!(bucket.used(&rule, made), 200);
}

#[test]
fn what_a_header_tells_does_not_hold_answers_that_are_not_made_yet() {
    let rule = rule(600, 600);
    let mut bucket = Bucket::full();
    let had = Charge { at_once: 100, with_answer: 200 };
    bucket.take(&rule, had, START);
    bucket.tighten(&rule, 100, START, START);
    assert_eq!(bucket.used(&rule, START), 300, "that much was known");
    bucket.tighten(&rule, 150, START, START);
    assert_eq!(bucket.used(&rule, START), 350, "somebody else used 50");
    let answered = Charge { at_once: 100, with_answer: 20 };
    bucket.settle(&rule, had, answered, START, START);
    assert_eq!(bucket.used(&rule, START), 170);
}

#[test]
fn a_file_that_does_not_know_what_was_charged_counts_what_was_taken() {
    let kept = r#"{"full_at": 1800000030000000000, "opened": 0}"#;
    let bucket: Bucket = serde_json::from_str(kept).unwrap();
    assert_eq!(bucket.used(&rule(60, 60), START), 30);
}

#[test]
fn what_came_back_by_time_is_not_given_again_after_a_header_told_of_others() {
    let rule = rule(6_000, 6_000);
    let mut bucket = Bucket::full();
    let at = |seconds| START + Duration::from_secs(seconds);
    bucket.take(&rule, Charge::at_once(1_000), START);
    // By then all of it has come back, and what is taken here has before the next.
    bucket.take(&rule, Charge::at_once(10), at(20));
    bucket.take(&rule, Charge::at_once(10), at(30));
    bucket.tighten(&rule, 5_000, at(20), at(31));
    let told = bucket.used(&rule, at(31));
    bucket.give_back(&rule, 990, START, at(31));
    assert_eq!(bucket.used(&rule, at(31)), told);
}

#[test]
fn what_left_after_the_call_that_was_told_comes_on_top_of_what_it_was_told() {
    let rule = rule(6_000, 6_000);
    let mut bucket = Bucket::full();
    let at = |seconds| START + Duration::from_secs(seconds);
    bucket.take(&rule, Charge::at_once(10), START);
    bucket.take(&rule, Charge::at_once(2_000), at(10));
    // 5,000 were missing at the start: 3,900 still are when 11 seconds have passed.
    bucket.tighten(&rule, 5_000, START, at(11));
    assert_eq!(bucket.used(&rule, at(11)), 3_900 + 2_000);
    bucket.give_back(&rule, 1_500, at(10), at(11));
    assert_eq!(bucket.used(&rule, at(11)), 3_900 + 500);
}

/// When a bucket is full again from which this much was taken then, a millisecond a unit.
fn replayed(mut taken: Vec<(Moment, u64)>) -> Moment {
    taken.sort();
    let full_at =
        |full: Moment, (at, amount): (Moment, u64)| full.max(at) + Duration::from_millis(amount);
    taken.into_iter().fold(Moment::EPOCH, full_at)
}

proptest! {
    /// Whatever calls take, settle and give back in whatever order, it is never thought fuller than it is when all
    /// that is known by then is gone through from the beginning; while few are under way it is known to the unit.
    #[test]
    fn it_is_never_thought_fuller_than_going_through_everything_again_says(
        calls in prop::collection::vec(
            (0_u64..200, 0_u64..300, 0_u64..300, 0_u64..400, 0_u64..300, 0_usize..40, 0_u8..4),
            1..60,
        ),
        at_most in 1_usize..60,
    ) {
        /// At once, with the answer, and when that was made.
        type Known = (Moment, u64, u64, u64, Option<(Moment, u64)>);
        let rule = rule(60_000, 60_000);
        let mut bucket = Bucket::full();
        let mut known: Vec<Known> = Vec::new();
        let mut to_come: Vec<(usize, usize, u64, u64, u8)> = Vec::new();
        let mut now = START;
        let calls = &calls[..at_most.min(calls.len())];
        let is_few = calls.len() <= 4;
        for (place, (pause, at_once, reserved, input, answer, after, ending)) in calls.iter().copied().enumerate() {
            now = now + Duration::from_millis(pause);
            if at_once + reserved > 0 {
                bucket.take(&rule, Charge { at_once, with_answer: reserved }, now);
            }
            known.push((now, at_once, 0, reserved, None));
            to_come.push((place + after, place, input, answer, ending));
            for (_, of, input, answer, ending) in to_come.extract_if(.., |(when, ..)| *when <= place) {
                let (left, at_once, _, reserved, _) = known[of];
                let had = Charge { at_once, with_answer: reserved };
                let has = match ending {
                    0 => Charge::default(),
                    1 => had,
                    _ => Charge { at_once: input, with_answer: answer },
                };
                bucket.settle(&rule, had, has, left, now);
                known[of] = (left, at_once.min(has.at_once), has.at_once.saturating_sub(at_once), 0, Some((now, has.with_answer)));
            }
            let charged = known.iter().flat_map(|(left, at_once, more, _, made)| {
                let (made, answer) = made.unwrap_or((*left, 0));
                [(*left, *at_once), (made, more + answer)]
            });
            let held = known.iter().map(|(left, _, _, reserved, _)| (*left, *reserved));
            let truly_charged = replayed(charged.clone().collect());
            let truly_taken = replayed(charged.chain(held).collect());
            let thought = |level: &Level| level.until(Moment::FAR_FUTURE).max(now);
            prop_assert!(thought(bucket.charged()) >= truly_charged, "{:?} {:?}", bucket, truly_charged);
            prop_assert!(thought(&bucket.taken) >= truly_taken, "{:?} {:?}", bucket, truly_taken);
            if is_few {
                prop_assert_eq!(thought(bucket.charged()), truly_charged.max(now));
                prop_assert_eq!(thought(&bucket.taken), truly_taken.max(now));
            }
            let kept = serde_json::to_string(&bucket).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Bucket>(&kept).unwrap(), &bucket);
        }
    }
}

proptest! {
    /// A provider that charges a prompt when it admits the call, up to the guard later, and the answer when it has
    /// been made, never has less than a call that may leave needs for its prompt. What it tells of what is left when
    /// it admits a call is no news then.
    #[test]
    fn a_provider_that_charges_answers_when_they_are_made_never_sees_too_many(
        amount in 600_u64..6_000,
        calls in prop::collection::vec(
            (0_u64..4_000, 1_u64..120, 0_u64..80, 0_u64..80, 100_u64..60_000, 0_u64..100),
            1..120,
        ),
    ) {
        let rule = rule(amount, amount);
        let mut bucket = Bucket::full();
        let (mut level, mut seen_at) = (amount as f64, START);
        // When each answer is made, with what was had, what is used and what was told.
        let mut under_way: Vec<(Moment, Moment, Charge, Charge, u64)> = Vec::new();
        let mut now = START;
        let mut rise = |level: &mut f64, at: Moment| {
            let gained = at.since(seen_at).as_secs_f64() * amount as f64 / 60.0;
            *level = (*level + gained).min(amount as f64);
            seen_at = seen_at.max(at);
        };
        for (pause, prompt, reserved, answer, lasts, late) in calls {
            now = now + Duration::from_millis(pause);
            let had = Charge { at_once: prompt, with_answer: reserved };
            loop {
                let leaves = match bucket.availability(&rule, had.all(), now) {
                    Availability::At(at) => now.max(at),
                    _ => now,
                };
                under_way.sort_by_key(|(made, ..)| *made);
                match under_way.first().copied() {
                    Some((made, left, had, has, told)) if made <= leaves + Duration::from_millis(late) => {
                        under_way.remove(0);
                        rise(&mut level, made);
                        level -= has.with_answer as f64;
                        now = now.max(made);
                        let before = bucket.clone();
                        bucket.tighten(&rule, told, left, now);
                        prop_assert_eq!(&bucket, &before);
                        bucket.settle(&rule, had, has, left, now);
                    }
                    _ => {
                        now = leaves;
                        break;
                    }
                }
            }
            bucket.take(&rule, had, now);
            rise(&mut level, now + Duration::from_millis(late));
            prop_assert!(level >= prompt as f64 - 1e-6, "the provider would have refused");
            level -= prompt as f64;
            let has = Charge { at_once: prompt, with_answer: answer };
            let made = now + Duration::from_millis(late + lasts);
            let told = (amount as f64 - level - 1e-6).ceil() as u64;
            under_way.push((made, now, had, has, told));
        }
    }

    /// A provider with a plain level-based bucket, which sees each request up to the guard later, never refuses.
    #[test]
    fn a_provider_that_sees_requests_late_never_sees_too_many(
        amount in 1_u64..2_000,
        burst in 1_u64..50,
        steps in prop::collection::vec((0_u64..3_000, 0_u64..100), 1..300),
    ) {
        let burst = burst.min(amount);
        let rule = rule(amount, burst);
        let mut bucket = Bucket::full();
        let mut now = START;
        let (mut level, mut seen_at) = (burst as f64, START);
        for (pause, late) in steps {
            now = now + Duration::from_millis(pause);
            if let Availability::At(at) = bucket.availability(&rule, 1, now) {
                now = now.max(at);
                prop_assert_eq!(bucket.availability(&rule, 1, now), Availability::Now);
            }
            bucket.take(&rule, Charge::at_once(1), now);
            let arrival = (now + Duration::from_millis(late)).max(seen_at);
            level = (level + arrival.since(seen_at).as_secs_f64() * amount as f64 / 60.0).min(burst as f64);
            seen_at = arrival;
            prop_assert!(level >= 1.0 - 1e-6, "the provider would have refused");
            level -= 1.0;
        }
    }
}

/// Calls leave every 10 ms for two minutes and are told after `latency` ms what was used when they arrived, `before`
/// of it by somebody else. How many the provider refuses, and how many pass.
fn after_another_run(before: u64, latency: u64) -> (u32, u32) {
    let rule = rule(600, 600);
    let mut bucket = Bucket::full();
    let (mut left, mut now) = (600.0 - before as f64, START);
    let mut headers = std::collections::VecDeque::<(Moment, Moment, u64)>::new();
    let (mut refused, mut passed) = (0, 0);
    for _ in 0..12_000 {
        now = now + Duration::from_millis(10);
        left = f64::min(left + 0.1, 600.0);
        while let Some((_, sent, used)) = headers.pop_front_if(|(back, ..)| *back <= now) {
            bucket.tighten(&rule, used, sent, now);
        }
        if bucket.availability(&rule, 1, now) == Availability::Now {
            bucket.take(&rule, Charge::at_once(1), now);
            if left < 1.0 {
                refused += 1;
                continue;
            }
            left -= 1.0;
            passed += 1;
            let back = now + Duration::from_millis(latency);
            headers.push_back((back, now, (600.0 - left).ceil() as u64));
        }
    }
    (refused, passed)
}

#[test]
fn what_somebody_else_used_is_heard_however_many_calls_left_since() {
    for (before, latency) in [(100, 1_000), (300, 1_000), (300, 3_000), (500, 300)] {
        let (refused, passed) = after_another_run(before, latency);
        assert!(refused <= 10, "{before} {latency}: {refused} refused, {passed} passed");
        let most = 1_800 - u32::try_from(before).unwrap();
        assert!(passed >= most - 10, "{before} {latency}: {passed} of {most} passed");
    }
}
