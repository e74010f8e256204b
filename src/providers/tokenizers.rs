//! Token counts by the tokenizer of the model.
//!
//! OpenAI's tokenizers are public, so that its models (and its open ones elsewhere) can be counted exactly. Their tables
//! take about a fifth of a second to load and are loaded once, by a caller that is willing to wait for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use tiktoken_rs::CoreBPE;

use super::chat::{ChatRequest, Content, Message, Role};

/// A public tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// `o200k_base`: GPT-4o and what came after it, the o series, gpt-oss.
    O200k,
    /// `cl100k_base`: GPT-4 and GPT-3.5.
    Cl100k,
}

/// Which names of models begin how, up to the end of a word; the first row that fits counts (source: the tables of
/// OpenAI's tokenizer library). Others have names that look alike: `gpt-j-6b`, `gpt-neox-20b`.
const FAMILIES: [(&str, Tokenizer); 12] = [
    ("gpt-4o", Tokenizer::O200k),
    ("gpt-4.1", Tokenizer::O200k),
    ("gpt-4.5", Tokenizer::O200k),
    ("gpt-4", Tokenizer::Cl100k),
    ("gpt-3.5", Tokenizer::Cl100k),
    ("gpt-35", Tokenizer::Cl100k),
    ("gpt-oss", Tokenizer::O200k),
    ("chatgpt", Tokenizer::O200k),
    ("codex", Tokenizer::O200k),
    ("o1", Tokenizer::O200k),
    ("o3", Tokenizer::O200k),
    ("o4", Tokenizer::O200k),
];

/// Longer texts are cut where no token can reach across, so that no piece takes the tokenizer's time or its patience.
const PIECE: usize = 16 * 1024;

/// The frame of a message and of the answer's beginning, as OpenAI's cookbook counts them.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PER_TOOL_CALL: u64 = 3;
const FOR_THE_ANSWER: u64 = 3;

static O200K: OnceLock<Option<CoreBPE>> = OnceLock::new();
static CL100K: OnceLock<Option<CoreBPE>> = OnceLock::new();
static O200K_BEGUN: AtomicBool = AtomicBool::new(false);
static CL100K_BEGUN: AtomicBool = AtomicBool::new(false);

impl Tokenizer {
    /// The tokenizer of a model, judged by its name; `None` when it is not public.
    ///
    /// ```
    /// use quotaflow::providers::Tokenizer;
    /// assert_eq!(Tokenizer::of_model("gpt-4o-mini"), Some(Tokenizer::O200k));
    /// assert_eq!(Tokenizer::of_model("openai/gpt-4-turbo"), Some(Tokenizer::Cl100k));
    /// assert_eq!(Tokenizer::of_model("gpt-5.1-mini"), Some(Tokenizer::O200k));
    /// assert_eq!(Tokenizer::of_model("claude-sonnet-5"), None);
    /// assert_eq!(Tokenizer::of_model("gpt-j-6b"), None);
    /// ```
    pub fn of_model(model: &str) -> Option<Tokenizer> {
        let name = model.trim().to_ascii_lowercase();
        let name = name.strip_prefix("openai/").unwrap_or(&name);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let is_word = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
        let begins =
            |(prefix, _): &&(&str, Tokenizer)| name.strip_prefix(prefix).is_some_and(is_word);
        let family = FAMILIES.iter().find(begins).map(|(_, tokenizer)| *tokenizer);
        // Whatever number comes next.
        let is_numbered = || {
            let number = name.strip_prefix("gpt-")?;
            let rest = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
            (rest.len() < number.len() && is_word(rest)).then_some(Tokenizer::O200k)
        };
        family.or_else(is_numbered)
    }

    /// Whether its tables are loaded, so that counting takes microseconds.
    pub fn is_ready(self) -> bool {
        self.cell().get().is_some()
    }

    /// Claims the loading of the tables: `true` for the first caller, who is to load them.
    pub fn begins_to_load(self) -> bool {
        let begun = match self {
            Tokenizer::O200k => &O200K_BEGUN,
            Tokenizer::Cl100k => &CL100K_BEGUN,
        };
        !begun.swap(true, Ordering::Relaxed)
    }

    /// Loads its tables, if they are not: about 0.2 s.
    pub fn load(self) {
        self.tables();
    }

