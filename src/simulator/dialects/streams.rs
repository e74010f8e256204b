//! Streamed answers of each dialect.

use serde_json::{Value, json};

use super::super::answer::{Answer, Fault, Streamed};
use super::super::decision::Decision;
use super::super::request::Request;
use super::super::settings::{MidStream, Provider, Then};
use super::answers::{completion, error, words_for_status};
use super::format::answer_text;
use super::{ollama, responses};

/// What a text goes on with when it has to fill more pieces than it has characters.
const MORE: &str = " and so on";

/// The events of an answer: those before the text, one for each piece of it, those after it.
struct Script {
    before: Vec<String>,
    texts: Vec<String>,
    after: Vec<String>,
}

/// The answer as a stream, with what a rule makes of it.
pub(super) fn streamed(decision: &Decision, request: &Request<'_>) -> Answer {
    // Status and headers are those of an answer in one piece.
    let mut answer = completion(decision, request);
    let script = script(decision, request);
    let is_list = request.provider == Provider::Gemini && !request.wants_events;
    if request.is_native {
        answer.headers[0] = ("content-type", "application/x-ndjson".into());
    } else if !is_list {
        answer.headers[0] = ("content-type", "text/event-stream; charset=utf-8".into());
    }
    let texts = script.texts.len();
    let cut = decision.mid_stream.map(|middle| {
        let after = usize::try_from(middle.after).unwrap_or(texts).min(texts);
        (script.before.len() + after, middle)
    });
    let first = script.before.len();
    let mut events: Vec<String> =
        script.before.into_iter().chain(script.texts).chain(script.after).collect();
    let mut silence = None;
    if let Some((place, middle)) = cut {
        silence = middle.silence().map(|silence| (place, silence));
        if middle.spoils() {
            events.truncate(place);
        }
        if middle.then == Then::Reset {
            answer.fault = Some(Fault::ResetAfterBody);
        }
        events.extend(error_event(decision, request, &middle));
    }
    let (mut body, mut stream) = (Vec::new(), Streamed::default());
    for (index, event) in events.iter().enumerate() {
        if let Some((_, silence)) = silence.filter(|(place, _)| *place == index) {
            stream.pauses.push((body.len(), silence));
        }
        if !decision.pause.is_zero() && (first..first + texts).contains(&index) {
            stream.pauses.push((body.len(), decision.pause));
        }
        if is_list {
            body.extend_from_slice(if index == 0 { b"[" } else { b",\r\n" });
        }
        body.extend_from_slice(event.as_bytes());
        if is_list && index + 1 == events.len() {
            body.extend_from_slice(b"]");
        }
        stream.ends.push(body.len());
    }
    (answer.body, answer.stream) = (body, Some(stream));
    answer
}

/// The text in as many pieces as are asked for, none of them empty; fewer when it is cut too short for that.
fn pieces(decision: &Decision, request: &Request<'_>) -> Vec<String> {
    let mut text: Vec<char> = answer_text(decision, &request.echo).chars().collect();
    let wanted = usize::try_from(decision.pieces).unwrap_or(usize::MAX);
    if !decision.cut {
        let missing = wanted.saturating_sub(text.len());
        text.extend(MORE.chars().cycle().take(missing));
    }
    let count = wanted.min(text.len()).max(1);
    let place = |piece: usize| piece * text.len() / count;
    (0..count).map(|piece| text[place(piece)..place(piece + 1)].iter().collect()).collect()
}

