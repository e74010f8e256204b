//! The reader of one streamed answer: what has arrived, and what it has used.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::engine::dispatch::types::HeldReservation;
use crate::engine::world::transport::{Chunks, Incoming, Opened};
use crate::kernel::{Failure, Moment};
use crate::providers::{
    Completion, Headers, StreamPiece, StreamReader, TransportFault, WireResponse,
};

/// No answer is larger than this on the wire, where each word has a frame of some hundred bytes.
const LARGEST_STREAM: usize = 256 * 1024 * 1024;
/// The body of a refusal is short.
const LARGEST_REFUSAL: usize = 1024 * 1024;
/// A connection is only used again when its answer was read to the end, which follows within this time or never.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An answer on its way.
pub(in crate::engine) struct Reading {
    pub(in crate::engine) held: HeldReservation,
    pub(in crate::engine) body: Box<dyn Chunks>,
    pub(in crate::engine) reader: StreamReader,
    pub(in crate::engine) status: u16,
    headers: Headers,
    /// The longest wait for a piece, whatever else keeps the connection alive.
    pub(in crate::engine) patience: Duration,
    /// Whether it has produced a piece.
    pub(in crate::engine) spoke: bool,
    /// How many bytes of text were handed out of it, and whether any of a tool call was.
    text: usize,
    calls: bool,
    taken: usize,
}

impl Reading {
    pub(in crate::engine) fn new(
        held: HeldReservation,
        body: Box<dyn Chunks>,
        reader: StreamReader,
        status: u16,
        headers: Headers,
        patience: Duration,
    ) -> Self {
        let (spoke, text, calls, taken) = (false, 0, false, 0);
        let mut reading =
            Reading { held, body, reader, status, headers, patience, spoke, text, calls, taken };
        reading.count();
        reading
    }

    /// Records what is handed out, and adds what the whole answer has beyond it: the text of a server that does not
    /// stream, or of a last event that was read when the body was over.
    pub(in crate::engine) fn complete(
        &mut self,
        pieces: &mut Vec<StreamPiece>,
        answer: Option<&Completion>,
    ) {
        for piece in pieces.iter() {
            match piece {
                StreamPiece::Text(text) => self.text += text.len(),
                StreamPiece::ToolCall { .. } => self.calls = true,
                StreamPiece::Reasoning(_) => {}
            }
        }
        if let Some(answer) = answer {
            let rest = answer.text.get(self.text..).filter(|rest| !rest.is_empty());
            pieces.extend(rest.map(|rest| StreamPiece::Text(rest.to_owned())));
            if !self.calls {
                pieces.extend(answer.tool_calls.iter().enumerate().map(whole_call));
            }
        }
        self.spoke |= !pieces.is_empty();
    }

    /// The answer, once it is whole; until then what arrived of it becomes `pieces`.
    pub(in crate::engine) fn read(
        &mut self,
        chunk: Option<&[u8]>,
        now: Moment,
        pieces: &mut Vec<StreamPiece>,
    ) -> Result<Option<Completion>, Failure> {
        let nothing = Bytes::new();
        let context = WireResponse {
            status: self.status,
            headers: &self.headers,
            body: &nothing,
            now,
            estimate: self.held.reservation.amounts,
            model: &self.held.target.model,
        };
        let Some(chunk) = chunk else {
            let whole = self.reader.finish(&context).map(Some);
            pieces.extend(self.reader.take_rest());
            return whole;
        };
        self.taken += chunk.len();
        if self.taken > LARGEST_STREAM {
            let largest = LARGEST_STREAM / (1024 * 1024);
            return Err(TransportFault::BodyTooLarge.failure(&format!("more than {largest} MiB")));
        }
        self.reader.feed(chunk, &context, pieces)?;
        if self.reader.is_done() { self.reader.finish(&context).map(Some) } else { Ok(None) }
    }

    /// Records the usage so far: what the provider reported, or else what was reserved for the prompt and a token for
    /// each four bytes of answer.
    pub(in crate::engine) fn count(&mut self) {
        let mut used = self.reader.usage_so_far().unwrap_or_default();
        if used.input_tokens == 0 {
            used.input_tokens = self.held.reservation.amounts.input_tokens;
        }
        let produced = (self.reader.output_bytes_so_far() as u64).div_ceil(4);
        used.output_tokens = used.output_tokens.max(produced);
        self.held.used_so_far(used);
    }
}

/// The failure of a stream that was alive but had no piece in time.
pub(in crate::engine) fn nothing_said(patience: Duration) -> Failure {
    let words = format!("no piece of the answer for {} s", patience.as_secs_f64());
    TransportFault::AnswerTimeout.failure(&words)
}

/// A tool call in the OpenAI shape as one piece.
pub(in crate::engine) fn whole_call((index, call): (usize, &Value)) -> StreamPiece {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let function = call.get("function");
    let arguments = text(function.and_then(|function| function.get("arguments")));
    StreamPiece::ToolCall {
        index,
        id: text(call.get("id")),
        name: text(function.and_then(|function| function.get("name"))),
        arguments: arguments.unwrap_or_default(),
    }
}

/// The whole body of a refusal.
pub(in crate::engine) async fn gathered(opened: Opened) -> Result<Incoming, Failure> {
    let Opened { status, headers, mut body } = opened;
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await? {
        whole.extend_from_slice(&chunk);
        if whole.len() > LARGEST_REFUSAL {
            break;
        }
    }
    Ok(Incoming { status, headers, body: whole.freeze() })
}

/// Reads what follows the last piece, mostly nothing, so that the connection can be used again.
pub(in crate::engine) fn finish_reading(mut body: Box<dyn Chunks>) {
    let mut context = Context::from_waker(Waker::noop());
    let at_once = body.next().as_mut().poll(&mut context);
    if !matches!(at_once, Poll::Ready(Ok(None) | Err(_))) {
        tokio::spawn(async move {
            let rest = async { while let Ok(Some(_)) = body.next().await {} };
            // A server that does not end its answer loses the connection.
            let _ = tokio::time::timeout(LAST_WORDS, rest).await;
        });
    }
}
