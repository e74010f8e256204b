//! Redaction of keys in the texts of providers.

/// The most characters of a provider's words that are kept.
const LONGEST: usize = 500;

/// What keys start with.
const KEY_STARTS: [&str; 12] =
    ["sk-", "sk_", "pk-", "rk-", "gsk_", "aiza", "aq.", "xai-", "csk-", "hf_", "key-", "bearer-"];

/// Names that are no secrets although they look random; support asks for them.
const PUBLIC_STARTS: [&str; 10] =
    ["org-", "org_", "proj_", "req_", "req-", "user_", "msg_", "resp_", "gen-", "chatcmpl-"];

/// What stands before a secret: the next word goes.
const ANNOUNCEMENTS: [&str; 5] = ["bearer", "key", "api_key", "apikey", "token"];

const HIDDEN: &str = "[hidden]";

/// `text` without anything that looks like a key, without control characters, at most 500 characters.
pub(super) fn redacted(text: &str) -> String {
    // A body can be huge; what is behind the first few thousand characters is never shown.
    let text: String = text.trim().chars().take(LONGEST * 8).collect();
    let mut out = String::with_capacity(text.len().min(LONGEST * 4));
    let mut announced = false;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|letter| !in_word(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !word.is_empty() {
            let secret = looks_secret(word) || (announced && looks_random(word, 8));
            out.push_str(if secret { HIDDEN } else { word });
            let lower = word.to_ascii_lowercase();
            announced = ANNOUNCEMENTS.contains(&lower.as_str());
        }
        let Some(letter) = after.chars().next() else { break };
        announced &= matches!(letter, ' ' | ':' | '=' | '"' | '\'');
        // A blank keeps lines of logs whole.
        out.push(if letter.is_control() { ' ' } else { letter });
        rest = &after[letter.len_utf8()..];
    }
    shortened(out)
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '-' | '_' | '*' | '.' | '+' | '/')
}

fn shortened(text: String) -> String {
    if text.chars().count() <= LONGEST {
        return text;
    }
    let mut kept: String = text.chars().take(LONGEST - 1).collect();
    kept.push('…');
    kept
}

fn looks_secret(word: &str) -> bool {
    let starts = |known: &[&str]| {
        known.iter().any(|start| {
            word.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
        })
    };
    if starts(&KEY_STARTS) && word.len() >= 6 || word.contains("**") {
        return true;
    }
    if starts(&PUBLIC_STARTS) {
        return false;
    }
    // A path or a model's name has short runs between its dashes; a token has one long run.
    word.split(['-', '_', '.', '/']).any(|run| looks_random(run, 20))
}

/// A run of letters and digits mixed, unlike any name.
fn looks_random(run: &str, least: usize) -> bool {
    let has = |test: fn(&u8) -> bool| run.bytes().any(|byte| test(&byte));
    run.len() >= least && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_go_and_words_stay() {
        for (text, expected) in [
            (
                "Incorrect API key provided: sk-test-1. You can find",
                "Incorrect API key provided: [hidden] You can find",
            ),
            ("provided: sk-pr****abcd (x)", "provided: [hidden] (x)"),
            ("Your api key: ****key is invalid", "Your api key: [hidden] is invalid"),
            ("Bearer abc12345 was", "Bearer [hidden] was"),
            ("POST /x?key=abcd1234efgh&y=1", "POST /x?key=[hidden]&y=1"),
            ("token 0123456789abcdef0123456789abcdef", "token [hidden]"),
            ("model: claude-sonnet-5", "model: claude-sonnet-5"),
            (
                "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
                "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
            ),
            (
                "organization org-abcdefgh12345678abcdefgh",
                "organization org-abcdefgh12345678abcdefgh",
            ),
            ("keys gsk_test1, AIzaTest1 and xai-test1", "keys [hidden], [hidden] and [hidden]"),
            ("{\"api_key\":\"abcd1234\"}", "{\"api_key\":\"[hidden]\"}"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_to_size(text in "\\PC{0,900}") {
            prop_assert!(redacted(&text).chars().count() <= LONGEST);
        }

        #[test]
        fn a_key_never_survives(before in "[a-z :=\"]{0,20}", key in "sk-[a-zA-Z0-9]{12,30}", after in "[ .,]{0,3}") {
            let text = format!("{before} {key}{after}");
            prop_assert!(!redacted(&text).contains(&key));
        }
    }
}
