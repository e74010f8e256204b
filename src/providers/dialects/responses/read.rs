//! Answers of OpenAI's Responses dialect.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kernel;

use super::super::lenient::Count;
use super::super::shared::{Answer, finish_reason};

const FINISH_REASONS: [(&str, &str); 3] =
    [("completed", "stop"), ("max_output_tokens", "length"), ("max_tokens", "length")];

/// Ends without an answer.
const NO_ANSWER: [&str; 2] = ["failed", "cancelled"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
}

/// The answer in a body; `None` when there is none in it.
pub(in super::super) fn read(body: &Bytes) -> Option<Answer> {
    answer(&serde_json::from_slice(body).ok()?)
}

/// The answer in a response, which stands alone or in the last event of a stream.
pub(super) fn answer(response: &Value) -> Option<Answer> {
    let items = response.get("output")?.as_array()?;
    let status = text(response, "status").unwrap_or("completed");
    let has_error = response.get("error").is_some_and(|error| !error.is_null());
    if has_error || NO_ANSWER.contains(&status) {
        return None;
    }
    // One that runs in the background says so here; its id is all there is of it yet.
    let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
    let reason = if status == "incomplete" { reason.unwrap_or(status) } else { status };
    let mut answer = Answer {
        model: text(response, "model").map(str::to_owned),
        finish_reason: finish_reason(&FINISH_REASONS, Some(reason.to_owned())),
        usage: response.get("usage").and_then(count),
        id: text(response, "id").map(str::to_owned),
        ..Answer::default()
    };
    let mut refusal = String::new();
    for item in items {
        match text(item, "type") {
            Some("message") => {
                for (_, part) in parts(item, "content") {
                    match text(part, "type") {
                        Some("refusal") => refusal.push_str(text(part, "refusal").unwrap_or("")),
                        _ => answer.text.push_str(text(part, "text").unwrap_or("")),
                    }
                }
            }
            Some("function_call") => answer.tool_calls.push(call(item)),
            // Thoughts, and what the provider's own tools did.
            _ => {}
        }
    }
    if !refusal.is_empty() {
        answer.finish_reason = Some("content_filter".to_owned());
        if answer.text.is_empty() {
            answer.text = refusal;
        }
    }
    Some(answer)
}

/// A text of a field, unless nothing is in it.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The parts of an item under `name`, with their places.
pub(super) fn parts<'v>(
    item: &'v Value,
    name: &str,
) -> impl Iterator<Item = (usize, &'v Value)> + use<'v> {
    item.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// The arguments of a call; some servers write the object itself.
pub(super) fn arguments(item: &Value) -> Option<String> {
    match item.get("arguments")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        object => Some(object.to_string()),
    }
}

/// A call in the chat dialect's shape; `call_id` is what its result names, `id` only numbers the item.
fn call(item: &Value) -> Value {
    let function = json!({
        "name": text(item, "name").unwrap_or(""),
        "arguments": arguments(item).unwrap_or_default(),
    });
    let mut call = json!({"type": "function", "function": function});
    if let Some(id) = text(item, "call_id").or_else(|| text(item, "id")) {
        call["id"] = id.into();
    }
    call
}

/// Counts of an unknown shape are left out; the answer is still good.
fn count(usage: &Value) -> Option<kernel::Usage> {
    let usage = Usage::deserialize(usage).ok()?;
    usage.input_tokens.0.or(usage.output_tokens.0)?;
    let input_tokens = usage.input_tokens.or_zero();
    let output_tokens = usage.output_tokens.or_zero();
    let input = usage.input_tokens_details.unwrap_or_default();
    let output = usage.output_tokens_details.unwrap_or_default();
    Some(kernel::Usage {
        input_tokens,
        output_tokens,
        // Seen larger than the whole prompt on one host.
        cached_tokens: input.cached_tokens.or_zero().min(input_tokens),
        cache_write_tokens: input.cache_write_tokens.or_zero().min(input_tokens),
        reasoning_tokens: output.reasoning_tokens.or_zero().min(output_tokens),
    })
}
