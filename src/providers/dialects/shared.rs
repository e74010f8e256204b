//! The parts that all dialects share: answers, parameters, addresses.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::kernel::Usage;

use super::super::chat::{ChatRequest, Content, FinishReason, Role};
use super::super::provider::Provider;
use super::super::wire::{InvalidRequest, WireRequest};

/// How an answer is to come.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Way<'a> {
    /// In one body.
    Whole,
    /// As a stream, with what the caller said in `stream_options`.
    InPieces(Option<&'a Value>),
}

/// What every dialect reads out of a good answer.
#[derive(Debug, Default)]
pub(in super::super) struct Answer {
    pub(in super::super) text: String,
    pub(in super::super) model: Option<String>,
    pub(in super::super) finish_reason: Option<FinishReason>,
    pub(in super::super) usage: Option<Usage>,
    pub(in super::super) tool_calls: Vec<Value>,
    pub(in super::super) id: Option<String>,
}

/// A table from a provider's words to ours; a word that is not in it stays as it is.
pub(super) fn finish_reason(table: &[(&str, &str)], word: Option<String>) -> Option<FinishReason> {
    let word = word?;
    match table.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(&word)) {
        Some((_, ours)) => Some((*ours).to_owned()),
        None => Some(word.to_ascii_lowercase()),
    }
}

/// The parts of a message that are text, in order, with the blank ones left out.
pub(super) fn texts(content: &Content) -> Vec<&str> {
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
pub(super) fn instructions(request: &ChatRequest) -> Option<String> {
    let systems = request.messages.iter().filter(|message| message.role == Role::System);
    let texts: Vec<&str> = systems.flat_map(|message| texts(&message.content)).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// The cap on output under either of OpenAI's two names.
pub(super) fn output_cap(params: &Map<String, Value>) -> Option<u64> {
    let cap = param(params, "max_completion_tokens").or_else(|| param(params, "max_tokens"));
    cap.and_then(Value::as_u64)
}

/// `stop` as a list, whether it was written as one or as a single text.
pub(super) fn stops(params: &Map<String, Value>) -> Option<Vec<&str>> {
    match params.get("stop")? {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => Some(texts.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// Adds to `settings` what was given of `names` (ours, theirs), the longest answer and the words that end it, under the
/// names they have there.
pub(super) fn say_in_their_words(
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
pub(super) fn param<'a>(params: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    params.get(name).filter(|value| !value.is_null())
}

/// Puts a body and its address together; `extra_body` is merged in as the caller wrote it.
pub(super) fn posted(
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
pub(super) fn versioned(provider: &Provider) -> String {
    let base = provider.base_url.as_str();
    let path = base.split_once("://").map_or(base, |(_, rest)| rest);
    let version = if path.contains('/') { "" } else { provider.entry.version_path };
    format!("{base}{version}")
}
