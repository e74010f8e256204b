//! The response cache: hits, and equal calls at the same time.

use std::time::Duration;

use quotaflow::engine::{CacheWish, Request};
use quotaflow::error::ErrorKind;
use quotaflow::kernel::FailureClass;
use serde_json::{Value, json};

use super::{Reply, Stage, ask, is_failure, openai, pass, settle};

fn kept(prompt: &str) -> Request {
    Request { cache: CacheWish::UpTo(None), ..ask(prompt) }
}

fn stage(replies: impl IntoIterator<Item = Reply>) -> Stage {
    Stage::new(openai(&["sk-test-1", "sk-test-2"], json!({"rpm": 60})), replies)
}

#[tokio::test(start_paused = true)]
async fn the_same_question_is_asked_once_and_after_a_restart_too() {
    let stage = stage([Reply::good()]);
    let first = stage.send(kept("one")).await.unwrap();
    let again = stage.send(kept("one")).await.unwrap();
    assert_eq!((first.cached, again.cached), (false, true));
    assert_eq!((&again.text, again.usage, &again.raw), (&first.text, first.usage, &first.raw));
    assert!(again.attempts.is_empty());
    let restarted = stage.restarted([]);
    assert_eq!(restarted.send(kept("one")).await.unwrap().text, "fine");
    assert_eq!(stage.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_differs_in_anything_is_another_question() {
    let with = |name: &str, value: Value| {
        let mut other = kept("one");
        other.params.insert(name.to_owned(), value);
        other
    };
    let other_model = Request { model: Some("gpt-other".to_owned()), ..kept("one") };
    let asked =
        [kept("one"), kept("two"), with("temperature", json!(0.5)), other_model, ask("one")];
    let stage = stage(asked.iter().map(|_| Reply::good()));
    for ask in asked.clone() {
        assert!(!stage.send(ask).await.unwrap().cached);
    }
    for ask in &asked[..4] {
        assert!(stage.send(ask.clone()).await.unwrap().cached);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_old_is_asked_for_anew() {
    let stage = stage([Reply::good(), Reply::good()]);
    let wish = |seconds| Request {
        cache: CacheWish::UpTo(Some(Duration::from_secs(seconds))),
        ..kept("one")
    };
    stage.send(wish(60)).await.unwrap();
    pass(59.0).await;
    assert!(stage.send(wish(60)).await.unwrap().cached);
    pass(2.0).await;
    assert!(stage.send(wish(3_600)).await.unwrap().cached, "another caller may take older ones");
    assert!(!stage.send(wish(60)).await.unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn who_asks_what_is_being_asked_waits_for_the_same_answer() {
    let stage = stage([Reply::good().after(5)]);
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(stage.send_aside(kept("one")).await);
    }
    let mut again = 0;
    for call in waiting {
        again += usize::from(call.await.unwrap().unwrap().cached);
    }
    assert_eq!((stage.sent().len(), again), (1, 49));
    assert_eq!(stage.keys_of("openai").iter().map(|key| key.in_flight).sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_asks_leaves_another_one_asks() {
    let stage = stage([Reply::silence(), Reply::good()]);
    let asks = stage.send_aside(kept("one")).await;
    let waits = stage.send_aside(kept("one")).await;
    let waits_too = stage.send_aside(kept("one")).await;
    asks.abort();
    settle().await;
    assert_eq!(waits.await.unwrap().unwrap().text, "fine");
    assert_eq!(waits_too.await.unwrap().unwrap().text, "fine");
    assert_eq!(stage.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_to_all_who_wait_and_is_not_kept() {
    let stage = stage([Reply::refusal(400, "bad request").after(1), Reply::good()]);
    let asks = stage.send_aside(kept("one")).await;
    let waits = stage.send_aside(kept("one")).await;
    for call in [asks, waits] {
        assert!(is_failure(&call.await.unwrap().unwrap_err(), FailureClass::InvalidRequest));
    }
    assert!(!stage.send(kept("one")).await.unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn who_has_less_time_leaves_alone_and_whose_time_is_over_is_not_the_others() {
    let stage = stage([Reply::silence(), Reply::good()]);
    let short = Request { timeout: Some(Duration::from_secs(2)), ..kept("one") };
    let asks = stage.send_aside(short.clone()).await;
    let waits = stage.send_aside(Request { timeout: Some(Duration::from_secs(1)), ..short }).await;
    let patient = stage.send_aside(kept("one")).await;
    assert_eq!(waits.await.unwrap().unwrap_err().kind, ErrorKind::Deadline);
    assert!((0.9..1.1).contains(&stage.now()));
    assert_eq!(asks.await.unwrap().unwrap_err().kind, ErrorKind::Deadline);
    assert_eq!(patient.await.unwrap().unwrap().text, "fine");
}

#[tokio::test(start_paused = true)]
async fn the_config_may_switch_it_on_for_all_and_a_call_off() {
    let mut config = openai(&["sk-test-1"], json!({"rpm": 60}));
    config["answer_cache"] = json!({"always": true, "ttl": 60});
    let stage = Stage::new(config, [Reply::good(), Reply::good()]);
    stage.send(ask("one")).await.unwrap();
    assert!(stage.send(ask("one")).await.unwrap().cached);
    let never = Request { cache: CacheWish::Never, ..ask("one") };
    assert!(!stage.send(never).await.unwrap().cached);
}

/// One key that lets a call through every ten seconds.
fn slow(replies: impl IntoIterator<Item = Reply>) -> Stage {
    let rpm = json!({"amount": 6, "refill": "bucket", "burst": 1});
    let mut config = openai(&["sk-test-1"], json!({"rpm": rpm, "pause_threshold": 1.0}));
    config["users"] = json!({"alice": {"rpm": 1}});
    Stage::new(config, replies)
}

#[tokio::test(start_paused = true)]
async fn who_is_urgent_does_not_wait_in_the_place_of_who_asked_first() {
    let stage = slow([Reply::good(), Reply::good(), Reply::good(), Reply::good()]);
    stage.send(ask("something else")).await.unwrap();
    let others = stage.send_aside(Request { priority: 2, ..ask("others") }).await;
    let batch = stage.send_aside(Request { priority: 1, ..kept("one") }).await;
    let person = stage.send_aside(Request { priority: 9, ..kept("one") }).await;
    assert!(!person.await.unwrap().unwrap().cached);
    assert!((9.0..11.0).contains(&stage.now()), "{}", stage.now());
    assert!(batch.await.unwrap().unwrap().cached, "and the batch has the same answer at once");
    assert!((9.0..11.0).contains(&stage.now()), "{}", stage.now());
    others.await.unwrap().unwrap();
    let prompts: Vec<String> = stage.sent().into_iter().map(|sent| sent.prompt).collect();
    assert_eq!(prompts, ["something else", "one", "others"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_try_again_fails_alone() {
    let replies = [Reply::refusal(503, "overloaded").after(1), Reply::good()];
    let stage = stage(replies);
    let asks = stage.send_aside(Request { retry: false, ..kept("one") }).await;
    let waits = stage.send_aside(kept("one")).await;
    assert!(is_failure(&asks.await.unwrap().unwrap_err(), FailureClass::Overloaded));
    assert!(!waits.await.unwrap().unwrap().cached);
    assert_eq!(stage.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_home_goes_alone() {
    let stage = slow([Reply::good(), Reply::good()]);
    stage.send(ask("something else")).await.unwrap();
    let cleared = stage.send_aside(Request { priority: 1, ..kept("one") }).await;
    let stays = stage.send_aside(Request { priority: 5, ..kept("one") }).await;
    stage.engine.clear_queue(None, Some(5)).unwrap();
    assert_eq!(cleared.await.unwrap().unwrap_err().kind, ErrorKind::QueueCleared);
    assert!(!stays.await.unwrap().unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn a_users_own_limit_holds_up_nobody_else_with_the_same_question() {
    let stage = slow([Reply::good(), Reply::good()]);
    let alice = |prompt: &str| Request { user: Some("alice".to_owned()), ..kept(prompt) };
    stage.send(alice("one")).await.unwrap();
    let held_up = stage.send_aside(alice("two")).await;
    let bob = stage.send_aside(kept("two")).await;
    assert!(!bob.await.unwrap().unwrap().cached);
    assert!((9.0..11.0).contains(&stage.now()), "{}", stage.now());
    assert!(held_up.await.unwrap().unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn who_wins_the_lane_but_not_the_race_gives_it_back() {
    let stage = slow([Reply::good(), Reply::good().after(25), Reply::good()]);
    stage.send(ask("something else")).await.unwrap();
    let all: Vec<_> = {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(stage.send_aside(kept("one")).await);
        }
        all
    };
    let mut again = 0;
    for call in all {
        again += usize::from(call.await.unwrap().unwrap().cached);
    }
    assert_eq!((stage.sent().len(), again), (2, 3));
    let began = stage.now();
    stage.send(ask("another")).await.unwrap();
    assert!(stage.now() - began < 0.2, "nothing is held by those who only waited");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_fallback_is_not_the_first_targets() {
    let config = json!({
        "providers": {"openai": {"keys": "sk-a"}, "groq": {"keys": "gsk_b"}},
        "models": {
            "default": {"provider": "openai", "model": "big"},
            "fallback": [{"provider": "groq", "model": "quick"}],
        },
    });
    let anywhere = || Request { model: None, ..kept("one") };
    let no_credit = || Reply::refusal(402, "You have insufficient credit");
    let stage = Stage::new(config, [no_credit(), Reply::good()]);
    assert_eq!(stage.send(anywhere()).await.unwrap().provider, "groq");
    let again = stage.send(anywhere()).await.unwrap();
    assert_eq!((again.provider.as_str(), again.cached), ("groq", true), "openai is closed");
    let error = stage.send(Request { fallback: false, ..anywhere() }).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::CreditExhausted) || error.attempts.is_empty());
    assert_eq!(stage.sent().len(), 2);
    assert_eq!(stage.keys_of("groq").iter().map(|key| key.in_flight).sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_or_forgotten_is_asked_for_again() {
    let cut = Reply::completion("fi", "length");
    let withheld = Reply::completion("", "content_filter");
    let empty = Reply::completion("", "stop");
    let stage = stage([cut, withheld, empty, Reply::good(), Reply::good()]);
    for _ in 0..4 {
        assert!(!stage.send(kept("one")).await.unwrap().cached);
    }
    assert!(stage.send(kept("one")).await.unwrap().cached);
    stage.send(kept("one")).await.unwrap().kept_as.unwrap().forget();
    assert!(!stage.send(kept("one")).await.unwrap().cached);
    assert_eq!(stage.engine.clear_cache().unwrap(), 1);
}
