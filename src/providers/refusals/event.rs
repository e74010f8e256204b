//! Refusals inside a stream.

use serde_json::Value;

use super::super::wire::WireResponse;
use super::facts::Facts;

/// Names of events that are refusals whatever they hold; the second is that of OpenAI's responses.
const REFUSALS: [&str; 2] = ["error", "response.failed"];

/// What every refusal has in it. Almost no other event does, and those are not even parsed.
const MARKS: [&str; 4] = ["\"error\"", "blockReason", "_CALL", NO_ROOM];

const NO_ROOM: &str = "insufficient_system_resource";

/// Finish reasons that are failures, whatever came before: by place and word.
const ENDS: [(&str, &[&str]); 2] = [
    ("/choices/0/finish_reason", &["error", NO_ROOM]),
    (
        "/candidates/0/finishReason",
        &["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"],
    ),
];

/// Whether an event is worth a closer look; a look at its text without reading it.
pub(in super::super) fn could_be(event: &str, text: &str) -> bool {
    REFUSALS.contains(&event) || MARKS.iter().any(|mark| text.contains(mark))
}

/// The facts of the refusal in an event, or `None` when it is an ordinary one, a comment or the end.
pub(super) fn refusal<'a>(event: &str, response: &WireResponse<'a>) -> Option<Facts<'a>> {
    let named = REFUSALS.contains(&event);
    if !could_be(event, std::str::from_utf8(response.body).unwrap_or("")) {
        return None;
    }
    let facts = Facts::of_event(response, named);
    let is_refusal = named || !facts.error().is_null() || ended_badly(&facts.whole);
    is_refusal.then_some(facts)
}

fn ended_badly(whole: &Value) -> bool {
    let blocked = whole.pointer("/promptFeedback/blockReason").is_some_and(Value::is_string);
    blocked
        || ENDS.iter().any(|(place, words)| {
            let end = whole.pointer(place).and_then(Value::as_str);
            end.is_some_and(|end| words.contains(&end))
        })
}
