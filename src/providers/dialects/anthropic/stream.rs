//! Stream events of Anthropic's messages dialect.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::streaming::{Fragment, Gathered, StreamPiece, Told};
use super::super::lenient::Word;
use super::super::shared::finish_reason;
use super::read::{FINISH_REASONS, Usage, count};

/// More blocks than any answer has.
const MOST_BLOCKS: usize = 4096;

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub(in super::super::super) struct Stream {
    /// The first event: the frame of the whole answer.
    frame: String,
    /// The counts are cumulative, and each event has only some of them.
    usage: Usage,
    has_told_output: bool,
    stop_reason: Option<String>,
    blocks: Vec<Block>,
}

/// One block of the answer while it comes.
#[derive(Debug)]
struct Block {
    place: u64,
    is_call: bool,
    /// As it was announced.
    start: Value,
    /// Text, thoughts or JSON, whichever it is made of.
    said: String,
    signature: String,
    /// The citations of the text, as they came.
    citations: Vec<Value>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Word<'a>,
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    content_block: Option<Value>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Word<'a>,
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Word<'a>,
    #[serde(borrow, default)]
    thinking: Word<'a>,
    #[serde(borrow, default)]
    partial_json: Word<'a>,
    #[serde(borrow, default)]
    signature: Word<'a>,
    #[serde(default)]
    citation: Option<Value>,
    #[serde(borrow, default)]
    stop_reason: Word<'a>,
}

