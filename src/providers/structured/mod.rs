//! Structured output: how each provider is asked for a JSON shape.
//!
//! A call says what it wants in `response_format`: OpenAI's `json_schema` and `json_object`, which go out as they are
//! where they are understood, or quotaflow's own `answer_schema` (`{"type", "name", "schema"}`), which leaves the way to
//! the provider. This is decided for each target of a route, since a fallback may support other ways.
//!
//! The column `structured` of the provider table and the table of models that differ say what a target takes: a schema,
//! only a mode for JSON, or nothing. OpenAI's `strict` and Anthropic's formats take closed schemas, which
//! `closed_schemas.rs` makes. What no parameter can express is added at the end of the last question.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::catalogue::{Dialect, Rules, Structured};
use super::chat::{ChatRequest, Content, Message, Role};
use super::closed_schemas::{Closing, closed};
use super::provider::Provider;

/// Families of models that are behind, or ahead of, what their provider does now: provider, how the model's name
/// begins, what holds for it. Before the provider's entry; the first row that fits.
const OF_MODELS: [(&str, &str, Structured); 19] = [
    ("openai", "gpt-3.5", Structured::JsonObject),
    ("openai", "gpt-4-", Structured::JsonObject),
    ("openai", "gpt-4o-2024-05-13", Structured::JsonObject),
    ("openai", "o1-mini", Structured::Prompt),
    ("openai", "o1-preview", Structured::Prompt),
    ("anthropic", "claude-2", Structured::Prompt),
    ("anthropic", "claude-3", Structured::Prompt),
    ("anthropic", "claude-instant", Structured::Prompt),
    ("anthropic", "claude-opus-4-0", Structured::Prompt),
    ("anthropic", "claude-opus-4-2025", Structured::Prompt),
    ("anthropic", "claude-sonnet-4-0", Structured::Prompt),
    ("anthropic", "claude-sonnet-4-2025", Structured::Prompt),
    ("gemini", "gemma", Structured::Prompt),
    ("gemini", "gemini-1", Structured::JsonObject),
    ("groq", "openai/gpt-oss", Structured::Schema(Rules::OpenAi)),
    ("groq", "moonshotai/kimi-k2", Structured::Schema(Rules::Any)),
    ("groq", "meta-llama/llama-4", Structured::Schema(Rules::Any)),
    ("openrouter", "openai/", Structured::Schema(Rules::OpenAi)),
    ("openrouter", "google/gemini", Structured::Schema(Rules::Any)),
];

/// Who refuses a format beside tools.
const NOT_BESIDE_TOOLS: [&str; 3] = ["gemini", "groq", "cerebras"];

const SAY_SCHEMA: &str = "Answer with JSON only: one value that fits the JSON schema below. \
                          Write no other words and no code fence.\n\n";
const SAY_OBJECT: &str =
    "Answer with JSON only: one object. Write no other words and no code fence.";

/// What a call wants of its answer.
enum Wanted<'a> {
    /// Our own words.
    Answer { name: &'a str, schema: &'a Value },
    /// A schema in OpenAI's words.
    Schema(&'a Value),
    /// OpenAI's `json_object`.
    Object,
}

/// The request in words that the provider understands; the same one when nothing has to be said otherwise.
pub(super) fn understood<'a>(
    provider: &Provider,
    request: &'a ChatRequest,
    model: &str,
) -> Cow<'a, ChatRequest> {
    let Some(format) = request.params.get("response_format") else {
        return Cow::Borrowed(request);
    };
    let Some(wanted) = wanted(format) else { return Cow::Borrowed(request) };
    let has_tools =
        request.params.get("tools").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let (format, words) = match (wanted, of_model(provider, model)) {
        (Wanted::Answer { name, schema }, structured) => {
            let beside = has_tools && NOT_BESIDE_TOOLS.contains(&provider.entry.name);
            let structured = if beside { Structured::Prompt } else { structured };
            asked(name, schema, structured)
        }
        // The dialect has no such mode.
        (Wanted::Object, _) if provider.dialect == Dialect::Anthropic => {
            (None, Some(SAY_OBJECT.to_owned()))
        }
        (Wanted::Schema(schema), Structured::JsonObject) => {
            (json_object(schema), Some(say(schema)))
        }
        (Wanted::Schema(schema), Structured::Prompt) => (None, Some(say(schema))),
        (Wanted::Object, Structured::Prompt) => (None, Some(SAY_OBJECT.to_owned())),
        (Wanted::Schema(_) | Wanted::Object, _) => return Cow::Borrowed(request),
    };
    let mut request = request.clone();
    // A field of null is not written.
    request.params.insert("response_format".to_owned(), format.unwrap_or(Value::Null));
    if let Some(words) = words {
        add_to_question(&mut request.messages, &words);
    }
    Cow::Owned(request)
}

