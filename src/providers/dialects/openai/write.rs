//! Requests in OpenAI's chat dialect.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::super::super::azure;
use super::super::super::catalogue::OutputCap;
use super::super::super::chat::{ChatRequest, Message};
use super::super::super::provider::Provider;
use super::super::super::wire::{InvalidRequest, WireRequest};
use super::super::shared::{Way, param, posted, versioned};

/// Models that refuse `max_tokens` and want `max_completion_tokens`.
const REASONING: [&str; 4] = ["o1", "o3", "o4", "gpt-5"];

/// Parameters that are ours, or that only say what is so anyway.
const NOT_SENT: [&str; 3] = ["extra_body", "stream", "n"];

/// Who ends every stream with its usage. Mistral's older models refuse `stream_options` as unknown.
const TELL_USAGE_UNASKED: [&str; 2] = ["mistral", "openrouter"];

pub(in super::super) fn write(
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
    /// Whether a stream only reports its usage when it is asked to.
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
