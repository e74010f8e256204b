//! Daily quotas: rotation, the error when all are used up, and the reset.

use std::time::Duration;

use quotaflow::kernel::{FailureClass, Moment};
use serde_json::{Value, json};

use crate::world::{Plan, World, ask};
use crate::{at, in_virtual_time};

const GEMINI: &str = "gemini-2.5-flash";
const GPT: &str = "gpt-4o-mini";

/// The days on which the clocks change: its first instant, its last, how long it is.
const SHORT_AND_LONG: [(&str, &str, u64); 2] = [
    ("2026-03-08T00:00[America/Los_Angeles]", "2026-03-09T00:00[America/Los_Angeles]", 23),
    ("2026-11-01T00:00[America/Los_Angeles]", "2026-11-02T00:00[America/Los_Angeles]", 25),
];

fn gemini_plan(start: Moment, limits: Value) -> Plan {
    Plan {
        seed: 1,
        start,
        config: json!({"providers": {"gemini": {
            "keys": [{"key": "test-g", "label": "g"}],
            "limits": limits,
        }}, "limits": {"gemini": {"pause_threshold": 1.0}}}),
        providers: json!({"keys": [
            {"key": "test-g", "label": "g", "provider": "gemini", "limits": {"rpm": 100, "rpd": 5}},
        ]}),
    }
}

#[test]
fn a_used_up_day_of_gemini_fails_at_once_until_pacific_midnight_on_both_odd_nights() {
    for (first, last, hours) in SHORT_AND_LONG {
        in_virtual_time(async {
            let (midnight, half_past) = (at(last), at(first) + Duration::from_secs(1_800));
            assert_eq!(midnight.since(at(first)), Duration::from_secs(hours * 3_600));
            let world = World::new(&gemini_plan(half_past, json!({})));
            let engine = world.fresh_engine();
            let call = || world.carry_out(&engine, ask("gemini", GEMINI, "Good morning"));
            for _ in 0..5 {
                assert_eq!(call().await.answer().key, "g");
            }
            // The sixth hears it from the provider, whose body advises to come back in 18 seconds.
            let sixth = call().await;
            assert_eq!(sixth.error().failure, Some(FailureClass::DailyQuota));
            assert_eq!(sixth.error().attempts.len(), 1);
            // From then on nobody asks.
            let sent = world.network.departures().len();
            for hours_before in [20, 1] {
                let now =
                    Moment::from_nanos(midnight.as_nanos() - hours_before * 3_600 * 1_000_000_000);
                world.until(now).await;
                let refused = call().await;
                let error = refused.error();
                assert_eq!(error.failure, Some(FailureClass::DailyQuota));
                assert!(refused.lasted.is_zero() && error.attempts.is_empty());
                let retry_after = error.retry_after.unwrap();
                let left = midnight.since(now);
                assert!(left <= retry_after && retry_after <= left + Duration::from_secs(2));
            }
            world.until(midnight.before(Duration::from_millis(1))).await;
            // So close to midnight it is worth waiting.
            let waited = call().await;
            assert!(waited.is_answered() && waited.lasted < Duration::from_secs(4));
            assert_eq!(world.network.departures().len(), sent + 1);
            assert_eq!(world.network.refusals(), [("rpd", 1)].into());
            world.assert_nothing_is_held(&engine);
        });
    }
}

#[test]
fn a_day_that_is_configured_is_never_overrun_and_reopens_at_pacific_midnight() {
    for (first, last, _) in SHORT_AND_LONG {
        in_virtual_time(async {
            let world = World::new(&gemini_plan(at(first), json!({"rpd": 5})));
            let engine = world.fresh_engine();
            let call = || world.carry_out(&engine, ask("gemini", GEMINI, "Good morning"));
            // The last one leaves seconds before midnight and must not count as the next day's sixth.
            for _ in 0..4 {
                assert!(call().await.is_answered());
            }
            world.until(at(last).before(Duration::from_secs(600))).await;
            assert!(call().await.is_answered());
            let refused = call().await;
            assert_eq!(refused.error().failure, Some(FailureClass::DailyQuota));
            assert!(refused.lasted.is_zero() && refused.error().attempts.is_empty());
            world.until(at(last) + Duration::from_secs(2)).await;
            for _ in 0..5 {
                assert!(call().await.is_answered());
            }
            assert_eq!(call().await.error().failure, Some(FailureClass::DailyQuota));
            assert!(world.network.refusals().is_empty());
            assert_eq!(world.network.stats().accepted, 10);
        });
    }
}

