//! The accumulator: an answer put together from the pieces of a stream.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::kernel::Usage;

use super::super::chat::FinishReason;

/// More calls of tools than any model makes at once.
const MOST_CALLS: usize = 1024;

/// Something a stream said, as it came.
///
/// All pieces of one kind put together are what [`Completion`](super::super::chat::Completion) has in the end.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamPiece {
    /// Some of the text; never empty.
    Text(String),
    /// Some of what the model thinks before it speaks; never empty.
    Reasoning(String),
    /// Some of a call of a tool. Fragments of several calls may take turns.
    ToolCall {
        /// Which call, counted from 0.
        index: usize,
        /// The id of the call, with the first fragment that has it and never again.
        id: Option<String>,
        /// The name of the tool, with the first fragment that has it and never again.
        name: Option<String>,
        /// The next part of its arguments, which are JSON in the end; may be empty.
        arguments: String,
    },
}

/// The meaning of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Told {
    /// There is more to come.
    More,
    /// It was the last.
    End,
    /// Nothing that can be read.
    Nonsense,
    /// More than an answer can hold.
    TooMuch,
}

/// An answer while it comes, in no provider's words.
#[derive(Debug, Default)]
pub(in super::super) struct Gathered {
    pub(in super::super) text: String,
    pub(in super::super) reasoning: String,
    pub(in super::super) calls: Vec<GatheredCall>,
    pub(in super::super) model: Option<String>,
    pub(in super::super) id: Option<String>,
    pub(in super::super) finish_reason: Option<FinishReason>,
    pub(in super::super) usage: Option<Usage>,
    /// Whether anything came that belongs to an answer.
    pub(in super::super) is_answer: bool,
    /// How many bytes the model produced, in whichever place.
    pub(in super::super) output_bytes: usize,
    /// How many bytes are kept besides.
    pub(in super::super) held: usize,
}

/// One call of a tool while it comes.
#[derive(Debug, Default)]
pub(in super::super) struct GatheredCall {
    /// The place that the provider gives it.
    place: Option<u64>,
    id: String,
    name: String,
    pub(in super::super) arguments: String,
    /// What stands beside it and has to go back with it.
    pub(in super::super) extra: Option<Value>,
}

/// A fragment of a call.
#[derive(Debug, Default)]
pub(in super::super) struct Fragment<'a> {
    pub(in super::super) place: Option<u64>,
    pub(in super::super) id: Option<Cow<'a, str>>,
    pub(in super::super) name: Option<Cow<'a, str>>,
    pub(in super::super) arguments: String,
    pub(in super::super) extra: Option<Value>,
}

impl Gathered {
    /// Adds text.
    pub(in super::super) fn add_text(&mut self, text: Cow<'_, str>, pieces: &mut Vec<StreamPiece>) {
        self.text.push_str(&text);
        self.output_bytes += text.len();
        pieces.push(StreamPiece::Text(text.into_owned()));
    }

    /// Adds reasoning.
    pub(in super::super) fn add_reasoning(
        &mut self,
        text: Cow<'_, str>,
        pieces: &mut Vec<StreamPiece>,
    ) {
        self.reasoning.push_str(&text);
        self.output_bytes += text.len();
        pieces.push(StreamPiece::Reasoning(text.into_owned()));
    }

    /// Adds a fragment of a call to the call it belongs to; `None` when there are more calls than can be.
    ///
    /// A repeated id or name is not added again.
    pub(in super::super) fn add_call(
        &mut self,
        fragment: Fragment<'_>,
        pieces: &mut Vec<StreamPiece>,
    ) -> Option<()> {
        let Fragment { place, id, name, arguments, extra } = fragment;
        let id = id.filter(|id| !id.is_empty());
        let name = name.filter(|name| !name.is_empty());
        let index = match self.call_of(place, id.as_deref(), name.is_some()) {
            Some(index) => index,
            None if self.calls.len() == MOST_CALLS => return None,
            None => {
                self.calls.push(GatheredCall { place, ..GatheredCall::default() });
                self.calls.len() - 1
            }
        };
        let call = self.calls.get_mut(index)?;
        let new = |known: &mut String, told: Option<Cow<'_, str>>| {
            let told = told.filter(|_| known.is_empty())?;
            known.push_str(&told);
            Some(told.into_owned())
        };
        let id = new(&mut call.id, id);
        let name = new(&mut call.name, name);
        let words = [&id, &name].into_iter().flatten().map(String::len).sum::<usize>();
        self.held += words + extra.as_ref().map_or(0, |extra| extra.to_string().len());
        call.arguments.push_str(&arguments);
        call.extra = extra.or(call.extra.take());
        self.output_bytes += arguments.len();
        if id.is_some() || name.is_some() || !arguments.is_empty() {
            pieces.push(StreamPiece::ToolCall { index, id, name, arguments });
        }
        Some(())
    }

    /// Which call a fragment goes on with; some servers give every call the same place, or none, and some every
    /// fragment an id of its own (vLLM): another call has a name.
    fn call_of(&self, place: Option<u64>, id: Option<&str>, is_named: bool) -> Option<usize> {
        let last = |test: &dyn Fn(&GatheredCall) -> bool| self.calls.iter().rposition(test);
        match (place, id) {
            (Some(place), id) => {
                let index = last(&|call| call.place == Some(place))?;
                let known = &self.calls[index].id;
                let other = is_named && id.is_some_and(|id| !known.is_empty() && known != id);
                (!other).then_some(index)
            }
            (None, Some(id)) => last(&|call| call.id == id),
            (None, None) if is_named => None,
            (None, None) => self.calls.len().checked_sub(1),
        }
    }

    /// The calls in the OpenAI shape.
    pub(in super::super) fn tool_calls(&self) -> Vec<Value> {
        let written = |call: &GatheredCall| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            let mut written = json!({"type": "function", "function": function});
            if !call.id.is_empty() {
                written["id"] = call.id.as_str().into();
            }
            if let Some(extra) = &call.extra {
                written["extra_content"] = extra.clone();
            }
            written
        };
        self.calls.iter().map(written).collect()
    }
}
