//! The cost of decisions: choosing a key, reading a refusal, learning from headers.
//!
//! Prints one JSON object a line: what, nanoseconds (or bytes) each, the most that was asked for. Times are the median
//! of short batches.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::num::NonZeroU64;
use std::time::Instant;

use bytes::Bytes;
use quotaflow::engine::{Clock, SystemClock};
use quotaflow::kernel::{
    Amounts, AnswerCharged, Configured, Demand, Lane, Ledger, Ledgers, Limit, Moment, Period,
    RateHint, Refill, Resource, SinceTold, Source, choose, reserve,
};
use quotaflow::providers::{ForeignError, Headers, Provider, WireResponse};
use serde_json::Value;

const KEYS: usize = 50;
const MODELS: usize = 20;

/// The middle of many short batches, in nanoseconds each.
fn nanos(mut act: impl FnMut()) -> f64 {
    const BATCHES: usize = 101;
    const BATCH: u32 = 50;
    (0..1_000).for_each(|_| act());
    let mut times: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            (0..BATCH).for_each(|_| act());
            began.elapsed().as_nanos() as f64 / f64::from(BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}

fn tell(what: &str, unit: &str, measured: f64, most: u64) {
    println!(
        r#"{{"what": "{what}", "unit": "{unit}", "measured": {measured:.1}, "most": {most}}}"#
    );
}

/// Requests and tokens a minute, requests a day.
fn limits() -> Configured {
    let bucket = |resource, period| {
        let amount = NonZeroU64::new(4_000_000_000).unwrap();
        let refill = Refill::Bucket { burst: amount };
        Limit { resource, period, amount, refill, source: Source::Configured }
    };
    vec![
        bucket(Resource::Requests, Period::Minute),
        bucket(Resource::Requests, Period::Day),
        bucket(Resource::Tokens, Period::Minute),
    ]
    .into()
}

/// Memory that this process has in use, in bytes, as the kernel counts pages.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4_096.0
}

/// A ledger for each key over all models, then one for each key at each model, all of them used.
fn ledgers(now: Moment) -> Vec<Ledger> {
    let (stated, none): (Configured, Configured) = (limits(), Vec::new().into());
    let used = Amounts { requests: 1, input_tokens: 40, output_tokens: 30, spend: 0 };
    let told = |resource| RateHint {
        resource,
        period: Period::Minute,
        amount: Some(60_000),
        remaining: Some(50_000),
        reset_after: None,
        refills_continuously: true,
        zone: None,
    };
    (0..KEYS * (1 + MODELS))
        .map(|place| {
            let mut ledger = Ledger::default();
            ledger.conform(if place < KEYS { &stated } else { &none }, now);
            if place >= KEYS {
                [Resource::Requests, Resource::Tokens].iter().for_each(|resource| {
                    ledger.learn_limit(&told(*resource), SinceTold::default(), now, now)
                });
                (0..20).for_each(|_| ledger.record_output_size(30, None));
            }
            ledger.take(&used, AnswerCharged::AtOnce, now);
            ledger.ended(now);
            ledger
        })
        .collect()
}

fn main() {
    let now = SystemClock.now();
    let before = resident();
    let mut all = ledgers(now);
    let each = (resident() - before) / all.len() as f64;
    tell("memory, a ledger in use (50 keys x 20 models)", "bytes", each, 2_048);

    let model = |model: usize, key: usize| KEYS + model * KEYS + key;
    let picked: Vec<usize> = (0..KEYS).flat_map(|key| [model(7, key), key]).collect();
    let lanes: Vec<Lane> =
        (0..KEYS).map(|key| Lane::new(key, 2 * key, 2 * key + 1, 2 * key + 1, None)).collect();
    let demand = Demand { counts_output: true, ..Demand::of(40) };
    let mut view = Ledgers::new(&mut all, &picked);
    let choosing = nanos(|| _ = std::hint::black_box(choose(&view, &lanes, &[], &demand, now)));
    tell("choosing among 50 keys at one of 20 models", "ns", choosing, 20_000);
    let reserving = nanos(|| {
        _ = std::hint::black_box(reserve(&mut view, &lanes, &[], &demand, SystemClock.now()))
    });
    tell("the same, and taking from its meters", "ns", reserving, 20_000);

    let told = RateHint {
        resource: Resource::Requests,
        period: Period::Minute,
        amount: Some(60_000),
        remaining: Some(50_000),
        reset_after: None,
        refills_continuously: true,
        zone: None,
    };
    let openai = Provider::find("openai").unwrap();
    let headers: Headers = [
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-tokens", "199900"),
        ("x-ratelimit-reset-tokens", "30ms"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect();
    let learning = nanos(|| {
        let now = SystemClock.now();
        let hints = openai.hints(&headers, now);
        let ledger = view.get_mut(0);
        for hint in hints.rates.iter().chain([&told]) {
            ledger.apply_remaining(hint, SinceTold::default(), now, now);
            ledger.learn_limit(hint, SinceTold::default(), now, now);
        }
    });
    tell("learning from the headers of an answer", "ns", learning, 5_000);

    let text = "Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o in organization org-x on \
        requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms.', 'type': 'requests'}}";
    let error = ForeignError { text, ..ForeignError::default() };
    let reading = nanos(|| _ = std::hint::black_box(error.failure(now)));
    tell("what the text of another library's error means", "ns", reading, 20_000);

    for (name, fixture) in [
        ("openai", include_str!("../tests/fixtures/openai/requests-per-minute.json")),
        ("gemini", include_str!("../tests/fixtures/gemini/day.json")),
        ("groq", include_str!("../tests/fixtures/groq/tokens-per-day.json")),
        ("openrouter", include_str!("../tests/fixtures/openrouter/credits.json")),
        ("mistral", include_str!("../tests/fixtures/mistral/requests.json")),
    ] {
        let fixture: Value = serde_json::from_str(fixture).unwrap();
        let body = Bytes::from(match &fixture["body"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let headers: Headers = fixture["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap().to_owned()))
            .collect();
        let provider = Provider::find(name).unwrap();
        let response = WireResponse {
            status: u16::try_from(fixture["status"].as_u64().unwrap()).unwrap(),
            headers: &headers,
            body: &body,
            now,
            estimate: Amounts::default(),
            model: "model",
        };
        let deciding = nanos(|| _ = std::hint::black_box(provider.decode(&response)));
        tell(&format!("what a refusal of {name} means"), "ns", deciding, 20_000);
    }
}
