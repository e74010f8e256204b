//! Is what was answered before given again, and is nothing asked twice at once?

use std::time::Duration;

use quotaflow::engine::{Ask, CacheWish};
use quotaflow::error::ErrorKind;
use quotaflow::kernel::FailureClass;
use serde_json::{Value, json};

use super::{Reply, Stage, ask, is_failure, openai, pass, settle};

fn kept(prompt: &str) -> Ask {
    Ask { cache: CacheWish::UpTo(None), ..ask(prompt) }
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
    let other_model = Ask { model: Some("gpt-other".to_owned()), ..kept("one") };
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
    let wish =
        |seconds| Ask { cache: CacheWish::UpTo(Some(Duration::from_secs(seconds))), ..kept("one") };
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
    let short = Ask { timeout: Some(Duration::from_secs(2)), ..kept("one") };
    let asks = stage.send_aside(short.clone()).await;
    let waits = stage.send_aside(Ask { timeout: Some(Duration::from_secs(1)), ..short }).await;
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
    let never = Ask { cache: CacheWish::Never, ..ask("one") };
    assert!(!stage.send(never).await.unwrap().cached);
}
