//! Permits for calls that others send: the same lines and ledgers as prompts.

use std::time::Duration;

use quotaflow::engine::{Guard, Guarded, Outlook, Period, Usage};
use quotaflow::error::ErrorKind;
use quotaflow::kernel::{Failure, FailureClass, Scope};
use serde_json::{Value, json};

use super::*;

fn guard(stage: &Stage, guard: &Guard) -> Guarded {
    stage.engine.guard(guard).unwrap()
}

fn used(stage: &Stage, resource: &str) -> u64 {
    let key = stage.keys_of("openai").remove(0);
    let limit = key.limits.iter().find(|limit| limit.resource.to_string() == resource);
    limit.unwrap().used
}

fn refused(class: FailureClass) -> Failure {
    Failure::new(class, Scope::GroupModel, "no")
}

#[tokio::test(start_paused = true)]
async fn a_guarded_call_and_a_prompt_take_from_the_same_limit() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpd": 2})), [Reply::good()]);
    stage.send(ask("mine")).await.unwrap();
    let mut call = guard(&stage, &Guard::new("openai"));
    let permit = call.permit().await.unwrap();
    assert_eq!((permit.attempt, permit.model, permit.waited), (1, None, Duration::ZERO));
    assert_eq!(permit.secret.unwrap().expose(), "sk-a");
    call.settle(None);
    let error = stage.send(ask("too many")).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    let mut call = guard(&stage, &Guard::new("openai"));
    let error = call.permit().await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_used_replaces_what_was_estimated_and_only_once() {
    let stage = Stage::new(openai(&["sk-a"], json!({"tpd": 10_000})), []);
    let thousand = Guard { tokens: 1_000, ..Guard::new("openai") };
    let mut call = guard(&stage, &thousand);
    call.permit().await.unwrap();
    assert_eq!(used(&stage, "tokens"), 1_000);
    call.settle(Some((200, 50)));
    call.settle(Some((9_000, 0)));
    assert_eq!(used(&stage, "tokens"), 250);

    let mut call = guard(&stage, &thousand);
    call.permit().await.unwrap();
    call.release();
    assert_eq!(used(&stage, "tokens"), 250, "nothing was sent");

    let mut call = guard(&stage, &thousand);
    call.permit().await.unwrap();
    call.abandon();
    assert_eq!(used(&stage, "tokens"), 1_250, "nobody knows");

    let mut call = guard(&stage, &thousand);
    call.permit().await.unwrap();
    drop(call);
    assert_eq!(used(&stage, "tokens"), 2_250, "nobody knows either");
}

