//! Tests of prices in a config.

use serde_json::{Value, json};

use crate::config::{Arguments, ConfigArgument, Settings, Sources};
use crate::kernel::Usage;

const USAGE: Usage = Usage {
    input_tokens: 1_000_000,
    output_tokens: 1_000_000,
    cached_tokens: 400_000,
    cache_write_tokens: 0,
    reasoning_tokens: 0,
};

fn resolve(config: Value) -> Result<Settings, String> {
    let config = Some(ConfigArgument::Value(config));
    let state = Some("memory".into());
    let arguments = Arguments { config, state, ..Arguments::default() };
    Settings::resolve(arguments, Sources::default()).map_err(|error| error.to_string())
}

fn dollars(settings: &Settings, provider: &str, model: &str) -> Option<f64> {
    let rates = settings.prices.rates(provider, model)?;
    rates.cost(&USAGE, 0).map(|cost| cost as f64 / 1e12)
}

#[test]
fn prices_are_dollars_for_a_million_tokens() {
    let mine = json!({"input": 2.5, "output": 10, "cached_input": 1.25, "request": 0.01});
    let config = json!({
        "prices": {"OpenAI": {"mine": mine, "*": {"input": 1, "output": 1}}, "google": {"g": {"input": 0, "output": 0}}},
    });
    let settings = resolve(config).unwrap();
    assert_eq!(dollars(&settings, "openai", "mine"), Some(0.6 * 2.5 + 0.4 * 1.25 + 10.0 + 0.01));
    assert_eq!(dollars(&settings, "openai", "other"), Some(2.0));
    assert_eq!(dollars(&settings, "gemini", "g"), Some(0.0));
    assert_eq!(dollars(&settings, "gemini", "other"), None);
}

#[test]
fn ones_own_servers_are_free_and_a_provider_behind_a_proxy_is_not() {
    let config = json!({"providers": {
        "box": {"base_url": "http://127.0.0.1:8000/v1"},
        "far": {"base_url": "https://llm.example.com/v1"},
        "openai": {"base_url": "http://127.0.0.1:9000/v1"},
    }});
    let settings = resolve(config).unwrap();
    for (provider, cost) in
        [("ollama", Some(0.0)), ("box", Some(0.0)), ("far", None), ("openai", None)]
    {
        assert_eq!(dollars(&settings, provider, "m"), cost, "{provider}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (prices, message) in [
        (
            json!({"openai": {"m": {"input": 1, "ouput": 2}}}),
            "prices.openai.m.ouput: there is no such field; did you mean `output`?",
        ),
        (
            json!({"opnai": {"m": {"input": 1, "output": 2}}}),
            "prices.opnai: there is no provider of this name; did you mean `openai`?",
        ),
        (
            json!({"openai": {"m": {"input": 1}}}),
            "prices.openai.m: `output` is missing; state input and output, in US dollars for a million tokens",
        ),
        (
            json!({"openai": {"m": {"input": -1, "output": 2}}}),
            "prices.openai.m.input: expected a number from 0 to 1000000, found the number -1",
        ),
        (
            json!({"openai": {"m": {"input": "2.5", "output": 2}}}),
            "prices.openai.m.input: expected US dollars, a number from 0 to 1000000, found a text",
        ),
        (json!({"openai": {"m": 3}}), "prices.openai.m: expected a table, found the number 3"),
        (json!([]), "prices: expected a table, found a list"),
    ] {
        let refused = resolve(json!({"prices": prices})).unwrap_err();
        assert!(refused.starts_with(message), "{refused}\n{message}");
    }
}
