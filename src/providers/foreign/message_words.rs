//! The words of an error message, for whole-word matching.

use std::fmt;

/// What is read of a message.
const MOST_BYTES: usize = 3_000;

/// The words of a message in small letters, each between single blanks; links are left out.
///
/// `RateLimitError`, `rate_limit_error` and `rate-limit error` are the same words.
#[derive(Debug)]
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(text: &str) -> Words {
        let text = &text[..text.floor_char_boundary(MOST_BYTES)];
        let mut words = String::with_capacity(text.len() + text.len() / 8 + 2);
        words.push(' ');
        for piece in text.split_whitespace() {
            if !piece.contains("://") {
                spell(piece, &mut words);
            }
        }
        Words(words)
    }

    /// Whether one of the phrases stands there, whole.
    pub(super) fn any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| {
            let is_whole = |(at, found): (usize, &str)| {
                let bytes = self.0.as_bytes();
                bytes[at - 1] == b' ' && bytes[at + found.len()] == b' '
            };
            // `contains` is much faster at what is nearly always the case: it is not there.
            self.0.contains(phrase) && self.0.match_indices(phrase).any(is_whole)
        })
    }
}

/// Writes the words of a piece without blanks, each with a blank behind it.
fn spell(piece: &str, words: &mut String) {
    let mut letters = piece.chars().peekable();
    let mut last = ' ';
    while let Some(letter) = letters.next() {
        if !letter.is_alphanumeric() {
            if !words.ends_with(' ') {
                words.push(' ');
            }
        } else {
            let next_small = letters.peek().is_some_and(|next| next.is_lowercase());
            let begins =
                letter.is_uppercase() && (last.is_lowercase() || last.is_uppercase() && next_small);
            if begins && !words.ends_with(' ') {
                words.push(' ');
            }
            words.extend(letter.to_lowercase());
        }
        last = letter;
    }
    if !words.ends_with(' ') {
        words.push(' ');
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_however_they_are_put_together() {
        for (text, expected) in [
            ("RateLimitError", "rate limit error"),
            ("rate_limit-error:", "rate limit error"),
            ("APIConnectionError('x')", "api connection error x"),
            ("see https://h/rate-limit?error=1 now", "see now"),
            ("RESOURCE_EXHAUSTED. (e.g. ÄÖ)", "resource exhausted e g äö"),
            ("", ""),
        ] {
            assert_eq!(Words::of(text).to_string(), expected);
        }
    }

    #[test]
    fn phrases_are_found_whole_or_not_at_all() {
        let words = Words::of("the warpmap met no limits; limit of rpm");
        assert!(words.any(&["x", "limit of rpm"]) && words.any(&["the warpmap"]));
        assert!(!words.any(&["rpm limit", "arpm", "met no limit", "warp"]));
    }
}
