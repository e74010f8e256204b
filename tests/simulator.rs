//! The simulator beside the providers' documentation.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail tests too")]

#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/limits.rs"]
mod limits;
#[path = "simulator/shapes.rs"]
mod shapes;
#[path = "simulator/sockets.rs"]
mod sockets;
#[path = "simulator/streams.rs"]
mod streams;

use quotaflow::simulator::{Answer, IncomingRequest, Simulator, SimulatorSettings};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000_000;

fn simulator(yaml: &str) -> Simulator {
    Simulator::new(SimulatorSettings::from_yaml(yaml).unwrap()).unwrap()
}

/// Nanoseconds since the epoch of a civil time in a zone, as `2026-03-08T00:00:00[America/Los_Angeles]`.
fn at(zoned: &str) -> i64 {
    let zoned: jiff::Zoned = zoned.parse().unwrap();
    i64::try_from(zoned.timestamp().as_nanosecond()).unwrap()
}

fn body_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn post(
    simulator: &mut Simulator,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
    now: i64,
) -> Answer {
    let body = body.to_string();
    simulator.answer(&IncomingRequest { method: "POST", path, headers, body: body.as_bytes() }, now)
}

fn ask_openai(simulator: &mut Simulator, key: &str, body: &Value, now: i64) -> Answer {
    let bearer = format!("Bearer {key}");
    post(simulator, "/v1/chat/completions", &[("Authorization", &bearer)], body, now)
}

fn ask_anthropic(simulator: &mut Simulator, key: &str, body: &Value, now: i64) -> Answer {
    let headers = [("x-api-key", key), ("anthropic-version", "2023-06-01")];
    post(simulator, "/v1/messages", &headers, body, now)
}

fn ask_gemini(simulator: &mut Simulator, key: &str, model: &str, body: &Value, now: i64) -> Answer {
    let path = format!("/v1beta/models/{model}:generateContent");
    post(simulator, &path, &[("x-goog-api-key", key)], body, now)
}

fn chat(text: &str) -> Value {
    json!({"model": "gpt-test", "messages": [{"role": "user", "content": text}]})
}

fn message(text: &str) -> Value {
    json!({"model": "claude-test", "max_tokens": 64, "messages": [{"role": "user", "content": text}]})
}

fn contents(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

/// Asks and is done at once; only the status counts.
fn status_of(simulator: &mut Simulator, key: &str, now: i64) -> u16 {
    let answer = ask_openai(simulator, key, &chat("hello"), now);
    if let Some(ticket) = answer.ticket {
        simulator.finished(ticket, now);
    }
    answer.status
}
