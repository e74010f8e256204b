//! The dialects: wire formats of requests and answers, one folder each.

mod anthropic;
mod gemini;
mod lenient;
mod ollama;
mod openai;
mod responses;
mod shared;
mod streams;
#[cfg(test)]
mod tests;
mod tools;

use bytes::Bytes;
pub(super) use shared::{Answer, Way};
pub(super) use streams::Stream;

use crate::kernel::Failure;

use super::catalogue::Dialect;
use super::chat::{ChatRequest, Completion, Content, Role};
use super::provider::Provider;
use super::wire::{InvalidRequest, WireRequest, WireResponse};
use super::{params, refusals, structured};

/// Writes a request.
pub(super) fn encode(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    check_address(provider)?;
    check_model(model)?;
    check_messages(request)?;
    params::check(provider, &request.params)?;
    let request = &*structured::understood(provider, request, model);
    match provider.dialect {
        Dialect::OpenAi => openai::write(provider, request, model, way),
        Dialect::Anthropic => anthropic::write(provider, request, model, way),
        Dialect::Gemini => gemini::write(provider, request, model, way),
        Dialect::Responses => responses::write(provider, request, model, way),
        Dialect::Ollama => ollama::write(provider, request, model, way),
    }
}

/// Reads an answer; whatever is not one is judged by the refusal table.
pub(super) fn decode(
    provider: &Provider,
    response: &WireResponse<'_>,
) -> Result<Completion, Failure> {
    let answer = if (200..300).contains(&response.status) {
        match provider.dialect {
            Dialect::OpenAi => openai::read(response.body),
            Dialect::Anthropic => anthropic::read(response.body),
            Dialect::Gemini => gemini::read(response.body),
            Dialect::Responses => responses::read(response.body),
            Dialect::Ollama => ollama::read(response.body),
        }
    } else {
        None
    };
    let Some(answer) = answer else { return Err(refusals::judge(provider, response)) };
    Ok(completion(answer, Bytes::clone(response.body), response))
}

/// An answer as a caller gets it, whichever way it came.
pub(super) fn completion(answer: Answer, raw: Bytes, response: &WireResponse<'_>) -> Completion {
    let header = |name| response.headers.get(name).map(str::to_owned);
    Completion {
        text: answer.text,
        model: answer.model,
        finish_reason: match answer.finish_reason {
            // Some servers have no word of their own for it.
            Some(reason) if reason == "stop" && !answer.tool_calls.is_empty() => {
                Some("tool_calls".to_owned())
            }
            reason => reason,
        },
        usage: answer.usage,
        tool_calls: answer.tool_calls,
        raw,
        request_id: header("x-request-id").or_else(|| header("request-id")).or(answer.id),
    }
}

fn check_address(provider: &Provider) -> Result<(), InvalidRequest> {
    if !provider.base_url.is_empty() {
        return Ok(());
    }
    let name = &provider.name;
    let variables = provider.base_url_envs.join(" or ");
    let message = format!("{name} has no address of its own; set {variables}, or its base_url");
    Err(InvalidRequest::about("base_url", message))
}

fn check_model(model: &str) -> Result<(), InvalidRequest> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/@+~".contains(letter);
    if !model.is_empty() && model.len() <= 256 && model.chars().all(fits) && !model.contains("..") {
        return Ok(());
    }
    let message =
        format!("model {model:?} is not a model's name; it has letters, digits and -_.:/@+~");
    Err(InvalidRequest::about("model", message))
}

fn check_messages(request: &ChatRequest) -> Result<(), InvalidRequest> {
    if request.messages.is_empty() {
        return Err(InvalidRequest::about("messages", "a call needs at least one message"));
    }
    for (index, message) in request.messages.iter().enumerate() {
        let at = |field: &str, words: &str| {
            let field = format!("messages[{index}].{field}");
            Err(InvalidRequest::about(field.clone(), format!("{field} {words}")))
        };
        let empty = match &message.content {
            Content::Text(_) => false,
            Content::Parts(parts) => parts.is_empty(),
            Content::Nothing(()) => true,
        };
        if empty && (message.role != Role::Assistant || message.tool_calls.is_empty()) {
            return at("content", "is empty; give it a text");
        }
        if message.role == Role::Tool && message.tool_call_id.is_none() {
            return at("tool_call_id", "is missing; a tool's answer names the call it answers");
        }
        if message.role != Role::Assistant && !message.tool_calls.is_empty() {
            return at("tool_calls", "belongs to messages of the assistant only");
        }
    }
    Ok(())
}
