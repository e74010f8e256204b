//! Anthropic's messages dialect.

mod read;
mod stream;
mod write;

pub(super) use read::read;
pub(in super::super) use stream::Stream;
pub(super) use write::write;
