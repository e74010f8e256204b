//! Requests in Anthropic's messages dialect.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::super::chat::{ChatRequest, Content, Message, Role};
use super::super::super::provider::Provider;
use super::super::super::wire::{InvalidRequest, WireRequest};
use super::super::shared::{Way, instructions, output_cap, param, posted, stops};
use super::super::tools::{self, Choice, Format, Picture, Tool};

/// The version of the dialect that is spoken here.
const VERSION: &str = "2023-06-01";

/// `max_tokens` is required there; it costs no quota, so the default is generous.
const MAX_TOKENS: u64 = 4096;

/// Parameters that both sides write alike.
const SAME: [&str; 4] = ["temperature", "top_p", "top_k", "service_tier"];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_sequences: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Blocks<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Blocks<'a> {
    Text(&'a str),
    Blocks(Vec<Block<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Text { r#type: &'static str, text: &'a str },
    ToolUse { r#type: &'static str, id: &'a str, name: &'a str, input: Value },
    ToolResult { r#type: &'static str, tool_use_id: &'a str, content: Blocks<'a> },
    Image { r#type: &'static str, source: Value },
    Native(&'a Value),
}

pub(in super::super) fn write(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    let params = &request.params;
    let mut others = others(params)?;
    if let Way::InPieces(_) = way {
        others.insert("stream".to_owned(), true.into());
    }
    let body = Body {
        model,
        max_tokens: output_cap(params).unwrap_or(MAX_TOKENS),
        system: instructions(request),
        messages: turns(&request.messages)?,
        stop_sequences: stops(params),
        tools: tools::tools(params)?.iter().map(tool).collect(),
        tool_choice: tool_choice(params)?,
        others,
    };
    let base = provider.base_url.strip_suffix("/v1").unwrap_or(&provider.base_url);
    let url = format!("{base}/v1/messages");
    let mut wire = posted(provider, url, &body, params)?;
    wire.headers.push(("anthropic-version", VERSION.to_owned()));
    Ok(wire)
}

/// What is written alike, and what only has another name or shape.
fn others(params: &Map<String, Value>) -> Result<Map<String, Value>, InvalidRequest> {
    let mut others = Map::new();
    for name in SAME.into_iter().chain(["thinking", "metadata"]) {
        if let Some(value) = param(params, name) {
            others.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(user) = param(params, "user") {
        let metadata = others.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("user_id".to_owned(), user.clone());
        }
    }
    match tools::format(params)? {
        // It has no mode for JSON of any shape; the prompt asks for it by now.
        Format::Text | Format::Json => {}
        Format::Schema(schema) => {
            let format = json!({"format": {"type": "json_schema", "schema": schema}});
            others.insert("output_config".to_owned(), format);
        }
    }
    Ok(others)
}

/// Turns; answers of several tools go back in one message, as the dialect demands.
fn turns(messages: &[Message]) -> Result<Vec<Turn<'_>>, InvalidRequest> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(messages.len());
    let mut after_tool = false;
    for message in messages {
        match message.role {
            Role::System => continue,
            Role::User => turns.push(Turn { role: "user", content: blocks(&message.content) }),
            Role::Assistant => {
                turns.push(Turn { role: "assistant", content: assistant(message)? });
            }
            Role::Tool => {
                let result = Block::ToolResult {
                    r#type: "tool_result",
                    tool_use_id: message.tool_call_id.as_deref().unwrap_or(""),
                    content: blocks(&message.content),
                };
                match turns.last_mut() {
                    Some(Turn { content: Blocks::Blocks(known), .. }) if after_tool => {
                        known.push(result);
                    }
                    _ => turns.push(Turn { role: "user", content: Blocks::Blocks(vec![result]) }),
                }
            }
        }
        after_tool = message.role == Role::Tool;
    }
    if turns.is_empty() {
        let message = "anthropic needs a message beside the instructions";
        return Err(InvalidRequest::about("messages", message));
    }
    Ok(turns)
}

fn blocks(content: &Content) -> Blocks<'_> {
    match content {
        Content::Text(text) => Blocks::Text(text),
        Content::Parts(parts) => Blocks::Blocks(parts.iter().map(block).collect()),
        Content::Nothing(()) => Blocks::Blocks(Vec::new()),
    }
}

/// A part in OpenAI's shape becomes a block; what is not one is a block already.
fn block(part: &Value) -> Block<'_> {
    match tools::picture(part) {
        Some(Picture::Inline { media_type, data }) => Block::Image {
            r#type: "image",
            source: json!({"type": "base64", "media_type": media_type, "data": data}),
        },
        Some(Picture::Link(url)) => {
            Block::Image { r#type: "image", source: json!({"type": "url", "url": url}) }
        }
        None => Block::Native(part),
    }
}

fn assistant(message: &Message) -> Result<Blocks<'_>, InvalidRequest> {
    if message.tool_calls.is_empty() {
        return Ok(blocks(&message.content));
    }
    let mut said = match &message.content {
        // An empty block is refused.
        Content::Text(text) if text.is_empty() => Vec::new(),
        Content::Text(text) => vec![Block::Text { r#type: "text", text }],
        Content::Parts(parts) => parts.iter().map(block).collect(),
        Content::Nothing(()) => Vec::new(),
    };
    for call in &message.tool_calls {
        let (name, input) = tools::called(call)?;
        let id = call.get("id").and_then(Value::as_str).unwrap_or("");
        said.push(Block::ToolUse { r#type: "tool_use", id, name, input });
    }
    Ok(Blocks::Blocks(said))
}

fn tool(tool: &Tool<'_>) -> Value {
    match tool {
        Tool::Native(native) => (*native).clone(),
        Tool::Function(function) => {
            let nothing = json!({"type": "object", "properties": {}});
            let mut written = json!({
                "name": function.name,
                "input_schema": function.parameters.unwrap_or(&nothing),
            });
            if let Some(description) = function.description {
                written["description"] = description.into();
            }
            written
        }
    }
}

fn tool_choice(params: &Map<String, Value>) -> Result<Option<Value>, InvalidRequest> {
    let alone = param(params, "parallel_tool_calls") == Some(&Value::Bool(false));
    let mut choice = match tools::choice(params)? {
        None if alone && params.contains_key("tools") => json!({"type": "auto"}),
        None => return Ok(None),
        Some(Choice::Auto) => json!({"type": "auto"}),
        Some(Choice::Never) => return Ok(Some(json!({"type": "none"}))),
        Some(Choice::Any) => json!({"type": "any"}),
        Some(Choice::This(name)) => json!({"type": "tool", "name": name}),
    };
    if alone {
        choice["disable_parallel_tool_use"] = true.into();
    }
    Ok(Some(choice))
}
