//! What does a refusal mean?

use super::catalogue::Provider;
use super::wire::WireResponse;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: &'static str,
}
pub(super) const OPENAI: &[Row] = &[];
pub(super) const ANTHROPIC: &[Row] = &[];
pub(super) const GEMINI: &[Row] = &[];
pub(super) const OPENROUTER: &[Row] = &[];
pub(super) const GROQ: &[Row] = &[];
pub(super) const OLLAMA: &[Row] = &[];

pub(super) fn row_of(provider: &Provider, _response: &WireResponse<'_>) -> &'static str {
    provider.entry.refusals.first().map_or("", |row| row.id)
}

pub(super) fn judge(_provider: &Provider, response: &WireResponse<'_>) -> crate::kernel::Failure {
    let failure = crate::kernel::Failure::new(
        crate::kernel::FailureClass::ServerError,
        crate::kernel::Scope::Call,
        "",
    );
    crate::kernel::Failure { status: Some(response.status), ..failure }
}
