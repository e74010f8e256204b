//! How does Anthropic's messages dialect write a request and an answer?

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;
