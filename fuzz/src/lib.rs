//! The fuzz targets: any bytes in, a panic if a parser breaks its promise.
//!
//! `make fuzz` runs them under libFuzzer, `tests/it/fuzz_targets.rs` over seeds and fixtures.

use std::path::PathBuf;

use bytes::Bytes;
use quotaflow::config::{Arguments, ConfigFile, Settings, Sources};
use quotaflow::kernel::{Amounts, Failure, Moment};
use quotaflow::providers::{
    Dialect, ForeignError, Headers, Provider, StreamPiece, WireResponse, json_in, shown,
};
use quotaflow::secret::Secret;

/// JSON in the text of an answer: every value that is found stands in the text and is JSON.
pub fn answer_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for value in json_in(&text).values {
        assert!(text.contains(value));
        let read = serde_json::from_str::<serde::de::IgnoredAny>(value);
        assert!(read.is_ok(), "not JSON: {value:?}");
    }
}

/// A config file in each format: it is read or refused, and resolving it again gives the same.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for name in ["quotaflow.yaml", "quotaflow.toml", "quotaflow.json"] {
        let file = ConfigFile { path: PathBuf::from(name), text: Secret::new(text.as_ref()) };
        let sources = Sources { file: Some(file), ..Sources::default() };
        let arguments = || Arguments { state: Some("memory".to_owned()), ..Arguments::default() };
        let once = Settings::resolve(arguments(), sources.clone()).map(|_| ());
        let again = Settings::resolve(arguments(), sources).map(|_| ());
        assert_eq!(once.map_err(|e| e.to_string()), again.map_err(|e| e.to_string()));
    }
}

/// Errors of other libraries: bodies that were printed into a text, as JSON or as a Python literal.
pub fn foreign_error(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for status in [None, Some(429)] {
        for body in [None, Some(data)] {
            let error = ForeignError { text: &text, status, body, ..ForeignError::default() };
            if let Some(failure) = error.failure(Moment::EPOCH) {
                assert!(failure.message.chars().count() <= 600, "{}", failure.message.len());
            }
        }
    }
    let _ = shown(&text);
}

/// The bytes of a stream in every dialect: where the network splits them changes nothing.
pub fn stream(data: &[u8]) {
    let chunk = 1 + data.len() % 7;
    for provider in dialects() {
        let whole = read(&provider, [data]);
        let split = read(&provider, data.chunks(chunk));
        assert_eq!(whole, split, "{:?} in chunks of {chunk}", provider.dialect);
    }
}

/// One provider for each dialect that streams.
fn dialects() -> Vec<Provider> {
    let provider = |name| Provider::find(name).expect("a provider of the catalogue");
    let speaking = |name, dialect| provider(name).speaking(dialect).expect("a dialect of its");
    vec![
        provider("openai"),
        speaking("openai", Dialect::Responses),
        provider("anthropic"),
        provider("gemini"),
        speaking("ollama", Dialect::Ollama),
    ]
}

/// What is compared of a stream: all pieces joined by kind, and whether it ended well.
type Heard = (String, String, usize, Result<String, String>);

fn read<'a>(provider: &Provider, parts: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let (headers, body) = (Headers::default(), Bytes::new());
    let context = WireResponse {
        status: 200,
        headers: &headers,
        body: &body,
        now: Moment::EPOCH,
        estimate: Amounts::default(),
        model: "some-model",
    };
    let mut reader = provider.read_stream();
    let mut pieces = Vec::new();
    let fed = parts.into_iter().try_for_each(|part| reader.feed(part, &context, &mut pieces));
    let end = reader.finish(&context);
    pieces.extend(reader.take_rest());
    let (mut text, mut reasoning, mut fragments) = (String::new(), String::new(), 0);
    for piece in pieces {
        match piece {
            StreamPiece::Text(part) => text.push_str(&part),
            StreamPiece::Reasoning(part) => reasoning.push_str(&part),
            StreamPiece::ToolCall { .. } => fragments += 1,
        }
    }
    if let (Ok(()), Ok(answer)) = (&fed, &end) {
        assert_eq!(text, answer.text, "the pieces are not the answer");
    }
    let class = |failure: Failure| failure.class.name().to_owned();
    (text, reasoning, fragments, fed.map_err(class).and(end.map(|a| a.text).map_err(class)))
}
