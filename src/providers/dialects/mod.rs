//! How is a request written and an answer read? One folder per wire format, and what they share.

mod anthropic;
mod gemini;
mod lenient;
mod ollama;
mod openai;
mod responses;
mod streams;
#[cfg(test)]
mod tests;
mod tools;

use bytes::Bytes;
pub(super) use streams::Stream;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::kernel::{Failure, Usage};

use super::catalogue::{Dialect, Provider};
use super::chat::{ChatRequest, Completion, Content, FinishReason, Role};
use super::wire::{InvalidRequest, WireRequest, WireResponse};
use super::{params, refusals, structured};

/// How an answer is to come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    /// In one body.
    Whole,
    /// As a stream, with what the caller said in `stream_options`.
    InPieces(Option<&'a Value>),
}

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

/// What every dialect reads out of a good answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) model: Option<String>,
    pub(super) finish_reason: Option<FinishReason>,
    pub(super) usage: Option<Usage>,
    pub(super) tool_calls: Vec<Value>,
    pub(super) id: Option<String>,
}

/// A table from a provider's words to ours; a word that is not in it stays as it is.
fn finish_reason(table: &[(&str, &str)], word: Option<String>) -> Option<FinishReason> {
    let word = word?;
    match table.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(&word)) {
        Some((_, ours)) => Some((*ours).to_owned()),
        None => Some(word.to_ascii_lowercase()),
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

/// The parts of a message that are text, in order, with the blank ones left out.
fn texts(content: &Content) -> Vec<&str> {
    let texts = match content {
        Content::Text(text) => vec![text.as_str()],
        Content::Parts(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        Content::Nothing(()) => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

/// All instructions of a conversation in one text, for dialects that keep them apart.
fn instructions(request: &ChatRequest) -> Option<String> {
    let systems = request.messages.iter().filter(|message| message.role == Role::System);
    let texts: Vec<&str> = systems.flat_map(|message| texts(&message.content)).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// The cap on output under either of OpenAI's two names.
fn output_cap(params: &Map<String, Value>) -> Option<u64> {
    let cap = param(params, "max_completion_tokens").or_else(|| param(params, "max_tokens"));
    cap.and_then(Value::as_u64)
}

/// `stop` as a list, whether it was written as one or as a single text.
fn stops(params: &Map<String, Value>) -> Option<Vec<&str>> {
    match params.get("stop")? {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => Some(texts.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// Adds to `settings` what was given of `names` (ours, theirs), the longest answer and the words that end it, under the
/// names they have there.
fn say_in_their_words(
    settings: &mut Map<String, Value>,
    params: &Map<String, Value>,
    names: &[(&str, &str)],
    (cap_name, stops_name): (&str, &str),
) {
    for (ours, theirs) in names {
        if let Some(value) = param(params, ours) {
            settings.insert((*theirs).to_owned(), value.clone());
        }
    }
    if let Some(cap) = output_cap(params) {
        settings.insert(cap_name.to_owned(), cap.into());
    }
    if let Some(stops) = stops(params) {
        settings.insert(stops_name.to_owned(), stops.into());
    }
}

/// A parameter that was given and is not null.
fn param<'a>(params: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    params.get(name).filter(|value| !value.is_null())
}

/// Puts a body and its address together; `extra_body` is merged in as the caller wrote it.
fn posted(
    provider: &Provider,
    url: String,
    body: &impl Serialize,
    params: &Map<String, Value>,
) -> Result<WireRequest, InvalidRequest> {
    let failed = |error: serde_json::Error| InvalidRequest {
        message: format!("the request cannot be written as JSON: {error}"),
        field: None,
    };
    let bytes = match param(params, "extra_body") {
        None => serde_json::to_vec(body),
        Some(extra) => serde_json::to_value(body).and_then(|mut body| {
            merge(&mut body, extra);
            serde_json::to_vec(&body)
        }),
    };
    Ok(WireRequest {
        path_url: url,
        headers: vec![("content-type", "application/json".to_owned())],
        key_header: Some(provider.entry.key_header),
        body: bytes.map_err(failed)?,
    })
}

/// Objects are merged, anything else is replaced.
fn merge(body: &mut Value, extra: &Value) {
    match (body, extra) {
        (Value::Object(body), Value::Object(extra)) => {
            for (name, value) in extra {
                match body.get_mut(name) {
                    Some(known) => merge(known, value),
                    None => {
                        body.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (body, extra) => *body = extra.clone(),
    }
}

/// The base URL with its version part: `version_path` is added when the URL is only a host.
fn versioned(provider: &Provider) -> String {
    let base = provider.base_url.as_str();
    let path = base.split_once("://").map_or(base, |(_, rest)| rest);
    let version = if path.contains('/') { "" } else { provider.entry.version_path };
    format!("{base}{version}")
}
