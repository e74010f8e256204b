//! The ring that knows providers: dialects, the catalogue, and what refusals mean. Pure: bytes in, values out.

mod chat;

pub use chat::{ChatRequest, Completion, Content, FinishReason, Message, Role};