/// Keys at OpenAI in organisations of their own, each with so many requests a day; the minute is wide, so that the
/// headers show the minute and only the refusal speaks of the day.
fn openai_plan(keys: &[&str], per_day: u64, more: Value) -> Plan {
    let secret = |label: &str| format!("sk-test-{label}");
    let mut config = json!({"providers": {
        "openai": {"keys": keys.iter()
            .map(|label| json!({"key": secret(label), "label": label})).collect::<Vec<_>>()},
        "anthropic": {"keys": [{"key": "sk-test-claude", "label": "claude"}]},
    }, "limits": {"openai": {"pause_threshold": 1.0}}});
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    let mut simulated: Vec<Value> = keys
        .iter()
        .map(|label| {
            json!({"key": secret(label), "label": label, "provider": "openai",
                   "limits": {"rpm": 6_000, "rpd": per_day}})
        })
        .collect();
    simulated.push(json!({"key": "sk-test-claude", "label": "claude", "provider": "anthropic"}));
    let start = at("2026-06-01T09:00[UTC]");
    Plan { seed: 2, start, config, providers: json!({"keys": simulated}) }
}

#[test]
fn a_rolling_day_of_openai_opens_when_its_message_says() {
    in_virtual_time(async {
        // One comes back every 864 s: longer than a call without a deadline waits.
        let world = World::new(&openai_plan(&["one"], 100, json!({})));
        let engine = world.fresh_engine();
        for _ in 0..100 {
            assert!(world.carry_out(&engine, ask("openai", GPT, "Hello")).await.is_answered());
        }
        let refused = world.carry_out(&engine, ask("openai", GPT, "Hello")).await;
        assert_eq!(refused.error().failure, Some(FailureClass::DailyQuota));
        let retry_after = refused.error().retry_after.unwrap();
        assert!((800.0..866.0).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
        // With a deadline beyond it, it is waited out.
        let mut patient = ask("openai", GPT, "Hello");
        patient.timeout = Some(Duration::from_secs(3_600));
        let waited = world.carry_out(&engine, patient).await;
        assert!(waited.is_answered());
        assert!((800.0..870.0).contains(&waited.lasted.as_secs_f64()), "{:?}", waited.lasted);
        assert_eq!(world.network.refusals(), [("rpd", 1)].into());
    });
}

#[test]
fn a_used_up_day_goes_to_another_group_at_once_and_then_to_the_fallback() {
    in_virtual_time(async {
        let models = json!({"models": {
            "default": {"provider": "openai", "model": GPT},
            "fallback": [{"provider": "anthropic", "model": "claude-sonnet-4"}],
        }});
        let world = World::new(&openai_plan(&["one", "two"], 20, models));
        let engine = world.fresh_engine();
        let mut answered_by = Vec::new();
        for _ in 0..45 {
            let ended = world.carry_out(&engine, ask("openai", GPT, "Hello")).await;
            assert!(ended.lasted < Duration::from_secs(1), "nobody waits for a day");
            answered_by.push(ended.answer().key.clone());
        }
        let count = |label| answered_by.iter().filter(|key| *key == label).count();
        assert_eq!((count("one"), count("two"), count("claude")), (20, 20, 5));
        assert!(!world.trace.text().contains("waiting for"), "{}", world.trace.text());
        // Each key is told once.
        assert_eq!(world.network.refusals(), [("rpd", 2)].into());
        world.assert_nothing_is_held(&engine);
    });
}
