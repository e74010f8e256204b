//! Requests in Ollama's native chat dialect.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::super::chat::{ChatRequest, Content, Message, Role};
use super::super::super::provider::Provider;
use super::super::super::wire::{InvalidRequest, WireRequest};
use super::super::shared::{Way, param, posted, say_in_their_words};
use super::super::tools::{self, Choice, Format, Picture, Tool};

/// Parameters that stand among `options` there: ours, its own.
const OPTIONS: [(&str, &str); 9] = [
    ("num_ctx", "num_ctx"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("repetition_penalty", "repeat_penalty"),
];

/// Paths that addresses of this server end with: those of its other dialect and of this one.
const KNOWN_PATHS: [&str; 2] = ["/v1", "/api"];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    /// Said always: what is not said is a stream there.
    stream: bool,
    #[serde(skip_serializing_if = "Map::is_empty")]
    options: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<&'a Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: Role,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

pub(in super::super) fn write(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    let params = &request.params;
    let messages = &request.messages;
    let turns = messages.iter().enumerate();
    let turns = turns.map(|(index, message)| turn(index, message, &messages[..index]));
    let body = Body {
        model,
        messages: turns.collect::<Result<_, _>>()?,
        stream: matches!(way, Way::InPieces(_)),
        options: options(params),
        format: match tools::format(params)? {
            Format::Text => None,
            Format::Json => Some("json".into()),
            Format::Schema(schema) => Some(schema.clone()),
        },
        tools: declared(params)?,
        think: think(params),
        keep_alive: param(params, "keep_alive"),
    };
    posted(provider, address(&provider.base_url), &body, params)
}

/// Where chats are posted: under the host, whichever dialect's address was given.
fn address(base: &str) -> String {
    let host = KNOWN_PATHS.iter().find_map(|path| base.strip_suffix(path)).unwrap_or(base);
    format!("{host}/api/chat")
}

/// `options` as the caller wrote them, and what has a name of its own among our parameters, which says more.
fn options(params: &Map<String, Value>) -> Map<String, Value> {
    let own = param(params, "options").and_then(Value::as_object);
    let mut options = own.cloned().unwrap_or_default();
    say_in_their_words(&mut options, params, &OPTIONS, ("num_predict", "stop"));
    options
}

/// Whether the model is to think, and how much; its own word holds before OpenAI's.
fn think(params: &Map<String, Value>) -> Option<Value> {
    let effort = || match param(params, "reasoning_effort")?.as_str()? {
        "none" => Some(Value::Bool(false)),
        effort => Some(effort.into()),
    };
    param(params, "think").cloned().or_else(effort)
}

/// Tools have OpenAI's shape. A choice is expressed by what is left out: all of them, or all but the one that is meant.
fn declared(params: &Map<String, Value>) -> Result<Vec<&Value>, InvalidRequest> {
    let meant = match tools::choice(params)? {
        Some(Choice::Never) => return Ok(Vec::new()),
        Some(Choice::Any) => {
            let words = "tool_choice can be \"auto\", \"none\" or one tool: \
                         ollama cannot be made to call some tool";
            return Err(InvalidRequest::about("tool_choice", words));
        }
        Some(Choice::This(name)) => Some(name),
        Some(Choice::Auto) | None => None,
    };
    for (index, tool) in tools::tools(params)?.iter().enumerate() {
        if matches!(tool, Tool::Native(_)) {
            let field = format!("tools[{index}].type");
            let words = format!("{field} must be \"function\": ollama knows no other tools");
            return Err(InvalidRequest::about(field, words));
        }
    }
    let is_meant = |tool: &&Value| {
        meant.is_none_or(|meant| tool.pointer("/function/name") == Some(&meant.into()))
    };
    let all = param(params, "tools").and_then(Value::as_array).into_iter().flatten();
    let declared: Vec<_> = all.filter(is_meant).collect();
    match meant.filter(|_| declared.is_empty()) {
        Some(_) => {
            Err(InvalidRequest::about("tool_choice", "tool_choice names a tool that is not there"))
        }
        None => Ok(declared),
    }
}

fn turn<'a>(
    index: usize,
    message: &'a Message,
    before: &'a [Message],
) -> Result<Turn<'a>, InvalidRequest> {
    let mut turn = Turn {
        role: message.role,
        content: Cow::Borrowed(""),
        images: Vec::new(),
        tool_calls: message.tool_calls.iter().map(called).collect::<Result<_, _>>()?,
        tool_name: None,
        tool_call_id: None,
    };
    if message.role == Role::Tool {
        // Old versions know an answer by the name, new ones by the id as well.
        turn.tool_name = tools::answered(message, before);
        turn.tool_call_id = message.tool_call_id.as_deref();
    }
    match &message.content {
        Content::Nothing(()) => {}
        Content::Text(text) => turn.content = Cow::Borrowed(text),
        Content::Parts(parts) => {
            for part in parts {
                add(&mut turn, part).map_err(|words| {
                    let field = format!("messages[{index}].content");
                    InvalidRequest::about(field.clone(), format!("{field} {words}"))
                })?;
            }
        }
    }
    Ok(turn)
}

/// Adds one part: texts are one text there, pictures stand beside it.
fn add<'a>(turn: &mut Turn<'a>, part: &'a Value) -> Result<(), String> {
    match (tools::picture(part), part.get("text").and_then(Value::as_str)) {
        (Some(Picture::Inline { data, .. }), _) => turn.images.push(data),
        (Some(Picture::Link(_)), _) => {
            return Err("has a picture that ollama cannot take: it fetches none, \
                        so write it as data:image/...;base64,..."
                .to_owned());
        }
        (None, Some("")) => {}
        (None, Some(text)) if turn.content.is_empty() => turn.content = Cow::Borrowed(text),
        (None, Some(text)) => {
            let content = turn.content.to_mut();
            content.push_str("\n\n");
            content.push_str(text);
        }
        (None, None) => {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("an unknown type");
            let kind: String = kind.chars().take(60).collect();
            return Err(format!(
                "has a part ({kind}) that ollama cannot take: only text and image_url"
            ));
        }
    }
    Ok(())
}

/// A call as it goes back; arguments are an object there.
fn called(call: &Value) -> Result<Value, InvalidRequest> {
    let (name, arguments) = tools::called(call)?;
    if !arguments.is_object() {
        let words = format!("tool_calls: the arguments of {name} are not an object");
        return Err(InvalidRequest::about("tool_calls", words));
    }
    let mut written = json!({"function": {"name": name, "arguments": arguments}});
    if let Some(id) = call.get("id").filter(|id| id.is_string()) {
        written["id"] = id.clone();
    }
    Ok(written)
}