    /// The tokens of a text, special tokens taken as the words they are written with; loads the tables first.
    /// `None`: they cannot be loaded, or the text is more than they can take.
    ///
    /// ```
    /// use quotaflow::providers::Tokenizer;
    /// assert_eq!(Tokenizer::O200k.count("hello world"), Some(2));
    /// ```
    pub fn count(self, text: &str) -> Option<u64> {
        let tables = self.tables()?;
        // The library gives up on text that its patterns cannot split by panicking.
        let count = || pieces(text).map(|piece| tables.count_ordinary(piece) as u64).sum();
        catch_unwind(AssertUnwindSafe(count)).ok()
    }

    /// The tokens of a conversation with its frame; `None` when it has parts that are no text, or tools, whose form
    /// before the model is not public.
    pub fn count_chat(self, request: &ChatRequest, params: &Map<String, Value>) -> Option<u64> {
        if params.contains_key("tools") || params.contains_key("response_format") {
            return None;
        }
        let messages: Option<u64> =
            request.messages.iter().map(|message| self.count_message(message)).sum();
        Some(messages? + FOR_THE_ANSWER)
    }

    fn count_message(self, message: &Message) -> Option<u64> {
        let mut tokens = PER_MESSAGE + self.count(role_name(message.role))?;
        match &message.content {
            Content::Text(text) => tokens += self.count(text)?,
            Content::Parts(parts) => {
                for part in parts {
                    tokens += self.count(part.get("text")?.as_str()?)?;
                }
            }
            Content::Nothing(()) => {}
        }
        if let Some(name) = &message.name {
            tokens += PER_NAME + self.count(name)?;
        }
        for call in &message.tool_calls {
            let function = call.get("function")?;
            let name = self.count(function.get("name")?.as_str()?)?;
            tokens += PER_TOOL_CALL + name + self.count(function.get("arguments")?.as_str()?)?;
        }
        Some(tokens)
    }

    fn cell(self) -> &'static OnceLock<Option<CoreBPE>> {
        match self {
            Tokenizer::O200k => &O200K,
            Tokenizer::Cl100k => &CL100K,
        }
    }

    fn tables(self) -> Option<&'static CoreBPE> {
        let load = || match self {
            Tokenizer::O200k => tiktoken_rs::o200k_base(),
            Tokenizer::Cl100k => tiktoken_rs::cl100k_base(),
        };
        let cell = self.cell();
        if cell.get().is_none() {
            // Loaded before the cell is asked: a fork at that moment must not find it busy for ever.
            let _ = cell.set(load().ok());
        }
        cell.get()?.as_ref()
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// The text in pieces of about [`PIECE`] bytes, cut before a blank between two ASCII letters: a word takes the blank
/// before it and none after it, so that no token lies across. Where there is no such place, between two characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at(cut(rest));
        rest = left;
        Some(piece)
    })
}

