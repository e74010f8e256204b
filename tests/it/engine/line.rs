//! The waiting line: who waits how long, in which order, and who is refused.

use quotaflow::engine::Guard;

use super::*;

/// One call at a time: the others wait.
fn one_at_a_time() -> Value {
    openai(&["sk-a"], json!({"concurrency": 1}))
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_time_is_over() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), [Reply::silence()]);
    let timeout = Some(Duration::from_secs(5));
    let error = stage.send(Request { timeout, ..ask("hello") }).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::Deadline, 5.0));
    assert_eq!(failures(&error), [Some(FailureClass::Timeout)]);
    let key = stage.keys_of("openai").remove(0);
    assert_eq!((key.sent, key.in_flight), (1, 0), "it may have been worked on");

    let stage = Stage::new(openai(&["sk-a"], json!({})), [Reply::silence()]);
    let deadline = Some(stage.at(9));
    let timeout = Some(Duration::from_secs(60));
    let error = stage.send(Request { timeout, deadline, ..ask("hello") }).await.unwrap_err();
    assert_eq!((&error.kind, within(stage.now(), 9.0, 9.01)), (&ErrorKind::Deadline, true));
    // One that has passed is no other mistake than one that passes on the way.
    let late = stage.send(Request { deadline, ..ask("hello") }).await.unwrap_err();
    assert_eq!((&late.kind, stage.sent().len()), (&ErrorKind::Deadline, 1));
    let guard = Guard { deadline, ..Guard::new("openai") };
    assert_eq!(stage.engine.guard(&guard).unwrap_err().kind, ErrorKind::Deadline);
}

/// A call that reserves so many tokens for its answer.
fn reserving(max_tokens: u64, timeout: Option<u64>) -> Request {
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(max_tokens))]);
    Request { params, timeout: timeout.map(Duration::from_secs), ..ask("hello") }
}

#[tokio::test(start_paused = true)]
async fn what_calls_in_flight_may_give_back_is_waited_for() {
    let day = json!({"tpd": {"amount": 30_000, "refill": "rolling"}, "pause_threshold": 1.0});
    for (limits, timeout) in
        [(json!({"tpm": 30_000, "pause_threshold": 1.0}), Some(5)), (day, None)]
    {
        let stage = Stage::new(openai(&["sk-a"], limits), (0..4).map(|_| Reply::good().after(1)));
        for _ in 0..3 {
            stage.send_aside(reserving(9_900, None)).await;
        }
        let fourth = stage.send_aside(reserving(4_000, timeout)).await;
        assert_eq!((stage.sent().len(), fourth.is_finished()), (3, false));
        fourth.await.unwrap().unwrap();
        assert!(within(stage.now(), 2.0, 2.1), "{}", stage.now());
    }
}

