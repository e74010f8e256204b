//! Every stream a provider is known to send, wherever the network splits it.
//!
//! Each pair under `tests/streams/<provider>/` is the body of one answer and what has to come out of it.
//! Values are made up, shapes are those of the providers' documentation and of recorded answers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fixture that cannot be read fails the test"
)]

#[path = "streams/asking.rs"]
mod asking;
#[path = "streams/bounds.rs"]
mod bounds;
#[path = "streams/splitting.rs"]
mod splitting;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use quotaflow::kernel::{Amounts, Failure, Moment};
use quotaflow::providers::{
    Completion, Dialect, Headers, Provider, StreamPiece, StreamReader, WireResponse,
};
use serde::Deserialize;
use serde_json::Value;

/// What is expected of a stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    why: String,
    /// The dialect that the provider is asked in, where that is not its own.
    dialect: Option<String>,
    /// What follows the event that ends the answer, and is no part of it.
    #[serde(default)]
    after_the_end: String,
    pieces: Vec<Piece>,
    answer: Option<Answered>,
    failure: Option<Refused>,
    /// What the body in one piece would have held, by place.
    #[serde(default)]
    raw: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Piece {
    Text(String),
    Reasoning(String),
    Call(usize, Option<String>, Option<String>, String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    text: String,
    finish_reason: Option<String>,
    /// Input, output, cached, written to the cache, thinking.
    usage: Option<[u64; 5]>,
    tool_calls: Vec<Value>,
    model: Option<String>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    class: String,
    status: Option<u16>,
    #[serde(default)]
    message_has: String,
    /// No event of it is a refusal; its end is.
    #[serde(default)]
    only_at_the_end: bool,
}

struct Fixture {
    name: String,
    provider: Provider,
    body: Vec<u8>,
    expected: Expected,
}

/// What came out of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    pieces: Vec<StreamPiece>,
    /// Whether a piece of the body was refused, and not only the end of it.
    refused: bool,
    done: bool,
    end: Result<Completion, Failure>,
}

fn with_context<T>(test: impl FnOnce(&WireResponse<'_>) -> T) -> T {
    let (headers, body) = (Headers::default(), Bytes::new());
    test(&WireResponse {
        status: 200,
        headers: &headers,
        body: &body,
        now: Moment::EPOCH,
        estimate: Amounts::default(),
        model: "some-model",
    })
}

fn provider(name: &str) -> Provider {
    match name {
        "compatible" => Provider::compatible("local", "http://127.0.0.1:8000/v1"),
        "azure" => {
            Provider::find(name).unwrap().with_base_url("https://r.openai.azure.com").unwrap()
        }
        name => Provider::find(name).unwrap(),
    }
}

/// A provider asked in a dialect of that name in a config.
fn speaking(provider: Provider, dialect: &str) -> Provider {
    let dialect = match dialect {
        "responses" => Dialect::Responses,
        "ollama" => Dialect::Ollama,
        other => panic!("there is no dialect {other}"),
    };
    provider.speaking(dialect).unwrap()
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut found = Vec::new();
    for folder in Provider::names().iter().chain(&["compatible"]) {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "sse" && end != "ndjson") {
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
            let expected: Expected =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let body = std::fs::read(&path).unwrap();
            let mut provider = provider(folder);
            if let Some(dialect) = &expected.dialect {
                provider = speaking(provider, dialect);
            }
            found.push(Fixture { name, provider, body, expected });
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

/// Reads a body that comes in these parts.
fn read<'a>(provider: &Provider, parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    with_context(|context| {
        let mut reader: StreamReader = provider.read_stream();
        let (mut pieces, mut refused) = (Vec::new(), false);
        for part in parts {
            refused |= reader.feed(part, context, &mut pieces).is_err();
        }
        let done = reader.is_done();
        let end = reader.finish(context);
        pieces.extend(reader.take_rest());
        Outcome { pieces, refused, done, end }
    })
}

fn expected_pieces(expected: &Expected) -> Vec<StreamPiece> {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => StreamPiece::Text(text.clone()),
        Piece::Reasoning(text) => StreamPiece::Reasoning(text.clone()),
        Piece::Call(index, id, name, arguments) => StreamPiece::ToolCall {
            index: *index,
            id: id.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
        },
    };
    expected.pieces.iter().map(piece).collect()
}

#[test]
fn every_stream_is_read_as_what_it_is() {
    for fixture in fixtures() {
        let (name, expected) = (&fixture.name, &fixture.expected);
        assert!(!expected.why.is_empty(), "{name}");
        let outcome = read(&fixture.provider, [&fixture.body[..]]);
        assert_eq!(outcome.pieces, expected_pieces(expected), "{name}");
        match (&outcome.end, &expected.answer, &expected.failure) {
            (Ok(answer), Some(expected), None) => check_answer(name, answer, expected),
            (Err(failure), None, Some(expected)) => {
                assert_eq!(failure.class.name(), expected.class, "{name}: {failure:?}");
                assert_eq!(failure.status, expected.status, "{name}: {failure:?}");
                assert!(failure.message.contains(&expected.message_has), "{name}: {failure:?}");
                assert_eq!(outcome.refused, !expected.only_at_the_end, "{name}");
            }
            (end, ..) => panic!("{name}: {end:?}"),
        }
        let raw = outcome.end.map(|answer| answer.raw).unwrap_or_default();
        for (place, value) in &expected.raw {
            let raw: Value = serde_json::from_slice(&raw).unwrap();
            assert_eq!(raw.pointer(place), Some(value), "{name} at {place}: {raw}");
        }
    }
}

fn check_answer(name: &str, answer: &Completion, expected: &Answered) {
    let usage = answer.usage.map(|usage| {
        [
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ]
    });
    assert_eq!(answer.text, expected.text, "{name}");
    assert_eq!(answer.finish_reason, expected.finish_reason, "{name}");
    assert_eq!(usage, expected.usage, "{name}");
    assert_eq!(answer.tool_calls, expected.tool_calls, "{name}");
    assert_eq!(answer.model, expected.model, "{name}");
    assert_eq!(answer.request_id, expected.request_id, "{name}");
}

/// The body that a stream stands for says the same as the stream when it is read in one piece.
#[test]
fn the_raw_body_of_a_stream_is_the_answer_in_one_piece() {
    for fixture in fixtures() {
        let Ok(streamed) = read(&fixture.provider, [&fixture.body[..]]).end else { continue };
        let whole = with_context(|context| {
            fixture.provider.decode(&WireResponse { body: &streamed.raw, ..*context })
        });
        let mut whole = whole.unwrap_or_else(|failure| panic!("{}: {failure:?}", fixture.name));
        let mut streamed = Completion { raw: whole.raw.clone(), ..streamed };
        // JSON in a text may be written in more than one way.
        for call in whole.tool_calls.iter_mut().chain(&mut streamed.tool_calls) {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            call["function"]["arguments"] = serde_json::from_str(arguments).unwrap_or_default();
        }
        assert_eq!(whole, streamed, "{}", fixture.name);
    }
}
