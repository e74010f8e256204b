//! Answers in Anthropic's dialect.

use serde_json::json;

use super::super::allowance::Wait;
use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::meters::Broken;
use super::super::request::Request;
use super::super::settings::LimitKind;
use super::format::{answer_text, rfc3339, uuid_of, whole_seconds};

/// A message.
pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    let body = json!({
        "id": format!("msg_{:016x}", decision.serial),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [{"type": "text", "text": answer_text(decision, &request.echo)}],
        "stop_reason": if decision.cut { "max_tokens" } else { "end_turn" },
        "stop_sequence": null,
        "usage": {
            "input_tokens": decision.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": decision.output_tokens,
            "service_tier": "standard",
        },
    });
    let answer = with_headers(Answer::json(200, body.to_string().into_bytes()), decision);
    match decision.idle_retry_after {
        Some(seconds) => answer.with("retry-after", seconds.to_string()),
        None => answer,
    }
}

/// The four families, each present when its limit is; token families are rounded to thousands as the real ones are.
fn with_headers(mut answer: Answer, decision: &Decision) -> Answer {
    const FAMILIES: [(LimitKind, [&str; 3]); 4] = [
        (
            LimitKind::Rpm,
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
        ),
        (
            LimitKind::InputTpm,
            [
                "anthropic-ratelimit-input-tokens-limit",
                "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-input-tokens-reset",
            ],
        ),
        (
            LimitKind::OutputTpm,
            [
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset",
            ],
        ),
        (
            LimitKind::Tpm,
            [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
        ),
    ];
    for (kind, names) in FAMILIES {
        let Some(view) = decision.limits.iter().find(|view| view.kind == kind) else { continue };
        let left = match kind {
            LimitKind::Rpm => view.left,
            _ => (view.left.saturating_add(500) / 1_000).saturating_mul(1_000).min(view.amount),
        };
        let reset = rfc3339(decision.now.saturating_add(view.whole_in));
        let values = [view.amount.to_string(), left.to_string(), reset];
        answer.headers.extend(names.into_iter().zip(values.map(Into::into)));
    }
    answer
        .with("request-id", format!("req_{:016x}", decision.serial))
        .with("anthropic-organization-id", uuid_of(&decision.organization))
}

/// A refusal for its limits.
pub(super) fn refused(decision: &Decision, request: &Request<'_>, broken: &[Broken]) -> Answer {
    let Some(broken) = broken.first() else { return error(decision, 429, "Rate limited") };
    let what = match broken.kind {
        LimitKind::Rps => "requests per second",
        LimitKind::Rpm => "requests per minute",
        LimitKind::Rpd => "requests per day",
        LimitKind::Tpm => "tokens per minute",
        LimitKind::Tpd => "tokens per day",
        LimitKind::InputTpm => "input tokens per minute",
        LimitKind::OutputTpm => "output tokens per minute",
    };
    let message = format!(
        "This request would exceed your organization's rate limit of {} {what} (org: {}, model: {}). For details, \
         refer to: https://docs.claude.com/en/api/rate-limits.",
        with_commas(broken.amount),
        uuid_of(&decision.organization),
        request.model,
    );
    let answer = with_headers(Answer { status: 429, ..error(decision, 429, &message) }, decision);
    match broken.wait {
        Wait::Nanos(nanos) => answer.with("retry-after", whole_seconds(nanos).to_string()),
        Wait::Not | Wait::Never => answer,
    }
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Any other error; those that a retry cannot mend say so.
pub(super) fn error(decision: &Decision, status: u16, message: &str) -> Answer {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let id = format!("req_{:016x}", decision.serial);
    let body =
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": id});
    let answer = Answer::json(status, body.to_string().into_bytes());
    if matches!(status, 400 | 401 | 403 | 404) {
        answer.with("x-should-retry", "false")
    } else {
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [0, 999, 1_000, 50_000, 1_234_567].map(with_commas),
            ["0", "999", "1,000", "50,000", "1,234,567"]
        );
    }
}
