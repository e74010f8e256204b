//! Token settings: the sizes of prompts and answers.

use serde::Deserialize;
use tiktoken_rs::CoreBPE;

/// How many tokens prompts and answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// Tokens of every prompt on top of its text; default 7.
    pub overhead: u64,
    /// Whose tokens the text of a prompt has; default: none, a token for every four characters, rounded up.
    pub tokenizer: Option<Tokenizer>,
    /// Tokens of an answer that no `max_tokens` cuts short: a number or `{min, max}`; default 16.
    pub output: OutputTokens,
}

impl Default for TokenSettings {
    fn default() -> Self {
        TokenSettings { overhead: 7, tokenizer: None, output: OutputTokens::Fixed(16) }
    }
}

/// How many tokens an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "output tokens are a number or {min: …, max: …}")]
pub enum OutputTokens {
    /// Always the same.
    Fixed(u64),
    /// Anything between the two, evenly.
    Between {
        /// The fewest.
        min: u64,
        /// The most.
        max: u64,
    },
}

/// A public tokenizer of OpenAI's: its bills are exactly that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Tokenizer {
    /// GPT-4o and what came after it.
    #[serde(rename = "o200k_base")]
    O200kBase,
    /// GPT-4 and GPT-3.5.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
}

impl Tokenizer {
    /// Loads its tables, which takes about 0.2 s the first time.
    pub(in super::super) fn load(self) -> &'static CoreBPE {
        match self {
            Tokenizer::O200kBase => tiktoken_rs::o200k_base_singleton(),
            Tokenizer::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        }
    }
}

impl TokenSettings {
    /// The tokens of a prompt that has these texts.
    pub(in super::super) fn of_prompt(&self, texts: &[String]) -> u64 {
        let tokens = match self.tokenizer {
            None => texts.iter().map(|text| text.chars().count() as u64).sum::<u64>().div_ceil(4),
            Some(tokenizer) => {
                let tables = tokenizer.load();
                texts.iter().map(|text| tables.count_ordinary(text) as u64).sum()
            }
        };
        tokens + self.overhead
    }
}
