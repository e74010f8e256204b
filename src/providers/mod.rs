//! Providers and their wire formats. Pure: bytes in, values out.
//!
//! A call meets it three times: [`Provider::encode`] makes the bytes of a request,
//! [`Provider::decode`] reads whatever came back, [`Provider::hints`] reads what the headers say about limits.
//! A stream is asked for with [`Provider::encode_stream`] and read with [`Provider::read_stream`];
//! [`Provider::refusal_in_event`] reads the events of a stream for refusals.

mod answer_schema;
mod answer_text;
mod azure;
mod catalogue;
mod chat;
mod closed_schemas;
mod codec;
mod delays;
mod dialects;
mod foreign;
mod hints;
mod local;
mod naming;
mod params;
pub mod prices;
mod provider;
mod rate_headers;
mod redact;
mod refusal_rows;
mod refusals;
mod streaming;
mod structured;
mod tokenizers;
mod transport_fault;
mod wire;

pub use answer_schema::AnswerSchema;
pub use answer_text::{JsonInText, json_in};
pub use catalogue::Dialect;
pub use chat::{ChatRequest, Completion, Content, FinishReason, Message, Role};
pub use foreign::{ForeignError, shown};
pub use naming::{provider_of_key, provider_of_variable};
pub use provider::Provider;
pub use streaming::{StreamPiece, StreamReader};
pub use tokenizers::Tokenizer;
pub use transport_fault::TransportFault;
pub use wire::{Headers, InvalidRequest, KeyHeader, WireRequest, WireResponse};
