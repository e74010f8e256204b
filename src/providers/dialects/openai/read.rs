//! Answers of OpenAI's chat dialect.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::kernel;

use super::super::lenient::{Count, Text};
use super::super::shared::{Answer, finish_reason};

/// Words of OpenAI and of its relatives (`eos`: Together, `model_length`: Mistral).
pub(super) const FINISH_REASONS: [(&str, &str); 5] = [
    ("eos", "stop"),
    ("end_turn", "stop"),
    ("function_call", "tool_calls"),
    ("model_length", "length"),
    ("max_tokens", "length"),
];

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: Text,
    #[serde(default)]
    model: Text,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<Said>,
    #[serde(default)]
    finish_reason: Text,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Text,
    #[serde(default)]
    refusal: Text,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// Together puts it here.
    cached_tokens: Count,
    /// DeepSeek calls it so.
    prompt_cache_hit_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Count,
}

/// The answer in a body; `None` when there is none in it.
pub(in super::super) fn read(body: &Bytes) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(body).ok().or_else(|| without_usage(body))?;
    if reply.error.is_some() {
        return None;
    }
    let choice = reply.choices?.into_iter().next()?;
    if choice.error.is_some() {
        return None;
    }
    let said = choice.message?;
    let mut reason = finish_reason(&FINISH_REASONS, choice.finish_reason.0);
    // The upstream broke while it answered (OpenRouter), or had no room (DeepSeek).
    if matches!(reason.as_deref(), Some("error" | "insufficient_system_resource")) {
        return None;
    }
    let mut text = said.content.0.unwrap_or_default();
    if let Some(refusal) = said.refusal.0.filter(|refusal| !refusal.is_empty()) {
        reason = Some("content_filter".to_owned());
        if text.is_empty() {
            text = refusal;
        }
    }
    Some(Answer {
        text,
        model: reply.model.0,
        finish_reason: reason,
        usage: reply.usage.and_then(count),
        tool_calls: said.tool_calls.unwrap_or_default().into_iter().map(typed).collect(),
        id: reply.id.0,
    })
}

/// Counts of an unknown shape must not cost the caller the answer.
fn without_usage(body: &Bytes) -> Option<Reply> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    value.as_object_mut()?.remove("usage")?;
    serde_json::from_value(value).ok()
}

/// Some servers leave `type` out.
fn typed(mut call: Value) -> Value {
    if let Some(call) = call.as_object_mut() {
        call.entry("type").or_insert_with(|| "function".into());
    }
    call
}

pub(super) fn count(usage: Usage) -> Option<kernel::Usage> {
    let (input, output) = (usage.prompt_tokens.0, usage.completion_tokens.0);
    if input.is_none() && output.is_none() {
        return None;
    }
    let input_tokens = input.unwrap_or(0);
    let mut output_tokens = output.unwrap_or(0);
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    let reasoning_tokens = completion.reasoning_tokens.or_zero();
    // xAI once counted thinking beside the completion; the total shows it.
    let beside = input_tokens.saturating_add(output_tokens).saturating_add(reasoning_tokens);
    if reasoning_tokens > 0 && usage.total_tokens.0 == Some(beside) {
        output_tokens += reasoning_tokens;
    }
    let cached = [prompt.cached_tokens, usage.cached_tokens, usage.prompt_cache_hit_tokens];
    let cached = cached.into_iter().find_map(|count| count.0).unwrap_or(0);
    Some(kernel::Usage {
        input_tokens,
        output_tokens,
        // Seen larger than the whole prompt on one host.
        cached_tokens: cached.min(input_tokens),
        cache_write_tokens: prompt.cache_write_tokens.or_zero().min(input_tokens),
        reasoning_tokens: reasoning_tokens.min(output_tokens),
    })
}
