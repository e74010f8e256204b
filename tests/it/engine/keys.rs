//! The choice of a key, and what keys share.

use quotaflow::engine::{Load, PlannedRun};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_minutes_refusal_goes_to_another_group_at_once() {
    let replies =
        [Reply::refusal(429, "Rate limit reached").header("retry-after", "20"), Reply::good()];
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({})), replies);
    let answer = stage.send(ask("hello")).await.unwrap();
    assert_eq!((stage.keys_used(), stage.now()), (vec!["sk-a".into(), "sk-b".into()], 0.0));
    let outcomes: Vec<_> = answer.attempts.iter().map(|attempt| attempt.failure).collect();
    assert_eq!(outcomes, [Some(FailureClass::RateLimited), None]);
    assert_eq!((answer.text.as_str(), answer.key.as_str()), ("fine", "openai key 2"));
    assert!(stage.was_told("going on with key openai key 2, key openai key 1 had rate_limited"));
    assert_eq!(stage.states_of("openai"), ["cooling", "healthy"]);
}

fn grouped(groups: &[(&str, &str)]) -> Value {
    let key = |(key, group): &(&str, &str)| json!({"key": key, "group": group});
    let keys: Vec<Value> = groups.iter().map(key).collect();
    json!({"providers": {"openai": {"keys": keys}}})
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_taken_to_another_key_of_the_same_organisation() {
    let config = grouped(&[("sk-a", "one"), ("sk-b", "one"), ("sk-c", "two")]);
    let refused = Reply::refusal(429, "Rate limit reached").header("retry-after", "20");
    let stage = Stage::new(config, [refused.clone(), Reply::good()]);
    stage.send(ask("hello")).await.unwrap();
    assert_eq!((stage.keys_used(), stage.now()), (vec!["sk-a".into(), "sk-c".into()], 0.0));

    let stage = Stage::new(grouped(&[("sk-a", "one"), ("sk-b", "one")]), [refused, Reply::good()]);
    stage.send(ask("hello")).await.unwrap();
    assert!(within(stage.times()[1], 20.0, 21.1), "{:?}", stage.times());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_valid_is_disabled_and_no_other() {
    let replies = [
        Reply::refusal(401, "Incorrect API key provided"),
        Reply::good(),
        Reply::good(),
        Reply::good(),
    ];
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({})), replies);
    for _ in 0..3 {
        stage.send(ask("hello")).await.unwrap();
    }
    assert_eq!(stage.keys_used(), ["sk-a", "sk-b", "sk-b", "sk-b"]);
    assert_eq!(stage.states_of("openai"), ["disabled", "healthy"]);
    let again = stage.restarted([Reply::good()]);
    again.send(ask("hello")).await.unwrap();
    assert_eq!(again.keys_used(), ["sk-b"]);
}

#[tokio::test(start_paused = true)]
async fn when_every_key_is_bad_the_error_says_so_and_the_next_call_sends_nothing() {
    let bad = || Reply::refusal(401, "Incorrect API key provided");
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({})), [bad(), bad()]);
    let error = stage.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::Auth), "{error:?}");
    assert_eq!(failures(&error), [Some(FailureClass::Auth); 2]);
    assert_eq!((error.http_status, error.retry_after), (Some(401), None));
    let next = stage.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&next, FailureClass::Auth), "{next:?}");
    assert_eq!((next.attempts.len(), next.retry_after, stage.now()), (0, None, 0.0));
}

