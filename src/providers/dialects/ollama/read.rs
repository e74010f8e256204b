//! Answers of Ollama's native chat dialect.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::kernel;

use super::super::lenient::{Count, Text};
use super::super::shared::{Answer, finish_reason};

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    model: Text,
    #[serde(default)]
    created_at: Text,
    #[serde(default)]
    message: Option<Said>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(default)]
    done_reason: Text,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Text,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

/// The answer in a body; `None` when there is none in it.
pub(in super::super) fn read(body: &Bytes) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    // An answer in one piece is over; a line of a stream that says otherwise is only the beginning of one.
    if reply.error.is_some() || reply.done == Some(false) {
        return None;
    }
    let said = reply.message?;
    let calls = said.tool_calls.unwrap_or_default().into_iter().enumerate();
    let tool_calls = calls.map(|(place, call)| {
        let call = Call::of(&call, reply.created_at.0.as_deref(), place);
        let function = json!({"name": call.name, "arguments": call.arguments});
        json!({"id": call.id, "type": "function", "function": function})
    });
    Some(Answer {
        text: said.content.0.unwrap_or_default(),
        model: reply.model.0,
        // Its words are ours; `load` and `unload` stay as they are.
        finish_reason: finish_reason(&[], reply.done_reason.0),
        usage: count(reply.prompt_eval_count, reply.eval_count),
        tool_calls: tool_calls.collect(),
        id: None,
    })
}

/// One call of a tool.
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON in a text.
    pub(super) arguments: String,
}

impl Call {
    /// Reads a call. Most versions give no id; the time of the answer keeps ours unique over the turns of a
    /// conversation.
    pub(super) fn of(call: &Value, created_at: Option<&str>, place: usize) -> Call {
        let text =
            |path| call.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let told = text("/id");
        let when = || created_at.unwrap_or("").chars().filter(char::is_ascii_alphanumeric);
        let made = || match when().collect::<String>() {
            when if when.is_empty() => format!("call_{place}"),
            when => format!("call_{when}_{place}"),
        };
        let arguments = match call.pointer("/function/arguments") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(object) => object.to_string(),
        };
        Call {
            id: told.map_or_else(made, str::to_owned),
            name: text("/function/name").unwrap_or("").to_owned(),
            arguments,
        }
    }
}

/// The prompt's count is missing when all of it was cached: what is known is then the output alone.
pub(super) fn count(prompt: Count, output: Count) -> Option<kernel::Usage> {
    prompt.0.or(output.0)?;
    Some(kernel::Usage {
        input_tokens: prompt.or_zero(),
        output_tokens: output.or_zero(),
        cached_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
    })
}
