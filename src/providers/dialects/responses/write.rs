//! Requests in OpenAI's Responses dialect.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::super::azure;
use super::super::super::chat::{ChatRequest, Content, Message, Role};
use super::super::super::provider::Provider;
use super::super::super::wire::{InvalidRequest, WireRequest};
use super::super::shared::{Way, instructions, output_cap, param, posted, texts, versioned};
use super::super::tools::{self, Choice, Format, Tool};

/// Parameters that both dialects write alike.
const SAME: [&str; 20] = [
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "user",
    "metadata",
    "service_tier",
    "store",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
    "reasoning",
    "models",
    "provider",
    "plugins",
    "include",
    "truncation",
    "max_tool_calls",
    "previous_response_id",
];

/// What has to be included so that the odds of each token come back.
const LOGPROBS: &str = "message.output_text.logprobs";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    input: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

pub(in super::super) fn write(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    let params = &request.params;
    let mut others = others(params)?;
    if let Way::InPieces(options) = way {
        others.insert("stream".to_owned(), true.into());
        // Usage comes unasked, and asking for it is refused.
        let mut options = options.and_then(Value::as_object).cloned().unwrap_or_default();
        options.remove("include_usage");
        if !options.is_empty() {
            others.insert("stream_options".to_owned(), options.into());
        }
    }
    let (instructions, input) = conversation(request)?;
    let body = Body {
        model,
        instructions,
        input,
        max_output_tokens: output_cap(params),
        tools: tools::tools(params)?.iter().map(tool).collect(),
        tool_choice: tool_choice(params)?,
        others,
    };
    let url = match &provider.api_version {
        Some(_) => azure::responses_url(&provider.base_url),
        None => versioned(provider) + "/responses",
    };
    posted(provider, url, &body, params)
}

/// What is written alike, and what only has another name or place.
fn others(params: &Map<String, Value>) -> Result<Map<String, Value>, InvalidRequest> {
    let same = SAME.iter().filter_map(|name| Some((*name, param(params, name)?.clone())));
    let mut others: Map<String, Value> = same.map(|(name, value)| (name.into(), value)).collect();
    // The dialect keeps answers at the provider unless the request says otherwise; nothing here would read them there.
    others.entry("store").or_insert(Value::Bool(false));
    if let Some(effort) = param(params, "reasoning_effort") {
        let reasoning = others.entry("reasoning").or_insert_with(|| json!({}));
        if let Some(reasoning) = reasoning.as_object_mut() {
            reasoning.entry("effort").or_insert_with(|| effort.clone());
        }
    }
    let mut text = Map::new();
    if let Some(format) = format(params)? {
        text.insert("format".to_owned(), format);
    }
    if let Some(verbosity) = param(params, "verbosity") {
        text.insert("verbosity".to_owned(), verbosity.clone());
    }
    if !text.is_empty() {
        others.insert("text".to_owned(), text.into());
    }
    if param(params, "logprobs") == Some(&Value::Bool(true)) {
        let mut included = match others.remove("include") {
            Some(Value::Array(list)) => list,
            other => other.into_iter().collect(),
        };
        if !included.iter().any(|name| name == LOGPROBS) {
            included.push(LOGPROBS.into());
        }
        others.insert("include".to_owned(), included.into());
    }
    Ok(others)
}

/// The format of the text, with what the chat dialect wraps into `json_schema`.
fn format(params: &Map<String, Value>) -> Result<Option<Value>, InvalidRequest> {
    // Looks at it as well, so that what is no format is refused here.
    match tools::format(params)? {
        Format::Text => return Ok(None),
        Format::Json => return Ok(Some(json!({"type": "json_object"}))),
        Format::Schema(_) => {}
    }
    let mut format = json!({"type": "json_schema", "name": "answer"});
    let wrapped = param(params, "response_format").and_then(|format| format.get("json_schema"));
    for (name, value) in wrapped.and_then(Value::as_object).into_iter().flatten() {
        format[name] = value.clone();
    }
    Ok(Some(format))
}

