//! Reading of streamed answers, from bytes to pieces.
//!
//! [`Provider::encode_stream`] asks for a stream; [`Provider::read_stream`] gives a [`StreamReader`] for its body. Bytes
//! go in as they come, pieces come out, and nothing is parsed twice.
//!
//! 1. [`Frames`] finds the events by the rules for server-sent events. It is lenient with servers: a field `error:`, a
//!    line of bare JSON, no blank line at the end. A body that begins with `{` or `[` goes to [`Plain`]: an answer in one
//!    piece, Gemini's list, or the lines of Ollama. Documents end where their braces do, not where lines end, so that an
//!    answer over many lines is one event.
//! 2. `event::read` asks the refusal tables first, then the `Stream` of the dialect, which reads one event into a typed
//!    struct whose texts are borrowed. Finish words and usage are read as in an answer in one piece.
//! 3. [`Gathered`] accumulates the answer. Fragments of tool calls belong together by their place, or by their id where
//!    servers give every call the same place. The Responses API sends everything up to three times (deltas, finished
//!    items, the last event): only what is new is added.
//! 4. The dialect defines the end: `[DONE]`, `message_stop`, `response.completed`, Ollama's `"done": true`; for Gemini a
//!    body that ends after a finish reason. Any other end is a `Network` failure and never an answer.
//!    [`StreamReader::finish`] gives a [`Completion`] whose `raw` is the body of an answer in one piece.
//!
//! Memory is bounded: 8 MiB an event, 32 MiB an answer, 1024 tool calls. More is a failure without a retry here.

mod accumulator;
mod event;
mod frames;
mod json_document;
mod request;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::kernel::{Failure, FailureClass, Scope, Usage};

use super::chat::Completion;
use super::dialects;
use super::provider::Provider;
use super::transport_fault::TransportFault;
use super::wire::WireResponse;
use event::{LARGEST_ANSWER, judged, too_large};
use frames::{Frames, LARGEST_EVENT};
use json_document::Plain;

pub use accumulator::StreamPiece;
pub(super) use accumulator::{Fragment, Gathered, Told};

#[derive(Debug)]
enum Framing {
    Events,
    /// JSON: the events of Ollama, or an answer in one piece although events were asked for.
    Json(Plain),
}

/// Reads the body of one stream, as its bytes come.
///
/// ```
/// use bytes::Bytes;
/// use quotaflow::kernel::{Amounts, Moment};
/// use quotaflow::providers::{Headers, Provider, StreamPiece, WireResponse};
///
/// let openai = Provider::find("openai").unwrap();
/// let (headers, body) = (Headers::default(), Bytes::new());
/// let context = WireResponse {
///     status: 200, headers: &headers, body: &body, now: Moment::EPOCH,
///     estimate: Amounts::default(), model: "gpt-x",
/// };
/// let mut reader = openai.read_stream();
/// let mut pieces = Vec::new();
/// reader.feed(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel", &context, &mut pieces).unwrap();
/// assert!(pieces.is_empty());
/// reader.feed(b"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", &context, &mut pieces).unwrap();
/// assert_eq!(pieces, [StreamPiece::Text("Hello".to_owned())]);
/// assert!(reader.is_done());
/// assert_eq!(reader.finish(&context).unwrap().text, "Hello");
/// ```
#[derive(Debug)]
pub struct StreamReader {
    provider: Provider,
    frames: Frames,
    framing: Framing,
    stream: dialects::Stream,
    gathered: Gathered,
    is_done: bool,
    /// A whole answer that came in one body.
    whole: Option<Completion>,
    failed: Option<Failure>,
    /// What only the end of the body completed.
    rest: Vec<StreamPiece>,
}

