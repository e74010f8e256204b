//! Answers in OpenAI's chat dialect (also Groq, OpenRouter, Ollama).

use std::io::Write as _;

use serde_json::json;

use super::super::allowance::Wait;
use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::meters::Broken;
use super::super::request::Request;
use super::super::settings::{Counts, LimitKind, Provider};
use super::super::verdict_status::is_too_large;
use super::format::{answer_text, decimal_seconds, go_duration, quoted, whole_seconds};

/// A completion; written by hand because benchmarks measure what answers it.
pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    let Decision { serial, input_tokens, output_tokens, .. } = decision;
    let (id, extra) = match request.provider {
        Provider::Openrouter => ("gen", r#""provider":"Stand-in","#),
        _ => ("chatcmpl", ""),
    };
    let mut body = Vec::with_capacity(640);
    // Writing to a Vec cannot fail.
    let _ = write!(
        body,
        "{{\"id\":\"{id}-{serial}\",\"object\":\"chat.completion\",{extra}\"created\":{created},\"model\":{model},\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{content},\"refusal\":null}},\
         \"logprobs\":null,\"finish_reason\":\"{finish}\"}}],\
         \"usage\":{{\"prompt_tokens\":{input_tokens},\"completion_tokens\":{output_tokens},\"total_tokens\":{total},\
         \"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0}}}}{end}}}",
        created = decision.now.div_euclid(1_000_000_000),
        model = quoted(&request.model),
        content = quoted(&answer_text(decision, &request.echo)),
        finish = if decision.cut { "length" } else { "stop" },
        total = input_tokens + output_tokens,
        end = match request.provider {
            Provider::Openai => ",\"service_tier\":\"default\"",
            Provider::Groq => ",\"service_tier\":\"on_demand\"",
            _ => "",
        },
    );
    with_headers(Answer::json(200, body), decision, request)
}

/// The headers that go with an admitted request and with a refusal.
pub(super) fn with_headers(
    mut answer: Answer,
    decision: &Decision,
    request: &Request<'_>,
) -> Answer {
    // Which limit the `-requests` trio shows: Groq always the day, OpenAI the minute if there is one.
    let requests: &[LimitKind] = match request.provider {
        Provider::Openai => &[LimitKind::Rpm, LimitKind::Rpd],
        Provider::Groq => &[LimitKind::Rpd],
        _ => return answer,
    };
    let families = [
        (
            requests,
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
        ),
        (
            &[LimitKind::Tpm][..],
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ),
    ];
    for (kinds, names) in families {
        let view =
            kinds.iter().find_map(|kind| decision.limits.iter().find(|view| view.kind == *kind));
        if let Some(view) = view {
            let values =
                [view.amount.to_string(), view.left.to_string(), go_duration(view.whole_in)];
            answer.headers.extend(names.into_iter().zip(values.map(Into::into)));
        }
    }
    if request.provider == Provider::Openai {
        answer = answer.with("openai-organization", decision.organization.clone());
    }
    answer.with("x-request-id", format!("req_{:016x}", decision.serial))
}

/// A refusal for its limits.
pub(super) fn refused(
    decision: &Decision,
    request: &Request<'_>,
    broken: &[Broken],
    status: u16,
) -> Answer {
    let Some(broken) = broken.first() else {
        return error(decision, request, status, "Rate limit reached");
    };
    let kind = if broken.kind.counts() == Counts::Requests { "requests" } else { "tokens" };
    let body = json!({"error": {
        "message": refusal_message(decision, request, broken),
        "type": kind,
        "param": null,
        "code": "rate_limit_exceeded",
    }});
    let mut answer =
        with_headers(Answer::json(status, body.to_string().into_bytes()), decision, request);
    if let (Provider::Groq, Wait::Nanos(nanos)) = (request.provider, broken.wait) {
        answer = answer.with("retry-after", whole_seconds(nanos).to_string());
    }
    answer
}

/// The words of a refusal for a limit.
pub(super) fn refusal_message(
    decision: &Decision,
    request: &Request<'_>,
    broken: &Broken,
) -> String {
    let what = match broken.kind {
        LimitKind::Rps => "requests per second (RPS)",
        LimitKind::Rpm => "requests per min (RPM)",
        LimitKind::Rpd => "requests per day (RPD)",
        LimitKind::Tpm if request.provider == Provider::Groq => "tokens per minute (TPM)",
        LimitKind::Tpm => "tokens per min (TPM)",
        LimitKind::Tpd => "tokens per day (TPD)",
        LimitKind::InputTpm => "input tokens per minute (ITPM)",
        LimitKind::OutputTpm => "output tokens per minute (OTPM)",
    };
    let (model, organization) = (&request.model, &decision.organization);
    let place = match request.provider {
        Provider::Groq => format!(
            "for model `{model}` in organization `{organization}` service tier `on_demand` on {what}"
        ),
        _ => format!("for {model} in organization {organization} on {what}"),
    };
    let (limit, requested) = (broken.amount, broken.requested.max(1));
    if is_too_large(broken) {
        let advice = match request.provider {
            Provider::Groq => ", please reduce your message size and try again.",
            _ => ". The input or output tokens must be reduced in order to run successfully.",
        };
        return format!("Request too large {place}: Limit {limit}, Requested {requested}{advice}");
    }
    let used = limit.saturating_sub(broken.left);
    let again = match broken.wait {
        // OpenAI counts short waits in milliseconds or seconds, Groq only in seconds.
        Wait::Nanos(nanos) if nanos < 1_000_000_000 && request.provider == Provider::Groq => {
            format!(
                " Please try again in {}.",
                decimal_seconds(nanos.saturating_add(999_999) / 1_000_000)
            )
        }
        Wait::Nanos(nanos) => format!(" Please try again in {}.", go_duration(nanos)),
        Wait::Not | Wait::Never => String::new(),
    };
    format!("Rate limit reached {place}: Limit {limit}, Used {used}, Requested {requested}.{again}")
}

/// Any other error.
pub(super) fn error(
    decision: &Decision,
    request: &Request<'_>,
    status: u16,
    message: &str,
) -> Answer {
    let (kind, code) = match (status, request.provider) {
        (503, Provider::Ollama) => ("api_error", None),
        (401, _) => ("invalid_request_error", Some("invalid_api_key")),
        (402, _) => ("insufficient_quota", Some("credit_balance_exhausted")),
        (403, _) => ("request_forbidden", Some("unsupported_country_region_territory")),
        (404, _) => ("invalid_request_error", Some("model_not_found")),
        (429, _) => ("rate_limit_error", Some("rate_limit_exceeded")),
        (503 | 529, _) => ("service_unavailable_error", Some("server_is_overloaded")),
        (500.., _) => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    Answer::json(status, body.to_string().into_bytes())
        .with("x-request-id", format!("req_{:016x}", decision.serial))
}