fn wanted(format: &Value) -> Option<Wanted<'_>> {
    match format.get("type")?.as_str()? {
        "answer_schema" => Some(Wanted::Answer {
            name: format.get("name").and_then(Value::as_str).unwrap_or("answer"),
            schema: format.get("schema")?,
        }),
        "json_schema" => format.pointer("/json_schema/schema").map(Wanted::Schema),
        "json_object" => Some(Wanted::Object),
        _ => None,
    }
}

fn of_model(provider: &Provider, model: &str) -> Structured {
    let own = |(name, start, _): &&(&str, &str, Structured)| {
        *name == provider.entry.name
            && (model.starts_with(start) || *start == "gpt-4-" && model == "gpt-4")
    };
    let model = OF_MODELS.iter().find(own).map(|(.., structured)| *structured);
    model.unwrap_or(provider.entry.structured)
}

/// The format in OpenAI's words, and what the prompt says.
fn asked(name: &str, schema: &Value, structured: Structured) -> (Option<Value>, Option<String>) {
    let written = |schema: Value, strict: Option<bool>| {
        let mut named = json!({"name": name, "schema": schema});
        if let Some(strict) = strict {
            named["strict"] = strict.into();
        }
        Some(json!({"type": "json_schema", "json_schema": named}))
    };
    match structured {
        Structured::Schema(Rules::Any) => (written(schema.clone(), None), None),
        Structured::Schema(Rules::Unseen) => (written(schema.clone(), None), Some(say(schema))),
        Structured::Schema(Rules::OpenAi) if is_object(schema) => {
            match closed(schema, Closing::OpenAi) {
                Some(schema) => (written(schema, Some(true)), None),
                None => (written(schema.clone(), Some(false)), Some(say(schema))),
            }
        }
        Structured::Schema(Rules::Anthropic) if is_object(schema) => {
            match closed(schema, Closing::Anthropic) {
                Some(schema) => (written(schema, None), None),
                None => (None, Some(say(schema))),
            }
        }
        Structured::JsonObject => (json_object(schema), Some(say(schema))),
        Structured::Schema(_) | Structured::Prompt | Structured::Unknown => {
            (None, Some(say(schema)))
        }
    }
}

/// A mode for objects would make an object of what is to be a list.
fn json_object(schema: &Value) -> Option<Value> {
    is_object(schema).then(|| json!({"type": "json_object"}))
}

fn is_object(schema: &Value) -> bool {
    let is = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("object");
    let meant = schema.get("$ref").and_then(Value::as_str);
    let meant = meant.and_then(|place| schema.pointer(place.strip_prefix('#')?));
    meant.map_or_else(|| is(schema), is)
}

fn say(schema: &Value) -> String {
    format!("{SAY_SCHEMA}{schema}")
}

/// Instructions stand at the end of the question: every model takes a question, not every one takes instructions, and
/// what comes before stays in the provider's cache.
fn add_to_question(messages: &mut Vec<Message>, words: &str) {
    let Some(question) = messages.iter_mut().rfind(|message| message.role == Role::User) else {
        messages.push(Message {
            role: Role::User,
            content: Content::Text(words.to_owned()),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        });
        return;
    };
    match &mut question.content {
        Content::Text(text) => {
            text.push_str("\n\n");
            text.push_str(words);
        }
        Content::Parts(parts) => parts.push(json!({"type": "text", "text": words})),
        Content::Nothing(()) => question.content = Content::Text(words.to_owned()),
    }
}

#[cfg(test)]
mod tests;
