//! The facts in the body of a refusal, in whichever envelope it comes.

use std::time::Duration;

use serde_json::Value;

use crate::kernel::{LimitFact, Moment};

use super::super::delays;
use super::super::wire::WireResponse;

/// A refusal, taken apart once for all rows.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) response: WireResponse<'a>,
    /// The HTTP status, or the one an error inside a 200 stands for.
    pub(super) status: u16,
    /// The whole body; null when it is not JSON.
    pub(super) whole: Value,
    /// Where in it the error object is.
    place: Place,
    /// The provider's words, not yet redacted.
    pub(super) message: String,
    /// The same in lower case, with what an upstream provider said.
    pub(super) lower: String,
    /// Everything that names the kind of error, in lower case.
    pub(super) names: Vec<String>,
    /// The quotas that Gemini names: id and metric in lower case, and the value.
    pub(super) quotas: Vec<(String, Option<u64>)>,
    /// How long the body asks to wait.
    pub(super) delay: Option<Duration>,
    /// The limit that was hit; the judge fills it in.
    pub(super) limit: Option<LimitFact>,
}

/// Where the error object is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Whole,
    At(&'static str),
    Nowhere,
}

static NULL: Value = Value::Null;

/// Where error objects stand inside an answer that began well.
const INSIDE: [&str; 2] = ["/choices/0/error", "/response/error"];

/// Where names of the kind of error stand in an error object.
const NAMES: [&str; 7] = [
    "/code",
    "/type",
    "/status",
    "/metadata/error_type",
    "/availability/code",
    "/metadata/availability/code",
    "/innererror/code",
];

/// The status that an error inside a 200 stands for, by its name.
const STATUS_OF: [(&str, u16); 49] = [
    ("overloaded_error", 529),
    ("rate_limit_error", 429),
    ("rate_limit_exceeded", 429),
    ("resource_exhausted", 429),
    ("resource-exhausted", 429),
    ("ratelimitreached", 429),
    ("rate_limited", 429),
    ("model_rate_limit", 429),
    ("too_many_requests_error", 429),
    ("too_many_tokens_error", 429),
    ("service_tier_capacity_exceeded", 429),
    ("quota_exceeded", 429),
    ("insufficient_quota", 429),
    ("credit_balance_exhausted", 429),
    ("slow_down", 429),
    ("unavailable", 503),
    ("unavailable_error", 503),
    ("service_unavailable", 503),
    ("service_unavailable_error", 503),
    ("server_is_overloaded", 503),
    ("provider_overloaded", 503),
    ("provider_unavailable", 502),
    ("internal", 500),
    ("server_error", 500),
    ("api_error", 500),
    ("timeout_error", 504),
    ("timeout", 504),
    ("deadline_exceeded", 504),
    ("authentication_error", 401),
    ("authentication", 401),
    ("invalid_api_key", 401),
    ("unauthenticated", 401),
    ("billing_error", 402),
    ("payment_required", 402),
    ("credit_limit", 402),
    ("permission_error", 403),
    ("permission_denied", 403),
    ("permission-denied", 403),
    ("not_found_error", 404),
    ("not_found", 404),
    ("model_not_found", 404),
    ("request_too_large", 413),
    ("invalid_argument", 400),
    ("invalid-argument", 400),
    ("invalid_prompt", 400),
    ("invalid_request_error", 400),
    ("context_length_exceeded", 400),
    ("exceed_context_size_error", 400),
    ("content_filter", 400),
];

