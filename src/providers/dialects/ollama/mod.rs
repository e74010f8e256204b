//! How does Ollama's own chat dialect (`/api/chat`) write a request and an answer?

mod read;
mod stream;
mod write;

pub(super) use read::read;
pub(in super::super) use stream::Stream;
pub(super) use write::write;
