//! A stand-in for the providers: it speaks their dialects, counts by their rules, and fails as they fail.
//!
//! It exists to prove the rest of this crate and to let users test without money, so it shares no limit code with
//! the kernel: whatever both agree on was written twice, from the providers' documentation. [`Simulator`] is pure
//! (bytes and an instant in, an answer out); [`serve`] gives it sockets and a clock.

mod allowance;
mod answer;
mod asked;
mod control;
mod decide;
mod fault_settings;
mod faults;
mod http;
mod limit_settings;
mod meters;
mod random;
mod serve;
mod settings;
mod stats;
mod words;

pub use answer::{Answer, Fault, IncomingRequest, Ticket};
pub use decide::Simulator;
pub use fault_settings::{FaultEffect, FaultRule, FaultShape, FaultWhen};
pub use limit_settings::{LimitKind, LimitSetting, LimitsSetting, RefillSetting};
pub use serve::{Running, ServeError, serve};
pub use settings::{
    KeySettings, Latency, OutputTokens, PoolSettings, Provider, SettingsError, SimulatorSettings,
    TimelineLength, TokenSettings,
};
pub use stats::{KeyStats, Stats, TimelineEntry};