impl<'a> Facts<'a> {
    /// Reads whatever came; never fails.
    pub(super) fn of(response: &WireResponse<'a>) -> Facts<'a> {
        Facts::read(response, response.status >= 300)
    }

    /// Reads the data of one event; `is_error`: its name says that it is a refusal, whatever it holds.
    pub(super) fn of_event(response: &WireResponse<'a>, is_error: bool) -> Facts<'a> {
        Facts::read(response, is_error)
    }

    fn read(response: &WireResponse<'a>, is_error: bool) -> Facts<'a> {
        let whole = unwrapped(serde_json::from_slice(response.body).unwrap_or(Value::Null));
        let place = place(&whole, is_error);
        let error = at(&whole, place);
        let message = message(&whole, error, response);
        let upstream = error.pointer("/metadata/raw").and_then(Value::as_str).unwrap_or("");
        let lower = format!("{message}\n{upstream}").to_lowercase();
        let details = error.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let names = names(error, details);
        let quotas = details.iter().flat_map(quotas).collect();
        let told = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str());
        let delay = told.and_then(delays::duration).or_else(|| delays::in_text(&lower));
        let mut facts = Facts {
            response: *response,
            status: response.status,
            whole,
            place,
            message,
            lower,
            names,
            quotas,
            delay,
            limit: None,
        };
        if (200..300).contains(&response.status) {
            facts.status = facts.embedded_status().unwrap_or(response.status);
        }
        facts
    }

    /// The error object; null when there is none.
    pub(super) fn error(&self) -> &Value {
        at(&self.whole, self.place)
    }

    /// The moment that `resets_at` or the text names.
    pub(super) fn date(&self) -> Option<Moment> {
        let field = ["/resets_at", "/metadata/resets_at", "/metadata/limit_reset"];
        let told = field.iter().find_map(|path| self.error().pointer(path));
        let from_field = told.and_then(|value| match value {
            Value::String(text) => {
                let timestamp: jiff::Timestamp = text.parse().ok()?;
                Some(Moment::from_nanos(i64::try_from(timestamp.as_nanosecond()).ok()?))
            }
            number => {
                let wait = delays::header(&number.to_string(), self.response.now)?;
                Some(self.response.now + wait)
            }
        });
        from_field.or_else(|| delays::date_in_text(&self.message))
    }

    fn embedded_status(&self) -> Option<u16> {
        let number = |path| {
            let value = self.error().pointer(path)?;
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        let number = number("/status_code").or_else(|| number("/code"));
        let number = number.and_then(|status| u16::try_from(status).ok());
        number.filter(|status| (400..600).contains(status)).or_else(|| {
            let known = |name: &String| STATUS_OF.iter().find(|(known, _)| known == name);
            self.names.iter().find_map(known).map(|(_, status)| *status)
        })
    }
}

/// Google wraps errors into a list on some routes.
fn unwrapped(whole: Value) -> Value {
    match whole {
        Value::Array(list) => list.into_iter().next().unwrap_or(Value::Null),
        other => other,
    }
}

fn place(whole: &Value, is_error: bool) -> Place {
    let says_so = |field| whole.get(field).and_then(Value::as_str) == Some("error");
    match whole.get("error") {
        Some(Value::Object(_)) => return Place::At("/error"),
        // xAI and Ollama write the message right here.
        Some(Value::Null) | None => {}
        Some(_) => return Place::Whole,
    }
    let object = |path: &&&str| whole.pointer(path).is_some_and(Value::is_object);
    if let Some(inside) = INSIDE.iter().find(object) {
        return Place::At(inside);
    }
    if is_error || says_so("object") || says_so("type") { Place::Whole } else { Place::Nowhere }
}

fn at(whole: &Value, place: Place) -> &Value {
    match place {
        Place::Whole => whole,
        Place::At(path) => whole.pointer(path).unwrap_or(&NULL),
        Place::Nowhere => &NULL,
    }
}

fn message(whole: &Value, error: &Value, response: &WireResponse<'_>) -> String {
    let blocked = |path| whole.pointer(path).and_then(Value::as_str);
    if let Some(text) = error.get("message").and_then(Value::as_str).filter(|text| !text.is_empty())
    {
        return text.to_owned();
    }
    if let Some(text) = whole.get("error").and_then(Value::as_str) {
        return text.to_owned();
    }
    if let Some(reason) = blocked("/promptFeedback/blockReason") {
        return format!("the prompt was blocked: {reason}");
    }
    let end = blocked("/candidates/0/finishReason").or_else(|| blocked("/choices/0/finish_reason"));
    if let Some(reason) = end {
        return format!("the model gave no answer: {reason}");
    }
    match whole.get("detail") {
        Some(Value::String(text)) => return text.clone(),
        Some(list @ Value::Array(_)) => return list.to_string(),
        _ => {}
    }
    if let Some(list @ (Value::Array(_) | Value::Object(_))) = error.get("message") {
        return list.to_string();
    }
    strange(whole, response)
}

/// Words of our own for a body that has none.
fn strange(whole: &Value, response: &WireResponse<'_>) -> String {
    let start = String::from_utf8_lossy(&response.body[..response.body.len().min(300)]);
    let start = start.trim();
    let hint = match response.status {
        200..300 => "; does base_url point at the provider's API?",
        300..400 => "; the server moved, set base_url to where it is now",
        _ => "",
    };
    let moved = response.headers.get("location").map(|to| format!(" (to {to})"));
    let moved = moved.unwrap_or_default();
    let what = match whole {
        Value::Null if start.is_empty() => "nothing".to_owned(),
        Value::Null if start.starts_with('<') => "a web page".to_owned(),
        Value::Null => format!("something that is not JSON: {start}"),
        _ => format!("JSON without an answer or an error: {start}"),
    };
    format!("HTTP {}{moved} with {what}{hint}", response.status)
}

fn names(error: &Value, details: &[Value]) -> Vec<String> {
    let own = NAMES.iter().filter_map(|path| error.pointer(path));
    let reasons = details.iter().filter_map(|detail| detail.get("reason"));
    own.chain(reasons)
        .filter_map(|name| match name {
            Value::String(name) => Some(name.to_lowercase()),
            Value::Number(name) => Some(name.to_string()),
            _ => None,
        })
        .collect()
}

fn quotas(detail: &Value) -> Vec<(String, Option<u64>)> {
    let violations = detail.get("violations").and_then(Value::as_array);
    let text = |violation: &Value, name| {
        violation.get(name).and_then(Value::as_str).unwrap_or("").to_lowercase()
    };
    let read = |violation: &Value| {
        let id = text(violation, "quotaId") + " " + &text(violation, "quotaMetric");
        let value = violation.get("quotaValue");
        let value = value.and_then(|value| {
            value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        });
        (id, value)
    };
    violations.map(|list| list.iter().map(read).collect()).unwrap_or_default()
}
