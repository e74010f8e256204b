//! quotaflow: prompts over many keys, models and providers, as fast as their quotas allow.
//!
//! The map, from the inside out; each ring may use the ones before it:
//!
//! - [`kernel`] decides: limits, ledgers, health, retries, routes. Pure; `now` and randomness are arguments.
//! - [`providers`] knows the wire: dialects, the catalogue, what a refusal means. Pure.
//! - [`simulator`] stands in for the providers, to prove the rest; it uses none of it.

pub mod kernel;
pub mod providers;
pub mod simulator;
