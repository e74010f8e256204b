//! Extraction of JSON from the text of an answer.
//!
//! In this order: the text itself, what follows the reasoning, what stands in code fences, then every object and list
//! that is not inside of another. A whole value inside of something cut off is no answer. Where `max_tokens` cut the
//! text, neither is a whole value before the cut.

use std::ops::Range;

use serde::de::IgnoredAny;

/// More values than an answer has; what comes later is not looked at.
const MOST_VALUES: usize = 1_000;

/// How many bytes may be read in vain: text of nothing but brackets would be read once from each of them.
const MOST_IN_VAIN: usize = 64 << 20;

/// Between these a model thinks, where a server does not keep that apart.
const THINKING: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];

/// What JSON there is in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonInText<'a> {
    /// Whole values, the likeliest answer first: the text itself, what stands in fences, then every object and list in
    /// the order of the text. A value inside of another one is not there.
    pub values: Vec<&'a str>,
    /// Whether the text ends in the middle of a value, or of thinking.
    pub is_cut: bool,
}

/// The JSON in what a model said, with thinking, prose and fences around it left out.
///
/// Nothing is mended: a value with a comma too many is none.
///
/// ```
/// use quotaflow::providers::json_in;
/// assert_eq!(json_in("Sure: {\"a\": [1]}. Bye").values, ["{\"a\": [1]}"]);
/// assert_eq!(json_in("<think>[1]?</think>[2]").values, ["[2]"]);
/// assert!(json_in("{\"a\": [1], \"b").is_cut);
/// ```
pub fn json_in(text: &str) -> JsonInText<'_> {
    let text = text.trim_start_matches('\u{feff}').trim();
    for (opens, closes) in THINKING {
        if let Some(thought) = text.strip_prefix(opens) {
            return match thought.split_once(closes) {
                Some((_, answer)) => Search::of(answer).found(),
                None => JsonInText { values: Vec::new(), is_cut: true },
            };
        }
    }
    let mut search = Search::of(text);
    // Some servers swallow the opening mark. What stands inside of a value is none.
    let mark = |(_, closes): &(&str, &str)| text.rfind(closes).map(|at| at + closes.len());
    if let Some(end) = THINKING.iter().find_map(mark)
        && search.cut_at.is_none_or(|cut| cut >= end)
        && !search.places.iter().any(|place| place.start < end && end < place.end)
    {
        let everywhere = std::mem::take(&mut search.places);
        search.gather(end);
        everywhere.into_iter().for_each(|place| search.add(place));
    }
    search.found()
}

struct Search<'a> {
    text: &'a str,
    places: Vec<Range<usize>>,
    cut_at: Option<usize>,
}

impl<'a> Search<'a> {
    fn of(text: &'a str) -> Self {
        let mut search = Search { text, places: Vec::new(), cut_at: None };
        search.gather(0);
        search
    }

    fn found(self) -> JsonInText<'a> {
        JsonInText {
            values: self.places.into_iter().map(|place| &self.text[place]).collect(),
            is_cut: self.cut_at.is_some(),
        }
    }

    fn gather(&mut self, from: usize) {
        if self.add_json(from..self.text.len()) {
            return;
        }
        for fenced in fenced(self.text, from) {
            self.add_json(fenced);
        }
        let mut in_vain = 0;
        let mut at = from;
        while let Some(start) = self.text[at..].find(['{', '[']).map(|found| at + found) {
            if self.places.len() >= MOST_VALUES || in_vain > MOST_IN_VAIN {
                return;
            }
            match value_at(&self.text[start..]) {
                Begins::Whole(length) => {
                    at = start + length;
                    self.add(start..at);
                }
                // What is whole inside of something cut off is a part of the answer and not the answer.
                Begins::Cut => {
                    self.cut_at = Some(start);
                    return;
                }
                Begins::Nothing(read) => {
                    in_vain += read;
                    at = start + 1;
                }
            }
        }
    }

    /// Adds what stands there if all of it is one value.
    fn add_json(&mut self, place: Range<usize>) -> bool {
        let text = &self.text[place.clone()];
        let start = place.start + text.len() - text.trim_start().len();
        let place = start..start + text.trim().len();
        let is_json = serde_json::from_str::<IgnoredAny>(&self.text[place.clone()]).is_ok();
        if is_json {
            self.add(place);
        }
        is_json
    }

    fn add(&mut self, place: Range<usize>) {
        if !self.places.contains(&place) {
            self.places.push(place);
        }
    }
}

/// What begins at a bracket.
enum Begins {
    /// A value of so many bytes.
    Whole(usize),
    /// A value that the end of the text cuts off.
    Cut,
    /// Nothing, which took so many bytes to see.
    Nothing(usize),
}