#[tokio::test(start_paused = true)]
async fn the_last_tenth_is_kept_for_those_that_matter() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpd": 100})), []);
    let usual = Guard::new("openai");
    for _ in 0..90 {
        guard(&stage, &usual).permit().await.unwrap();
    }
    let error = guard(&stage, &usual).permit().await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    for priority in [0, 4] {
        let refused = Guard { priority, ..usual.clone() };
        assert!(matches!(stage.engine.outlook(&refused, None), Ok(Outlook::In(Some(_)))));
    }
    let urgent = Guard { priority: 5, ..usual };
    for _ in 0..10 {
        guard(&stage, &urgent).permit().await.unwrap();
    }
    assert!(guard(&stage, &urgent).permit().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn prompts_leave_the_last_tenth_as_well_and_a_threshold_of_one_keeps_nothing() {
    let limits = |threshold: f64| json!({"rpd": 10, "pause_threshold": threshold});
    for (threshold, priority, pass) in [(0.9, 3, 9), (0.9, 5, 10), (1.0, 0, 10), (0.5, 4, 5)] {
        let replies = (0..pass).map(|_| Reply::good());
        let stage = Stage::new(openai(&["sk-a"], limits(threshold)), replies);
        for _ in 0..pass {
            stage.send(Request { priority, ..ask("one") }).await.unwrap();
        }
        let error = stage.send(Request { priority, ..ask("too many") }).await.unwrap_err();
        assert!(is_failure(&error, FailureClass::DailyQuota), "{threshold} {priority}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_rotates_and_a_broken_server_is_tried_again_as_the_config_paces() {
    let limits = json!({"base_delay": 10, "retry_multiplier": 3, "max_retries": 2, "rpd": 1_000});
    let stage = Stage::new(openai(&["sk-a", "sk-b"], limits), []);
    let mut call = guard(&stage, &Guard::new("openai"));
    let first = call.permit().await.unwrap();
    call.fail(refused(FailureClass::RateLimited));
    let second = call.permit().await.unwrap();
    assert_ne!(first.label, second.label);
    assert_eq!(stage.now(), 0.0);
    call.settle(None);
    assert_eq!(call.attempts().len(), 2);
    assert_eq!(call.attempts()[0].failure, Some(FailureClass::RateLimited));

    pass(60.0).await;
    let began = stage.now();
    let mut call = guard(&stage, &Guard::new("openai"));
    for (from, to) in [(0.0, 0.0), (10.0, 15.0), (40.0, 60.0)] {
        call.permit().await.unwrap();
        assert!(within(stage.now() - began, from, to), "{from}: {}", stage.now() - began);
        call.fail(Failure::new(FailureClass::ServerError, Scope::Call, "broken"));
    }
    let error = call.permit().await.unwrap_err();
    assert!(is_failure(&error, FailureClass::ServerError), "{error:?}");
    assert_eq!(error.attempts.len(), 3);
    let error = call.permit().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal, "it is over");
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_one_call_may_be_is_refused_at_the_door() {
    let stage = Stage::new(openai(&["sk-a"], json!({"max_tokens_per_request": 500})), []);
    let large = Guard { tokens: 501, ..Guard::new("openai") };
    let error = stage.engine.guard(&large).unwrap_err();
    assert!(is_failure(&error, FailureClass::ContextTooLong), "{error:?}");
    assert_eq!(stage.engine.outlook(&large, None).unwrap(), Outlook::Never);
    let fits = Guard { tokens: 500, ..Guard::new("openai") };
    assert_eq!(stage.engine.outlook(&fits, None).unwrap(), Outlook::Now);
    guard(&stage, &fits).permit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_outlook_is_told_for_all_limits_or_for_one_period() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpm": 1, "rpd": 2})), []);
    let one = Guard::new("openai");
    let outlook = |period| stage.engine.outlook(&one, period).unwrap();
    assert_eq!(outlook(None), Outlook::Now);
    guard(&stage, &one).permit().await.unwrap();
    let seconds = |outlook| match outlook {
        Outlook::In(Some(wait)) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    assert!((59..=61).contains(&seconds(outlook(None))));
    assert!((59..=61).contains(&seconds(outlook(Some(Period::Minute)))));
    assert_eq!(outlook(Some(Period::Hour)), Outlook::Now);
    assert_eq!(outlook(Some(Period::Day)), Outlook::Now);
    pass(61.0).await;
    guard(&stage, &one).permit().await.unwrap();
    assert!(seconds(outlook(Some(Period::Day))) > 43_000);
    assert!(seconds(outlook(None)) > 43_000);
    let stranger = Guard::new("openay");
    let error = stage.engine.outlook(&stranger, None).unwrap_err();
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("openai")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_without_asking_counts_and_so_does_what_came_of_it() {
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({"rpd": 100, "tpd": 5_000})), []);
    let sent = Guard { tokens: 300, key: Some("sk-b".to_owned()), ..Guard::new("openai") };
    let label = stage.engine.record(&sent, None).unwrap();
    let key =
        |label: &str| stage.keys_of("openai").into_iter().find(|key| key.label == label).unwrap();
    assert_eq!(key(&label).sent, 1);
    assert_eq!(key(&label).limits.iter().map(|limit| limit.used).collect::<Vec<_>>(), [1, 300]);
    stage.engine.record(&sent, Some(refused(FailureClass::DailyQuota))).unwrap();
    assert_eq!((key(&label).state, key(&label).blocks.len()), ("exhausted", 1));
    let only = Guard { key: Some(label), ..Guard::new("openai") };
    let error = guard(&stage, &only).permit().await.unwrap_err();
    assert!(is_failure(&error, FailureClass::DailyQuota), "{error:?}");
    guard(&stage, &Guard::new("openai")).permit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_used_elsewhere_counts_here_and_not_twice() {
    let config = openai(&["sk-a"], json!({"rpd": 100, "rpm": 60, "tpm": 6_000}));
    let there = Stage::new(config.clone(), []);
    for _ in 0..7 {
        let mut call = guard(&there, &Guard { tokens: 100, ..Guard::new("openai") });
        call.permit().await.unwrap();
        call.settle(None);
    }
    let mut call = guard(&there, &Guard { model: Some("m".to_owned()), ..Guard::new("openai") });
    call.permit().await.unwrap();
    call.fail(refused(FailureClass::DailyQuota));
    let saved = serde_json::to_value(there.keys_of("openai")).unwrap();
    let told: Vec<Usage> = serde_json::from_value(saved).unwrap();

    let here = Stage::new(config, []);
    let limits = |stage: &Stage| -> Vec<Value> {
        let keys = stage.keys_of("openai");
        keys[0].limits.iter().map(|limit| json!([limit.period, limit.used])).collect()
    };
    for _ in 0..2 {
        assert_eq!(here.engine.take_over(&told).unwrap(), 1);
        assert_eq!(limits(&here), limits(&there));
    }
    let closed = Guard { model: Some("m".to_owned()), ..Guard::new("openai") };
    assert!(matches!(here.engine.outlook(&closed, None), Ok(Outlook::In(Some(_)))));
    let unknown: Vec<Usage> =
        serde_json::from_value(json!([{"provider": "openai", "label": "gone"}])).unwrap();
    assert_eq!(here.engine.take_over(&unknown).unwrap(), 0);
}
