//! The providers a simulated key can belong to.

use serde::{Deserialize, Serialize};

/// Whom a key plays: the provider decides refills, headers and the words of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI: continuous refill, `x-ratelimit-*` on every answer.
    Openai,
    /// Groq: continuous refill, headers with requests per day and tokens per minute.
    Groq,
    /// OpenRouter: a rolling minute, a UTC day, no headers on success.
    Openrouter,
    /// Anthropic: continuous refill, `anthropic-ratelimit-*`, 529 when overloaded.
    Anthropic,
    /// Gemini: a rolling minute, a day that ends at midnight in Los Angeles, no headers ever.
    Gemini,
    /// Ollama: as many calls at once as it has slots.
    Ollama,
}
