//! Tables of refusals: one per provider, and a generic one.

mod anthropic;
mod azure;
mod cerebras;
mod deepseek;
mod gemini;
mod generic;
mod groq;
mod llamacpp;
mod mistral;
mod ollama;
mod openai;
mod openrouter;
mod row;
mod together;
mod vllm;
mod xai;

pub(super) use anthropic::ROWS as ANTHROPIC;
pub(super) use azure::ROWS as AZURE;
pub(super) use cerebras::ROWS as CEREBRAS;
pub(super) use deepseek::ROWS as DEEPSEEK;
pub(super) use gemini::ROWS as GEMINI;
pub(super) use generic::{LAST, ROWS as GENERIC};
pub(super) use groq::ROWS as GROQ;
pub(super) use llamacpp::ROWS as LLAMACPP;
pub(super) use mistral::ROWS as MISTRAL;
pub(super) use ollama::ROWS as OLLAMA;
pub(super) use openai::ROWS as OPENAI;
pub(super) use openrouter::ROWS as OPENROUTER;
pub(super) use row::{Row, UntilFrom, When};
pub(super) use together::ROWS as TOGETHER;
pub(super) use vllm::ROWS as VLLM;
pub(super) use xai::ROWS as XAI;
