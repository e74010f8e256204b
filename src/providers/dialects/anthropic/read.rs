//! Answers of Anthropic's messages dialect.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::kernel;

use super::super::lenient::{Count, Text};
use super::super::shared::{Answer, finish_reason};
use super::super::tools;

/// A full window ends an answer as a full cap does; there is text to show for it.
pub(super) const FINISH_REASONS: [(&str, &str); 6] = [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("tool_use", "tool_calls"),
    ("refusal", "content_filter"),
];

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: Text,
    #[serde(default)]
    model: Text,
    #[serde(default)]
    content: Option<Vec<Block>>,
    #[serde(default)]
    stop_reason: Text,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Block {
    r#type: Text,
    text: Text,
    id: Text,
    name: Text,
    input: Option<Value>,
}

/// What it counts; the counts of a stream are cumulative.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    output_tokens: Count,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
}

impl Usage {
    /// Merges later counts; none is ever taken back.
    pub(super) fn raise(&mut self, told: Usage) {
        for (known, told) in [
            (&mut self.input_tokens, told.input_tokens),
            (&mut self.cache_creation_input_tokens, told.cache_creation_input_tokens),
            (&mut self.cache_read_input_tokens, told.cache_read_input_tokens),
            (&mut self.output_tokens, told.output_tokens),
        ] {
            known.0 = known.0.max(told.0);
        }
        self.output_tokens_details =
            told.output_tokens_details.or(self.output_tokens_details.take());
    }

    /// As it stands in an answer.
    pub(super) fn written(&self) -> Value {
        let mut written = json!({
            "input_tokens": self.input_tokens.0,
            "cache_creation_input_tokens": self.cache_creation_input_tokens.0,
            "cache_read_input_tokens": self.cache_read_input_tokens.0,
            "output_tokens": self.output_tokens.0,
        });
        if let Some(details) = &self.output_tokens_details {
            written["output_tokens_details"] =
                json!({"thinking_tokens": details.thinking_tokens.0});
        }
        written
    }
}

/// The answer in a body; `None` when there is none in it.
pub(in super::super) fn read(body: &Bytes) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    if reply.error.is_some() {
        return None;
    }
    let mut text = String::new();
    let mut tool_calls = Vec::new();
    for block in reply.content? {
        match block.r#type.0.as_deref() {
            Some("text") => text.push_str(block.text.0.as_deref().unwrap_or("")),
            Some("tool_use") => tool_calls.push(tools::call(
                block.id.0.as_deref().unwrap_or(""),
                block.name.0.as_deref().unwrap_or(""),
                &block.input.unwrap_or_else(|| Value::Object(Default::default())),
            )),
            _ => {}
        }
    }
    Some(Answer {
        text,
        model: reply.model.0,
        finish_reason: finish_reason(&FINISH_REASONS, reply.stop_reason.0),
        usage: reply.usage.as_ref().and_then(count),
        tool_calls,
        id: reply.id.0,
    })
}

/// Anthropic's `input_tokens` leaves the cached part out; ours is the whole input.
pub(super) fn count(usage: &Usage) -> Option<kernel::Usage> {
    usage.input_tokens.0.or(usage.output_tokens.0)?;
    let cached_tokens = usage.cache_read_input_tokens.or_zero();
    let cache_write_tokens = usage.cache_creation_input_tokens.or_zero();
    let fresh = usage.input_tokens.or_zero();
    let output_tokens = usage.output_tokens.or_zero();
    let details = usage.output_tokens_details.as_ref();
    let thinking = details.map_or(0, |details| details.thinking_tokens.or_zero());
    Some(kernel::Usage {
        input_tokens: fresh.saturating_add(cached_tokens).saturating_add(cache_write_tokens),
        output_tokens,
        cached_tokens,
        cache_write_tokens,
        reasoning_tokens: thinking.min(output_tokens),
    })
}
