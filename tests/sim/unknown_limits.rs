//! A client without configured limits at providers that have some.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Ended, Plan, World, ask};
use crate::{at, in_virtual_time};

/// Keys at OpenAI, each with these limits, of which the client is told nothing.
fn plan(seed: u64, keys: usize, limits: &Value) -> Plan {
    plan_at("openai", seed, keys, limits)
}

fn plan_at(provider: &str, seed: u64, keys: usize, limits: &Value) -> Plan {
    let secret = |place: usize| format!("sk-test-{place}");
    let secrets: Vec<String> = (0..keys).map(secret).collect();
    let simulated: Vec<Value> = (0..keys)
        .map(|place| json!({"key": secret(place), "provider": provider, "limits": limits}))
        .collect();
    Plan {
        seed,
        start: at("2026-06-01T09:00[UTC]"),
        config: json!({"providers": {provider: {"keys": secrets}}}),
        providers: json!({
            "seed": seed,
            "latency": {"min": 0.3, "max": 2.0},
            "tokens": {"output": {"min": 10, "max": 200}},
            "keys": simulated,
        }),
    }
}

/// Asks at these milliseconds since the start.
async fn ask_at(world: &World, times: impl IntoIterator<Item = u64>) -> Vec<Ended> {
    ask_model_at(world, ("openai", "gpt-4o-mini"), times).await
}

async fn ask_model_at(
    world: &World,
    (provider, model): (&str, &str),
    times: impl IntoIterator<Item = u64>,
) -> Vec<Ended> {
    let engine = world.fresh_engine();
    let start = quotaflow::engine::Clock::now(&world.truth);
    let mut going = Vec::new();
    for time in times {
        world.until(start + Duration::from_millis(time)).await;
        let prompt = "word ".repeat(20 + (time % 300) as usize);
        going.push(tokio::spawn(world.call(&engine, ask(provider, model, &prompt), None)));
    }
    let mut ended = Vec::new();
    for call in going {
        ended.push(call.await.unwrap());
    }
    world.assert_nothing_is_held(&engine);
    ended
}

/// No prompt is lost; how many refusals did it cost?
fn refusals(name: &str, world: &World, ended: &[Ended]) -> u64 {
    let lost: Vec<_> = ended.iter().filter(|ended| !ended.is_answered()).collect();
    assert!(lost.is_empty(), "{} of {} lost, first {:?}", lost.len(), ended.len(), lost[0]);
    let refused = world.network.refusals();
    let slowest = ended.iter().map(|ended| ended.lasted.as_secs_f64()).fold(0.0, f64::max);
    eprintln!("{name}: {} prompts, refusals {refused:?}, slowest {slowest:.1} s", ended.len());
    refused.values().sum()
}

#[test]
fn a_steady_load_a_quarter_over_the_limit_loses_nothing() {
    in_virtual_time(async {
        let world = World::new(&plan(1, 1, &json!({"rpm": 60, "tpm": 100_000})));
        let ended = ask_at(&world, (0..375).map(|call| call * 800)).await;
        assert!(refusals("steady, 75 a minute against 60", &world, &ended) <= 4);
    });
}

#[test]
fn bursts_over_three_keys_lose_nothing() {
    in_virtual_time(async {
        let world = World::new(&plan(2, 3, &json!({"rpm": 20, "tpm": 20_000})));
        let bursts = (0..5).flat_map(|burst| (0..70).map(move |call| burst * 60_000 + call));
        let ended = ask_at(&world, bursts).await;
        assert!(refusals("bursts of 70 against 3 x 20 a minute", &world, &ended) <= HANDFUL);
    });
}

#[test]
fn a_limit_on_tokens_alone_loses_nothing() {
    in_virtual_time(async {
        let world = World::new(&plan(3, 1, &json!({"tpm": 20_000})));
        let ended = ask_at(&world, (0..400).map(|call| call * 700)).await;
        assert!(refusals("tokens only, 20,000 a minute", &world, &ended) <= HANDFUL);
    });
}

/// A handful.
const HANDFUL: u64 = 8;

/// Some tell their limits in headers, some in the refusal, some nowhere.
const PROVIDERS: [(&str, &str); 5] = [
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4"),
    ("groq", "llama-3.1-8b-instant"),
    ("gemini", "gemini-2.5-flash"),
    ("openrouter", "meta-llama/llama-3.3-70b-instruct"),
];

#[test]
fn a_first_burst_larger_than_the_limit_is_refused_a_handful_of_times_whoever_the_provider_is() {
    for target in PROVIDERS {
        in_virtual_time(async {
            let world = World::new(&plan_at(target.0, 4, 1, &json!({"rpm": 30})));
            let ended = ask_model_at(&world, target, std::iter::repeat_n(0, 100)).await;
            let name = format!("100 at once against 30 a minute at {}", target.0);
            let refused = refusals(&name, &world, &ended);
            assert!(refused <= HANDFUL, "{name}: {refused}");
        });
    }
}

#[test]
fn a_large_limit_that_nobody_tells_is_found_without_crawling() {
    in_virtual_time(async {
        let target = ("gemini", "gemini-2.5-flash");
        let world = World::new(&plan_at(target.0, 5, 1, &json!({"rpm": 1_000})));
        let ended = ask_model_at(&world, target, std::iter::repeat_n(0, 3_000)).await;
        let slowest = ended.iter().map(|ended| ended.lasted.as_secs_f64()).fold(0.0, f64::max);
        let refused = refusals("3,000 at once against 1,000 a minute", &world, &ended);
        // Two full minutes must pass in any case.
        assert!(slowest < 300.0, "{slowest}");
        assert!(refused < 3_000 / 10, "{refused}");
    });
}
