//! Property tests of the refusal readers.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kernel::{Amounts, Moment, Period, RateHint, Resource};

use super::super::provider::Provider;
use super::super::wire::{Headers, WireResponse};

fn told(provider: &str, status: u16, body: &Value) -> Vec<RateHint> {
    let (headers, body) = (Headers::default(), Bytes::from(body.to_string()));
    let response = WireResponse {
        status,
        headers: &headers,
        body: &body,
        now: Moment::EPOCH,
        estimate: Amounts::default(),
        model: "m",
    };
    Provider::find(provider).unwrap().limits_told(&response)
}

#[test]
fn a_body_tells_of_each_limit_it_names() {
    let violation =
        |id: &str, value: &str| json!({"quotaId": id, "quotaMetric": "x", "quotaValue": value});
    let body = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m",
    "details": [{"violations": [
        violation("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000"),
        violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20"),
        violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0"),
    ]}]}});
    let rates = told("gemini", 429, &body);
    let seen: Vec<_> =
        rates.iter().map(|rate| (rate.resource, rate.period, rate.amount, rate.zone)).collect();
    let zone = Some("America/Los_Angeles");
    assert_eq!(
        seen,
        [
            (Resource::Tokens, Period::Minute, Some(250_000), None),
            (Resource::Requests, Period::Day, Some(20), zone),
        ]
    );
}

#[test]
fn only_refusals_of_a_quota_tell_of_limits() {
    let words = "on tokens per min (TPM): Limit 50000, Used 60000, Requested 3006.";
    let body = json!({"error": {"message": words}});
    assert_eq!(told("openai", 429, &body)[0].remaining, Some(0));
    assert!(told("openai", 400, &body).is_empty());
    assert!(told("openai", 500, &body).is_empty());
}

/// Pieces that readers look for, whole and in parts.
const PIECES: [&str; 24] = [
    "{\"error\":",
    "{\"error\":{\"message\":\"",
    "\"code\":429,",
    "\"details\":[{\"violations\":[{\"quotaValue\":\"",
    "\"metadata\":{\"headers\":{\"X-RateLimit-Limit\":\"",
    "\"choices\":[{\"error\":{",
    "\"",
    "}",
    "]",
    ",",
    "limit: 0",
    ": Limit ",
    ", Used ",
    "Requested ",
    "(TPM)",
    "(actual/limit): ",
    "/",
    " queries and ",
    " tokens per minute",
    "maximum context length is ",
    "try again in ",
    "9999999999999999999999",
    "é",
    "7",
];

proptest! {
    #[test]
    fn any_pieces_in_any_order_are_judged_without_panic(
        status in prop_oneof![Just(200_u16), Just(400), Just(402), Just(413), Just(429), 0_u16..1000],
        pieces in proptest::collection::vec(0..PIECES.len(), 0..14),
        event in prop_oneof![Just(""), Just("error"), Just("response.failed"), Just("ping")],
        value in prop_oneof![Just("-1".to_owned()), Just("0".to_owned()), Just("6.0".to_owned()),
            any::<u64>().prop_map(|number| number.to_string()), "\\PC{0,12}"],
    ) {
        const HEADERS: [&str; 14] = [
            "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
            "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
            "x-ratelimit-limit-tokens", "x-ratelimit-renewalperiod-tokens",
            "x-ratelimit-limit-req-minute", "x-ratelimit-limit-req-10-second",
            "x-tokenlimit-limit", "ratelimitbysize-limit", "x-ratelimit-limit-tokens-day",
            "x-ratelimit-reset-tokens-day",
        ];
        let body: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        let body = Bytes::from(body);
        let headers: Headers = HEADERS.into_iter().map(|name| (name, value.as_str())).collect();
        for name in Provider::names() {
            let provider = Provider::find(name).unwrap();
            let response = WireResponse {
                status, headers: &headers, body: &body, now: Moment::EPOCH,
                estimate: Amounts { requests: 1, input_tokens: 9, output_tokens: 9, spend: 0 }, model: "m",
            };
            let _ = super::judge(&provider, &response);
            let mut hints = provider.hints(&headers, response.now);
            hints.refine(&provider.limits_told(&response));
            for rate in hints.rates {
                prop_assert!(rate.amount.is_some_and(|amount| amount > 0), "{rate:?}");
            }
            if let Some(failure) = provider.refusal_in_event(event, &response) {
                prop_assert!(!failure.message.is_empty());
            }
        }
    }
}
