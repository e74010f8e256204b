//! Answers in Gemini's dialect.

use serde_json::{Value, json};

use super::super::allowance::Wait;
use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::meters::Broken;
use super::super::request::Request;
use super::super::settings::{Counts, LimitKind};
use super::format::{answer_text, decimal_seconds, whole_seconds};

/// The delay it advises when a day is used up: short, and of no use.
const MISLEADING_DELAY: i64 = 18_000_000_000;

/// A candidate. There are no headers about limits, ever.
pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    let body = json!({
        "candidates": [{
            "content": {"parts": [{"text": answer_text(decision, &request.echo)}], "role": "model"},
            "finishReason": if decision.cut { "MAX_TOKENS" } else { "STOP" },
            "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": decision.input_tokens,
            "candidatesTokenCount": decision.output_tokens,
            "totalTokenCount": decision.input_tokens + decision.output_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": decision.input_tokens}],
        },
        "modelVersion": request.model,
        "responseId": format!("{:016x}", decision.serial),
    });
    Answer::json(200, body.to_string().into_bytes()).with("server-timing", "gfet4t7; dur=10")
}

/// A refusal for its limits, with a violation for each.
pub(super) fn refused(decision: &Decision, request: &Request<'_>, broken: &[Broken]) -> Answer {
    let free = decision.free_tier;
    let daily = broken.iter().any(|broken| broken.kind.is_daily());
    let wait = broken.iter().filter_map(|broken| match broken.wait {
        Wait::Nanos(nanos) => Some(nanos),
        Wait::Not | Wait::Never => None,
    });
    let delay = if daily { MISLEADING_DELAY } else { wait.max().unwrap_or(MISLEADING_DELAY) };
    let mut message =
        "You exceeded your current quota, please check your plan and billing details.".to_owned();
    let mut violations = Vec::new();
    for broken in broken {
        let metric = metric(broken.kind, free);
        message.push_str(&format!(
            "\n* Quota exceeded for metric: {metric}, limit: {}, model: {}",
            broken.amount, request.model
        ));
        let mut violation = json!({
            "quotaMetric": metric,
            "quotaId": quota_id(broken.kind, free),
            "quotaDimensions": {"location": "global", "model": request.model},
        });
        if broken.amount > 0 {
            violation["quotaValue"] = broken.amount.to_string().into();
        }
        violations.push(violation);
    }
    let millis = delay.saturating_add(999_999) / 1_000_000;
    message.push_str(&format!("\nPlease retry in {}.", decimal_seconds(millis)));
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [{
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }]},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{}s", whole_seconds(delay))},
    ]);
    wrapped(429, &message, Some(details))
}

fn metric(kind: LimitKind, free: bool) -> String {
    let what = match (kind.counts(), free) {
        (Counts::Requests, true) => "free_tier_requests",
        (Counts::Requests, false) => "paid_tier_requests",
        (_, true) => "free_tier_input_token_count",
        (_, false) => "paid_tier_input_token_count",
    };
    format!("generativelanguage.googleapis.com/generate_content_{what}")
}

fn quota_id(kind: LimitKind, free: bool) -> String {
    let window = if kind.is_daily() { "PerDay" } else { "PerMinute" };
    let tier = if free { "-FreeTier" } else { "" };
    match kind.counts() {
        Counts::Requests => format!("GenerateRequests{window}PerProjectPerModel{tier}"),
        _ if free => format!("GenerateContentInputTokensPerModel{window}{tier}"),
        _ => format!("GenerateContentPaidTierInputTokensPerModel{window}"),
    }
}

/// Any other error.
pub(super) fn error(status: u16, message: &str) -> Answer {
    let details = message.starts_with("API key not valid").then(|| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }])
    });
    wrapped(status, message, details)
}

fn wrapped(status: u16, message: &str, details: Option<Value>) -> Answer {
    let name = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let mut body = json!({"error": {"code": status, "message": message, "status": name}});
    if let Some(details) = details {
        body["error"]["details"] = details;
    }
    Answer::json(status, body.to_string().into_bytes())
}
