//! The stream state of one answer, in whichever dialect it comes.

use serde_json::Value;

use crate::kernel::Usage;

use super::super::catalogue::Dialect;
use super::super::streaming::{Gathered, StreamPiece, Told};
use super::{anthropic, gemini, ollama, openai, responses};

/// Reads the events of one answer.
#[derive(Debug)]
pub(in super::super) enum Stream {
    OpenAi(openai::Stream),
    Anthropic(anthropic::Stream),
    Gemini(gemini::Stream),
    Responses(responses::Stream),
    Ollama(ollama::Stream),
}

impl Stream {
    pub(in super::super) fn of(dialect: Dialect) -> Stream {
        match dialect {
            Dialect::OpenAi => Stream::OpenAi(openai::Stream::default()),
            Dialect::Anthropic => Stream::Anthropic(anthropic::Stream::default()),
            Dialect::Gemini => Stream::Gemini(gemini::Stream::default()),
            Dialect::Responses => Stream::Responses(responses::Stream::default()),
            Dialect::Ollama => Stream::Ollama(ollama::Stream::default()),
        }
    }

    /// Reads the data of one event that is no refusal.
    pub(in super::super) fn read(
        &mut self,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        match self {
            Stream::OpenAi(stream) => stream.read(data, gathered, pieces),
            Stream::Anthropic(stream) => stream.read(data, gathered, pieces),
            Stream::Gemini(stream) => stream.read(data, gathered, pieces),
            Stream::Responses(stream) => stream.read(data, gathered, pieces),
            Stream::Ollama(stream) => stream.read(data, gathered, pieces),
        }
    }

    /// Whether a stream is a row of JSON documents, one beside the other, each of them an event.
    pub(in super::super) fn is_of_documents(&self) -> bool {
        matches!(self, Stream::Ollama(_))
    }

    /// Whether a body may end here although no event said that it was the last: only Gemini has none that does.
    pub(in super::super) fn may_end(&self, gathered: &Gathered) -> bool {
        matches!(self, Stream::Gemini(_)) && gathered.finish_reason.is_some()
    }

    /// The usage so far.
    pub(in super::super) fn usage(&self, gathered: &Gathered) -> Option<Usage> {
        let mut usage = gathered.usage?;
        if let Stream::Anthropic(stream) = self
            && !stream.has_told_output()
        {
            // What it tells at the start is of the input; four bytes are about a token.
            let read = gathered.output_bytes.div_ceil(4) as u64;
            usage.output_tokens = usage.output_tokens.max(read);
        }
        Some(usage)
    }

    /// Reads what only the end shows, and gives the body that an answer in one piece would have had.
    ///
    /// `None` when the stream was no answer.
    pub(in super::super) fn finish(&mut self, gathered: &mut Gathered) -> Option<Value> {
        if !gathered.is_answer {
            return None;
        }
        match self {
            Stream::OpenAi(stream) => Some(stream.finish(gathered)),
            Stream::Anthropic(stream) => Some(stream.finish()),
            Stream::Gemini(stream) => stream.finish(gathered),
            Stream::Responses(stream) => Some(stream.finish(gathered)),
            Stream::Ollama(stream) => Some(stream.finish(gathered)),
        }
    }

    /// An event that shows what kind of stream this was, for the text of an error.
    pub(in super::super) fn frame(&self) -> &str {
        match self {
            Stream::OpenAi(stream) => stream.frame(),
            Stream::Anthropic(stream) => stream.frame(),
            Stream::Gemini(stream) => stream.frame(),
            Stream::Responses(stream) => stream.frame(),
            Stream::Ollama(stream) => stream.frame(),
        }
    }
}
