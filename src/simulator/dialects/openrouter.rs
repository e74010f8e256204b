//! Refusals of OpenRouter, as the simulator writes them.

use serde_json::{Value, json};

use super::super::allowance::Wait;
use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::meters::Broken;
use super::super::request::Request;
use super::super::settings::Counts;

/// A refusal for its limits: the reset is in milliseconds since the epoch, in the body and in the headers.
pub(super) fn refused(decision: &Decision, request: &Request<'_>, broken: &[Broken]) -> Answer {
    let Some(broken) = broken.first() else { return error(429, "Rate limit exceeded") };
    let wait = match broken.wait {
        Wait::Nanos(nanos) => nanos,
        Wait::Not | Wait::Never => broken.whole_in,
    };
    let (message, source) = match (broken.kind.is_daily(), request.model.ends_with(":free")) {
        (true, true) => (
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
                .to_owned(),
            "openrouter_free_tier_daily",
        ),
        (false, true) => ("Rate limit exceeded: free-models-per-min. ".to_owned(), "openrouter_free_tier_minute"),
        (daily, false) => {
            let what = match (daily, broken.kind.counts() == Counts::Requests) {
                (true, true) => "limit_rpd",
                (false, true) => "limit_rpm",
                (_, false) => "limit_tpm",
            };
            let place = decision.organization.as_str();
            (format!("Rate limit exceeded: {what}/{}/{place}", request.model), "openrouter_shared_capacity")
        }
    };
    let millis = decision.now.saturating_add(wait).saturating_add(999_999) / 1_000_000;
    let (limit, left, reset) =
        (broken.amount.to_string(), broken.left.to_string(), millis.to_string());
    let metadata = json!({
        "headers": {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": reset},
        "limit_source": source,
        "error_type": "rate_limit_exceeded",
    });
    wrapped(429, &message, metadata, Some(&decision.organization))
        .with("x-ratelimit-limit", limit)
        .with("x-ratelimit-remaining", left)
        .with("x-ratelimit-reset", reset)
}

/// Any other error.
pub(super) fn error(status: u16, message: &str) -> Answer {
    let kind = match status {
        401 => "authentication",
        402 => "payment_required",
        403 => "permission_denied",
        404 => "not_found",
        408 => "timeout",
        429 => "rate_limit_exceeded",
        502 => "provider_unavailable",
        503 | 529 => "provider_overloaded",
        500.. => "server",
        _ => "invalid_request",
    };
    let mut metadata = json!({"error_type": kind});
    match status {
        402 => metadata["limit_source"] = "openrouter_credits".into(),
        429 => {
            metadata["provider_name"] = "Stand-in".into();
            metadata["raw"] =
                "the model is temporarily rate-limited upstream. Please retry shortly.".into();
            metadata["limit_source"] = "upstream_provider_shared_pool".into();
        }
        _ => {}
    }
    wrapped(status, message, metadata, None)
}

fn wrapped(status: u16, message: &str, metadata: Value, user: Option<&str>) -> Answer {
    let mut body = json!({"error": {"message": message, "code": status, "metadata": metadata}});
    if let Some(user) = user {
        body["user_id"] = format!("user_{user}").into();
    }
    Answer::json(status, body.to_string().into_bytes())
}