impl Provider {
    /// Reads the body of a 2xx answer to a request of [`Provider::encode_stream`].
    pub fn read_stream(&self) -> StreamReader {
        StreamReader {
            provider: self.clone(),
            frames: Frames::default(),
            framing: Framing::Events,
            stream: dialects::Stream::of(self.dialect),
            gathered: Gathered::default(),
            is_done: false,
            whole: None,
            failed: None,
            rest: Vec::new(),
        }
    }
}

impl StreamReader {
    /// Takes the next bytes, split anywhere, and appends what became complete with them to `pieces`.
    ///
    /// `context` gives status, headers, now, estimate and model; its body is not looked at. Bytes after the end are
    /// ignored, and so are those after a failure, which is returned again.
    ///
    /// # Errors
    /// A refusal inside the stream ([`Provider::refusal_in_event`]), an event that cannot be read or is larger than
    /// 8 MiB, an answer of more than 32 MiB. Pieces before it are appended.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        context: &WireResponse<'_>,
        pieces: &mut Vec<StreamPiece>,
    ) -> Result<(), Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let read = self.read(bytes, context, pieces);
        read.inspect_err(|failure| self.failed = Some(failure.clone()))
    }

    /// Whether the event was read that ends every answer (`[DONE]`, `message_stop`, Ollama's `done`), so that no more
    /// bytes are needed.
    ///
    /// Gemini has none: its answers are over when the body is.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The body is over: the whole answer.
    ///
    /// Its `raw` is what a body in one piece would have been: the event with the usage (Anthropic: the first; Ollama: the
    /// last), with all pieces put into it.
    ///
    /// # Errors
    /// A [`FailureClass::Network`] when the body ended before the answer did; what [`StreamReader::feed`] failed with.
    pub fn finish(&mut self, context: &WireResponse<'_>) -> Result<Completion, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        if let Some(whole) = self.whole.take() {
            return Ok(whole);
        }
        if !self.is_done {
            self.end(context)?;
        }
        let Some(body) = self.stream.finish(&mut self.gathered) else {
            return Err(judged(&self.provider, self.stream.frame().as_bytes(), context));
        };
        let gathered = &mut self.gathered;
        let answer = dialects::Answer {
            tool_calls: gathered.tool_calls(),
            text: std::mem::take(&mut gathered.text),
            model: gathered.model.take(),
            finish_reason: gathered.finish_reason.take(),
            usage: gathered.usage,
            id: gathered.id.take(),
        };
        Ok(dialects::completion(answer, Bytes::from(body.to_string()), context))
    }

    /// Pieces that only the end of the body completed, after [`StreamReader::finish`]: servers forget the blank line
    /// after the last event. Nearly always none.
    pub fn take_rest(&mut self) -> Vec<StreamPiece> {
        std::mem::take(&mut self.rest)
    }

    /// The text so far; at most 32 MiB and one event. Empty again after [`StreamReader::finish`].
    pub fn text_so_far(&self) -> &str {
        &self.gathered.text
    }

    /// Whether the model said why it stopped, and meant that it was done: only the event that ends the answer is to
    /// come, and the usage where it comes late.
    pub fn is_said(&self) -> bool {
        self.gathered.finish_reason.is_some()
    }

    /// The usage, if the provider has sent any of it already: Anthropic sends the input first, and the output is then
    /// no less than what was read.
    pub fn usage_so_far(&self) -> Option<Usage> {
        self.stream.usage(&self.gathered)
    }

    /// How many bytes the model has produced: text, reasoning and arguments of tools.
    pub fn output_bytes_so_far(&self) -> usize {
        self.gathered.output_bytes
    }

    fn read(
        &mut self,
        mut bytes: &[u8],
        context: &WireResponse<'_>,
        pieces: &mut Vec<StreamPiece>,
    ) -> Result<(), Failure> {
        while !self.is_done && !bytes.is_empty() {
            match &mut self.framing {
                Framing::Events => match self.frames.take(&mut bytes) {
                    frames::Found::Event => self.event(context, pieces)?,
                    frames::Found::Nothing => {}
                    frames::Found::Json => self.framing = Framing::Json(Plain::default()),
                    frames::Found::TooLarge => {
                        return Err(too_large("one event of a stream", LARGEST_EVENT));
                    }
                },
                Framing::Json(plain) => {
                    let (largest, what) = match self.stream.is_of_documents() {
                        true => (LARGEST_EVENT, "one event of a stream"),
                        false => (LARGEST_ANSWER, "a body in one piece"),
                    };
                    match plain.take(&mut bytes, largest) {
                        json_document::Found::Document => self.document(context, pieces)?,
                        json_document::Found::Nothing => {}
                        json_document::Found::TooLarge => return Err(too_large(what, largest)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the event that the frames hand out.
    fn event(
        &mut self,
        context: &WireResponse<'_>,
        pieces: &mut Vec<StreamPiece>,
    ) -> Result<(), Failure> {
        let StreamReader { provider, frames, stream, gathered, .. } = self;
        let told = event::read(
            provider,
            stream,
            gathered,
            (frames.name(), frames.data()),
            context,
            pieces,
        );
        self.is_done |= told? == Told::End;
        Ok(())
    }

    /// Reads a document: an event where streams are made of documents, else a whole answer that came where events were
    /// asked for, or an element of a list of them.
    fn document(
        &mut self,
        context: &WireResponse<'_>,
        pieces: &mut Vec<StreamPiece>,
    ) -> Result<(), Failure> {
        let StreamReader { provider, framing, stream, gathered, .. } = self;
        let Framing::Json(plain) = framing else { return Ok(()) };
        if plain.is_list() || stream.is_of_documents() {
            let event = ("", plain.document());
            let told = event::read(provider, stream, gathered, event, context, pieces)?;
            self.is_done |= told == Told::End;
            return Ok(());
        }
        let body = Bytes::copy_from_slice(plain.document());
        let whole = provider.decode(&WireResponse { body: &body, ..*context })?;
        if !whole.text.is_empty() {
            gathered.add_text(whole.text.as_str().into(), pieces);
        }
        for (index, call) in whole.tool_calls.iter().enumerate() {
            let text = |path| call.pointer(path).and_then(Value::as_str);
            let fragment = Fragment {
                place: Some(index as u64),
                id: text("/id").map(Into::into),
                name: text("/function/name").map(Into::into),
                arguments: text("/function/arguments").unwrap_or("").to_owned(),
                extra: None,
            };
            gathered
                .add_call(fragment, pieces)
                .ok_or_else(|| TransportFault::BodyTooLarge.failure("a list of calls"))?;
        }
        gathered.usage = whole.usage;
        self.whole = Some(whole);
        self.is_done = true;
        Ok(())
    }

    /// The body ended without the event that ends an answer, or that event was not ended itself.
    fn end(&mut self, context: &WireResponse<'_>) -> Result<(), Failure> {
        if self.frames.end() == frames::Found::Event {
            let mut rest = Vec::new();
            let read = self.event(context, &mut rest);
            // What was cut off cannot be read, and is no other fault than that.
            if read.is_err() && serde_json::from_slice::<IgnoredAny>(self.frames.data()).is_ok() {
                return read;
            }
            self.rest = rest;
        }
        let is_whole = match &self.framing {
            Framing::Events => true,
            Framing::Json(plain) => plain.is_closed(),
        };
        if self.is_done || (is_whole && self.stream.may_end(&self.gathered)) {
            return Ok(());
        }
        if !self.frames.strange().is_empty() && !self.gathered.is_answer {
            return Err(judged(&self.provider, self.frames.strange(), context));
        }
        let header = |name| context.headers.get(name).map(str::to_owned);
        let words = "the stream ended without its terminal event";
        Err(Failure {
            status: Some(context.status),
            request_id: header("x-request-id").or_else(|| header("request-id")),
            ..Failure::new(FailureClass::Network, Scope::Call, words)
        })
    }
}