fn cut(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let bytes = text.as_bytes();
    let is_letter = |place: usize| bytes.get(place).is_some_and(u8::is_ascii_alphabetic);
    let between =
        |place: &usize| bytes[*place] == b' ' && is_letter(place - 1) && is_letter(place + 1);
    let most = bytes.len().min(2 * PIECE);
    (PIECE..most)
        .find(between)
        .unwrap_or_else(|| (PIECE..=most).find(|at| text.is_char_boundary(*at)).unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn models_have_the_tokenizer_of_their_family() {
        use Tokenizer::{Cl100k, O200k};
        for (model, tokenizer) in [
            ("gpt-4o", Some(O200k)),
            ("GPT-4.1-nano", Some(O200k)),
            ("gpt-4", Some(Cl100k)),
            ("gpt-4-0613", Some(Cl100k)),
            ("gpt-3.5-turbo", Some(Cl100k)),
            ("gpt-35-turbo", Some(Cl100k)),
            ("gpt-5-mini", Some(O200k)),
            ("openai/gpt-oss-120b", Some(O200k)),
            ("ft:gpt-4o-mini:acme::1", Some(O200k)),
            ("o1-preview", Some(O200k)),
            ("o4-mini", Some(O200k)),
            ("o4x", None),
            ("o1x", None),
            ("gpt-6-mini", Some(O200k)),
            ("gpt-oss-120b", Some(O200k)),
            ("gpt-j-6b", None),
            ("gpt-neox-20b", None),
            ("gpt-4all", None),
            ("gemini-2.5-flash", None),
            ("llama3", None),
            ("", None),
        ] {
            assert_eq!(Tokenizer::of_model(model), tokenizer, "{model}");
        }
    }

    /// Published by OpenAI, with its tokenizer library and in its cookbook.
    #[test]
    fn known_texts_have_their_known_counts() {
        for (text, cl100k, o200k) in [
            ("", 0, 0),
            ("hello world", 2, 2),
            ("tiktoken is great!", 6, 6),
            ("antidisestablishmentarianism", 6, 6),
            ("2 + 2 = 4", 7, 7),
            ("お誕生日おめでとう", 9, 8),
        ] {
            assert_eq!(Tokenizer::Cl100k.count(text), Some(cl100k), "{text}");
            assert_eq!(Tokenizer::O200k.count(text), Some(o200k), "{text}");
        }
    }

    fn said(role: Role, name: Option<&str>, text: &str) -> Message {
        Message {
            role,
            content: Content::Text(text.to_owned()),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: name.map(str::to_owned),
        }
    }

    /// The example of OpenAI's cookbook, with the counts that the API reported for it.
    #[test]
    fn a_conversation_is_counted_as_it_is_billed() {
        let system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.";
        let turns = [
            ("example_user", "New synergies will help drive top-line growth."),
            ("example_assistant", "Things working well together will increase revenue."),
            (
                "example_user",
                "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
            ),
            ("example_assistant", "Let's talk later when we're less busy about how to do better."),
        ];
        let last = "This late pivot means we don't have time to boil the ocean for the client deliverable.";
        let mut messages = vec![said(Role::System, None, system)];
        messages.extend(turns.map(|(name, text)| said(Role::System, Some(name), text)));
        messages.push(said(Role::User, None, last));
        let request = ChatRequest { messages, params: Map::new() };
        assert_eq!(Tokenizer::Cl100k.count_chat(&request, &Map::new()), Some(129));
        assert_eq!(Tokenizer::O200k.count_chat(&request, &Map::new()), Some(124));
    }

    #[test]
    fn what_is_no_text_is_not_counted() {
        let count = |message: Message, params: &str| {
            let request = ChatRequest { messages: vec![message], params: Map::new() };
            Tokenizer::O200k.count_chat(&request, &serde_json::from_str(params).unwrap())
        };
        let text = said(Role::User, None, "hello world");
        assert_eq!(count(text.clone(), "{}"), Some(9));
        assert_eq!(count(text.clone(), r#"{"tools":[]}"#), None);
        let parts = |part| Content::Parts(vec![serde_json::from_str(part).unwrap()]);
        let with = |content| Message { content, ..text.clone() };
        assert_eq!(count(with(parts(r#"{"type":"text","text":"hello world"}"#)), "{}"), Some(9));
        assert_eq!(count(with(parts(r#"{"type":"image_url"}"#)), "{}"), None);
    }

    #[test]
    fn a_long_text_has_the_tokens_it_has_in_one_piece() {
        let whole = |text: &str| Tokenizer::O200k.tables().unwrap().count_ordinary(text) as u64;
        let words =
            "It was the best of times, it was the worst of times; 1775 of them.\n".repeat(2_000);
        assert!(words.len() > 4 * PIECE);
        assert_eq!(Tokenizer::O200k.count(&words), Some(whole(&words)));
    }

    #[test]
    fn a_text_without_words_is_counted_in_little_time() {
        for letter in ["a", " ", "\u{e9}", "\n", "^", "\u{4e2d}"] {
            let text = letter.repeat(200_000);
            assert!(Tokenizer::O200k.count(&text).is_some_and(|count| count > 100), "{letter:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_text(words in prop::collection::vec("[a-z]{1,9}|\\PC{1,9}| ", 0..9_000)) {
            let text = words.join(" ");
            let mut together = String::new();
            for piece in pieces(&text) {
                prop_assert!(!piece.is_empty() && piece.len() <= 2 * PIECE + 4);
                together.push_str(piece);
            }
            prop_assert_eq!(together, text);
        }
    }
}
