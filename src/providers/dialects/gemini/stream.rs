//! Stream chunks of Gemini's streamGenerateContent.

use serde_json::{Map, Value, json};

use super::super::super::streaming::{Fragment, Gathered, StreamPiece, Told};
use super::super::shared::finish_reason;
use super::read::{FINISH_REASONS, Part, Reply, count, is_broken};

/// About what a part takes beside its text.
const PART: usize = 64;

/// Reads the chunks of one answer.
#[derive(Debug, Default)]
pub(in super::super::super) struct Stream {
    /// The last chunk: the frame of the whole answer.
    frame: String,
    /// The parts as they came, where pieces of one text are one part; a signature belongs to its own part, and goes back
    /// with it unchanged.
    parts: Vec<Value>,
    /// Why the model stopped, in Gemini's word.
    finish_reason: Option<String>,
}

impl Stream {
    /// Reads the data of one event.
    pub(in super::super::super) fn read(
        &mut self,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let Ok(chunk) = serde_json::from_str::<Reply>(data) else { return Told::Nonsense };
        data.clone_into(&mut self.frame);
        // Each chunk repeats it; the last one counts.
        gathered.usage = chunk.usage_metadata.and_then(count).or(gathered.usage);
        gathered.id = gathered.id.take().or(chunk.response_id.0);
        gathered.model = gathered.model.take().or(chunk.model_version.0);
        let Some(candidate) = chunk.candidates.into_iter().flatten().next() else {
            return Told::More;
        };
        gathered.is_answer = true;
        for part in candidate.content.and_then(|said| said.parts).into_iter().flatten() {
            if self.part(part, gathered, pieces).is_none() {
                return Told::TooMuch;
            }
        }
        if let Some(reason) = candidate.finish_reason.0 {
            gathered.finish_reason = finish_reason(&FINISH_REASONS, Some(reason.clone()));
            self.finish_reason = Some(reason);
        }
        Told::More
    }

    fn part(
        &mut self,
        part: Part,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Option<()> {
        if let Some(call) = part.function_call {
            let place = gathered.calls.len();
            let id = call.told_id(gathered.id.as_deref(), place);
            let signature = part.thought_signature.0;
            let args = call.args.unwrap_or_else(|| json!({}));
            let name = call.name.0.unwrap_or_default();
            let mut written = json!({"functionCall": {"id": id, "name": name, "args": args}});
            if let Some(signature) = &signature {
                written["thoughtSignature"] = signature.as_str().into();
            }
            self.parts.push(written);
            let fragment = Fragment {
                place: Some(place as u64),
                id: Some(id.into()),
                name: Some(name.into()),
                arguments: args.to_string(),
                extra: signature
                    .map(|signature| json!({"google": {"thought_signature": signature}})),
            };
            return gathered.add_call(fragment, pieces);
        }
        let (thought, signature) = (part.thought == Some(true), part.thought_signature.0);
        let text = part.text.0.unwrap_or_default();
        if signature.is_some() || !text.is_empty() {
            gathered.held += signature.as_ref().map_or(0, |signature| signature.len() + PART);
            self.keep(&text, thought, signature);
        }
        match text {
            text if text.is_empty() => {}
            text if thought => gathered.add_reasoning(text.into(), pieces),
            text => gathered.add_text(text.into(), pieces),
        }
        Some(())
    }

    /// Keeps a piece of text as part of the body that a whole answer would have had.
    fn keep(&mut self, text: &str, thought: bool, signature: Option<String>) {
        let last = self.parts.last_mut().filter(|last| {
            let signed = last.get("thoughtSignature").is_some();
            !signed && signature.is_none() && last.get("thought").is_some() == thought
        });
        if let Some(Value::String(said)) = last.and_then(|last| last.get_mut("text")) {
            said.push_str(text);
            return;
        }
        let mut part = json!({"text": text});
        if thought {
            part["thought"] = true.into();
        }
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.into();
        }
        self.parts.push(part);
    }

    /// The body that a whole answer would have had; `None` when it is none.
    pub(in super::super::super) fn finish(&mut self, gathered: &Gathered) -> Option<Value> {
        let nothing = gathered.text.is_empty() && gathered.calls.is_empty();
        if nothing && gathered.finish_reason.as_deref().is_some_and(is_broken) {
            return None;
        }
        let parts = std::mem::take(&mut self.parts);
        let mut body: Map<String, Value> = serde_json::from_str(&self.frame).unwrap_or_default();
        let last = body.get("candidates").and_then(|list| list.get(0));
        let mut candidate = last.cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
        candidate["content"] = json!({"role": "model", "parts": parts});
        candidate["finishReason"] = self.finish_reason.as_deref().into();
        body.insert("candidates".to_owned(), json!([candidate]));
        Some(body.into())
    }

    /// The last chunk.
    pub(in super::super::super) fn frame(&self) -> &str {
        &self.frame
    }
}
