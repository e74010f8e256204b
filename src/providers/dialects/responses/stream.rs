//! Stream events of OpenAI's Responses dialect.
//!
//! Everything is sent up to three times: as deltas, when its part and its item are done, and in the last event. What was
//! sent before is not added again, and what a server sends only later is not lost.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::streaming::{Fragment, Gathered, StreamPiece, Told};
use super::super::lenient::{Count, Word};
use super::read;

/// More parts than any answer has.
const MOST_PARTS: usize = 4096;

/// What a clone of the dialect sends after the last event.
const END: &str = "[DONE]";

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub(in super::super::super) struct Stream {
    /// The last event: the frame of the whole answer.
    frame: String,
    parts: Vec<Part>,
    /// What the model said to decline, in the place for that.
    refusal: String,
    /// Whether there is a text beside that.
    has_text: bool,
}

/// What a part of an item is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thoughts,
    Summary,
    Arguments,
}

/// Where a part stands: the item, the part of it, what it is made of.
type Place = (u64, u64, Kind);

#[derive(Debug)]
struct Part {
    place: Place,
    said: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Word<'a>,
    #[serde(default)]
    output_index: Count,
    #[serde(default)]
    content_index: Count,
    #[serde(default)]
    summary_index: Count,
    #[serde(borrow, default)]
    delta: Word<'a>,
    #[serde(borrow, default)]
    text: Word<'a>,
    #[serde(borrow, default)]
    refusal: Word<'a>,
    #[serde(borrow, default)]
    arguments: Word<'a>,
    #[serde(default)]
    part: Option<Value>,
    #[serde(default)]
    item: Option<Value>,
    #[serde(default)]
    response: Option<Value>,
}

