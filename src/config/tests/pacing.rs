//! Tests of pacing settings.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::Pacing;

fn pacing(config: Value, limits: Option<Value>, model: &str) -> Pacing {
    let arguments =
        Arguments { config: Some(ConfigArgument::Value(config)), limits, ..Arguments::default() };
    let settings = Settings::resolve(arguments, machine(&[])).expect("settings");
    settings.providers["groq"].pacing(model)
}

#[test]
fn without_a_word_the_retries_of_the_whole_config_hold() {
    let usual = pacing(json!({}), None, "m");
    assert_eq!(usual, Pacing::default());
    assert_eq!((usual.max_retries, usual.base_delay), (3, Duration::from_secs(1)));
    assert_eq!((usual.retry_multiplier, usual.pause_threshold), (2.0, 0.9));
    assert_eq!(usual.max_tokens_per_request, None);

    let retry = json!({"max_retries": 7, "retry_delay": 0.5, "retry_multiplier": 1.5});
    let said = pacing(json!({"retry": retry}), None, "m");
    let expected = Pacing {
        max_retries: 7,
        base_delay: Duration::from_millis(500),
        retry_multiplier: 1.5,
        ..usual
    };
    assert_eq!(said, expected);
}

#[test]
fn a_model_beats_its_provider_and_an_argument_the_config() {
    let config = json!({
        "retry": {"max_retries": 7},
        "providers": {"groq": {"limits": {
            "rpm": 30, "max_tokens_per_request": 6_000, "base_delay": 2, "pause_threshold": 0.8,
            "models": {"a": {"max_tokens_per_request": 1_000, "retry_multiplier": 4}},
        }}},
        "limits": {"groq": {"base_delay": 3, "models": {"a": {"pause_threshold": 1}}}},
    });
    let limits = json!({"groq": {"pause_threshold": 0.5, "models": {"b": {"max_retries": 0}}}});
    let of = |model| {
        let pacing = pacing(config.clone(), Some(limits.clone()), model);
        let Pacing {
            max_tokens_per_request,
            base_delay,
            max_retries,
            retry_multiplier,
            pause_threshold,
        } = pacing;
        (
            max_tokens_per_request,
            base_delay.as_secs(),
            max_retries,
            retry_multiplier,
            pause_threshold,
        )
    };
    assert_eq!(of("a"), (Some(1_000), 3, 7, 4.0, 1.0));
    assert_eq!(of("b"), (Some(6_000), 3, 0, 2.0, 0.5));
    assert_eq!(of("c"), (Some(6_000), 3, 7, 2.0, 0.5));
}

#[test]
fn limits_may_stand_at_the_top_too() {
    let config = json!({
        "providers": {"groq": {"limits": {"rpm": 30, "rpd": 100}}},
        "limits": {"groq": {"rpm": 20, "models": {"a": {"rpm": 2}}}},
    });
    let settings = with_config(config, &[]).expect("settings");
    let groq = &settings.providers["groq"];
    let texts: Vec<_> = groq.limits.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["20 requests per minute", "100 requests per day"]);
    assert_eq!(groq.model_limits["a"].len(), 1);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_path() {
    for (limits, path, message) in [
        (json!({"max_tokens_per_request": 0}), "max_tokens_per_request", "from 1 to"),
        (json!({"max_tokens_per_request": "6k"}), "max_tokens_per_request", "a whole number"),
        (json!({"max_tokens_per_request": null}), "max_tokens_per_request", "found nothing"),
        (json!({"base_delay": -1}), "base_delay", "from 0 to 3600"),
        (json!({"base_delay": true}), "base_delay", "a number of seconds, found true"),
        (json!({"max_retries": 101}), "max_retries", "from 0 to 100"),
        (json!({"retry_multiplier": 0.9}), "retry_multiplier", "from 1 to 100"),
        (json!({"retry_multiplier": "2x"}), "retry_multiplier", "a number of 1 or more"),
        (json!({"pause_threshold": 0}), "pause_threshold", "more than 0 and at most 1"),
        (json!({"pause_threshold": 90}), "pause_threshold", "from 0 to 1, found the number 90"),
        (json!({"pause_threshhold": 0.9}), "pause_threshhold", "no such field"),
        (json!({"models": {"m": {"models": {}}}}), "models.m.models", "no such field"),
    ] {
        let error = with_config(json!({"limits": {"groq": limits}}), &[]).expect_err(path);
        assert_eq!(error.path, format!("limits.groq.{path}"));
        assert!(error.message.contains(message), "{error}");
    }
    // What belongs to a call is not a key's.
    let key = json!({"key": "sk-test-1", "limits": {"rpm": 3, "pause_threshold": 0.5}});
    let error = with_config(json!({"providers": {"groq": {"keys": key}}}), &[]).expect_err("a key");
    assert_eq!(error.path, "providers.groq.keys.limits.pause_threshold");
    let retry = json!({"retry": {"retry_multiplier": 0}});
    assert_eq!(with_config(retry, &[]).expect_err("zero").path, "retry.retry_multiplier");
}
