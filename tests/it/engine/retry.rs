//! Retries: of what, when, where, and when they end.

use super::*;

fn with_fallback() -> Value {
    json!({
        "providers": {"anthropic": {"keys": ["sk-c"]}, "openai": {"keys": ["sk-a"]}},
        "models": {
            "default": {"provider": "anthropic", "model": "claude-test"},
            "fallback": {"provider": "openai", "model": "gpt-test"},
        },
    })
}

/// A question to whatever the config names.
fn ask_default() -> Request {
    Request { model: None, ..ask("hello") }
}

#[tokio::test(start_paused = true)]
async fn a_minutes_refusal_of_the_only_key_is_waited_out() {
    let refused = Reply::refusal(429, "Rate limit reached").header("retry-after", "7");
    let stage = Stage::new(openai(&["sk-a"], json!({})), [refused, Reply::good()]);
    let answer = stage.send(ask("hello")).await.unwrap();
    assert!(within(stage.times()[1], 7.0, 8.0), "{:?}", stage.times());
    assert!(within(answer.attempts[1].waited.as_secs_f64(), 7.0, 8.0));
    assert!(stage.was_told("waiting for openai/gpt-test"), "{:?}", stage.lines());
}

#[tokio::test(start_paused = true)]
async fn a_days_refusal_exhausts_the_key_and_says_until_when() {
    let words = "Rate limit reached on requests per day (RPD): Limit 200, Used 200. Please try again in 7h12m0s.";
    let stage = Stage::new(openai(&["sk-a"], json!({})), [Reply::refusal(429, words)]);
    let error = stage.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    assert_eq!(failures(&error), [Some(FailureClass::DailyQuota)]);
    assert_eq!(error.http_status, Some(429));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7 * 3_600 + 12 * 60)));
    assert_eq!(
        (error.provider.as_deref(), error.model.as_deref()),
        (Some("openai"), Some("gpt-test"))
    );
    assert_eq!((error.key.as_deref(), stage.now()), (Some("openai key 1"), 0.0));
    assert_eq!(stage.states_of("openai"), ["exhausted"]);
    // Nothing more is sent, by another process neither, until it is over.
    let again = stage.restarted([Reply::good()]);
    pass(3_600.0).await;
    let error = again.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    assert!(within(error.retry_after.unwrap().as_secs_f64(), 22_320.0, 22_321.0));
    assert_eq!(error.attempts.len(), 0);
    pass(6.21 * 3_600.0).await;
    again.send(ask("hello")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_provider_gets_one_more_chance_and_then_the_fallback_answers() {
    let overloaded = || Reply::refusal(529, "Overloaded");
    let replies = [overloaded(), overloaded(), Reply::good(), Reply::good_message()];
    let stage = Stage::new(with_fallback(), replies);
    let answer = stage.send(ask_default()).await.unwrap();
    let whom: Vec<_> = answer
        .attempts
        .iter()
        .map(|attempt| (attempt.provider.as_str(), attempt.failure))
        .collect();
    let overloaded = ("anthropic", Some(FailureClass::Overloaded));
    assert_eq!(whom, [overloaded, overloaded, ("openai", None)]);
    assert_eq!((answer.provider.as_str(), answer.model.as_str()), ("openai", "gpt-test"));
    assert!(within(stage.now(), 1.0, 1.5), "{}", stage.now());
    assert!(
        stage.was_told("falling back from anthropic/claude-test to openai/gpt-test: overloaded")
    );
    // The key was not to blame: the next call begins with it.
    assert_eq!(stage.states_of("anthropic"), ["healthy"]);
    assert_eq!(stage.send(ask_default()).await.unwrap().provider, "anthropic");
}

#[tokio::test(start_paused = true)]
async fn without_fallback_the_first_provider_is_all_there_is() {
    let overloaded = (0..4).map(|_| Reply::refusal(529, "Overloaded"));
    let stage = Stage::new(with_fallback(), overloaded);
    let error = stage.send(Request { fallback: false, ..ask_default() }).await.unwrap_err();
    assert_eq!(failures(&error), [Some(FailureClass::Overloaded); 4]);
    assert_eq!(error.provider.as_deref(), Some("anthropic"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_server_is_tried_four_times_with_growing_pauses() {
    let broken = (0..4).map(|_| Reply::refusal(500, "boom"));
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({})), broken);
    let error = stage.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::ServerError), "{error:?}");
    assert_eq!((error.attempts.len(), error.http_status), (4, Some(500)));
    let times = stage.times();
    for (retry, pause) in times.windows(2).map(|pair| pair[1] - pair[0]).enumerate() {
        let least = f64::from(1 << retry);
        assert!(within(pause, least, least * 1.5), "{times:?}");
    }
    assert_eq!(stage.states_of("openai"), ["healthy", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn retry_and_max_retries_are_obeyed() {
    for (question, attempts) in [
        (Request { retry: false, ..ask("hello") }, 1),
        (Request { max_retries: Some(0), ..ask("hello") }, 1),
        (Request { max_retries: Some(1), ..ask("hello") }, 2),
    ] {
        let stage =
            Stage::new(openai(&["sk-a"], json!({})), (0..9).map(|_| Reply::refusal(500, "boom")));
        let error = stage.send(question).await.unwrap_err();
        assert_eq!(error.attempts.len(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_succeed_is_sent_once() {
    let cases = [
        (400, "temperature: must be a number", FailureClass::InvalidRequest),
        (400, "This model's maximum context length is 4 tokens", FailureClass::ContextTooLong),
    ];
    for (status, words, class) in cases {
        let stage =
            Stage::new(openai(&["sk-a", "sk-b"], json!({})), [Reply::refusal(status, words)]);
        let error = stage.send(ask("hello")).await.unwrap_err();
        assert!(is_failure(&error, class), "{error:?}");
        assert_eq!((error.attempts.len(), stage.now()), (1, 0.0));
        assert!(error.message.contains(words) && error.hint.is_some());
        assert_eq!(stage.states_of("openai"), ["healthy", "healthy"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_on_an_answer_is_ignored() {
    let config = json!({"providers": {"anthropic": {"keys": ["sk-c"]}}});
    let reply = || Reply::good_message().header("retry-after", "36");
    let stage = Stage::new(config, [reply(), reply()]);
    for _ in 0..2 {
        stage
            .send(Request { model: Some("claude-test".to_owned()), ..ask("hello") })
            .await
            .unwrap();
    }
    assert_eq!((stage.now(), stage.states_of("anthropic")), (0.0, vec!["healthy"]));
}

#[tokio::test(start_paused = true)]
async fn what_never_left_is_given_back_and_what_may_have_left_is_not() {
    let sent_with = async |fault| {
        let stage = Stage::new(openai(&["sk-a"], json!({"rpd": 9})), [Reply::fault(fault)]);
        let error = stage.send(Request { retry: false, ..ask("hello") }).await.unwrap_err();
        assert_eq!(error.attempts.len(), 1);
        let key = stage.keys_of("openai").remove(0);
        let day = key.limits.iter().find(|limit| limit.limit == 9).unwrap();
        (key.sent, day.used, key.in_flight)
    };
    assert_eq!(sent_with(TransportFault::Refused).await, (0, 0, 0));
    assert_eq!(sent_with(TransportFault::Broken).await, (1, 1, 0));
    assert_eq!(sent_with(TransportFault::AnswerTimeout).await, (1, 1, 0));
}
