//! The catalogue of providers: one entry of documented facts each.

use super::rate_headers::{self as headers, RateHeaders};
use super::refusal_rows::{self, Row};
use super::wire::KeyHeader;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions, spoken by most servers.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
    /// Gemini generateContent.
    Gemini,
    /// OpenAI responses, spoken beside chat completions where a config asks for it.
    Responses,
    /// Ollama's own chat, whose streams are lines of JSON.
    Ollama,
}

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
    /// `max_completion_tokens` only.
    MaxCompletionTokens,
}

/// What a provider does to keep an answer to a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structured {
    /// It holds answers to a JSON schema.
    Schema(Rules),
    /// It sees to it that an answer is a JSON object, but not which.
    JsonObject,
    /// Nothing: the prompt has to say it.
    Prompt,
    /// An unknown server: what is written in OpenAI's words is for it to judge, else the prompt says it.
    Unknown,
}

/// Which schemas it holds answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// OpenAI's: an object at the top; `strict` where no other fields are allowed and none is optional.
    OpenAi,
    /// Anthropic's: closed objects that do not hold themselves.
    Anthropic,
    /// Any.
    Any,
    /// Any, but the model does not see it: a grammar keeps it to the shape and does not tell it what for.
    Unseen,
}

/// The facts about one provider.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) dialect: Dialect,
    /// Those that it speaks as well, where a config asks for one.
    pub(super) also_speaks: &'static [Dialect],
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
    /// Parameters that it knows under another name: ours, its own.
    pub(super) renamed: &'static [(&'static str, &'static str)],
    /// How it keeps an answer to a shape.
    pub(super) structured: Structured,
    /// Whether it is a server that people run themselves.
    pub(super) self_hosted: bool,
    /// Names of the environment variables that hold its address; only for who has no address of its own.
    pub(super) base_url_envs: &'static [&'static str],
    /// Azure: which version of its API is asked for, and the environment variable that says another.
    pub(super) api_version: Option<(&'static str, &'static str)>,
    /// Rows of the refusal table, before the generic ones.
    pub(super) refusals: &'static [Row],
}

/// The version of Azure's API that is asked for by default.
pub(super) const AZURE_VERSION: &str = "2024-10-21";

const OPENAI_LIKE: Entry = Entry {
    name: "",
    aliases: &[],
    dialect: Dialect::OpenAi,
    also_speaks: &[],
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
    rate_headers: headers::OPENAI,
    output_cap: OutputCap::AsGiven,
    renamed: &[],
    structured: Structured::Unknown,
    self_hosted: false,
    base_url_envs: &[],
    api_version: None,
    refusals: &[],
};

