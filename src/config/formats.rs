//! Config formats: YAML, TOML or JSON text to one tree.

use std::path::Path;

use serde_json::Value;
use serde_saphyr::NonFiniteFloatPolicy;

use super::error::ConfigError;

/// Reads YAML, TOML or JSON, as the ending of the file says; an empty file is an empty tree.
///
/// The errors of the parsers quote the text, and the text may hold keys: only the place is handed on.
pub(super) fn parse(file: &Path, text: &str) -> Result<Value, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let (format, tree) = match ending.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => ("YAML", yaml(text)),
        "toml" => ("TOML", toml(text)),
        "json" => ("JSON", json(text)),
        _ => {
            return Err(ConfigError::of_file(file, "the ending does not say which format this is")
                .hint("name it .yaml, .toml or .json"));
        }
    };
    let tree = tree.map_err(|place| {
        ConfigError::of_file(file, format!("this is not {format}{place}"))
            .hint("look at the quotes, brackets and indentation there and just before")
    })?;
    match tree {
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        tree => Ok(tree),
    }
}

fn place(line: u64, column: u64) -> String {
    format!(": line {line}, column {column}")
}

fn yaml(text: &str) -> Result<Value, String> {
    // A number that is none becomes nothing, as in TOML, and is refused at its path and not as a broken file.
    let options =
        serde_saphyr::options! { non_finite_float_policy: NonFiniteFloatPolicy::PassThrough };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.without_snippet().location();
        location.map(|at| place(at.line(), at.column())).unwrap_or_default()
    })
}

fn toml(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map(|span| span.start);
        let before = start.and_then(|start| text.get(..start));
        before.map_or_else(String::new, |before| {
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            place(line as u64, column as u64)
        })
    })
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| place(error.line() as u64, error.column() as u64))
}
