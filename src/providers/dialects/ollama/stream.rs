//! Stream lines (NDJSON) of Ollama's native chat dialect.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::super::streaming::{Fragment, Gathered, StreamPiece, Told};
use super::super::lenient::{Count, Word};
use super::super::shared::finish_reason;
use super::read::{Call, count};

/// Reads the lines of one answer.
#[derive(Debug, Default)]
pub(in super::super::super) struct Stream {
    /// The last line: the frame of the whole answer.
    frame: String,
    /// The calls as they came, with their ids.
    calls: Vec<Value>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(borrow, default)]
    created_at: Word<'a>,
    #[serde(borrow, default)]
    message: Option<Said<'a>>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(borrow, default)]
    done_reason: Word<'a>,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Word<'a>,
    #[serde(borrow, default)]
    thinking: Word<'a>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

impl Stream {
    /// Reads one line.
    pub(in super::super::super) fn read(
        &mut self,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let Ok(line) = serde_json::from_str::<Line<'_>>(data) else { return Told::Nonsense };
        data.clone_into(&mut self.frame);
        gathered.usage = count(line.prompt_eval_count, line.eval_count).or(gathered.usage);
        if gathered.model.is_none() {
            gathered.model = line.model.filled().map(Into::into);
        }
        if let Some(reason) = line.done_reason.filled() {
            gathered.finish_reason = finish_reason(&[], Some(reason.into_owned()));
        }
        if let Some(said) = line.message {
            gathered.is_answer = true;
            if let Some(thinking) = said.thinking.filled() {
                gathered.add_reasoning(thinking, pieces);
            }
            if let Some(text) = said.content.filled() {
                gathered.add_text(text, pieces);
            }
            for call in said.tool_calls.into_iter().flatten() {
                if self.call(call, line.created_at.0.as_deref(), gathered, pieces).is_none() {
                    return Told::TooMuch;
                }
            }
        }
        if line.done == Some(true) { Told::End } else { Told::More }
    }

    /// Takes a call, which always comes whole.
    fn call(
        &mut self,
        mut told: Value,
        created_at: Option<&str>,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Option<()> {
        let place = self.calls.len();
        let call = Call::of(&told, created_at, place);
        if let Some(told) = told.as_object_mut() {
            told.insert("id".to_owned(), call.id.as_str().into());
        }
        // It is kept twice: as a fragment, and as it came.
        gathered.held += told.to_string().len();
        self.calls.push(told);
        let fragment = Fragment {
            place: Some(place as u64),
            id: Some(call.id.into()),
            name: Some(call.name.into()),
            arguments: call.arguments,
            extra: None,
        };
        gathered.add_call(fragment, pieces)
    }

    /// The body that a whole answer would have had.
    pub(in super::super::super) fn finish(&mut self, gathered: &Gathered) -> Value {
        let mut message = json!({"role": "assistant", "content": gathered.text});
        if !gathered.reasoning.is_empty() {
            message["thinking"] = gathered.reasoning.as_str().into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = std::mem::take(&mut self.calls).into();
        }
        let mut body: Map<String, Value> = serde_json::from_str(&self.frame).unwrap_or_default();
        body.insert("message".to_owned(), message);
        body.into()
    }

    /// The last line.
    pub(in super::super::super) fn frame(&self) -> &str {
        &self.frame
    }
}
