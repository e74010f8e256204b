//! HTTP status and JSON body embedded in an error text.

use serde_json::{Map, Value, json};

use super::python_literal;

/// Words after which a number of three digits is a status.
const STATUS_WORDS: [&str; 12] = [
    "status",
    "code",
    "status_code",
    "statuscode",
    "status-code",
    "http_status",
    "httpstatus",
    "http_code",
    "http",
    "https",
    "error_code",
    "errorcode",
];

/// Words after which it may be one, if what follows does not make it a number of things.
const LOOSE_WORDS: [&str; 9] =
    ["error", "errors", "err", "got", "returned", "received", "response", "with", "many"];

/// Words that make a status in brackets out of `(503)`; 429 needs none.
const BRACKET_WORDS: [&str; 14] = [
    "error",
    "failed",
    "failure",
    "response",
    "request",
    "requests",
    "unavailable",
    "overloaded",
    "unauthorized",
    "forbidden",
    "exceeded",
    "status",
    "code",
    "http",
];

/// Words that may follow a status in small letters; any other makes it a number of things.
const AFTER_WORDS: [&str; 44] = [
    "too",
    "rate",
    "ratelimit",
    "quota",
    "resource",
    "error",
    "errors",
    "client",
    "server",
    "response",
    "responses",
    "status",
    "from",
    "for",
    "while",
    "when",
    "on",
    "in",
    "at",
    "by",
    "you",
    "your",
    "the",
    "received",
    "returned",
    "please",
    "unauthorized",
    "service",
    "internal",
    "insufficient",
    "model",
    "not",
    "bad",
    "api",
    "key",
    "invalid",
    "incorrect",
    "payment",
    "gateway",
    "overloaded",
    "limit",
    "slow",
    "request",
    "unavailable",
];

/// What makes any standalone number before it a status.
const REASONS: [&str; 9] = [
    "too many requests",
    "resource_exhausted",
    "resource has been exhausted",
    "client error",
    "server error",
    "service unavailable",
    "internal server error",
    "payment required",
    "bad gateway",
];

/// At most that many opening braces are tried.
const MOST_TRIED: usize = 6;

/// The status of a refusal that a text names: `Error code: 429 - …`, `429 RESOURCE_EXHAUSTED. …`,
/// `HTTP 503`, `status_code=429`, `(429)`. A number that only looks like one names nothing.
pub(super) fn status(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    let digits_at = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    while at + 3 <= bytes.len() {
        if !digits_at(at) {
            at += 1;
            continue;
        }
        let length = (at..bytes.len()).take_while(|at| digits_at(*at)).count();
        if length == 3
            && let Ok(number @ 400..600) = text[at..at + 3].parse::<u16>()
            && is_status(&text[..at], &text[at + 3..], number)
        {
            return Some(number);
        }
        at += length;
    }
    None
}

fn is_status(before: &str, after: &str, number: u16) -> bool {
    let glued = |letter: char| letter.is_alphanumeric() || "_%°€$".contains(letter);
    let fraction = |text: &str| {
        let mut letters = text.chars();
        matches!(letters.next(), Some('.' | ',' | ':' | '-' | '/'))
            && letters.next().is_some_and(|letter| letter.is_ascii_digit())
    };
    if before.ends_with(glued) || after.starts_with(glued) || fraction(after) {
        return false;
    }
    let lead = before
        .trim_end_matches(|letter: char| letter.is_whitespace() || "'\"([{<=:#-".contains(letter));
    let starts = |words: &[&str]| {
        words.iter().any(|word| {
            after.trim_start().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
        })
    };
    // `b'` is how Python shows bytes.
    if lead.is_empty() || lead == "b" {
        return counts_nothing(after);
    }
    let mut words =
        lead.rsplit(|letter: char| letter.is_whitespace() || "'\"([{<,;=".contains(letter));
    let word = words.next().unwrap_or_default().trim_end_matches(['.', ':']);
    let is_one_of = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    let slashed = word.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("http/"));
    if is_one_of(&STATUS_WORDS) || slashed || starts(&REASONS) {
        return true;
    }
    if before.ends_with(['(', '[']) && after.starts_with([')', ']']) {
        return number == 429 || is_one_of(&BRACKET_WORDS);
    }
    is_one_of(&LOOSE_WORDS) && counts_nothing(after)
}

/// Whether what follows a number does not make it a number of things.
fn counts_nothing(after: &str) -> bool {
    let Some(first) = after.chars().next() else { return true };
    if !first.is_whitespace() {
        return true;
    }
    let rest = after.trim_start();
    let end = rest.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(rest.len());
    let word = &rest[..end];
    !word.starts_with(|letter: char| letter.is_lowercase() || letter.is_ascii_digit())
        || AFTER_WORDS.contains(&word)
}

/// The body that a text holds, as JSON or as Python or protobuf print it, when it is one of an error.
pub(super) fn body(text: &str) -> Option<Value> {
    if let Some(body) = protobuf(text) {
        return Some(body);
    }
    let starts = text.match_indices('{').take(MOST_TRIED);
    starts.filter_map(|(at, _)| python_literal::read(&text[at..])).find(is_of_an_error)
}

/// Whether this is how a provider wraps an error.
fn is_of_an_error(body: &Value) -> bool {
    match body.get("error") {
        Some(Value::Object(error)) => !error.is_empty(),
        Some(Value::String(_)) => true,
        _ => is_bare_error(body),
    }
}

