//! quotaflow: rate-limit-aware calls of LLM APIs over many keys and models.
//!
//! The rings, from the inside out; each may use the ones before it:
//!
//! - [`kernel`] decides: limits, ledgers, health, retries, routes. Pure; `now` and randomness are arguments.
//! - [`providers`] knows the wire: dialects, the catalogue, what a refusal means. Pure.
//! - [`stores`] keep ledgers: in memory, or in SQLite.
//! - [`config`] reads the user's config into valid settings; [`secret`] holds keys.
//! - [`engine`] acts: it asks the kernel, carries out the decision, and reports the outcome.
//! - [`error`] is the error of a call, with its facts.
//! - [`simulator`] simulates the providers for tests; it uses none of the other rings.

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
