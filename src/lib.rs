//! quotaflow: prompts over many keys, models and providers, as fast as their quotas allow.
//!
//! The map, from the inside out; each ring may use the ones before it:
//!
//! - [`kernel`] decides: limits, ledgers, health, retries, routes. Pure; `now` and randomness are arguments.
//! - [`providers`] knows the wire: dialects, the catalogue, what a refusal means. Pure.
//! - [`stores`] remembers ledgers: memory, SQLite.
//! - [`config`] reads what the user wrote into settings that cannot be wrong; [`secret`] holds keys.

pub mod config;
pub mod engine;
pub mod error;
pub mod kernel;
pub mod providers;
pub mod secret;
pub mod stores;