/// Whether this is an error without an envelope.
pub(super) fn is_bare_error(body: &Value) -> bool {
    let has = |name| body.get(name).is_some_and(|value| !value.is_null());
    !has("error")
        && body.get("message").is_some_and(Value::is_string)
        && (has("type") || has("code"))
}

/// Google's details as protobuf prints them, put back into the body they came from.
///
/// `[violations { quota_metric: "…" quota_id: "…" quota_value: 50 }, …, retry_delay { seconds: 18 }]`
fn protobuf(text: &str) -> Option<Value> {
    let start = text.find("[violations {").or_else(|| text.find("retry_delay {"))?;
    let (words, details) = text.split_at(start);
    let quoted = |part: &str, name: &str| {
        let rest = &part[part.find(name)? + name.len()..];
        Some(rest.split('"').nth(1)?.to_owned())
    };
    let number = |part: &str, name: &str| {
        let rest = part[part.find(name)? + name.len()..].trim_start();
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<u64>().ok()
    };
    let violations: Vec<Value> = details
        .split("violations {")
        .skip(1)
        .map(|part| {
            json!({
                "quotaMetric": quoted(part, "quota_metric:"),
                "quotaId": quoted(part, "quota_id:"),
                "quotaValue": number(part, "quota_value:"),
            })
        })
        .collect();
    let mut error = Map::new();
    error.insert("message".to_owned(), json!(words.trim()));
    error.insert("status".to_owned(), json!("RESOURCE_EXHAUSTED"));
    let delay = details.find("retry_delay {").and_then(|at| number(&details[at..], "seconds:"));
    let delay = delay.map(|seconds| json!({ "retryDelay": format!("{seconds}s") }));
    let list = Some(json!({ "violations": violations })).into_iter().chain(delay);
    error.insert("details".to_owned(), Value::Array(list.collect()));
    Some(json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_is_told_from_a_number_that_looks_like_one() {
        for (text, expected) in [
            ("429", Some(429)),
            ("429 RESOURCE_EXHAUSTED. {'error': {}}", Some(429)),
            ("429 quota exceeded", Some(429)),
            ("429: slow down", Some(429)),
            ("429, message='Too Many Requests', url='http://h/'", Some(429)),
            ("b'429 Too Many Requests'", Some(429)),
            ("[503] busy", Some(503)),
            ("Error code: 429 - {'error': None}", Some(429)),
            ("HTTP 503", Some(503)),
            ("HTTP/1.1 502 Bad Gateway", Some(502)),
            ("HTTP Error 429: Too Many Requests", Some(429)),
            ("status_code=429", Some(429)),
            ("{\"code\": 429, \"x\": 1}", Some(429)),
            ("Client error '401 Unauthorized' for url 'http://h/v1'", Some(401)),
            ("failed with status 500 after 3 tries", Some(500)),
            ("Slow down (429)", Some(429)),
            ("request failed (503)", Some(503)),
            ("too many 429 error responses", Some(429)),
            ("the proxy said: 503 Service Unavailable", Some(503)),
            ("got 429 from the API", Some(429)),
            ("got 429 rows from the API", None),
            ("429 rows were skipped", None),
            ("order 14290", None),
            ("order 429", None),
            ("429.50 was charged", None),
            ("file.py:429: in call", None),
            ("line 429", None),
            ("gpt-429 is no model", None),
            ("a429 429b 4290 0429 429_", None),
            ("text too long (500)", None),
            ("12:429:03", None),
            ("status 200, code 302", None),
            ("429% more", None),
            ("", None),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_a_body_of_an_error_is_one() {
        let error = body("Error code: 429 - {'error': {'message': 'm', 'code': None}}").unwrap();
        assert_eq!(error, json!({"error": {"message": "m", "code": null}}));
        let nested = body("{'status': 1} then {\"message\": \"m\", \"type\": \"t\"}").unwrap();
        assert_eq!(nested, json!({"message": "m", "type": "t"}));
        for text in ["{'id': 429}", "no brace", "{'error': {}}", "{'error': 5}", "{broken"] {
            assert_eq!(body(text), None, "{text}");
        }
    }

    #[test]
    fn what_protobuf_prints_becomes_the_body_it_was() {
        let text = "429 Too much. [violations {\n  quota_metric: \"g/free\"\n  quota_id: \
            \"RequestsPerDay\"\n  quota_value: 50\n}\n, links {\n}\n, retry_delay {\n  seconds: 18\n}\n]";
        assert_eq!(
            body(text),
            Some(json!({"error": {
                "message": "429 Too much.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [
                    {"violations": [
                        {"quotaMetric": "g/free", "quotaId": "RequestsPerDay", "quotaValue": 50}
                    ]},
                    {"retryDelay": "18s"},
                ],
            }}))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_harmless(text in ".{0,200}", around in "[429 ({:.]{0,12}") {
            let _ = status(&text);
            let _ = status(&format!("{text}{around}429{around}{text}"));
            let _ = body(&format!("{{{text}{{{around}"));
            let _ = body(&format!("retry_delay {{{text} seconds:{around}"));
        }

        #[test]
        fn a_number_within_a_longer_one_is_no_status(before in "[0-9a-z_]{1,4}", after in "[0-9a-z_]{0,4}") {
            let text = format!("order {before}429{after}");
            prop_assert_eq!(status(&text), None);
        }
    }
}
