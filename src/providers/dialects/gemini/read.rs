//! Answers of Gemini's generateContent dialect.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::kernel;

use super::super::lenient::{Count, Text};
use super::super::shared::{Answer, finish_reason};
use super::super::tools;

pub(super) const FINISH_REASONS: [(&str, &str); 14] = [
    ("STOP", "stop"),
    ("MAX_TOKENS", "length"),
    ("SAFETY", "content_filter"),
    ("RECITATION", "content_filter"),
    ("LANGUAGE", "content_filter"),
    ("BLOCKLIST", "content_filter"),
    ("PROHIBITED_CONTENT", "content_filter"),
    ("SPII", "content_filter"),
    ("MODEL_ARMOR", "content_filter"),
    ("IMAGE_SAFETY", "content_filter"),
    ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
    ("IMAGE_RECITATION", "content_filter"),
    ("IMAGE_OTHER", "content_filter"),
    ("FINISH_REASON_UNSPECIFIED", "stop"),
];

/// Ends that are the model's fault; with nothing said they are no answer.
const BROKEN: [&str; 4] =
    ["malformed_function_call", "unexpected_tool_call", "too_many_tool_calls", "other"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply {
    #[serde(default)]
    pub(super) candidates: Option<Vec<Candidate>>,
    #[serde(default)]
    pub(super) usage_metadata: Option<Usage>,
    #[serde(default)]
    pub(super) model_version: Text,
    #[serde(default)]
    pub(super) response_id: Text,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) content: Option<Said>,
    pub(super) finish_reason: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) parts: Option<Vec<Part>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Part {
    pub(super) text: Text,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Text,
    pub(super) function_call: Option<Call>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    id: Text,
    pub(super) name: Text,
    pub(super) args: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Usage {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    cached_content_token_count: Count,
}

impl Call {
    /// Gemini often gives no id; this one stays unique over the turns of a conversation.
    pub(super) fn told_id(&self, response: Option<&str>, place: usize) -> String {
        match (self.id.0.as_deref(), response) {
            (Some(id), _) => id.to_owned(),
            (None, Some(response)) => format!("call_{response}_{place}"),
            (None, None) => format!("call_{place}"),
        }
    }
}

/// Whether an end is one that makes nothing said no answer.
pub(super) fn is_broken(reason: &str) -> bool {
    BROKEN.contains(&reason)
}

/// The answer in a body; `None` when there is none in it.
pub(in super::super) fn read(body: &Bytes) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    if reply.error.is_some() {
        return None;
    }
    let candidate = reply.candidates?.into_iter().next()?;
    let mut text = String::new();
    let mut tool_calls = Vec::new();
    let parts = candidate.content.and_then(|said| said.parts).unwrap_or_default();
    for part in parts {
        if let Some(call) = part.function_call {
            let id = call.told_id(reply.response_id.0.as_deref(), tool_calls.len());
            tool_calls.push(tool_call(&id, call, part.thought_signature));
        } else if part.thought != Some(true) {
            text.push_str(part.text.0.as_deref().unwrap_or(""));
        }
    }
    let reason = finish_reason(&FINISH_REASONS, candidate.finish_reason.0);
    let nothing = text.is_empty() && tool_calls.is_empty();
    if nothing && reason.as_deref().is_some_and(is_broken) {
        return None;
    }
    Some(Answer {
        text,
        model: reply.model_version.0,
        finish_reason: reason,
        usage: reply.usage_metadata.and_then(count),
        tool_calls,
        id: reply.response_id.0,
    })
}

/// A call in OpenAI's shape. The signature must go back unchanged with the call, so it travels
/// in the place that Google's own OpenAI-compatible route uses for it.
fn tool_call(id: &str, call: Call, signature: Text) -> Value {
    let arguments = call.args.unwrap_or_else(|| json!({}));
    let mut written = tools::call(id, call.name.0.as_deref().unwrap_or(""), &arguments);
    if let Some(signature) = signature.0 {
        written["extra_content"] = json!({"google": {"thought_signature": signature}});
    }
    written
}

/// Thoughts are counted beside the candidates; the cached part is inside the prompt.
pub(super) fn count(usage: Usage) -> Option<kernel::Usage> {
    usage.prompt_token_count.0.or(usage.candidates_token_count.0)?;
    let prompt = usage.prompt_token_count.or_zero();
    let input_tokens = prompt.saturating_add(usage.tool_use_prompt_token_count.or_zero());
    let reasoning_tokens = usage.thoughts_token_count.or_zero();
    Some(kernel::Usage {
        input_tokens,
        output_tokens: usage.candidates_token_count.or_zero().saturating_add(reasoning_tokens),
        cached_tokens: usage.cached_content_token_count.or_zero().min(input_tokens),
        cache_write_tokens: 0,
        reasoning_tokens,
    })
}
