//! Stream chunks of OpenAI's chat dialect.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::super::super::streaming::{Fragment, Gathered, StreamPiece, Told};
use super::super::lenient::{Text, Word};
use super::super::shared::finish_reason;
use super::read::{FINISH_REASONS, Usage, count};

/// What comes after the last chunk.
const END: &str = "[DONE]";

/// Reads the chunks of one answer.
#[derive(Debug, Default)]
pub(in super::super::super) struct Stream {
    /// The first chunk, or the last one with usage: the frame of the whole answer.
    frame: String,
    /// What the model said to decline, in the place for that.
    refusal: String,
    /// Whether there is a text beside that.
    has_text: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Word<'a>,
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    /// Groq's own place for the usage.
    #[serde(default)]
    x_groq: Option<Groq>,
}

#[derive(Deserialize)]
struct Groq {
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Word<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default)]
    refusal: Word<'a>,
    #[serde(borrow, default)]
    reasoning_content: Word<'a>,
    #[serde(borrow, default)]
    reasoning: Word<'a>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    id: Word<'a>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    #[serde(default)]
    extra_content: Option<Value>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Word<'a>,
    /// JSON in a text; some servers write the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

impl Stream {
    /// Reads the data of one event.
    pub(in super::super::super) fn read(
        &mut self,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        if data.trim_ascii() == END {
            return Told::End;
        }
        let chunk = match serde_json::from_str::<Chunk<'_>>(data) {
            Ok(chunk) => chunk,
            Err(_) => {
                // Counts of an unknown shape must not cost the caller the answer.
                let Some(without) = without_usage(data) else { return Told::Nonsense };
                let Ok(chunk) = serde_json::from_str(&without) else { return Told::Nonsense };
                return self.take(chunk, "", gathered, pieces);
            }
        };
        self.take(chunk, data, gathered, pieces)
    }

    fn take(
        &mut self,
        chunk: Chunk<'_>,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let usage = chunk.usage.and_then(count);
        let usage = usage.or_else(|| chunk.x_groq.and_then(|groq| count(groq.usage?)));
        if usage.is_some() || self.frame.is_empty() {
            self.frame.clear();
            self.frame.push_str(data);
        }
        gathered.usage = usage.or(gathered.usage);
        for (known, told) in [(&mut gathered.id, chunk.id), (&mut gathered.model, chunk.model)] {
            if known.is_none() {
                *known = told.filled().map(Into::into);
            }
        }
        let mut choices = chunk.choices.into_iter().flatten();
        let Some(choice) = choices.find(|choice| choice.index.unwrap_or(0) == 0) else {
            return Told::More;
        };
        gathered.is_answer = true;
        if let Some(reason) = choice.finish_reason.filled() {
            gathered.finish_reason = finish_reason(&FINISH_REASONS, Some(reason.into_owned()));
        }
        match choice.delta {
            Some(delta) => self.said(delta, gathered, pieces),
            None => Told::More,
        }
    }

    fn said(
        &mut self,
        delta: Delta<'_>,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let thinking = delta.reasoning_content.filled().or_else(|| delta.reasoning.filled());
        if let Some(thinking) = thinking.or_else(|| delta.content.thinking.map(Into::into)) {
            gathered.add_reasoning(thinking, pieces);
        }
        if let Some(text) = delta.content.text.filled() {
            self.has_text = true;
            gathered.add_text(text, pieces);
        }
        if let Some(refusal) = delta.refusal.filled() {
            // As in a whole answer: it is the text when there is no other.
            self.refusal.push_str(&refusal);
            match self.has_text {
                false => gathered.add_text(refusal, pieces),
                true => gathered.held += refusal.len(),
            }
        }
        for call in delta.tool_calls.into_iter().flatten() {
            let (name, arguments) = match call.function {
                Some(function) => (function.name.0, function.arguments),
                None => (None, None),
            };
            let arguments = match arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(object) => object.to_string(),
            };
            let (place, id, extra) = (call.index, call.id.0, call.extra_content);
            let fragment = Fragment { place, id, name, arguments, extra };
            if gathered.add_call(fragment, pieces).is_none() {
                return Told::TooMuch;
            }
        }
        Told::More
    }

    /// Reads what only the end shows; the body that a whole answer would have had.
    pub(in super::super::super) fn finish(&mut self, gathered: &mut Gathered) -> Value {
        let mut message = json!({"role": "assistant", "content": gathered.text});
        if !self.refusal.is_empty() {
            gathered.finish_reason = Some("content_filter".to_owned());
            message["refusal"] = self.refusal.as_str().into();
            if !self.has_text {
                message["content"] = Value::Null;
            }
        }
        if !gathered.reasoning.is_empty() {
            message["reasoning_content"] = gathered.reasoning.as_str().into();
        }
        if !gathered.calls.is_empty() {
            message["tool_calls"] = gathered.tool_calls().into();
        }
        let reason = &gathered.finish_reason;
        let choice = json!({"index": 0, "message": message, "finish_reason": reason});
        let mut body = serde_json::from_str(&self.frame).unwrap_or_else(|_| json!({}));
        body["object"] = "chat.completion".into();
        if body.get("usage").is_none_or(Value::is_null)
            && let Some(usage) = body.pointer("/x_groq/usage").cloned()
        {
            body["usage"] = usage;
        }
        body["choices"] = json!([choice]);
        body
    }

    /// The first chunk, or the last one with usage.
    pub(in super::super::super) fn frame(&self) -> &str {
        &self.frame
    }
}

fn without_usage(data: &str) -> Option<String> {
    let mut value: Value = serde_json::from_str(data).ok()?;
    let chunk = value.as_object_mut()?;
    let strange = [chunk.remove("usage"), chunk.remove("x_groq")];
    strange.iter().any(Option::is_some).then(|| value.to_string())
}

/// The content of a delta: a text, or a list of parts, some of which are thoughts (Mistral).
#[derive(Debug, Default)]
struct Content<'a> {
    text: Word<'a>,
    thinking: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    r#type: Text,
    text: Text,
    thinking: Text,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content { text: Word(Some(text.into())), thinking: None })
            }
            fn visit_str<E>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content { text: Word(Some(text.to_owned().into())), thinking: None })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let (mut text, mut thinking) = (String::new(), String::new());
                while let Some(part) = seq.next_element::<Part>()? {
                    if part.r#type.0.as_deref().is_none_or(|name| name == "text") {
                        text.push_str(part.text.0.as_deref().unwrap_or(""));
                    }
                    thinking.push_str(part.thinking.0.as_deref().unwrap_or(""));
                }
                let thinking = Some(thinking).filter(|thinking| !thinking.is_empty());
                Ok(Content { text: Word(Some(text.into())), thinking })
            }
            fn visit_unit<E>(self) -> Result<Content<'de>, E> {
                Ok(Content::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Content<'de>, E> {
                Ok(Content::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