impl Stream {
    /// Reads the data of one event.
    pub(in super::super::super) fn read(
        &mut self,
        data: &str,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let Ok(event) = serde_json::from_str::<Event<'_>>(data) else { return Told::Nonsense };
        match event.r#type.0.as_deref() {
            Some("message_start") => {
                data.clone_into(&mut self.frame);
                gathered.is_answer = true;
                if let Some(message) = event.message {
                    gathered.id = message.id.filled().map(Into::into);
                    gathered.model = message.model.filled().map(Into::into);
                    self.count(message.usage, gathered);
                }
                Told::More
            }
            Some("content_block_start") => {
                let start = event.content_block.unwrap_or_default();
                gathered.held += data.len();
                self.start(event.index, start, gathered, pieces)
            }
            Some("content_block_delta") => match event.delta {
                Some(delta) => self.said(event.index, delta, gathered, pieces),
                None => Told::More,
            },
            Some("content_block_stop") => self.stop(event.index, gathered, pieces),
            Some("message_delta") => {
                self.has_told_output |= event.usage.is_some();
                self.count(event.usage, gathered);
                if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason.filled()) {
                    self.stop_reason = Some(reason.clone().into());
                    gathered.finish_reason = finish_reason(&FINISH_REASONS, Some(reason.into()));
                }
                Told::More
            }
            Some("message_stop") => Told::End,
            // Pings, and what is not known yet.
            _ => Told::More,
        }
    }

    fn count(&mut self, told: Option<Usage>, gathered: &mut Gathered) {
        if let Some(told) = told {
            self.usage.raise(told);
            gathered.usage = count(&self.usage);
        }
    }

    fn start(
        &mut self,
        place: u64,
        start: Value,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        if self.blocks.len() == MOST_BLOCKS {
            return Told::TooMuch;
        }
        gathered.is_answer = true;
        let text = |name| start.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_call = text("type") == Some("tool_use");
        let mut said = String::new();
        if is_call {
            let (id, name) = (text("id").map(Into::into), text("name").map(Into::into));
            let fragment = Fragment { place: Some(place), id, name, ..Fragment::default() };
            if gathered.add_call(fragment, pieces).is_none() {
                return Told::TooMuch;
            }
        } else if let Some(text) = text("text") {
            said.push_str(text);
            gathered.add_text(text.into(), pieces);
        } else if let Some(thinking) = text("thinking") {
            said.push_str(thinking);
            gathered.add_reasoning(thinking.into(), pieces);
        }
        let (signature, citations) = (String::new(), Vec::new());
        self.blocks.push(Block { place, is_call, start, said, signature, citations });
        Told::More
    }

    fn said(
        &mut self,
        place: u64,
        delta: Delta<'_>,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        gathered.is_answer = true;
        let mut block = self.blocks.iter_mut().rfind(|block| block.place == place);
        let mut keep = |text: &str| {
            if let Some(block) = &mut block {
                block.said.push_str(text);
            }
        };
        if let Some(text) = delta.text.filled() {
            keep(&text);
            gathered.add_text(text, pieces);
        } else if let Some(thinking) = delta.thinking.filled() {
            keep(&thinking);
            gathered.add_reasoning(thinking, pieces);
        } else if let Some(json) = delta.partial_json.filled() {
            keep(&json);
            // Tools that run at Anthropic's are not the caller's to call.
            if block.is_some_and(|block| block.is_call) {
                return self.arguments(place, json.into_owned(), gathered, pieces);
            }
            gathered.held += json.len();
        } else if let Some(signature) = delta.signature.filled() {
            gathered.held += signature.len();
            if let Some(block) = block {
                block.signature.push_str(&signature);
            }
        } else if let (Some(citation), Some(block)) = (delta.citation, block) {
            gathered.held += citation.to_string().len();
            block.citations.push(citation);
        }
        Told::More
    }

    /// A call without arguments has none said of them: they are an empty object, or stood at the start.
    fn stop(&mut self, place: u64, gathered: &mut Gathered, pieces: &mut Vec<StreamPiece>) -> Told {
        let block = self.blocks.iter_mut().rfind(|block| block.place == place);
        match block.filter(|block| block.is_call && block.said.is_empty()) {
            None => Told::More,
            Some(block) => {
                let input = block.start.get("input").filter(|input| input.is_object());
                block.said = input.map_or_else(|| "{}".to_owned(), Value::to_string);
                let arguments = block.said.clone();
                self.arguments(place, arguments, gathered, pieces)
            }
        }
    }

    fn arguments(
        &self,
        place: u64,
        arguments: String,
        gathered: &mut Gathered,
        pieces: &mut Vec<StreamPiece>,
    ) -> Told {
        let fragment = Fragment { place: Some(place), arguments, ..Fragment::default() };
        gathered.add_call(fragment, pieces).map_or(Told::TooMuch, |()| Told::More)
    }

    /// Whether the final counts came.
    pub(in super::super::super) fn has_told_output(&self) -> bool {
        self.has_told_output
    }

    /// The body that a whole answer would have had.
    pub(in super::super::super) fn finish(&mut self) -> Value {
        let frame: Value = serde_json::from_str(&self.frame).unwrap_or_default();
        let mut body = frame.get("message").cloned().unwrap_or_else(|| json!({"type": "message"}));
        let blocks = std::mem::take(&mut self.blocks);
        body["content"] = blocks.into_iter().map(Block::whole).collect();
        body["stop_reason"] = self.stop_reason.as_deref().into();
        body["usage"] = self.usage.written();
        body
    }

    /// The first event.
    pub(in super::super::super) fn frame(&self) -> &str {
        &self.frame
    }
}

impl Block {
    fn whole(self) -> Value {
        let Block { mut start, said, signature, citations, .. } = self;
        let kind = start.get("type").and_then(Value::as_str).unwrap_or("");
        let (place, said) = match kind {
            "text" => ("text", said.into()),
            "thinking" => ("thinking", said.into()),
            _ => ("input", serde_json::from_str(&said).unwrap_or(Value::Null)),
        };
        if start.is_object() && !said.is_null() {
            start[place] = said;
            if !signature.is_empty() {
                start["signature"] = signature.into();
            }
            if !citations.is_empty() {
                start["citations"] = citations.into();
            }
        }
        start
    }
}
