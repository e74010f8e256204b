//! Detection of keys in the wrong place of a config.

use serde_json::Value;

/// How keys of the providers in the catalogue (and of a few others) begin, as their documentation shows them.
const KEY_BEGINNINGS: [&str; 12] =
    ["sk-", "sk_", "gsk_", "AIza", "AQ.", "xai-", "csk-", "pplx-", "hf_", "r8_", "tgp_", "Bearer "];

/// What stands in an error in place of a name that may be a key.
pub(super) const HIDDEN: &str = "[hidden]";

/// Longer words than this are no name of a provider, field or task; a pasted key is.
const LONGEST_NAME: usize = 64;

/// Whether `text` begins like a key of a known provider.
pub fn looks_like_a_key(text: &str) -> bool {
    let text = text.trim();
    KEY_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// Whether a key stands anywhere in `value`, as a text or as a name.
pub(super) fn holds_a_key(value: &Value) -> bool {
    match value {
        Value::String(text) => looks_like_a_key(text),
        Value::Array(members) => members.iter().any(holds_a_key),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| looks_like_a_key(name) || holds_a_key(value))
        }
        _ => false,
    }
}

/// `name` as an error may show it: itself, unless it could be a key.
///
/// Among keys (`strict`) only a short word in lower case is shown.
pub(super) fn shown(name: &str, strict: bool) -> &str {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let suspicious = looks_like_a_key(name)
        || name.len() > LONGEST_NAME
        || name.chars().any(char::is_control)
        || (strict && (name.len() > 20 || !name.chars().all(plain)));
    if suspicious { HIDDEN } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_keys_are_not() {
        for (name, strict, visible) in [
            ("openai", true, true),
            ("my-server", true, true),
            ("gpt-4.1-mini", false, true),
            ("sk-test-planted", false, false),
            ("gsk_test", true, false),
            ("aVeryMixedWord", true, false),
            ("aVeryMixedWord", false, true),
            ("two\nlines", false, false),
            (&"x".repeat(65), false, false),
        ] {
            assert_eq!(shown(name, strict) == name, visible, "{name} {strict}");
        }
    }
}
