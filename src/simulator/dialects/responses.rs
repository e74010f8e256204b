//! Answers in the Responses dialect of OpenAI and OpenRouter.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::decision::Decision;
use super::super::request::Request;
use super::super::settings::Provider;
use super::format::answer_text;
use super::openai;

/// A response in one piece.
pub(super) fn completion(decision: &Decision, request: &Request<'_>) -> Answer {
    let text = answer_text(decision, &request.echo);
    let body = ended(decision, request, &text).to_string().into_bytes();
    openai::with_headers(Answer::json(200, body), decision, request)
}

/// The events before the text, one for each piece of it, and those after it.
pub(super) fn events(
    decision: &Decision,
    request: &Request<'_>,
    pieces: &[String],
) -> [Vec<Value>; 3] {
    let begun = response(decision, request, "in_progress");
    let text = pieces.concat();
    let id = message_id(decision);
    let open = json!({"type": "message", "id": id, "status": "in_progress", "role": "assistant", "content": []});
    let mut before = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": open}),
        json!({
            "type": "response.content_part.added", "item_id": id, "output_index": 0,
            "content_index": 0, "part": part(""),
        }),
    ];
    let said = |text: &String| {
        json!({
            "type": "response.output_text.delta", "item_id": id, "output_index": 0,
            "content_index": 0, "delta": text, "logprobs": [],
        })
    };
    let mut texts: Vec<Value> = pieces.iter().map(said).collect();
    let end = if decision.cut { "response.incomplete" } else { "response.completed" };
    let mut after = vec![
        json!({
            "type": "response.output_text.done", "item_id": id, "output_index": 0,
            "content_index": 0, "text": text, "logprobs": [],
        }),
        json!({
            "type": "response.content_part.done", "item_id": id, "output_index": 0,
            "content_index": 0, "part": part(&text),
        }),
        json!({
            "type": "response.output_item.done", "output_index": 0, "item": message(decision, &text),
        }),
        json!({"type": end, "response": ended(decision, request, &text)}),
    ];
    let all = before.iter_mut().chain(&mut texts).chain(&mut after);
    for (number, event) in all.enumerate() {
        event["sequence_number"] = number.into();
    }
    [before, texts, after]
}

/// A failure within a stream under a status: a response that fails for a limit, else an event of its own.
pub(super) fn error_event(
    decision: &Decision,
    request: &Request<'_>,
    status: u16,
    error: &Value,
) -> Value {
    let code = match status {
        429 => "rate_limit_exceeded".into(),
        // Errors of a server have no code but in this dialect.
        _ if error["code"].is_null() => error["type"].clone(),
        _ => error["code"].clone(),
    };
    if status == 429 {
        let mut failed = response(decision, request, "failed");
        failed["error"] = json!({"code": code, "message": error["message"]});
        return json!({"type": "response.failed", "response": failed});
    }
    json!({"type": "error", "code": code, "message": error["message"], "param": null})
}

fn ended(decision: &Decision, request: &Request<'_>, text: &str) -> Value {
    let (input, output) = (decision.input_tokens, decision.output_tokens);
    let status = if decision.cut { "incomplete" } else { "completed" };
    let mut response = response(decision, request, status);
    if decision.cut {
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    response["output"] = json!([message(decision, text)]);
    response["usage"] = json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    });
    response
}

fn response(decision: &Decision, request: &Request<'_>, status: &str) -> Value {
    let id = if request.provider == Provider::Openrouter { "gen" } else { "resp" };
    json!({
        "id": format!("{id}_{:016x}", decision.serial), "object": "response",
        "created_at": decision.now.div_euclid(1_000_000_000), "status": status, "error": null,
        "incomplete_details": null, "model": request.model, "output": [], "usage": null,
    })
}

fn message(decision: &Decision, text: &str) -> Value {
    let status = if decision.cut { "incomplete" } else { "completed" };
    json!({
        "type": "message", "id": message_id(decision), "status": status, "role": "assistant",
        "content": [part(text)],
    })
}

fn message_id(decision: &Decision) -> String {
    format!("msg_{:016x}", decision.serial)
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
