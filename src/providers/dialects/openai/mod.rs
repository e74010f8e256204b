//! How does OpenAI's chat dialect write a request and an answer?

mod stream;

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use crate::kernel;

use super::super::azure;
use super::super::catalogue::Provider;
use super::super::chat::{ChatRequest, Message};
use super::super::entries::OutputCap;
use super::super::wire::{InvalidRequest, WireRequest};
use super::lenient::{Count, Text};
use super::{Answer, Way, finish_reason, param, posted, versioned};

pub(in super::super) use stream::Stream;

/// Words of OpenAI and of its relatives (`eos`: Together, `model_length`: Mistral).
const FINISH_REASONS: [(&str, &str); 5] = [
    ("eos", "stop"),
    ("end_turn", "stop"),
    ("function_call", "tool_calls"),
    ("model_length", "length"),
    ("max_tokens", "length"),
];

/// Models that refuse `max_tokens` and want `max_completion_tokens`.
const REASONING: [&str; 4] = ["o1", "o3", "o4", "gpt-5"];

/// Parameters that are ours, or that only say what is so anyway.
const NOT_SENT: [&str; 3] = ["extra_body", "stream", "n"];

/// Who ends every stream with its usage. Mistral's older models refuse `stream_options` as unknown.
const TELL_USAGE_UNASKED: [&str; 2] = ["mistral", "openrouter"];

pub(super) fn write(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    let cap_name = match provider.entry.output_cap {
        OutputCap::ByModel if REASONING.iter().any(|start| model.starts_with(start)) => {
            Some("max_completion_tokens")
        }
        OutputCap::ByModel | OutputCap::AsGiven => None,
        OutputCap::MaxTokens => Some("max_tokens"),
        OutputCap::MaxCompletionTokens => Some("max_completion_tokens"),
    };
    let renamed = provider.entry.renamed;
    let (messages, params) = (&request.messages, &request.params);
    let usage_asked = !TELL_USAGE_UNASKED.contains(&provider.entry.name);
    let body = Body { model, messages, params, cap_name, renamed, way, usage_asked };
    let url = match &provider.api_version {
        Some(version) => azure::chat_url(&provider.base_url, model, version),
        None => versioned(provider) + "/chat/completions",
    };
    posted(provider, url, &body, &request.params)
}

/// The body; messages and parameters are in this dialect already.
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    params: &'a Map<String, Value>,
    /// The one name under which the cap on output is understood; `None`: as the caller wrote it.
    cap_name: Option<&'static str>,
    /// Parameters that have another name there.
    renamed: &'static [(&'static str, &'static str)],
    way: Way<'a>,
    /// Whether a stream only tells its usage when it is asked to.
    usage_asked: bool,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("messages", self.messages)?;
        for (name, value) in self.params {
            let name = name.as_str();
            if value.is_null() || NOT_SENT.contains(&name) {
                continue;
            }
            match (name, self.cap_name) {
                // Both were given: the newer name holds.
                ("max_tokens", Some(_))
                    if param(self.params, "max_completion_tokens").is_some() => {}
                ("max_tokens" | "max_completion_tokens", Some(cap)) => {
                    map.serialize_entry(cap, value)?;
                }
                _ => {
                    let theirs = self.renamed.iter().find(|(ours, _)| *ours == name);
                    map.serialize_entry(theirs.map_or(name, |(_, theirs)| theirs), value)?;
                }
            }
        }
        if let Way::InPieces(options) = self.way {
            map.serialize_entry("stream", &true)?;
            let mut options = options.and_then(Value::as_object).cloned().unwrap_or_default();
            if self.usage_asked {
                options.insert("include_usage".to_owned(), true.into());
            }
            if !options.is_empty() {
                map.serialize_entry("stream_options", &options)?;
            }
        }
        map.end()
    }
}

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
struct Usage {
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
pub(super) fn read(body: &Bytes) -> Option<Answer> {
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

/// Counts of a shape that nobody foresaw must not cost the caller the answer.
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

fn count(usage: Usage) -> Option<kernel::Usage> {
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
