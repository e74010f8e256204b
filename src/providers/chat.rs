//! Chat requests and completions, independent of any provider.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kernel::{SAFETY, Usage};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// Content: text, or parts in the OpenAI shape (`{"type": "text", ...}`) that are handed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, in the OpenAI shape.
    Parts(Vec<Value>),
    /// Nothing (an assistant turn that only calls tools).
    Nothing(()),
}

/// One turn of a conversation, in the OpenAI shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The content.
    pub content: Content,
    /// Tool calls of an assistant turn, in the OpenAI shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// For a tool's answer: which call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The speaker's or the tool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One question to one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The conversation; never empty.
    pub messages: Vec<Message>,
    /// Parameters in OpenAI's names (`temperature`, `max_tokens`, `tools`, ...); dialects translate them.
    pub params: Map<String, Value>,
}

impl ChatRequest {
    /// About how many tokens the conversation and the tools in `params` are.
    ///
    /// Four ASCII characters or one other character a token (rules of thumb from providers'
    /// documentation), its [`SAFETY`] more, four a message for its frame.
    pub fn estimated_input_tokens(&self, params: &Map<String, Value>) -> u64 {
        let mut weight = Weight::default();
        for message in &self.messages {
            match &message.content {
                Content::Text(text) => weight.text(text),
                Content::Parts(parts) => parts.iter().for_each(|part| weight.json(part)),
                Content::Nothing(()) => {}
            }
            message.tool_calls.iter().for_each(|call| weight.json(call));
        }
        ["tools", "response_format"]
            .iter()
            .filter_map(|name| params.get(*name))
            .for_each(|v| weight.json(v));
        weight.tokens() + 4 * self.messages.len() as u64 + 3
    }

    /// About how many tokens a text is, by the same rule and without a frame.
    pub fn estimated_tokens(text: &str) -> u64 {
        let mut weight = Weight::default();
        weight.text(text);
        weight.tokens()
    }

    /// The longest answer in tokens that `params` allow, if they say so, in OpenAI's words (the newer name holds) or in
    /// Ollama's.
    ///
    /// ```
    /// use quotaflow::providers::ChatRequest;
    /// let most = |params: serde_json::Value| {
    ///     ChatRequest::max_output_tokens(params.as_object().unwrap())
    /// };
    /// assert_eq!(most(serde_json::json!({"max_tokens": 5, "options": {"num_predict": 9}})), Some(5));
    /// assert_eq!(most(serde_json::json!({"max_tokens": 9, "max_completion_tokens": 5})), Some(5));
    /// assert_eq!(most(serde_json::json!({"options": {"num_predict": 9}})), Some(9));
    /// // As long as it likes.
    /// assert_eq!(most(serde_json::json!({"options": {"num_predict": -1}})), None);
    /// ```
    pub fn max_output_tokens(params: &Map<String, Value>) -> Option<u64> {
        let cap = |name: &&str| params.get(*name)?.as_u64();
        let ollamas = || params.get("options")?.get("num_predict")?.as_u64();
        ["max_completion_tokens", "max_tokens"].iter().find_map(cap).or_else(ollamas)
    }
}

#[derive(Default)]
struct Weight {
    ascii: u64,
    other: u64,
}

impl Weight {
    fn text(&mut self, text: &str) {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        self.ascii += ascii as u64;
        if ascii < text.len() {
            self.other += text.chars().filter(|character| !character.is_ascii()).count() as u64;
        }
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(values) => values.iter().for_each(|value| self.json(value)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                self.text(name);
                self.json(value);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.ascii += 4,
        }
    }

    fn tokens(&self) -> u64 {
        let plain = self.ascii.div_ceil(4) + self.other;
        plain + plain.div_ceil(SAFETY)
    }
}

/// Why the model stopped, in one vocabulary: `stop`, `length`, `tool_calls`, `content_filter`, or the provider's own word.
pub type FinishReason = String;

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text; empty when the model only calls tools.
    pub text: String,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// Why it stopped.
    pub finish_reason: Option<FinishReason>,
    /// What was used; `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// Tool calls in the OpenAI shape.
    pub tool_calls: Vec<Value>,
    /// The body as it came.
    pub raw: Bytes,
    /// The provider's id of the request.
    pub request_id: Option<String>,
}