#[tokio::test(start_paused = true)]
async fn openrouter_must_say_twice_that_a_key_is_bad() {
    let config = json!({"providers": {"openrouter": {"keys": ["sk-a"]}}});
    let mut question = ask("hello");
    question.model = Some("vendor/model".to_owned());
    let bad = || Reply::refusal(401, "User not found.");
    let stage = Stage::new(config, [bad(), Reply::good(), bad(), bad()]);
    let states = |stage: &Stage| stage.states_of("openrouter");
    assert!(stage.send(question.clone()).await.is_err());
    assert_ne!(states(&stage), ["disabled"], "one such answer is no proof");
    stage.send(question.clone()).await.unwrap();
    assert!(stage.send(question.clone()).await.is_err());
    assert_ne!(states(&stage), ["disabled"], "an answer came in between");
    assert!(stage.send(question.clone()).await.is_err());
    assert_eq!(states(&stage), ["disabled"]);
    assert!(stage.send(question).await.unwrap_err().attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keys_whose_answers_name_one_organisation_count_together_from_then_on() {
    let named = || Reply::good().header("openai-organization", "acme");
    let limits = json!({"rpd": 5});
    let stage = Stage::new(openai(&["sk-a", "sk-b"], limits), [named(), named(), named()]);
    for _ in 0..3 {
        stage.send(ask("hello")).await.unwrap();
    }
    assert_eq!(stage.keys_used()[..2], ["sk-a", "sk-b"]);
    let check = |stage: &Stage, used: u64| {
        for key in stage.keys_of("openai") {
            let of_the_day = key.limits.iter().find(|limit| limit.limit == 5).unwrap();
            assert_eq!((key.group.as_str(), of_the_day.used), ("org-acme", used));
        }
    };
    check(&stage, 3);
    // Another process knows it, and the five of the day are five for both keys together.
    let again = stage.restarted([named(), named()]);
    check(&again, 3);
    again.send(ask("hello")).await.unwrap();
    again.send(ask("hello")).await.unwrap();
    let error = again.send(ask("hello")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configured_group_is_not_moved_by_a_header() {
    let reply = Reply::good().header("openai-organization", "acme");
    let stage = Stage::new(grouped(&[("sk-a", "one")]), [reply]);
    stage.send(ask("hello")).await.unwrap();
    assert_eq!(stage.keys_of("openai")[0].group, "group-one");
}

/// Twenty calls at once through a key whose organisation is not known yet, whose answers come one after the other.
async fn first_burst(limits: Value) -> Stage {
    let named = |second: u64| Reply::good().header("openai-organization", "acme").after(1 + second);
    let stage = Stage::new(openai(&["sk-a"], limits), (0..40).map(|call| named(call % 20)));
    let calls = (0..20).map(|_| stage.send(ask("hello")));
    let answers = futures(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(stage.keys_of("openai")[0].group, "org-acme");
    stage
}

async fn futures<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, done) in calls.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(outcome) = call.as_mut().poll(context)
            {
                *done = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_burst_is_counted_as_it_is_billed_although_the_key_moves_meanwhile() {
    for refill in ["rolling", "calendar"] {
        let mut limits = json!({"tpd": {"amount": 1_000_000, "refill": refill}});
        if refill == "calendar" {
            limits["tpd"]["zone"] = json!("UTC");
        }
        let stage = first_burst(limits).await;
        let key = stage.keys_of("openai").remove(0);
        assert_eq!(key.limits[0].used, 20 * 15, "{refill}");
        // What the answers taught has moved along.
        let load = Load { most_in_flight: 10, most_waiting: 10, ..Load::default() };
        let run = PlannedRun { ask: 0, size: 10, count: 10 };
        let planned = stage.engine.plan(&[&ask("hello")], &[run], &load, &|| true);
        let planned = planned.unwrap().unwrap();
        assert_eq!(planned.keys[0].output_tokens, 10 * 5, "{refill}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_keep_their_places_when_the_key_moves() {
    let stage = first_burst(json!({"concurrency": 5})).await;
    let began = stage.now();
    let answers = futures((0..20).map(|_| stage.send(ask("hello")))).await;
    assert!(answers.iter().all(Result::is_ok));
    // Never more than five, and all five again: nobody holds a place who has left.
    let sent: Vec<_> = stage.sent().into_iter().filter(|sent| sent.at >= began).collect();
    assert_eq!(sent.iter().filter(|sent| sent.at == began).count(), 5);
    let at_first: Vec<_> = stage.sent().into_iter().filter(|sent| sent.at == 0.0).collect();
    assert_eq!(at_first.len(), 5);
}
