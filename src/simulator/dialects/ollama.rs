//! Answers in Ollama's native dialect.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::request::{Problem, Request};
use super::format::{answer_text, rfc3339};

/// What it writes when its queue is full.
pub(super) const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// An answer in one piece.
pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    let body = last(decision, request, &answer_text(decision, &request.echo));
    Answer::json(200, body.to_string().into_bytes())
}

/// One line for each piece of the text.
pub(super) fn lines(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Vec<Value> {
    pieces.iter().map(|piece| said(decision, request, piece)).collect()
}

/// What comes last, with the counts; the text is in it only where it comes in one piece.
pub(super) fn last(decision: &Decision, request: &Request<'_>, text: &str) -> Value {
    let mut line = said(decision, request, text);
    line["done"] = true.into();
    line["done_reason"] = if decision.cut { "length" } else { "stop" }.into();
    // Durations are nanoseconds.
    line["total_duration"] = 5_000_000.into();
    line["load_duration"] = 1_000_000.into();
    line["prompt_eval_count"] = decision.input_tokens.into();
    line["prompt_eval_duration"] = 1_500_000.into();
    line["eval_count"] = decision.output_tokens.into();
    line["eval_duration"] = 2_500_000.into();
    line
}

fn said(decision: &Decision, request: &Request<'_>, text: &str) -> Value {
    json!({
        "model": request.model, "created_at": rfc3339(decision.now),
        "message": {"role": "assistant", "content": text}, "done": false,
    })
}

/// Any error: its words are all of it.
pub(super) fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, json!({"error": message}).to_string().into_bytes())
}

/// What is wrong with a request.
pub(super) fn words_for(problem: &Problem, model: &str) -> String {
    match problem {
        Problem::NoSuchPath => "404 page not found".into(),
        Problem::WrongMethod => "405 method not allowed".into(),
        Problem::BadKey => "unauthorized".into(),
        Problem::NotJson(reason) => reason.clone(),
        Problem::Missing(field) => format!("{field} is required"),
        Problem::NoSuchModel => format!("model '{model}' not found"),
    }
}

/// What it writes under a status that a rule asked for.
pub(super) fn words_for_status(status: u16) -> &'static str {
    match status {
        401 => "unauthorized",
        404 => "model 'stand-in' not found",
        429 => "you (stand-in) have reached your session usage limit, upgrade for higher limits",
        503 => BUSY,
        _ => "an error was encountered while running the model: unexpected EOF",
    }
}
