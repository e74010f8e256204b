//! Is every way to write an error read as what it is?

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::kernel::FailureClass::*;

const NOW: Moment = Moment::from_seconds(1_792_567_620);

fn of_text(text: &str) -> Option<Failure> {
    ForeignError { text, ..Default::default() }.failure(NOW)
}

fn after(failure: &Failure) -> Option<f64> {
    failure.until.map(|until| (until.at - NOW).as_secs_f64())
}

/// What is written, its class, its status, and the seconds it asks to wait.
type Written = (&'static str, FailureClass, Option<u16>, Option<f64>);

const TEXTS: [Written; 60] = [
    ("429", RateLimited, Some(429), None),
    ("429 Too Many Requests", RateLimited, Some(429), None),
    (
        "Error code: 429 - {'error': {'message': 'Rate limit reached for m on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.', 'type': 'requests', 'param': None, 'code': 'rate_limit_exceeded'}}",
        RateLimited,
        Some(429),
        Some(20.0),
    ),
    (
        "Error code: 429 - {'error': {'message': 'You exceeded your current quota, please check your plan and billing details.', 'type': 'insufficient_quota', 'param': None, 'code': 'insufficient_quota'}}",
        CreditExhausted,
        Some(429),
        None,
    ),
    (
        "Error code: 429 - {'error': {'message': 'Rate limit reached for model `m` on tokens per day (TPD): Limit 200000, Used 197494, Requested 4035. Please try again in 11m0.528s.', 'type': 'tokens', 'code': 'rate_limit_exceeded'}}",
        DailyQuota,
        Some(429),
        Some(660.528),
    ),
    (
        "Error code: 400 - {'error': {'message': \"This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.\", 'type': 'invalid_request_error', 'param': 'messages', 'code': 'context_length_exceeded'}}",
        ContextTooLong,
        Some(400),
        None,
    ),
    (
        "Error code: 401 - {'error': {'message': 'Incorrect API key provided: sk-test-1.', 'type': 'invalid_request_error', 'code': 'invalid_api_key'}}",
        Auth,
        Some(401),
        None,
    ),
    (
        "Error code: 529 - {'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'Overloaded'}}",
        Overloaded,
        Some(529),
        None,
    ),
    (
        "Error code: 400 - {'type': 'error', 'error': {'type': 'invalid_request_error', 'message': 'Your credit balance is too low to access the Anthropic API.'}}",
        CreditExhausted,
        Some(400),
        None,
    ),
    (
        "{'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'Overloaded'}}",
        Overloaded,
        Some(529),
        None,
    ),
    (
        "429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'You exceeded your current quota. Please retry in 18.2s.', 'status': 'RESOURCE_EXHAUSTED', 'details': [{'@type': 'type.googleapis.com/google.rpc.QuotaFailure', 'violations': [{'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_requests', 'quotaId': 'GenerateRequestsPerMinutePerProjectPerModel-FreeTier', 'quotaValue': '10'}]}, {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '18s'}]}}",
        RateLimited,
        Some(429),
        Some(18.0),
    ),
    // 07:27 UTC on 21 October is 00:27 in Los Angeles: the day has 23 hours and 33 minutes left.
    (
        "429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'You exceeded your current quota.', 'status': 'RESOURCE_EXHAUSTED', 'details': [{'violations': [{'quotaId': 'GenerateRequestsPerDayPerProjectPerModel-FreeTier', 'quotaValue': '50'}]}, {'retryDelay': '18s'}]}}",
        DailyQuota,
        Some(429),
        Some(84_780.0),
    ),
    (
        "429 You exceeded your current quota, please check your plan and billing details. [violations {\n  quota_metric: \"generativelanguage.googleapis.com/generate_content_free_tier_requests\"\n  quota_id: \"GenerateRequestsPerDayPerProjectPerModel-FreeTier\"\n  quota_value: 50\n}\n, retry_delay {\n  seconds: 18\n}\n]",
        DailyQuota,
        Some(429),
        Some(84_780.0),
    ),
    (
        "400 INVALID_ARGUMENT. {'error': {'code': 400, 'message': 'API key not valid. Please pass a valid API key.', 'status': 'INVALID_ARGUMENT', 'details': [{'reason': 'API_KEY_INVALID'}]}}",
        Auth,
        Some(400),
        None,
    ),
    (
        "Error calling model 'm' (RESOURCE_EXHAUSTED): 429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'Resource has been exhausted (e.g. check quota).', 'status': 'RESOURCE_EXHAUSTED'}}",
        Overloaded,
        Some(429),
        None,
    ),
    ("429 Resource has been exhausted (e.g. check quota).", RateLimited, Some(429), None),
    (
        "503 UNAVAILABLE. {'error': {'code': 503, 'message': 'The model is overloaded. Please try again later.', 'status': 'UNAVAILABLE'}}",
        Overloaded,
        Some(503),
        None,
    ),
    (
        "Error code: 429 - {'error': {'message': 'Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day', 'code': 429, 'metadata': {'headers': {'X-RateLimit-Limit': '50', 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': '1792567680000'}}}}",
        DailyQuota,
        Some(429),
        Some(60.0),
    ),
    (
        "Error code: 402 - {'error': {'message': 'Insufficient credits', 'code': 402}}",
        CreditExhausted,
        Some(402),
        None,
    ),
    (
        "429 Client Error: Too Many Requests for url: https://example.org/x?key=abcd1234efgh",
        RateLimited,
        Some(429),
        None,
    ),
    ("HTTP Error 429: Too Many Requests", RateLimited, Some(429), None),
    ("429, message='Too Many Requests', url='http://127.0.0.1/x'", RateLimited, Some(429), None),
    (
        "Client error '429 Too Many Requests' for url 'https://example.org/x'",
        RateLimited,
        Some(429),
        None,
    ),
    (
        "Server error '503 Service Unavailable' for url 'https://example.org/x'",
        Overloaded,
        Some(503),
        None,
    ),
    (
        "503 Server Error: Service Unavailable for url: https://example.org/x",
        Overloaded,
        Some(503),
        None,
    ),
    ("HTTP 500", ServerError, Some(500), None),
    ("status_code=401, unauthorized", Auth, Some(401), None),
    ("429 quota exceeded for the day", DailyQuota, Some(429), None),
    ("429: insufficient_quota", CreditExhausted, Some(429), None),
    ("429 rate limit, please try again in 1m30s", RateLimited, Some(429), Some(90.0)),
    (
        "API error (429): daily limit reached, try again in 3h",
        DailyQuota,
        Some(429),
        Some(10_800.0),
    ),
    ("Error code: 400 - invalid api key", Auth, Some(400), None),
    ("400 Bad Request: prompt is too long", ContextTooLong, Some(400), None),
    ("404 model not found", NotFound, Some(404), None),
    ("Rate limit exceeded", RateLimited, None, None),
    ("rate_limit_exceeded: try again in 5s", RateLimited, None, Some(5.0)),
    ("RateLimitError: slow down please", RateLimited, None, None),
    ("Too many requests, please wait", RateLimited, None, None),
    (
        "HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /v1 (Caused by ResponseError('too many 429 error responses'))",
        RateLimited,
        Some(429),
        None,
    ),
    (
        "You exceeded your current quota, please check your plan and billing details.",
        CreditExhausted,
        None,
        None,
    ),
    ("Quota exceeded", DailyQuota, None, None),
    ("Quota exceeded for requests per minute", RateLimited, None, None),
    ("tokens per minute limit exceeded", TokenLimited, None, None),
    ("RESOURCE_EXHAUSTED", Overloaded, None, None),
    ("insufficient_quota", CreditExhausted, None, None),
    ("Insufficient Balance", CreditExhausted, None, None),
    ("The model is overloaded. Please try again later.", Overloaded, None, None),
    ("OverloadedError", Overloaded, None, None),
    (
        "Incorrect API key provided: sk-test-1. You can find your API key at https://platform.openai.com/account/api-keys.",
        Auth,
        None,
        None,
    ),
    ("Unauthorized", Auth, None, None),
    ("The model `gpt-none` does not exist or you do not have access to it.", NotFound, None, None),
    ("prompt is too long: 250000 tokens > 200000 maximum", ContextTooLong, None, None),
    ("The response was filtered due to the content management policy", ContentFiltered, None, None),
    ("Request timed out.", Timeout, None, None),
    ("Read timeout on endpoint", Timeout, None, None),
    ("504 Deadline Exceeded", Timeout, Some(504), None),
    ("Connection refused", Network, None, None),
    (
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
        Network,
        None,
        None,
    ),
    ("[Errno -2] Name or service not known", Network, None, None),
    ("Internal Server Error", ServerError, None, None),
];

#[test]
fn texts_are_read_as_what_they_say() {
    let mut wrong = Vec::new();
    for (text, class, status, wait) in TEXTS {
        let read = of_text(text).map(|failure| (failure.class, failure.status, after(&failure)));
        if read != Some((class, status, wait)) {
            wrong.push(format!("{text}\n    is {read:?}, not {:?}", (class, status, wait)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_only_sounds_like_a_refusal_is_none() {
    for text in [
        "",
        "order 14290",
        "order 429 is not ready",
        "warpmap failed",
        "could not load warpmap: rpm unknown",
        "the engine ran at 429 rpm",
        "429 rows were skipped",
        "rate limit must be positive",
        "a quota is needed",
        "[Errno 122] Disk quota exceeded: '/tmp/x'",
        "[Errno 2] No such file or directory: 'model.bin'",
        "[Errno 13] Permission denied: '/etc/shadow'",
        "file not found",
        "'model'",
        "{'id': 429, 'name': 'x'}",
        "unsupported operand type(s) for +: 'int' and 'str'",
        "database is locked",
        "timeout must be a number",
        "see https://example.org/rate-limit-exceeded",
        "\u{0}\u{fffd}💥",
    ] {
        assert_eq!(of_text(text), None, "{text:?}");
    }
}

#[test]
fn the_provider_decides_what_the_same_words_mean() {
    let gemini = Provider::find("gemini").unwrap();
    let text = "429 You exceeded your current quota, please check your plan and billing details.";
    let of = |provider| ForeignError { provider, text, ..Default::default() }.failure(NOW).unwrap();
    assert_eq!(of(None).class, CreditExhausted);
    let day = of(Some(&gemini));
    assert_eq!((day.class, after(&day)), (DailyQuota, Some(84_780.0)));
    assert_eq!(day.until.unwrap().origin, Origin::Guess);
}

#[test]
fn a_status_with_a_body_is_read_as_an_answer_of_its_provider() {
    let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50 requests per minute"}}"#;
    let headers: Headers = [("retry-after", "36")].into_iter().collect();
    let bytes = Bytes::from_static(body);
    let response = WireResponse {
        status: 429,
        headers: &headers,
        body: &bytes,
        now: NOW,
        estimate: Amounts::default(),
        model: "",
    };
    let ours = Provider::find("anthropic").unwrap().decode(&response).unwrap_err();
    let foreign = ForeignError {
        status: Some(429),
        headers: Some(&headers),
        body: Some(body),
        text: "whatever",
        ..Default::default()
    };
    assert_eq!(foreign.failure(NOW), Some(ours));
}

#[test]
fn hosts_count_more_than_libraries_and_shapes_too() {
    let body: &[u8] = br#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;
    let headers: Headers = [("x-ratelimit-remaining-requests", "0")].into_iter().collect();
    let class = |host| {
        let error = ForeignError {
            host,
            library: Some("openai"),
            status: Some(429),
            headers: Some(&headers),
            body: Some(body),
            ..Default::default()
        };
        error.failure(NOW).unwrap().class
    };
    // Groq's requests are those of a day.
    assert_eq!(class(Some("api.groq.com")), DailyQuota);
    assert_eq!(class(Some("127.0.0.1")), RateLimited);
}

#[test]
fn kinds_tell_where_there_is_no_answer() {
    for (kind, text, class, never_sent) in [
        ("timeout", "", Timeout, false),
        ("timeout", "connect timeout=5", Timeout, true),
        ("connect_timeout", "429", Timeout, true),
        ("network", "[Errno 111] Connection refused", Network, true),
        ("network", "it broke", Network, false),
        ("rate_limited", "", RateLimited, false),
        ("rate_limited", "daily limit reached", DailyQuota, false),
        ("auth", "no", Auth, false),
        ("content_filtered", "", ContentFiltered, false),
    ] {
        let error = ForeignError { kind: Some(kind), text, ..Default::default() };
        let failure = error.failure(NOW).unwrap();
        assert_eq!((failure.class, failure.never_sent), (class, never_sent), "{kind} {text}");
    }
    assert_eq!(ForeignError { kind: Some("odd"), ..Default::default() }.failure(NOW), None);
}

#[test]
fn statuses_of_success_say_nothing_and_bodies_without_a_status_must_name_one() {
    let of = |status, body| ForeignError { status, body, ..Default::default() }.failure(NOW);
    assert_eq!(of(Some(200), None), None);
    assert_eq!(of(Some(7), None), None);
    assert_eq!(of(None, Some(&b"{\"x\": 1}"[..])), None);
    assert_eq!(of(None, Some(&b"<html>"[..])), None);
    let named = of(None, Some(&br#"{"error":{"message":"m","code":429}}"#[..])).unwrap();
    assert_eq!((named.class, named.status), (RateLimited, Some(429)));
    assert_eq!(of(Some(503), Some(&b"<html>"[..])).unwrap().class, Overloaded);
}

#[test]
fn no_key_is_shown() {
    for text in [
        "429 key sk-test-123456789 was limited",
        "Incorrect API key provided: sk-test-123456789",
        "Connection refused by https://h/?key=sk-test-123456789",
        "Error code: 401 - {'error': {'message': 'bad key sk-test-123456789'}}",
    ] {
        let failure = of_text(text).unwrap();
        assert!(!failure.message.contains("sk-test"), "{failure:?}");
    }
}

#[test]
fn a_refusal_is_read_within_twenty_microseconds() {
    // The fastest of many rounds: what the machine does beside it is not ours.
    let fastest = |text| {
        let error = ForeignError { text, ..Default::default() };
        let round = |_| {
            #[expect(clippy::disallowed_methods, reason = "this test measures")]
            let began = Instant::now();
            assert!(error.failure(NOW).is_some());
            began.elapsed()
        };
        (0..300).map(round).min().unwrap()
    };
    for (text, ..) in TEXTS {
        let took = fastest(text);
        eprintln!("{took:?} for {text}");
    }
}

proptest! {
    #[test]
    fn anything_is_harmless(
        text in ".{0,300}",
        status in prop::option::of(any::<u16>()),
        body in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        kind in prop::option::of("[a-z_]{0,12}"),
        library in prop::option::of("[a-z_.]{0,20}"),
        host in prop::option::of(".{0,20}"),
        nanos in any::<i64>(),
    ) {
        let headers: Headers = [("retry-after", text.as_str())].into_iter().collect();
        let error = ForeignError {
            provider: None,
            host: host.as_deref(),
            library: library.as_deref(),
            status,
            headers: Some(&headers),
            body: body.as_deref(),
            kind: kind.as_deref(),
            text: &text,
        };
        if let Some(failure) = error.failure(Moment::from_nanos(nanos)) {
            prop_assert!(failure.message.chars().count() <= 500 + 40);
        }
    }
}
