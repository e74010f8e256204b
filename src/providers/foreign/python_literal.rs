//! JSON and Python literals, whole or cut off.
//!
//! `str()` of a library's error often holds the provider's body as Python prints it: `{'error': None}`.
//! One reader takes both notations. Where the text ends early, everything that is open ends with it.

use serde_json::{Map, Number, Value};

/// Nothing a provider sends is nested deeper.
const DEEPEST: usize = 24;

/// Words that stand for values, in both notations.
const WORDS: [(&str, Value); 6] = [
    ("None", Value::Null),
    ("null", Value::Null),
    ("True", Value::Bool(true)),
    ("true", Value::Bool(true)),
    ("False", Value::Bool(false)),
    ("false", Value::Bool(false)),
];

/// The value that `text` starts with; `None` when it starts with none.
pub(super) fn read(text: &str) -> Option<Value> {
    Reader { rest: text }.value(0)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.blanks();
        match self.rest.chars().next()? {
            _ if depth > DEEPEST => None,
            '{' => self.object(depth),
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '\'' | '"' => self.string().map(Value::String),
            'b' | 'r' | 'u' if self.rest[1..].starts_with(['\'', '"']) => {
                self.take(1);
                self.string().map(Value::String)
            }
            '-' | '0'..='9' => self.number(),
            _ => {
                let (word, value) = WORDS.iter().find(|(word, _)| self.rest.starts_with(word))?;
                self.take(word.len());
                Some(value.clone())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut members = Map::new();
        self.take(1);
        loop {
            self.blanks();
            if self.ends('}') {
                break;
            }
            let name = match self.value(depth + 1)? {
                Value::String(name) => name,
                other => other.to_string(),
            };
            self.blanks();
            if !self.rest.is_empty() && !self.skip(':') {
                return None;
            }
            let value = match self.value(depth + 1) {
                None if !self.rest.is_empty() => return None,
                value => value.unwrap_or(Value::Null),
            };
            members.insert(name, value);
            self.blanks();
            if !self.skip(',') && !self.rest.is_empty() && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(members))
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        let mut values = Vec::new();
        self.take(1);
        loop {
            self.blanks();
            if self.ends(end) {
                break;
            }
            values.push(self.value(depth + 1)?);
            self.blanks();
            if !self.skip(',') && !self.rest.is_empty() && !self.rest.starts_with(end) {
                return None;
            }
        }
        Some(Value::Array(values))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut text = String::new();
        self.take(1);
        loop {
            let end = self.rest.find([quote, '\\']).unwrap_or(self.rest.len());
            text.push_str(&self.rest[..end]);
            self.take(end);
            if self.rest.is_empty() || self.skip(quote) {
                return Some(text);
            }
            self.take(1);
            let Some(letter) = self.rest.chars().next() else { return Some(text) };
            self.take(letter.len_utf8());
            match letter {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' | 'f' => text.push(' '),
                'x' => self.coded(2, &mut text),
                'u' => self.coded(4, &mut text),
                'U' => self.coded(8, &mut text),
                '\n' => {}
                other => text.push(other),
            }
        }
    }

    /// A character by its number; half of a pair is replaced.
    fn coded(&mut self, digits: usize, text: &mut String) {
        let number = self.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        if let Some(number) = number {
            text.push(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
            self.take(digits);
        }
    }

    fn number(&mut self) -> Option<Value> {
        let in_number = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
        let end = self.rest.find(|letter| !in_number(letter)).unwrap_or(self.rest.len());
        let digits = &self.rest[..end];
        let whole = digits.parse::<i64>().ok().map(Number::from);
        let number = whole.or_else(|| Number::from_f64(digits.parse().ok()?))?;
        self.take(end);
        Some(Value::Number(number))
    }

    /// Whether a list or an object ends here, with its sign or with the text.
    fn ends(&mut self, end: char) -> bool {
        self.skip(end) || self.rest.is_empty()
    }

    fn skip(&mut self, letter: char) -> bool {
        let rest = self.rest.strip_prefix(letter);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_notations_are_read_to_their_end_or_the_end_of_the_text() {
        for (text, expected) in [
            ("{'a': None, 'b': True} and more", json!({"a": null, "b": true})),
            (r#"{"a": null, "b": [1, -2.5, "x"]}"#, json!({"a": null, "b": [1, -2.5, "x"]})),
            (
                r#"{'it': "it's", "x": 'say \'hi\'\n\u00e9'}"#,
                json!({"it": "it's", "x": "say 'hi'\né"}),
            ),
            ("{'loc': ('body', 1), 'raw': b'x\\xe9'}", json!({"loc": ["body", 1], "raw": "xé"})),
            ("{'error': {'message': 'Rate lim", json!({"error": {"message": "Rate lim"}})),
            ("{'error': {'code': 429, 'mess", json!({"error": {"code": 429, "mess": null}})),
            ("{1: 2,}", json!({"1": 2})),
            ("{}", json!({})),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["", "x", "{a}", "{'a' 1}", "{'a': <object>}", "[1 2]", "-", &"[".repeat(90)] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_and_never_panics(text in ".{0,80}", open in "[\\[{(]{0,40}") {
            let _ = read(&text);
            let _ = read(&format!("{open}{text}"));
            let _ = read(&format!("{{'a': '{text}', \"b\": {text}"));
        }

        #[test]
        fn json_is_read_as_a_json_reader_reads_it(text in "[a-z\"\\\\é]{0,9}", number in any::<i64>()) {
            let value = json!({"error": {"message": text, "code": number, "list": [null, false]}});
            prop_assert_eq!(read(&value.to_string()), Some(value));
        }
    }
}