/// The instructions, and the items of the conversation.
fn conversation(request: &ChatRequest) -> Result<(Option<String>, Vec<Value>), InvalidRequest> {
    let mut items = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        match message.role {
            Role::System => {}
            Role::User => items.push(said("user", &message.content, input_part)),
            Role::Assistant => assistant(message, &mut items)?,
            Role::Tool => items.push(json!({
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": result(&message.content),
            })),
        }
    }
    let instructions = instructions(request);
    if !items.is_empty() {
        return Ok((instructions, items));
    }
    // Without any input a request is refused: then the instructions are what is asked.
    let only = json!({"type": "message", "role": "system", "content": instructions});
    Ok((None, vec![only]))
}

fn assistant(message: &Message, items: &mut Vec<Value>) -> Result<(), InvalidRequest> {
    if !texts(&message.content).is_empty() || message.tool_calls.is_empty() {
        items.push(said("assistant", &message.content, output_part));
    }
    for call in &message.tool_calls {
        let (name, read) = tools::called(call)?;
        let written = call.pointer("/function/arguments").and_then(Value::as_str);
        let written = written.filter(|text| !text.trim().is_empty());
        items.push(json!({
            "type": "function_call",
            "call_id": call.get("id").and_then(Value::as_str).unwrap_or(""),
            "name": name,
            "arguments": written.map_or_else(|| read.to_string(), str::to_owned),
        }));
    }
    Ok(())
}

fn said(role: &str, content: &Content, part: fn(&Value) -> Value) -> Value {
    let content = match content {
        Content::Text(text) => text.as_str().into(),
        Content::Parts(parts) => parts.iter().map(part).collect(),
        Content::Nothing(()) => Value::from(""),
    };
    json!({"type": "message", "role": role, "content": content})
}

/// What a tool gave: a text wherever it can be one, since not every server takes parts.
fn result(content: &Content) -> Value {
    match content {
        Content::Parts(parts) if parts.iter().any(|part| part.get("text").is_none()) => {
            parts.iter().map(input_part).collect()
        }
        content => texts(content).concat().into(),
    }
}

/// A part of the chat dialect as one of the input; what is none of those is one already.
fn input_part(part: &Value) -> Value {
    match part.get("type").and_then(Value::as_str) {
        Some("text") | None if part.get("text").is_some() => {
            json!({"type": "input_text", "text": part["text"]})
        }
        Some("image_url") => picture(&part["image_url"]),
        Some("file") => {
            let mut file = part.get("file").cloned().unwrap_or_else(|| json!({}));
            if file.is_object() {
                file["type"] = "input_file".into();
            }
            file
        }
        _ => part.clone(),
    }
}

/// The address of a picture stands beside how closely it is looked at.
fn picture(image: &Value) -> Value {
    let url = image.get("url").unwrap_or(image);
    let mut written = json!({"type": "input_image", "image_url": url});
    if let Some(detail) = image.get("detail") {
        written["detail"] = detail.clone();
    }
    written
}

fn output_part(part: &Value) -> Value {
    match part.get("type").and_then(Value::as_str) {
        Some("text") | None => json!({"type": "output_text", "text": part["text"]}),
        _ => part.clone(),
    }
}

fn tool(tool: &Tool<'_>) -> Value {
    match tool {
        Tool::Native(native) => (*native).clone(),
        Tool::Function(function) => {
            let nothing = json!({"type": "object", "properties": {}});
            let mut written = json!({"type": "function", "name": function.name});
            if let Some(description) = function.description {
                written["description"] = description.into();
            }
            written["parameters"] = function.parameters.unwrap_or(&nothing).clone();
            // Unsaid it would be strict here, and is not in the chat dialect.
            written["strict"] = function.strict.into();
            written
        }
    }
}

fn tool_choice(params: &Map<String, Value>) -> Result<Option<Value>, InvalidRequest> {
    let native = param(params, "tool_choice").filter(|choice| {
        choice.get("type").is_some_and(|kind| kind != "function") || choice.get("name").is_some()
    });
    if let Some(native) = native {
        return Ok(Some(native.clone()));
    }
    Ok(tools::choice(params)?.map(|choice| match choice {
        Choice::Auto => "auto".into(),
        Choice::Never => "none".into(),
        Choice::Any => "required".into(),
        Choice::This(name) => json!({"type": "function", "name": name}),
    }))
}
