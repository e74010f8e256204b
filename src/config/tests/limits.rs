//! Tests of limits in a config.

use serde_json::{Value, json};

use super::*;
use crate::kernel::{Limit, Period, Refill, Resource, Source};
use crate::providers::Provider;

fn limits(provider: &str, limits: Value) -> Result<Vec<Limit>, ConfigError> {
    let config = json!({"providers": {provider: {"limits": limits}}});
    with_config(config, &[]).map(|settings| settings.providers[provider].limits.clone())
}

fn one(provider: &str, name: &str, limit: Value) -> Limit {
    limits(provider, json!({ name: limit })).expect("a limit").pop().expect("one limit")
}

#[test]
fn every_name_says_what_is_counted_and_over_which_window() {
    for (name, resource, period) in [
        ("rps", Resource::Requests, Period::Second),
        ("rpm", Resource::Requests, Period::Minute),
        ("rph", Resource::Requests, Period::Hour),
        ("rpd", Resource::Requests, Period::Day),
        ("rpmonth", Resource::Requests, Period::Month),
        ("tpm", Resource::Tokens, Period::Minute),
        ("tph", Resource::Tokens, Period::Hour),
        ("tpd", Resource::Tokens, Period::Day),
        ("tpmonth", Resource::Tokens, Period::Month),
        ("input_tpm", Resource::InputTokens, Period::Minute),
        ("input_tpd", Resource::InputTokens, Period::Day),
        ("output_tpm", Resource::OutputTokens, Period::Minute),
        ("output_tpd", Resource::OutputTokens, Period::Day),
    ] {
        let limit = one("openai", name, json!(60));
        let openai = Provider::find("openai").expect("openai");
        assert_eq!((limit.resource, limit.period, limit.amount.get()), (resource, period, 60));
        assert_eq!(limit.refill, openai.refill(resource, period, limit.amount), "{name}");
        assert_eq!(limit.source, Source::Configured);
    }
}

#[test]
fn a_bare_number_refills_as_the_provider_does_and_a_table_as_it_says() {
    let zone = |name: &str| Refill::Calendar { zone: name.to_owned() };
    let burst = |burst: u64| Refill::Bucket { burst: burst.try_into().expect("positive") };
    for (provider, name, limit, refill) in [
        ("gemini", "rpd", json!(200), zone("America/Los_Angeles")),
        (
            "gemini",
            "rpd",
            json!({"amount": 200, "refill": "calendar"}),
            zone("America/Los_Angeles"),
        ),
        ("gemini", "rpd", json!({"amount": 200, "zone": "UTC"}), zone("UTC")),
        ("gemini", "rpm", json!({"amount": 20, "refill": "bucket"}), burst(20)),
        ("openai", "rpm", json!({"amount": 600, "refill": "bucket"}), burst(20)),
        ("openai", "rpm", json!({"amount": 600, "burst": 7}), burst(7)),
        ("openai", "rpm", json!({"amount": 20.0, "refill": "rolling"}), Refill::Rolling),
        (
            "openai",
            "rpd",
            json!({"amount": 1e6, "refill": "calendar", "zone": "europe/berlin"}),
            zone("Europe/Berlin"),
        ),
        ("openai", "concurrency", json!(8), Refill::Release),
    ] {
        assert_eq!(one(provider, name, limit.clone()).refill, refill, "{provider} {name} {limit}");
    }
}

#[test]
fn what_no_limit_can_be_is_refused_with_its_path() {
    for (limit, place, message, hint) in [
        (json!(0), "", "from 1 to", ""),
        (json!(-3), "", "the number -3", ""),
        (json!(1.5), "", "the number 1.5", ""),
        (json!(1e13), "", "to 1000000000000, found the number 10000000000000", ""),
        (
            json!(f64::NAN),
            "",
            "a positive whole number or a table with `amount`, found nothing",
            "",
        ),
        (json!("60"), "", "found a text", ""),
        (json!([60]), "", "found a list", ""),
        (json!({}), "", "`amount` is missing", "just 60"),
        (json!({"amount": "60"}), ".amount", "a whole number, found a text", ""),
        (json!({"amount": 60, "refil": "bucket"}), ".refil", "no such field", "`refill`"),
        (json!({"amount": 60, "refill": "buket"}), ".refill", "no such refill", "`bucket`"),
        (json!({"amount": 60, "refill": "daily"}), ".refill", "no such refill", "calendar"),
        (json!({"amount": 60, "burst": 61}), ".burst", "from 1 to 60", ""),
        (
            json!({"amount": 60, "refill": "rolling", "burst": 6}),
            ".burst",
            "only a bucket",
            "bucket",
        ),
        (json!({"amount": 60, "zone": "UTC"}), ".zone", "only a calendar", "refill: calendar"),
        (json!({"amount": 60, "refill": "calendar"}), "", "needs a zone", "UTC"),
        (
            json!({"amount": 60, "refill": "calendar", "zone": "America/Los_Angles"}),
            ".zone",
            "no such time zone",
            "`America/Los_Angeles`",
        ),
        (
            json!({"amount": 60, "refill": "calendar", "zone": "los angeles"}),
            ".zone",
            "no such time zone",
            "`America/Los_Angeles`",
        ),
    ] {
        let error = limits("openai", json!({"rpm": limit})).expect_err(&limit.to_string());
        assert_eq!(error.path, format!("providers.openai.limits.rpm{place}"), "{error}");
        assert!(error.message.contains(message), "{limit}: {error}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{limit}: {error}");
    }
    let error = limits("openai", json!({"concurrency": {"amount": 3}})).expect_err("a table");
    assert_eq!(error.path, "providers.openai.limits.concurrency");
}

#[test]
fn models_have_limits_of_their_own() {
    let config = json!({"providers": {"openai": {"limits": {
        "rpm": 60, "models": {"gpt-4o": {"rpm": 3, "concurrency": 2}},
    }}}});
    let settings = with_config(config, &[]).expect("settings");
    let openai = &settings.providers["openai"];
    assert_eq!(openai.limits.len(), 1);
    let texts: Vec<_> = openai.model_limits["gpt-4o"].iter().map(Limit::to_string).collect();
    assert_eq!(texts, ["3 requests per minute", "2 calls in flight"]);
}