pub(super) static ENTRIES: [Entry; 14] = [
    Entry {
        name: "openai",
        also_speaks: &[Dialect::Responses],
        base_url: "https://api.openai.com/v1",
        key_envs: &["OPENAI_API_KEY"],
        refills: Refills::Buckets,
        output_cap: OutputCap::ByModel,
        structured: Structured::Schema(Rules::OpenAi),
        refusals: refusal_rows::OPENAI,
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
        rate_headers: headers::ANTHROPIC,
        structured: Structured::Schema(Rules::Anthropic),
        refusals: refusal_rows::ANTHROPIC,
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
        rate_headers: headers::NOTHING,
        structured: Structured::Schema(Rules::Any),
        refusals: refusal_rows::GEMINI,
        ..OPENAI_LIKE
    },
    Entry {
        name: "openrouter",
        also_speaks: &[Dialect::Responses],
        base_url: "https://openrouter.ai/api/v1",
        version_path: "/api/v1",
        key_envs: &["OPENROUTER_API_KEY"],
        refills: Refills::MidnightDays { zone: "UTC" },
        // It reserves money for max_tokens, not tokens.
        reserves_max_tokens: false,
        rate_headers: headers::OPENROUTER,
        // What a model knows depends on who serves it.
        structured: Structured::Unknown,
        refusals: refusal_rows::OPENROUTER,
        ..OPENAI_LIKE
    },
    Entry {
        name: "groq",
        base_url: "https://api.groq.com/openai/v1",
        version_path: "/openai/v1",
        key_envs: &["GROQ_API_KEY"],
        refills: Refills::Buckets,
        counts_cached_input: false,
        rate_headers: headers::GROQ,
        structured: Structured::JsonObject,
        refusals: refusal_rows::GROQ,
        ..OPENAI_LIKE
    },
    Entry {
        name: "ollama",
        also_speaks: &[Dialect::Ollama],
        base_url: "http://127.0.0.1:11434/v1",
        key_envs: &["OLLAMA_API_KEY"],
        needs_key: false,
        reserves_max_tokens: false,
        rate_headers: headers::NOTHING,
        output_cap: OutputCap::MaxTokens,
        self_hosted: true,
        structured: Structured::Schema(Rules::Unseen),
        refusals: refusal_rows::OLLAMA,
        ..OPENAI_LIKE
    },
    Entry {
        name: "mistral",
        aliases: &["mistralai", "mistral_ai", "mistral-ai"],
        base_url: "https://api.mistral.ai/v1",
        key_envs: &["MISTRAL_API_KEY"],
        // What a call is charged follows its real length.
        reserves_max_tokens: false,
        rate_headers: headers::MISTRAL,
        output_cap: OutputCap::MaxTokens,
        renamed: &[("seed", "random_seed")],
        structured: Structured::Schema(Rules::Any),
        refusals: refusal_rows::MISTRAL,
        ..OPENAI_LIKE
    },
    // It counts calls in flight, of the account at a model, and nothing else.
    Entry {
        name: "deepseek",
        also_speaks: &[Dialect::Responses],
        base_url: "https://api.deepseek.com/v1",
        key_envs: &["DEEPSEEK_API_KEY"],
        reserves_max_tokens: false,
        rate_headers: headers::NOTHING,
        output_cap: OutputCap::MaxTokens,
        structured: Structured::JsonObject,
        refusals: refusal_rows::DEEPSEEK,
        ..OPENAI_LIKE
    },
    Entry {
        name: "xai",
        aliases: &["x.ai", "x-ai"],
        also_speaks: &[Dialect::Responses],
        base_url: "https://api.x.ai/v1",
        key_envs: &["XAI_API_KEY"],
        // A minute's requests are enforced second by second.
        refills: Refills::Buckets,
        reserves_max_tokens: false,
        rate_headers: headers::XAI,
        structured: Structured::Schema(Rules::OpenAi),
        refusals: refusal_rows::XAI,
        ..OPENAI_LIKE
    },
    Entry {
        name: "together",
        aliases: &["together_ai", "together-ai", "togetherai", "together.ai"],
        base_url: "https://api.together.xyz/v1",
        key_envs: &["TOGETHER_API_KEY"],
        // Its limits follow live capacity, and bursts are what it throttles first.
        refills: Refills::Buckets,
        reserves_max_tokens: false,
        rate_headers: headers::TOGETHER,
        output_cap: OutputCap::MaxTokens,
        structured: Structured::Schema(Rules::Any),
        refusals: refusal_rows::TOGETHER,
        ..OPENAI_LIKE
    },
    Entry {
        name: "cerebras",
        base_url: "https://api.cerebras.ai/v1",
        key_envs: &["CEREBRAS_API_KEY"],
        refills: Refills::Buckets,
        rate_headers: headers::CEREBRAS,
        output_cap: OutputCap::MaxCompletionTokens,
        structured: Structured::Schema(Rules::OpenAi),
        refusals: refusal_rows::CEREBRAS,
        ..OPENAI_LIKE
    },
    Entry {
        name: "azure",
        aliases: &["azure_openai", "azure-openai", "azureopenai"],
        // Each resource has its own; see `azure.rs` for the paths.
        also_speaks: &[Dialect::Responses],
        base_url: "",
        version_path: "",
        key_envs: &["AZURE_OPENAI_API_KEY"],
        key_header: KeyHeader::AZURE,
        // Minutes are enforced in slices of one or ten seconds.
        refills: Refills::Buckets,
        rate_headers: headers::AZURE,
        output_cap: OutputCap::ByModel,
        base_url_envs: &["AZURE_OPENAI_ENDPOINT"],
        api_version: Some((AZURE_VERSION, "OPENAI_API_VERSION")),
        structured: Structured::Schema(Rules::OpenAi),
        refusals: refusal_rows::AZURE,
        ..OPENAI_LIKE
    },
    Entry {
        name: "llamacpp",
        key_envs: &["LLAMACPP_API_KEY"],
        aliases: &["llama.cpp", "llama_cpp", "llama-cpp"],
        base_url: "http://127.0.0.1:8080/v1",
        refusals: refusal_rows::LLAMACPP,
        ..OWN_SERVER
    },
    Entry {
        name: "vllm",
        base_url: "http://127.0.0.1:8000/v1",
        key_envs: &["VLLM_API_KEY"],
        refusals: refusal_rows::VLLM,
        ..OWN_SERVER
    },
];

/// A server on one's own machine: it has slots and no quotas, and a key only if it was started with one.
const OWN_SERVER: Entry = Entry {
    needs_key: false,
    reserves_max_tokens: false,
    rate_headers: headers::NOTHING,
    output_cap: OutputCap::MaxTokens,
    structured: Structured::Schema(Rules::Unseen),
    self_hosted: true,
    ..OPENAI_LIKE
};

/// Any OpenAI-compatible server that is not in the catalogue.
pub(super) static COMPATIBLE: Entry = Entry {
    also_speaks: &[Dialect::Responses],
    needs_key: false,
    output_cap: OutputCap::MaxTokens,
    refusals: refusal_rows::OPENAI,
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
///
/// Names of open models are not here: many serve them.
pub(super) const MODEL_PREFIXES: [(&str, &str); 15] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("grok-", "xai"),
    ("deepseek-chat", "deepseek"),
    ("deepseek-reasoner", "deepseek"),
    ("mistral-medium", "mistral"),
    ("magistral-medium", "mistral"),
    ("codestral-", "mistral"),
    ("open-mistral-", "mistral"),
    ("open-mixtral-", "mistral"),
];
