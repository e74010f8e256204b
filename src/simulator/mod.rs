//! A simulator of the providers: dialects, limits and faults.
//!
//! It exists to prove the rest of this crate and to let users test without money, so it shares no limit code with
//! the kernel: whatever both agree on was written twice, from the providers' documentation. [`Simulator`] is pure
//! (bytes and an instant in, an answer out); [`serve`] gives it sockets and a clock.
//!
//! Everything that settings can say:
//!
//! ```
//! # use quotaflow::simulator::SimulatorSettings;
//! # SimulatorSettings::from_yaml(r#"
//! seed: 7                                   # of every chance below
//! latency: {min: 0.01, max: 0.05}           # seconds, or one number
//! tokens: {overhead: 7, output: 16}         # output: a number or {min, max}; and tokenizer: o200k_base, cl100k_base
//! stream: {pieces: 4, pause: 0.02}          # events with text, and seconds before each
//! timeline: 100000                          # entries kept; 0: none
//! keys:
//!   - {key: sk-test-1, label: one, provider: openai, organization: org-a, limits: {rpm: 600, burst: 20, tpm: 90000}}
//!   - {key: sk-test-2, label: two, provider: openai, organization: org-a}      # shares the limits of one
//!   - {key: claude-test, label: claude, provider: anthropic, limits: {rpm: 50, input_tpm: 30000, output_tpm: 8000}}
//!   - {key: gemini-test, label: gemini, provider: gemini, limits: {rpm: 10, tpm: 250000, rpd: 250}, free_tier: true}
//!   - {key: router-test, label: router, provider: openrouter, limits: {rpm: 20, rpd: 50}}
//!   - {key: groq-test, label: groq, provider: groq, limits: {rpm: 30, rpd: 1000, tpm: 8000, tpd: 200000}}
//!   - {key: '', label: local, provider: ollama, limits: {concurrency: 2}, models: [llama-test]}
//!   - key: sk-test-3
//!     label: tuned
//!     provider: openai
//!     limits:                               # each model for itself; a number, or the details
//!       rps: {amount: 10, refill: fixed}
//!       rpm: {amount: 60, refill: rolling}
//!       rpd: {amount: 200, refill: calendar, zone: Europe/Berlin}
//!       tpm: {amount: 60000, refill: bucket, burst: 1000}
//!     pools:                                # these models share one set of limits
//!       - {models: [gpt-4o, 'gpt-4o-*'], limits: none}
//! faults:                                   # the first that fits is taken
//!   - {when: {key: one, nth: [3, 4]}, do: {status: 429, retry_after: 2}}
//!   - {when: {provider: anthropic, between: [10, 20]}, do: {status: 529}}
//!   - {when: {model: gpt-4o, rate: 0.05}, do: timeout}   # or reset, half_body, html, empty, error_in_200
//!   - {when: {every: 100}, do: {slow: 2.5}}
//!   - {when: {first: 1}, do: {huge: 100000000}}
//!   - {when: {stream: true, nth: [2]}, do: {after: 2, then: reset}}   # or end, error, {error: 429}, {stall: 30}
//!   - {when: {key: two}, do: {status: 500, body: 'not even JSON'}}
//! # "#)?;
//! # Ok::<(), quotaflow::simulator::SettingsError>(())
//! ```

mod allowance;
#[cfg(test)]
mod allowance_properties;
mod answer;
mod control;
mod decide;
mod decision;
mod dialects;
mod faults;
mod http;
mod measure;
mod meters;
mod random;
mod request;
mod serve;
mod settings;
mod shared;
mod stats;
mod stream_sending;
mod verdict_status;

pub use answer::{Answer, Fault, IncomingRequest, Streamed, Ticket};
pub use decide::Simulator;
pub use serve::{Running, ServeError, serve};
pub use settings::{
    FaultEffect, FaultRule, FaultShape, FaultWhen, KeySettings, Latency, LimitKind, LimitSetting,
    LimitsSetting, MidStream, OutputTokens, PoolSettings, Provider, RefillSetting, SettingsError,
    SimulatorSettings, StreamSettings, Then, TimelineLength, TokenSettings, Tokenizer,
};
pub use stats::{KeyStats, Stats, TimelineEntry};