#[tokio::test(start_paused = true)]
async fn what_calls_in_flight_cannot_give_back_is_told_at_once() {
    let limits = json!({"tpm": 30_000, "pause_threshold": 1.0});
    let stage = Stage::new(openai(&["sk-a"], limits), [Reply::silence(), Reply::silence()]);
    let prompt = "abcd ".repeat(16_000);
    let long = || Request { model: Some("gpt-strange".to_owned()), ..ask(&prompt) };
    let _first = stage.send_aside(Request { timeout: None, ..long() }).await;
    let second = Request { timeout: Some(Duration::from_secs(5)), ..long() };
    let error = stage.send(second).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::Deadline, 0.0));
    // And nobody waits for a call that does not end.
    let stage = Stage::new(
        openai(&["sk-a"], json!({"tpd": {"amount": 10_000, "refill": "rolling"}})),
        [Reply::silence()],
    );
    let _first = stage.send_aside(reserving(6_000, None)).await;
    let error = stage.send(reserving(6_000, None)).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    assert!(within(stage.now(), 300.0, 301.0), "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_in_time_is_not_begun() {
    let refused = Reply::refusal(429, "Rate limit reached").header("retry-after", "60");
    let stage = Stage::new(openai(&["sk-a"], json!({})), [refused]);
    let timeout = Some(Duration::from_secs(10));
    let error = stage.send(Request { timeout, ..ask("hello") }).await.unwrap_err();
    assert_eq!((stage.now(), error.attempts.len()), (0.0, 1));
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
    // The block is known now: not even an attempt.
    let error = stage.send(Request { timeout, ..ask("hello") }).await.unwrap_err();
    assert_eq!(
        (&error.kind, error.failure),
        (&ErrorKind::Deadline, Some(FailureClass::RateLimited))
    );
    assert_eq!((stage.now(), error.attempts.len()), (0.0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_larger_than_any_limit_is_an_error_and_no_wait() {
    let stage = Stage::new(openai(&["sk-a"], json!({"tpm": 100})), []);
    let error = stage.send(ask(&"long ".repeat(500))).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::TokenLimited), "{error:?}");
    assert_eq!((stage.now(), error.attempts.len()), (0.0, 0));
}

#[tokio::test(start_paused = true)]
async fn higher_priority_goes_first_and_equals_in_order() {
    let replies = (0..6).map(|_| Reply::good().after(1));
    let stage = Stage::new(one_at_a_time(), replies);
    let mut asides = Vec::new();
    for (priority, prompt) in
        [(3, "first"), (2, "low"), (5, "middle 1"), (9, "high"), (5, "middle 2"), (2, "low 2")]
    {
        asides.push(stage.send_aside(Request { priority, ..ask(prompt) }).await);
    }
    assert_eq!(stage.waiting(), 5);
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    let order: Vec<String> = stage.sent().into_iter().map(|sent| sent.prompt).collect();
    assert_eq!(order, ["first", "high", "middle 1", "middle 2", "low", "low 2"]);
    assert_eq!(stage.times(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_turns_the_next_one_away_at_once() {
    let mut config = one_at_a_time();
    config["queue"] = json!({"max_size": 1});
    let stage = Stage::new(config, [Reply::good().after(10), Reply::good()]);
    let first = stage.send_aside(ask("first")).await;
    let second = stage.send_aside(ask("second")).await;
    let error = stage.send(ask("third")).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::QueueFull, 0.0));
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("queue.max_size")));
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_sends_those_who_wait_home_and_lets_the_others_end() {
    let stage = Stage::new(one_at_a_time(), [Reply::good().after(10)]);
    let first = stage.send_aside(ask("first")).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(stage.send_aside(ask("waits")).await);
    }
    stage.engine.close();
    for aside in waiting {
        assert_eq!(aside.await.unwrap().unwrap_err().kind, ErrorKind::Closed);
    }
    assert_eq!((stage.now(), stage.waiting()), (0.0, 0));
    assert_eq!(stage.send(ask("late")).await.unwrap_err().kind, ErrorKind::Closed);
    assert_eq!(first.await.unwrap().unwrap().text, "fine");
    assert_eq!(stage.keys_used().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_skips_the_limits_is_not_held_up_and_is_counted() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpd": 1})), [Reply::good(), Reply::good()]);
    stage.send(ask("first")).await.unwrap();
    stage.send(Request { skip_rate_limit: true, ..ask("second") }).await.unwrap();
    let key = stage.keys_of("openai").remove(0);
    assert_eq!((key.sent, key.limits[0].used, key.limits[0].remaining), (2, 2, 0));
    let error = stage.send(ask("third")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    assert_eq!(error.attempts.len(), 0);
    // A bucket that holds both gives the first back only when both have come back.
    assert!(error.retry_after.unwrap() > Duration::from_secs(86_400), "{:?}", error.retry_after);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_urgent_calls_is_theirs_even_in_the_turn_of_an_old_one() {
    let limits = json!({"rpm": {"amount": 20, "refill": "rolling"}});
    let stage = Stage::new(openai(&["sk-a"], limits), (0..40).map(|_| Reply::good().after(1)));
    let at = |priority: u8, prompt: &str| Request { priority, ..ask(prompt) };
    for _ in 0..18 {
        stage.send_aside(at(3, "first")).await;
    }
    let old = stage.send_aside(at(3, "old")).await;
    let urgent = stage.send_aside(at(5, "urgent")).await;
    let last = stage.send_aside(at(5, "urgent too")).await;
    pass(2.0).await;
    assert!(urgent.is_finished() && last.is_finished() && !old.is_finished());
    assert_eq!(stage.sent().len(), 20);
    pass(61.0).await;
    assert!(old.is_finished());
}