fn value_at(text: &str) -> Begins {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Begins::Whole(values.byte_offset()),
        Some(Err(error)) if !error.is_eof() => {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let read = lines.map(str::len).sum::<usize>() + error.column();
            // A number without its last digits is wrong, not ended, to the parser.
            let in_number = text.ends_with(['-', '+', '.', 'e', 'E']) && read >= text.len();
            if in_number { Begins::Cut } else { Begins::Nothing(read) }
        }
        _ => Begins::Cut,
    }
}

/// What stands between lines of three backticks, from a place on.
fn fenced(text: &str, from: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut opened = None;
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        let start = at;
        at += line.len();
        let Some(word) = line.trim().strip_prefix("```") else { continue };
        match opened.take() {
            Some(opened) => found.push(opened..start),
            None if word.trim().chars().all(char::is_alphanumeric) => opened = Some(at),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_likeliest_answer_comes_first() {
        for (text, values) in [
            ("{\"a\":1}", vec!["{\"a\":1}"]),
            ("\u{feff}42 ", vec!["42"]),
            ("no json", vec![]),
            ("", vec![]),
            ("It is [1]:\n```json\n{\"a\": 1}\n```\nDone.", vec!["{\"a\": 1}", "[1]"]),
            ("```\n\"yes\"\n```", vec!["\"yes\""]),
            ("```json {\"a\": 1} ```", vec!["{\"a\": 1}"]),
            ("``` json\n[2]", vec!["[2]"]),
            ("{\"a\": 1} {\"a\": 2}", vec!["{\"a\": 1}", "{\"a\": 2}"]),
            ("a set {x: y} of [things] and {\"a\": \"}\\\"\"}", vec!["{\"a\": \"}\\\"\"}"]),
            ("<think>{\"a\": 0}</think>\n{\"a\": 1}", vec!["{\"a\": 1}"]),
            ("{\"a\": 0} hm</think>{\"a\": 1}", vec!["{\"a\": 1}", "{\"a\": 0}"]),
            ("so 42.</think>\n42", vec!["42"]),
            ("{\"a\": \"</think>\"}.", vec!["{\"a\": \"</think>\"}"]),
            ("{\"a\": 1,}", vec![]),
        ] {
            let found = json_in(text);
            assert_eq!(found, JsonInText { values, is_cut: false }, "{text}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_answer_nor_is_a_part_of_it() {
        for text in
            ["{\"a\": {\"b\": 1}, \"c", "```json\n[[1], [2", "<think>{\"a\": 1}", "So: [1, "]
        {
            assert_eq!(json_in(text), JsonInText { values: vec![], is_cut: true }, "{text}");
        }
        let found = json_in("{\"a\": 1} and {\"a\":");
        assert_eq!((found.values, found.is_cut), (vec!["{\"a\": 1}"], true));
    }

    #[test]
    fn brackets_without_end_are_read_in_bounded_time() {
        assert!(json_in(&"[".repeat(2_000_000)).is_cut);
        let mut nasty = "[1,".repeat(300_000);
        nasty.push('x');
        assert_eq!(json_in(&nasty).values.len(), 0);
        assert_eq!(json_in(&"[] ".repeat(5_000)).values.len(), MOST_VALUES);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}|[\\[{}\\]\"\\\\`\n<>/think]{0,12}".prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("\\PC{0,6}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        });
        inner.prop_map(|value| match value {
            Value::Object(_) | Value::Array(_) => value,
            other => json!([other]),
        })
    }

    proptest! {
        #[test]
        fn any_value_in_any_text_is_found(
            before in "[a-z \\[{}\\]\"\\\\:,0-9\n`]{0,60}|\\PC{0,60}",
            value in any_json(),
            pretty in any::<bool>(),
            after in "[a-z \\[{}\\]\":,0-9\n`]{0,60}|\\PC{0,60}",
        ) {
            let written = if pretty { format!("{value:#}") } else { value.to_string() };
            // A line with this ends whatever the text before may have begun.
            let text = format!("{before}\n;\n{written}{after}");
            let found = json_in(&text);
            let read = |text: &&str| serde_json::from_str::<Value>(text).ok();
            prop_assert!(found.values.iter().filter_map(read).any(|found| found == value), "{text}");
        }

        #[test]
        fn a_value_cut_anywhere_is_never_an_answer(value in any_json(), cut in any::<prop::sample::Index>()) {
            let written = value.to_string();
            let mut end = cut.index(written.len());
            while !written.is_char_boundary(end) {
                end -= 1;
            }
            let found = json_in(&written[..end]);
            prop_assert_eq!(found.values.len(), 0, "{}", &written[..end]);
            prop_assert_eq!(found.is_cut, end > 0);
        }
    }
}