fn script(decision: &Decision, request: &Request<'_>) -> Script {
    let pieces = pieces(decision, request);
    match request.provider {
        _ if request.wants_response => response(decision, request, &pieces),
        _ if request.is_native => native(decision, request, &pieces),
        Provider::Anthropic => anthropic(decision, request, &pieces),
        Provider::Gemini => gemini(decision, request, &pieces),
        _ => openai(decision, request, &pieces),
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or(""))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn openai(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Script {
    let (input, output) = (decision.input_tokens, decision.output_tokens);
    let usage = json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    });
    let provider = request.provider;
    let chunk = |choices: Value| {
        let router = provider == Provider::Openrouter;
        let mut chunk = json!({
            "id": format!("{}-{}", if router { "gen" } else { "chatcmpl" }, decision.serial),
            "object": "chat.completion.chunk",
            "created": decision.now.div_euclid(1_000_000_000),
            "model": request.model,
            "choices": choices,
        });
        if router {
            chunk["provider"] = "Stand-in".into();
        }
        // OpenAI shows on every chunk that the usage was asked for and is still to come.
        if request.wants_usage && provider == Provider::Openai {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let choice = |delta: Value, end: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": end}]))
    };
    let mut before = Vec::new();
    if provider == Provider::Openrouter {
        before.push(": OPENROUTER PROCESSING\n\n".to_owned());
    }
    before.push(data(&choice(json!({"role": "assistant", "content": ""}), None)));
    let said = |text: &String| data(&choice(json!({"content": text}), None));
    let mut last = choice(json!({}), Some(if decision.cut { "length" } else { "stop" }));
    if provider == Provider::Groq {
        // It reports its usage unasked, in a place of its own.
        last["x_groq"] = json!({"id": format!("req_{}", decision.serial), "usage": usage});
    }
    let mut after = vec![data(&last)];
    if request.wants_usage || provider == Provider::Openrouter {
        let mut told = chunk(json!([]));
        told["usage"] = usage;
        after.push(data(&told));
    }
    after.push("data: [DONE]\n\n".to_owned());
    Script { before, texts: pieces.iter().map(said).collect(), after }
}

fn anthropic(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Script {
    let start = json!({"type": "message_start", "message": {
        "id": format!("msg_{:016x}", decision.serial), "type": "message", "role": "assistant",
        "model": request.model, "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": decision.input_tokens, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "output_tokens": 1, "service_tier": "standard",
        },
    }});
    let block = json!({
        "type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""},
    });
    let said = |text: &String| {
        let delta = json!({"type": "text_delta", "text": text});
        named(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    };
    let reason = if decision.cut { "max_tokens" } else { "end_turn" };
    let end = json!({
        "type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
        "usage": {"output_tokens": decision.output_tokens},
    });
    Script {
        before: vec![named(&start), named(&block), named(&json!({"type": "ping"}))],
        texts: pieces.iter().map(said).collect(),
        after: vec![
            named(&json!({"type": "content_block_stop", "index": 0})),
            named(&end),
            named(&json!({"type": "message_stop"})),
        ],
    }
}

/// Only OpenRouter says after the last event that it was the last.
fn response(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Script {
    let written = |events: Vec<Value>| events.iter().map(named).collect();
    let [before, texts, after] = responses::events(decision, request, pieces).map(written);
    let mut script = Script { before, texts, after };
    if request.provider == Provider::Openrouter {
        script.before.insert(0, ": OPENROUTER PROCESSING\n\n".to_owned());
        script.after.push("data: [DONE]\n\n".to_owned());
    }
    script
}

/// Each piece is a line, and the last line has none of the text.
fn native(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Script {
    let texts = ollama::lines(decision, request, pieces).iter().map(line).collect();
    Script { before: Vec::new(), texts, after: vec![line(&ollama::last(decision, request, ""))] }
}

/// The end stands in the last chunk with text, and nothing comes after it.
fn gemini(decision: &Decision, request: &Request<'_>, pieces: &[String]) -> Script {
    let chunk = |(index, text): (usize, &String)| {
        let is_last = index + 1 == pieces.len();
        let mut candidate =
            json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
        let input = decision.input_tokens;
        let mut usage = json!({"promptTokenCount": input, "totalTokenCount": input});
        if is_last {
            let end = if decision.cut { "MAX_TOKENS" } else { "STOP" };
            candidate["finishReason"] = end.into();
            usage["candidatesTokenCount"] = decision.output_tokens.into();
            usage["totalTokenCount"] = (input + decision.output_tokens).into();
        }
        let chunk = json!({
            "candidates": [candidate], "usageMetadata": usage, "modelVersion": request.model,
            "responseId": format!("{:016x}", decision.serial),
        });
        if request.wants_events { format!("data: {chunk}\r\n\r\n") } else { chunk.to_string() }
    };
    let texts = pieces.iter().enumerate().map(chunk).collect();
    Script { before: Vec::new(), texts, after: Vec::new() }
}

/// What the provider says within a stream under a status.
fn error_event(decision: &Decision, request: &Request<'_>, middle: &MidStream) -> Option<String> {
    let provider = request.provider;
    let status = middle.status(provider)?;
    let body = error(decision, request, status, words_for_status(request, status)).body;
    let mut said: Value = serde_json::from_slice(&body).unwrap_or_default();
    Some(match provider {
        _ if request.wants_response => {
            named(&responses::error_event(decision, request, status, &said["error"]))
        }
        _ if request.is_native => line(&said),
        Provider::Anthropic => named(&said),
        Provider::Groq => {
            said["error"]["status_code"] = status.into();
            format!("event: error\n{}", data(&said))
        }
        Provider::Openrouter => {
            said["id"] = format!("gen-{}", decision.serial).into();
            said["choices"] =
                json!([{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]);
            data(&said)
        }
        Provider::Gemini if !request.wants_events => said.to_string(),
        Provider::Gemini => format!("data: {said}\r\n\r\n"),
        Provider::Openai | Provider::Ollama => data(&said),
    })
}