/// Where the pieces of an event go.
struct Out<'a> {
    gathered: &'a mut Gathered,
    pieces: &'a mut Vec<StreamPiece>,
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
            return Told::More;
        }
        let Ok(event) = serde_json::from_str::<Event<'_>>(data) else { return Told::Nonsense };
        let into = &mut Out { gathered, pieces };
        let item = event.output_index.or_zero();
        let content = event.content_index.or_zero();
        let summary = event.summary_index.or_zero();
        let kind = event.r#type.0.unwrap_or_default();
        let Some(kind) = kind.strip_prefix("response.") else { return Told::More };
        let read = match kind {
            "created" | "queued" | "in_progress" => {
                into.gathered.is_answer = true;
                event.response.map_or(Some(()), |response| {
                    name(&response, into.gathered);
                    Some(())
                })
            }
            "output_text.delta" => self.more((item, content, Kind::Text), event.delta, into),
            "refusal.delta" => self.more((item, content, Kind::Refusal), event.delta, into),
            "reasoning_text.delta" | "reasoning.delta" => {
                self.more((item, content, Kind::Thoughts), event.delta, into)
            }
            "reasoning_summary_text.delta" | "reasoning_summary.delta" => {
                self.more((item, summary, Kind::Summary), event.delta, into)
            }
            "function_call_arguments.delta" => {
                self.more((item, 0, Kind::Arguments), event.delta, into)
            }
            "output_text.done" => self.all((item, content, Kind::Text), event.text, into),
            "refusal.done" => self.all((item, content, Kind::Refusal), event.refusal, into),
            "reasoning_text.done" => self.all((item, content, Kind::Thoughts), event.text, into),
            "reasoning_summary_text.done" => {
                self.all((item, summary, Kind::Summary), event.text, into)
            }
            "function_call_arguments.done" => {
                self.all((item, 0, Kind::Arguments), event.arguments, into)
            }
            "content_part.done" => {
                event.part.map_or(Some(()), |part| self.part((item, content), &part, into))
            }
            "output_item.added" => {
                into.gathered.is_answer = true;
                event.item.map_or(Some(()), |call| announce(item, &call, into))
            }
            "output_item.done" => {
                event.item.map_or(Some(()), |whole| self.item(item, &whole, into))
            }
            "completed" | "incomplete" => match event.response {
                Some(response) => return self.end(data, &response, into),
                None => return Told::Nonsense,
            },
            // With an error in them they were read as refusals.
            "failed" | "cancelled" => return Told::Nonsense,
            // Beginnings of parts, sources of a text, what tools of the provider do, and what is not known yet.
            _ => Some(()),
        };
        read.map_or(Told::TooMuch, |()| Told::More)
    }

    /// Takes the next words of a part.
    fn more(&mut self, place: Place, words: Word<'_>, into: &mut Out<'_>) -> Option<()> {
        words.filled().map_or(Some(()), |words| self.say(place, &words, into))
    }

    /// Takes a whole part, and says what of it was not said yet.
    fn all(&mut self, place: Place, whole: Word<'_>, into: &mut Out<'_>) -> Option<()> {
        whole.filled().map_or(Some(()), |whole| self.rest(place, &whole, into))
    }

    fn rest(&mut self, place: Place, whole: &str, into: &mut Out<'_>) -> Option<()> {
        let part = self.parts.iter().rfind(|part| part.place == place);
        let said = part.map_or("", |part| part.said.as_str());
        match whole.strip_prefix(said) {
            Some(rest) if !rest.is_empty() => self.say(place, rest, into),
            _ => Some(()),
        }
    }

    fn say(&mut self, place: Place, words: &str, into: &mut Out<'_>) -> Option<()> {
        let Out { gathered, pieces } = into;
        gathered.is_answer = true;
        match self.parts.iter().rposition(|part| part.place == place) {
            Some(index) => self.parts[index].said.push_str(words),
            None if self.parts.len() == MOST_PARTS => return None,
            None => self.parts.push(Part { place, said: words.to_owned() }),
        }
        match place {
            (.., Kind::Text) => {
                self.has_text = true;
                gathered.add_text(words.into(), pieces);
            }
            (.., Kind::Refusal) => {
                // As in a whole answer: it is the text when there is no other.
                self.refusal.push_str(words);
                match self.has_text {
                    false => gathered.add_text(words.into(), pieces),
                    true => gathered.held += words.len(),
                }
            }
            (.., Kind::Thoughts | Kind::Summary) => gathered.add_reasoning(words.into(), pieces),
            (item, _, Kind::Arguments) => {
                let arguments = words.to_owned();
                let fragment = Fragment { place: Some(item), arguments, ..Fragment::default() };
                gathered.add_call(fragment, pieces)?;
            }
        }
        Some(())
    }

    fn part(&mut self, (item, part): (u64, u64), whole: &Value, into: &mut Out<'_>) -> Option<()> {
        let (kind, name) = match read::text(whole, "type") {
            Some("output_text") => (Kind::Text, "text"),
            Some("refusal") => (Kind::Refusal, "refusal"),
            Some("reasoning_text") => (Kind::Thoughts, "text"),
            Some("summary_text") => (Kind::Summary, "text"),
            _ => return Some(()),
        };
        let text = read::text(whole, name);
        text.map_or(Some(()), |text| self.rest((item, part, kind), text, into))
    }

    fn item(&mut self, place: u64, whole: &Value, into: &mut Out<'_>) -> Option<()> {
        announce(place, whole, into)?;
        if read::text(whole, "type") == Some("function_call") {
            let arguments = read::arguments(whole).unwrap_or_default();
            return self.rest((place, 0, Kind::Arguments), &arguments, into);
        }
        for name in ["summary", "content"] {
            for (index, part) in read::parts(whole, name) {
                self.part((place, index as u64), part, into)?;
            }
        }
        Some(())
    }

    /// Reads the last event, which has all of the answer once more.
    fn end(&mut self, data: &str, response: &Value, into: &mut Out<'_>) -> Told {
        let Some(whole) = read::answer(response) else { return Told::Nonsense };
        data.clone_into(&mut self.frame);
        name(response, into.gathered);
        into.gathered.usage = whole.usage;
        into.gathered.finish_reason = whole.finish_reason;
        into.gathered.held += data.len();
        // Nothing was sent before: its items are then as good as those that were done one by one.
        let gathered = &into.gathered;
        let was_silent =
            gathered.text.is_empty() && gathered.calls.is_empty() && gathered.reasoning.is_empty();
        for (index, item) in read::parts(response, "output") {
            let is_call = read::text(item, "type") == Some("function_call");
            let read = if was_silent {
                self.item(index as u64, item, into)
            } else if is_call && !is_known(item, into.gathered) {
                // Places may be others than before, but no call has this id.
                self.item(u64::MAX - index as u64, item, into)
            } else {
                Some(())
            };
            if read.is_none() {
                return Told::TooMuch;
            }
        }
        if let Some(rest) = whole.text.strip_prefix(into.gathered.text.as_str())
            && !rest.is_empty()
        {
            self.has_text = true;
            into.gathered.add_text(rest.into(), into.pieces);
        }
        Told::End
    }

    /// The body that a whole answer would have had; what its last event left out is put into it.
    pub(in super::super::super) fn finish(&mut self, gathered: &mut Gathered) -> Value {
        let mut event: Value = serde_json::from_str(&self.frame).unwrap_or_default();
        let mut body = event.get_mut("response").map(Value::take).unwrap_or_default();
        if !self.refusal.is_empty() {
            gathered.finish_reason = Some("content_filter".to_owned());
        }
        let calls = gathered.tool_calls();
        let repeats = read::answer(&body).is_some_and(|whole| {
            whole.text == gathered.text
                && whole.tool_calls == calls
                && (self.refusal.is_empty() || whole.finish_reason == gathered.finish_reason)
        });
        if !repeats {
            body["output"] = self.items(gathered, &calls).into();
        }
        body
    }

    /// The items of an answer that only deltas sent.
    fn items(&self, gathered: &Gathered, calls: &[Value]) -> Vec<Value> {
        let mut items = Vec::new();
        if !gathered.reasoning.is_empty() {
            let summary = json!([{"type": "summary_text", "text": gathered.reasoning}]);
            items.push(json!({"type": "reasoning", "summary": summary}));
        }
        let mut content = Vec::new();
        if self.has_text {
            let text = &gathered.text;
            content.push(json!({"type": "output_text", "text": text, "annotations": []}));
        }
        if !self.refusal.is_empty() {
            content.push(json!({"type": "refusal", "refusal": self.refusal}));
        }
        if !content.is_empty() {
            items.push(json!({"type": "message", "role": "assistant", "content": content}));
        }
        items.extend(calls.iter().map(|call| {
            let function = &call["function"];
            json!({
                "type": "function_call", "call_id": call["id"], "name": function["name"],
                "arguments": function["arguments"],
            })
        }));
        items
    }

    /// The last event.
    pub(in super::super::super) fn frame(&self) -> &str {
        &self.frame
    }
}

/// Takes over who answers under which id.
fn name(response: &Value, gathered: &mut Gathered) {
    for (known, field) in [(&mut gathered.id, "id"), (&mut gathered.model, "model")] {
        if let Some(told) = read::text(response, field) {
            *known = Some(told.to_owned());
        }
    }
}

/// Tells the id and the name of a call, unless they are known.
fn announce(place: u64, item: &Value, into: &mut Out<'_>) -> Option<()> {
    if read::text(item, "type") != Some("function_call") {
        return Some(());
    }
    let id = read::text(item, "call_id").or_else(|| read::text(item, "id")).map(Into::into);
    let name = read::text(item, "name").map(Into::into);
    let fragment = Fragment { place: Some(place), id, name, ..Fragment::default() };
    into.gathered.is_answer = true;
    into.gathered.add_call(fragment, into.pieces)
}

/// Whether a call of the last event was sent before.
fn is_known(item: &Value, gathered: &Gathered) -> bool {
    let id = read::text(item, "call_id").or_else(|| read::text(item, "id"));
    gathered.tool_calls().iter().any(|call| call.get("id").and_then(Value::as_str) == id)
}
