//! quotaflow: rate-limit-aware calls of LLM APIs over many keys and models.
//!
//! The map, from the inside out; each ring may use the ones before it:
//!
//! - [`kernel`] decides: limits, ledgers, health, retries, routes. Pure; `now` and randomness are arguments.
//! - [`providers`] knows the wire: dialects, the catalogue, what a refusal means. Pure.
//! - [`stores`] remembers ledgers: memory, SQLite.
//! - [`config`] reads what the user wrote into settings that cannot be wrong; [`secret`] holds keys.
//! - [`engine`] does: it asks the kernel, carries out what it says, and tells it what happened.
//! - [`error`] is what a caller learns when there is no answer.
//! - [`simulator`] stands in for the providers, to prove the rest; it uses none of it.

#[cfg(feature = "python")]
mod binding;
pub mod config;
pub mod engine;
pub mod error;
pub mod kernel;
pub mod providers;
pub mod secret;
pub mod simulator;
pub mod stores;
