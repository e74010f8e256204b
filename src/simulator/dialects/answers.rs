//! Completions, refusals and errors in the words of each provider.

use std::borrow::Cow;

use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::meters::Refusal;
use super::super::request::{Problem, Request};
use super::super::settings::Provider;
use super::super::verdict_status::status_of_refusal;
use super::{anthropic, gemini, ollama, openai, openrouter, responses};

pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    match request.provider {
        _ if request.wants_response => responses::completion(decision, request),
        _ if request.is_native => ollama::completion(decision, request),
        Provider::Openai | Provider::Groq | Provider::Openrouter | Provider::Ollama => {
            openai::completion(decision, request)
        }
        Provider::Anthropic => anthropic::completion(decision, request),
        Provider::Gemini => gemini::completion(decision, request),
    }
}

pub(super) fn refused(decision: &Decision, request: &Request<'_>, refusal: &Refusal) -> Answer {
    let status = status_of_refusal(request.provider, refusal);
    match (request.provider, refusal) {
        (_, Refusal::Busy(slots)) => {
            let message: Cow<'static, str> = match request.provider {
                Provider::Ollama => ollama::BUSY.into(),
                _ => format!("Too many concurrent requests: at most {slots} at a time.").into(),
            };
            error(decision, request, status, &message)
        }
        (Provider::Anthropic, Refusal::Limits(broken)) => {
            anthropic::refused(decision, request, broken)
        }
        (Provider::Gemini, Refusal::Limits(broken)) => gemini::refused(decision, request, broken),
        (Provider::Openrouter, Refusal::Limits(broken)) => {
            openrouter::refused(decision, request, broken)
        }
        (_, Refusal::Limits(broken)) if request.is_native => {
            let message =
                broken.first().map(|broken| openai::refusal_message(decision, request, broken));
            ollama::error(status, message.as_deref().unwrap_or("rate limit reached"))
        }
        (_, Refusal::Limits(broken)) => openai::refused(decision, request, broken, status),
    }
}

/// An error with a status and a message in the provider's envelope.
pub(super) fn error(
    decision: &Decision,
    request: &Request<'_>,
    status: u16,
    message: &str,
) -> Answer {
    match request.provider {
        _ if request.is_native => ollama::error(status, message),
        Provider::Anthropic => anthropic::error(decision, status, message),
        Provider::Gemini => gemini::error(status, message),
        Provider::Openrouter => openrouter::error(status, message),
        Provider::Openai | Provider::Groq | Provider::Ollama => {
            openai::error(decision, request, status, message)
        }
    }
}

pub(super) fn words_for(problem: &Problem, request: &Request<'_>) -> String {
    let model = &request.model;
    match problem {
        _ if request.is_native => ollama::words_for(problem, model),
        Problem::NoSuchPath => "Not found: the stand-in has no such path.".into(),
        Problem::WrongMethod => "Method not allowed: use POST.".into(),
        Problem::BadKey => match request.provider {
            Provider::Anthropic => "invalid x-api-key".into(),
            Provider::Gemini => "API key not valid. Please pass a valid API key.".into(),
            Provider::Openrouter => "No auth credentials found".into(),
            Provider::Groq => "Invalid API Key".into(),
            Provider::Openai | Provider::Ollama => {
                "Incorrect API key provided: ********. You can find \
                your API key at https://platform.openai.com/account/api-keys."
                    .into()
            }
        },
        Problem::NotJson(reason) => format!("The body of your request is not valid JSON: {reason}"),
        Problem::Missing("anthropic-version") => "anthropic-version: header is required".into(),
        Problem::Missing(field) => match request.provider {
            Provider::Anthropic => format!("{field}: Field required"),
            Provider::Gemini => {
                format!("* GenerateContentRequest.{field}: {field} is not specified")
            }
            _ => format!("Missing required parameter: '{field}'."),
        },
        Problem::NoSuchModel => match request.provider {
            Provider::Anthropic => format!("model: {model}"),
            Provider::Gemini => format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent."
            ),
            Provider::Openrouter => format!("{model} is not a valid model ID"),
            _ => format!("The model `{model}` does not exist or you do not have access to it."),
        },
    }
}

/// What a provider writes under a status that a rule asked for.
pub(super) fn words_for_status(request: &Request<'_>, status: u16) -> &'static str {
    match (request.provider, status) {
        _ if request.is_native => ollama::words_for_status(status),
        (Provider::Anthropic, 529) => "Overloaded",
        (Provider::Anthropic, 429) => "This request would exceed your organization's rate limit",
        (Provider::Anthropic, 401) => "invalid x-api-key",
        (Provider::Anthropic, _) => "Internal server error",
        (Provider::Gemini, 429) => "Resource has been exhausted (e.g. check quota).",
        (Provider::Gemini, 400 | 401) => "API key not valid. Please pass a valid API key.",
        (Provider::Gemini, 402) => "Your prepayment credits are depleted.",
        (Provider::Gemini, 503) => "The model is overloaded. Please try again later.",
        (Provider::Gemini, _) => "An internal error has occurred.",
        (Provider::Openrouter, 402) => "This request requires more credits, or fewer max_tokens.",
        (Provider::Openrouter, 429) => "Provider returned error",
        (Provider::Groq | Provider::Openai, 401) => "Invalid API Key",
        (_, 402) => "Insufficient balance",
        (_, 429) => "Rate limit reached, please slow down.",
        (_, 503 | 529) => "The server is currently overloaded. Please try again later.",
        _ => "The server had an error while processing your request. Sorry about that!",
    }
}
