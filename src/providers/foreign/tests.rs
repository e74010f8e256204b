//! Tests of the classification of other libraries' errors.

use proptest::prelude::*;

use super::*;
use crate::kernel::FailureClass::*;
use texts::TEXTS;

mod texts;

const NOW: Moment = Moment::from_seconds(1_792_567_620);

fn of_text(text: &str) -> Option<Failure> {
    ForeignError { text, ..Default::default() }.failure(NOW)
}

fn after(failure: &Failure) -> Option<f64> {
    failure.until.map(|until| (until.at - NOW).as_secs_f64())
}

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
        "rpm: error: package not installed",
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
    let bare =
        of(None, Some(&br#"{"message":"m","type":"server_error","code":null}"#[..])).unwrap();
    assert_eq!((bare.class, bare.status), (ServerError, Some(500)));
    assert_eq!(of(Some(503), Some(&b"<html>"[..])).unwrap().class, Overloaded);
}

#[test]
fn a_word_alone_is_no_proof_that_a_key_is_bad() {
    let doubtful = |text| of_text(text).unwrap().needs_confirmation;
    assert!(doubtful("Unauthorized"));
    assert!(!doubtful("401 Unauthorized"));
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
