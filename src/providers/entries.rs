//! What are the facts about each provider? One entry each; a new provider is a new entry.

use super::catalogue::Dialect;
use super::hints::{self, RateHeaders};
use super::refusals::{self, Row};
use super::wire::KeyHeader;

/// How a provider's limits come back, as far as its documentation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refills {
    /// Continuously.
    Buckets,
    /// Short windows are of unknown kind (rolling is the safe reading), days end at midnight.
    MidnightDays { zone: &'static str },
    /// Nothing is documented: rolling.
    Windows,
}

/// Under which name an OpenAI-like server takes the cap on output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputCap {
    /// `max_completion_tokens` for reasoning models, which refuse `max_tokens`.
    ByModel,
    /// Either; as the caller wrote it.
    AsGiven,
    /// `max_tokens` only.
    MaxTokens,
}

/// The facts about one provider.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) dialect: Dialect,
    pub(super) base_url: &'static str,
    /// What is added to a base URL that is only a host.
    pub(super) version_path: &'static str,
    pub(super) key_envs: &'static [&'static str],
    pub(super) needs_key: bool,
    pub(super) key_header: KeyHeader,
    pub(super) refills: Refills,
    pub(super) reserves_max_tokens: bool,
    pub(super) counts_output: bool,
    pub(super) counts_cached_input: bool,
    pub(super) rate_headers: RateHeaders,
    pub(super) output_cap: OutputCap,
    /// Rows of the refusal table, before the generic ones.
    pub(super) refusals: &'static [Row],
}

const OPENAI_LIKE: Entry = Entry {
    name: "",
    aliases: &[],
    dialect: Dialect::OpenAi,
    base_url: "",
    version_path: "/v1",
    key_envs: &[],
    needs_key: true,
    key_header: KeyHeader::BEARER,
    refills: Refills::Windows,
    // An unknown server may charge the cap at once: reserving it is the safe side.
    reserves_max_tokens: true,
    counts_output: true,
    counts_cached_input: true,
    rate_headers: hints::OPENAI,
    output_cap: OutputCap::AsGiven,
    refusals: &[],
};

pub(super) static ENTRIES: [Entry; 6] = [
    Entry {
        name: "openai",
        base_url: "https://api.openai.com/v1",
        key_envs: &["OPENAI_API_KEY"],
        refills: Refills::Buckets,
        output_cap: OutputCap::ByModel,
        refusals: refusals::OPENAI,
        ..OPENAI_LIKE
    },
    Entry {
        name: "anthropic",
        aliases: &["claude"],
        dialect: Dialect::Anthropic,
        base_url: "https://api.anthropic.com",
        key_envs: &["ANTHROPIC_API_KEY"],
        key_header: KeyHeader::ANTHROPIC,
        refills: Refills::Buckets,
        reserves_max_tokens: false,
        counts_cached_input: false,
        rate_headers: hints::ANTHROPIC,
        refusals: refusals::ANTHROPIC,
        ..OPENAI_LIKE
    },
    Entry {
        name: "gemini",
        aliases: &["google", "google_genai", "google-genai"],
        dialect: Dialect::Gemini,
        base_url: "https://generativelanguage.googleapis.com",
        version_path: "/v1beta",
        key_envs: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        key_header: KeyHeader::GEMINI,
        refills: Refills::MidnightDays { zone: "America/Los_Angeles" },
        reserves_max_tokens: false,
        counts_output: false,
        rate_headers: hints::NOTHING,
        refusals: refusals::GEMINI,
        ..OPENAI_LIKE
    },
    Entry {
        name: "openrouter",
        base_url: "https://openrouter.ai/api/v1",
        version_path: "/api/v1",
        key_envs: &["OPENROUTER_API_KEY"],
        refills: Refills::MidnightDays { zone: "UTC" },
        // It reserves money for max_tokens, not tokens.
        reserves_max_tokens: false,
        rate_headers: hints::OPENROUTER,
        refusals: refusals::OPENROUTER,
        ..OPENAI_LIKE
    },
    Entry {
        name: "groq",
        base_url: "https://api.groq.com/openai/v1",
        version_path: "/openai/v1",
        key_envs: &["GROQ_API_KEY"],
        refills: Refills::Buckets,
        counts_cached_input: false,
        rate_headers: hints::GROQ,
        refusals: refusals::GROQ,
        ..OPENAI_LIKE
    },
    Entry {
        name: "ollama",
        base_url: "http://127.0.0.1:11434/v1",
        key_envs: &["OLLAMA_API_KEY"],
        needs_key: false,
        reserves_max_tokens: false,
        rate_headers: hints::NOTHING,
        output_cap: OutputCap::MaxTokens,
        refusals: refusals::OLLAMA,
        ..OPENAI_LIKE
    },
];

/// Any OpenAI-compatible server that is not in the catalogue.
pub(super) static COMPATIBLE: Entry = Entry {
    needs_key: false,
    output_cap: OutputCap::MaxTokens,
    refusals: refusals::OPENAI,
    ..OPENAI_LIKE
};

/// The canonical names, in the catalogue's order.
pub(super) static NAMES: [&str; ENTRIES.len()] = {
    let mut names = [""; ENTRIES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = ENTRIES[index].name;
        index += 1;
    }
    names
};

/// Which provider a bare model name points at.
pub(super) const MODEL_PREFIXES: [(&str, &str); 7] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
];
