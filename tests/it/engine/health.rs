//! Targets and keys that fail: blocks, circuit breakers, recovery.

use super::*;
use quotaflow::kernel::Period;

/// A server at home, then OpenAI.
fn home_first() -> Value {
    json!({
        "models": {
            "default": {"provider": "openai", "model": "big"},
            "fallback": {"provider": "ollama", "model": "small"},
        },
        "providers": {"openai": {"keys": "sk-a"}},
        "strategy": {"use_local_first": true},
    })
}

fn anywhere(prompt: &str) -> Request {
    Request { model: None, ..ask(prompt) }
}

fn refused() -> Reply {
    Reply::fault(TransportFault::Refused)
}

fn providers(stage: &Stage) -> Vec<&'static str> {
    let of = |url: &str| if url.contains("openai") { "openai" } else { "ollama" };
    stage.sent().iter().map(|sent| of(&sent.url)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_at_home_costs_one_attempt_and_comes_back_by_itself() {
    let (good, back) = (Reply::good(), Reply::good());
    let replies = [refused(), good.clone(), good.clone(), refused(), good, back.clone(), back];
    let stage = Stage::new(home_first(), replies);

    stage.send(anywhere("one")).await.unwrap();
    assert_eq!((providers(&stage), stage.now()), (vec!["ollama", "openai"], 0.0));
    assert_eq!(stage.engine.status().unwrap().avoided[0].target, "ollama/small");
    // Nobody knocks there while it is known to be away.
    stage.send(anywhere("two")).await.unwrap();
    assert_eq!(providers(&stage)[2..], ["openai"]);
    assert!(stage.was_told("falling back from ollama/small to openai/big"));

    pass(1.0).await;
    stage.send(anywhere("three")).await.unwrap();
    assert_eq!(providers(&stage)[3..], ["ollama", "openai"]);
    pass(2.0).await;
    stage.send(anywhere("four")).await.unwrap();
    stage.send(anywhere("five")).await.unwrap();
    assert_eq!(providers(&stage)[5..], ["ollama", "ollama"]);
    assert_eq!(stage.now(), 3.0);
    assert!(stage.engine.status().unwrap().avoided.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_another_target_is_not_held_up_by_the_breaker() {
    let mut replies: Vec<Reply> = (0..5).map(|_| Reply::refusal(500, "broken")).collect();
    replies.push(Reply::good());
    let stage = Stage::new(openai(&["sk-a"], json!({})), replies);
    for _ in 0..5 {
        stage.send(Request { retry: false, ..ask("hello") }).await.unwrap_err();
    }
    assert_eq!(stage.engine.status().unwrap().avoided.len(), 1);
    stage.send(Request { retry: false, ..ask("hello") }).await.unwrap();
    assert!(stage.engine.status().unwrap().avoided.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_broke_is_not_the_keys_fault() {
    let broken = (0..8).map(|_| Reply::refusal(529, "overloaded"));
    let stage = Stage::new(openai(&["sk-a"], json!({})), broken);
    for _ in 0..8 {
        stage.send(Request { retry: false, ..ask("hello") }).await.unwrap_err();
    }
    let keys = stage.keys_of("openai");
    assert_eq!((keys[0].state, keys[0].health), ("healthy", 100));
}

fn slow() -> Reply {
    Reply::refusal(429, "Rate limit reached").header("retry-after", "1")
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_often_refused_is_degraded_and_comes_after_one_that_is_not() {
    let replies =
        (0..50).map(|_| Reply::by_key(|key| if key == "sk-a" { slow() } else { Reply::good() }));
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({})), replies);
    while stage.keys_of("openai")[0].health >= 70 {
        stage.send(ask("hello")).await.unwrap();
        pass(2.0).await;
    }
    assert_eq!(stage.states_of("openai"), ["degraded", "healthy"]);
    let before = stage.sent().len();
    assert!(before < 20);
    for _ in 0..5 {
        stage.send(ask("hello")).await.unwrap();
    }
    assert_eq!(stage.keys_used()[before..], ["sk-b"; 5]);
    pass(600.0).await;
    assert_eq!(stage.states_of("openai"), ["healthy", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn when_only_our_guess_closes_everything_one_call_a_minute_finds_out() {
    // Nobody said for how long: credit is guessed to be back after ten minutes.
    let broke = || {
        Reply::answer(
            429,
            json!({"error": {"message": "You exceeded your current quota, please check your plan \
                and billing details.", "type": "insufficient_quota", "code": "insufficient_quota"}}),
        )
    };
    let stage = Stage::new(openai(&["sk-a"], json!({})), [broke(), broke(), Reply::good()]);
    let call = || stage.send(ask("hello"));
    assert!(is_failure(&call().await.unwrap_err(), FailureClass::CreditExhausted));
    // A refusal a moment ago is no reason for doubt.
    assert!(is_failure(&call().await.unwrap_err(), FailureClass::CreditExhausted));
    assert_eq!(stage.sent().len(), 1);
    pass(61.0).await;
    call().await.unwrap_err();
    call().await.unwrap_err();
    assert_eq!(stage.sent().len(), 2, "one call in a minute tries");
    pass(61.0).await;
    call().await.unwrap();
    assert_eq!(stage.states_of("openai"), ["healthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_providers_word_is_not_doubted() {
    let stage = Stage::new(
        openai(&["sk-a"], json!({})),
        [Reply::refusal(429, "Rate limit reached").header("retry-after", "4000")],
    );
    stage.send(ask("hello")).await.unwrap_err();
    pass(3_000.0).await;
    stage.send(ask("hello")).await.unwrap_err();
    assert_eq!(stage.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_always_refused_together_are_suspected_of_sharing_a_quota() {
    // Two share a quota and the third does not.
    let replies =
        (0..100).map(|_| Reply::by_key(|key| if key == "sk-c" { Reply::good() } else { slow() }));
    let stage = Stage::new(openai(&["sk-a", "sk-b", "sk-c"], json!({})), replies);
    for _ in 0..20 {
        stage.send(ask("hello")).await.unwrap();
        pass(600.0).await;
    }
    let suspects = stage.engine.status().unwrap().suspects;
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert_eq!(suspects[0].keys, ["openai key 1", "openai key 2"]);
    assert!(suspects[0].together >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_off_is_not_asked_again_when_there_is_another_target() {
    let replies = [Reply::fault(TransportFault::Broken), Reply::good()];
    let stage = Stage::new(home_first(), replies);
    stage.send(anywhere("one")).await.unwrap();
    assert_eq!((providers(&stage), stage.now()), (vec!["ollama", "openai"], 0.0));
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_over_both_keys_is_counted_once_when_they_join() {
    // The organisation has 100 a day; 55 were used through the first key, and the headers of the second say so.
    let told = |left: u64| {
        Reply::good()
            .header("openai-organization", "acme")
            .header("x-ratelimit-limit-requests", "100")
            .header("x-ratelimit-remaining-requests", &left.to_string())
            // (100 - left) / 100 of a day: that is the day's bucket.
            .header("x-ratelimit-reset-requests", &format!("{}s", 864 * (100 - left)))
    };
    let first = Stage::new(openai(&["sk-a"], json!({})), (45..100).rev().map(told));
    for _ in 0..55 {
        first.send(ask("hello")).await.unwrap();
    }
    let mut second = first.restarted((0..10).map(|n| told(44 - n)));
    second.config = openai(&["sk-b", "sk-a"], json!({}));
    let second = second.restarted((0..10).map(|n| told(44 - n)));
    for _ in 0..10 {
        second.send(ask("hello")).await.unwrap();
    }
    for key in second.keys_of("openai") {
        let day = key.limits.iter().find(|limit| limit.period == Period::Day).unwrap();
        assert!(within(day.used as f64, 65.0, 66.0), "{day:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_stepped_back_holds_nothing_up_for_longer_than_was_meant() {
    let refused = Reply::refusal(429, "Rate limit reached").header("retry-after", "30");
    let limits = json!({"rpm": {"amount": 3, "refill": "rolling"}, "pause_threshold": 1.0});
    let stage = Stage::new(openai(&["sk-a"], limits), [Reply::good(), Reply::good(), refused]);
    for _ in 0..2 {
        stage.send(ask("hello")).await.unwrap();
    }
    stage.send(Request { retry: false, ..ask("hello") }).await.unwrap_err();
    // The clock goes back an hour, and a process begins.
    let clock = TokioClock::starting_at(START.before(Duration::from_secs(3_600)));
    let after = Stage::on(stage.store.clone(), clock, stage.config.clone(), [Reply::good()]);
    let began = tokio::time::Instant::now();
    after.send(ask("hello")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(62), "{:?}", began.elapsed());
}
