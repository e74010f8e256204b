//! Requests in Gemini's generateContent dialect.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::super::chat::{ChatRequest, Content, Message, Role};
use super::super::super::provider::Provider;
use super::super::super::wire::{InvalidRequest, WireRequest};
use super::super::shared::{
    Way, instructions, param, posted, say_in_their_words, texts, versioned,
};
use super::super::tools::{self, Choice, Format, Picture, Tool};

/// Parameters of `generationConfig` that only have another name there.
const CONFIG: [(&str, &str); 9] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("logprobs", "responseLogprobs"),
    ("top_logprobs", "logprobs"),
    ("thinking_config", "thinkingConfig"),
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    generation_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_settings: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content: Option<&'a Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Text { text: &'a str },
    Made(Value),
    Native(&'a Value),
}

pub(in super::super) fn write(
    provider: &Provider,
    request: &ChatRequest,
    model: &str,
    way: Way<'_>,
) -> Result<WireRequest, InvalidRequest> {
    let params = &request.params;
    let body = Body {
        contents: turns(&request.messages)?,
        system_instruction: instructions(request).map(|text| json!({"parts": [{"text": text}]})),
        generation_config: generation_config(params)?,
        tools: declared(params)?,
        tool_config: tool_config(params)?,
        safety_settings: param(params, "safety_settings"),
        cached_content: param(params, "cached_content"),
    };
    let model = model.strip_prefix("models/").unwrap_or(model);
    // Tuned models have a collection of their own.
    let collection = if model.starts_with("tunedModels/") { "" } else { "models/" };
    let method = match way {
        Way::Whole => "generateContent",
        Way::InPieces(_) => "streamGenerateContent?alt=sse",
    };
    let url = format!("{}/{collection}{model}:{method}", versioned(provider));
    posted(provider, url, &body, params)
}

fn generation_config(params: &Map<String, Value>) -> Result<Map<String, Value>, InvalidRequest> {
    let mut config = Map::new();
    say_in_their_words(&mut config, params, &CONFIG, ("maxOutputTokens", "stopSequences"));
    let format = tools::format(params)?;
    if !matches!(format, Format::Text) {
        config.insert("responseMimeType".to_owned(), "application/json".into());
    }
    if let Format::Schema(schema) = format {
        config.insert("responseJsonSchema".to_owned(), schema.clone());
    }
    Ok(config)
}

/// Turns; answers of several tools go back in one.
fn turns(messages: &[Message]) -> Result<Vec<Turn<'_>>, InvalidRequest> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(messages.len());
    let mut after_tool = false;
    for (index, message) in messages.iter().enumerate() {
        match message.role {
            Role::System => continue,
            Role::User => turns.push(Turn { role: "user", parts: parts(&message.content) }),
            Role::Assistant => {
                let mut said = parts(&message.content);
                for call in &message.tool_calls {
                    said.push(function_call(call)?);
                }
                turns.push(Turn { role: "model", parts: said });
            }
            Role::Tool => {
                let part = function_response(message, &messages[..index])?;
                match turns.last_mut() {
                    Some(turn) if after_tool => turn.parts.push(part),
                    _ => turns.push(Turn { role: "user", parts: vec![part] }),
                }
            }
        }
        after_tool = message.role == Role::Tool;
    }
    if turns.is_empty() {
        let message = "gemini needs a message beside the instructions";
        return Err(InvalidRequest::about("messages", message));
    }
    Ok(turns)
}

fn parts(content: &Content) -> Vec<Part<'_>> {
    match content {
        Content::Text(text) => vec![Part::Text { text }],
        Content::Parts(parts) => parts.iter().map(part).collect(),
        Content::Nothing(()) => Vec::new(),
    }
}

/// A part in OpenAI's shape becomes one of Gemini's; what is not one is Gemini's already.
fn part(part: &Value) -> Part<'_> {
    match tools::picture(part) {
        Some(Picture::Inline { media_type, data }) => {
            Part::Made(json!({"inlineData": {"mimeType": media_type, "data": data}}))
        }
        Some(Picture::Link(url)) => Part::Made(json!({"fileData": {"fileUri": url}})),
        None => match (part.get("type").and_then(Value::as_str), part.get("text")) {
            (Some("text"), Some(Value::String(text))) => Part::Text { text },
            _ => Part::Native(part),
        },
    }
}

fn function_call(call: &Value) -> Result<Part<'_>, InvalidRequest> {
    let (name, args) = tools::called(call)?;
    let mut part = json!({"functionCall": {"name": name, "args": args}});
    if let Some(signature) = call.pointer("/extra_content/google/thought_signature") {
        part["thoughtSignature"] = signature.clone();
    }
    Ok(Part::Made(part))
}

/// Gemini knows answers by the function's name.
fn function_response<'a>(
    message: &'a Message,
    before: &'a [Message],
) -> Result<Part<'a>, InvalidRequest> {
    let Some(name) = tools::answered(message, before) else {
        let id = message.tool_call_id.as_deref().unwrap_or("");
        let words = format!("tool_call_id {id:?} answers no call of this conversation");
        return Err(InvalidRequest::about("tool_call_id", words));
    };
    let said = texts(&message.content).join("\n");
    let response = match serde_json::from_str(&said) {
        Ok(Value::Object(object)) => Value::Object(object),
        _ => json!({"result": said}),
    };
    Ok(Part::Made(json!({"functionResponse": {"name": name, "response": response}})))
}

/// All functions are declared in one tool; Gemini's own tools stand beside it.
fn declared(params: &Map<String, Value>) -> Result<Vec<Value>, InvalidRequest> {
    let mut functions = Vec::new();
    let mut written = Vec::new();
    for tool in tools::tools(params)? {
        match tool {
            Tool::Native(native) => written.push(native.clone()),
            Tool::Function(function) => {
                let mut declaration = json!({"name": function.name});
                if let Some(description) = function.description {
                    declaration["description"] = description.into();
                }
                // `parameters` takes only a part of JSON schema, this takes all of it.
                if let Some(parameters) = function.parameters {
                    declaration["parametersJsonSchema"] = parameters.clone();
                }
                functions.push(declaration);
            }
        }
    }
    if !functions.is_empty() {
        written.insert(0, json!({"functionDeclarations": functions}));
    }
    Ok(written)
}

fn tool_config(params: &Map<String, Value>) -> Result<Option<Value>, InvalidRequest> {
    let config = match tools::choice(params)? {
        None => return Ok(None),
        Some(Choice::Auto) => json!({"mode": "AUTO"}),
        Some(Choice::Never) => json!({"mode": "NONE"}),
        Some(Choice::Any) => json!({"mode": "ANY"}),
        Some(Choice::This(name)) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    Ok(Some(json!({"functionCallingConfig": config})))
}
