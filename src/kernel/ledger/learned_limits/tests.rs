//! Tests of learned limits: what is learned, and for how long it holds.

use super::*;

const NOW: Moment = Moment::from_seconds(1_800_000_000);

fn after(seconds: u64) -> Moment {
    NOW + Duration::from_secs(seconds)
}

fn refused(accepted: u64, sent: Moment) -> Refused {
    Refused { accepted, sent, is_used_up: false }
}

fn amount(lessons: &LearnedLimits) -> u64 {
    lessons.laid_over(&[])[0].amount.get()
}

fn was_enough(lessons: &mut LearnedLimits, now: Moment) -> (bool, bool) {
    lessons.was_enough(Resource::Requests, Period::Minute, now)
}

fn watched() -> LearnedLimits {
    let mut lessons = LearnedLimits::default();
    assert!(lessons.watch(NOW));
    assert!(!lessons.watch(NOW));
    lessons
}

#[test]
fn what_was_accepted_before_the_first_refusal_is_the_rate() {
    let mut lessons = watched();
    assert!(only_watches(&lessons.laid_over(&[])[0]));
    assert!(lessons.was_refused(refused(30, after(5)), after(5)));
    assert_eq!(amount(&lessons), 30);
    // Those that were on their way teach nothing new.
    assert!(!lessons.was_refused(refused(29, after(4)), after(6)));
    assert_eq!(amount(&lessons), 30);
}

#[test]
fn a_refusal_before_anything_was_accepted_teaches_no_rate() {
    let mut lessons = watched();
    assert!(!lessons.was_refused(refused(0, after(5)), after(5)));
    // Nor does one of a few quiet ones: that was about something else.
    assert!(!lessons.was_refused(refused(3, after(6)), after(6)));
    assert!(only_watches(&lessons.laid_over(&[])[0]));
}

#[test]
fn more_is_tried_each_minute_it_was_enough_and_then_once_a_day() {
    let mut lessons = watched();
    lessons.was_refused(refused(30, after(5)), after(5));
    assert!(!was_enough(&mut lessons, after(60)).0, "not before a minute has passed");
    assert!(was_enough(&mut lessons, after(70)).0);
    assert_eq!(amount(&lessons), 37);
    assert!(lessons.was_refused(refused(30, after(90)), after(90)));
    assert_eq!(amount(&lessons), 30);
    let tries = (1..100).filter(|hour| {
        let now = after(90 + 3_600 * hour);
        let (more, _) = was_enough(&mut lessons, now);
        if amount(&lessons) > 36 {
            lessons.was_refused(refused(30, now), now);
        }
        more
    });
    // Three steps lead below what was refused, and then one try a day.
    assert!((4..=9).contains(&tries.count()));
}

#[test]
fn a_single_refusal_never_takes_more_than_half() {
    let mut lessons = watched();
    lessons.was_refused(refused(40, after(5)), after(5));
    lessons.was_refused(refused(1, after(80)), after(80));
    assert_eq!(amount(&lessons), 20);
}

#[test]
fn a_burst_that_was_refused_is_halved_and_stays_so_when_the_limit_is_told_again() {
    let told = RateHint {
        resource: Resource::Requests,
        period: Period::Minute,
        amount: Some(600),
        remaining: Some(500),
        reset_after: None,
        refills_continuously: true,
        zone: None,
    };
    let mut lessons = LearnedLimits::default();
    assert!(lessons.observe(&told, NOW));
    let burst = |lessons: &LearnedLimits| match lessons.laid_over(&[])[0].refill {
        Refill::Bucket { burst } => burst.get(),
        _ => 0,
    };
    assert_eq!(burst(&lessons), 20);
    assert!(lessons.was_refused(refused(15, after(1)), after(2)));
    assert!(!lessons.was_refused(refused(15, after(1)), after(2)), "it left before that");
    assert!(!lessons.observe(&told, after(3)));
    assert_eq!(burst(&lessons), 10);
    // While that is enough it grows again, and to what was refused only after a day.
    assert!(!was_enough(&mut lessons, after(62)).0);
    assert!(was_enough(&mut lessons, after(2 + 86_400)).0);
    assert_eq!(burst(&lessons), 20);
    lessons.was_refused(refused(15, after(86_500)), after(86_500));
    let used_up = Refused { is_used_up: true, ..refused(15, after(90_000)) };
    assert!(!lessons.was_refused(used_up, after(90_000)));
}

#[test]
fn what_is_known_better_is_not_forgotten_when_groups_turn_out_to_be_one() {
    let (mut ours, theirs) = (watched(), watched());
    ours.was_refused(refused(30, after(5)), after(5));
    ours.absorb(&theirs);
    assert_eq!(amount(&ours), 30);
    let mut nothing = watched();
    nothing.absorb(&ours);
    assert_eq!(amount(&nothing), 30);
}

#[test]
fn lessons_of_the_first_version_are_read() {
    let text = r#"[{"limit":{"resource":"requests","period":"minute","amount":30,
        "refill":{"kind":"rolling"},"source":"provider"},"told_at":1800000000000000000}]"#;
    let mut lessons: LearnedLimits = serde_json::from_str(text).unwrap();
    lessons.forget_old(after(86_400));
    assert_eq!(amount(&lessons), 30);
}

#[test]
fn lessons_fade() {
    let mut lessons = watched();
    lessons.was_refused(refused(30, after(5)), after(5));
    lessons.forget_old(after(6 * 86_400));
    assert!(!lessons.is_empty());
    // What is made use of stays.
    assert_eq!(was_enough(&mut lessons, after(6 * 86_400)), (true, true));
    lessons.forget_old(after(12 * 86_400));
    assert!(!lessons.is_empty());
    lessons.forget_old(after(14 * 86_400));
    assert!(lessons.is_empty());
}
