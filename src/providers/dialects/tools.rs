//! Tools, tool calls and pictures, read from the OpenAI shape.

use serde_json::{Map, Value, json};

use super::super::chat::Message;
use super::super::wire::InvalidRequest;
use super::shared::param;

/// A function that the model may call.
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) description: Option<&'a str>,
    pub(super) parameters: Option<&'a Value>,
    /// Whether its arguments have to fit exactly.
    pub(super) strict: bool,
}

/// One tool: a function in OpenAI's shape, or something in the provider's own words.
pub(super) enum Tool<'a> {
    Function(Function<'a>),
    Native(&'a Value),
}

/// Which tool the model is to use.
pub(super) enum Choice<'a> {
    Auto,
    Never,
    Any,
    This(&'a str),
}

/// The tools of a call.
pub(super) fn tools(params: &Map<String, Value>) -> Result<Vec<Tool<'_>>, InvalidRequest> {
    let Some(Value::Array(list)) = param(params, "tools") else { return Ok(Vec::new()) };
    let mut found = Vec::with_capacity(list.len());
    for (index, tool) in list.iter().enumerate() {
        found.push(match tool.get("type").and_then(Value::as_str) {
            Some("function") => read_function(index, tool)?,
            _ => Tool::Native(tool),
        });
    }
    Ok(found)
}

fn read_function(index: usize, tool: &Value) -> Result<Tool<'_>, InvalidRequest> {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        let field = format!("tools[{index}].function.name");
        return Err(InvalidRequest::about(field.clone(), format!("{field} is missing")));
    };
    let description = function.get("description").and_then(Value::as_str);
    let parameters = function.get("parameters").filter(|schema| !schema.is_null());
    let strict = function.get("strict").and_then(Value::as_bool).unwrap_or(false);
    Ok(Tool::Function(Function { name, description, parameters, strict }))
}

/// The choice among the tools; `None` when none was given.
pub(super) fn choice(params: &Map<String, Value>) -> Result<Option<Choice<'_>>, InvalidRequest> {
    let Some(value) = param(params, "tool_choice") else { return Ok(None) };
    let named = || value.pointer("/function/name").and_then(Value::as_str);
    match value.as_str() {
        Some("auto") => Ok(Some(Choice::Auto)),
        Some("none") => Ok(Some(Choice::Never)),
        Some("required" | "any") => Ok(Some(Choice::Any)),
        None if named().is_some() => Ok(named().map(Choice::This)),
        _ => Err(InvalidRequest::about(
            "tool_choice",
            "tool_choice is \"auto\", \"none\", \"required\" or \
             {\"type\": \"function\", \"function\": {\"name\": ...}}",
        )),
    }
}

/// A call in OpenAI's shape; `arguments` is JSON in a text there.
pub(super) fn call(id: &str, name: &str, arguments: &Value) -> Value {
    json!({
        "id": id,
        "type": "function",
        "function": {"name": name, "arguments": arguments.to_string()},
    })
}

/// The name and the arguments of a call in OpenAI's shape.
pub(super) fn called(call: &Value) -> Result<(&str, Value), InvalidRequest> {
    let wrong = |words: &str| InvalidRequest::about("tool_calls", format!("tool_calls: {words}"));
    let name = call.pointer("/function/name").and_then(Value::as_str);
    let name = name.ok_or_else(|| wrong("a call has no function.name"))?;
    let arguments = match call.pointer("/function/arguments") {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|_| wrong(&format!("the arguments of {name} are not JSON")))?,
        Some(object) => object.clone(),
    };
    Ok((name, arguments))
}

/// The name of the function that a tool's answer is for; OpenAI's shape only has the id of the call.
pub(super) fn answered<'a>(message: &'a Message, before: &'a [Message]) -> Option<&'a str> {
    let id = message.tool_call_id.as_deref().unwrap_or("");
    let called = || {
        let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
        let call = calls.find(|call| call.get("id").and_then(Value::as_str) == Some(id))?;
        call.pointer("/function/name").and_then(Value::as_str)
    };
    message.name.as_deref().or_else(called)
}

/// A picture of OpenAI's `image_url` part.
pub(super) enum Picture<'a> {
    Inline { media_type: &'a str, data: &'a str },
    Link(&'a str),
}

/// The picture in a part, if it is one.
pub(super) fn picture(part: &Value) -> Option<Picture<'_>> {
    let image = part.get("image_url")?;
    let url = image.as_str().or_else(|| image.get("url").and_then(Value::as_str))?;
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    Some(match inline {
        Some((media_type, data)) => Picture::Inline { media_type, data },
        None => Picture::Link(url),
    })
}

/// The JSON schema that the answer has to fit, or `json_object`.
pub(super) enum Format<'a> {
    Text,
    Json,
    Schema(&'a Value),
}

/// What `response_format` asks for.
pub(super) fn format(params: &Map<String, Value>) -> Result<Format<'_>, InvalidRequest> {
    let Some(value) = param(params, "response_format") else { return Ok(Format::Text) };
    let schema = value.pointer("/json_schema/schema");
    match (value.get("type").and_then(Value::as_str), schema) {
        (Some("text"), _) => Ok(Format::Text),
        (Some("json_object"), _) => Ok(Format::Json),
        (Some("json_schema"), Some(schema)) => Ok(Format::Schema(schema)),
        _ => Err(InvalidRequest::about(
            "response_format",
            "response_format is {\"type\": \"text\"}, {\"type\": \"json_object\"} or \
             {\"type\": \"json_schema\", \"json_schema\": {\"name\": ..., \"schema\": ...}}",
        )),
    }
}
