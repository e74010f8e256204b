//! The config: arguments, files and environment to valid settings.
//!
//! Arguments, a config file (YAML, TOML or JSON in one shape), the environment and a `.env` become [`Settings`] that
//! cannot be wrong. [`Sources`] looks at the machine; everything else is pure and takes what it found.
//!
//! ```
//! use quotaflow::config::{Arguments, Settings, Sources};
//! use serde_json::json;
//!
//! let mut sources = Sources::default();
//! sources.environment.insert("OPENAI_API_KEY".into(), "sk-test-1".into());
//! let arguments = Arguments {
//!     limits: Some(json!({"openai": {"rpm": 60, "rpd": 200}})),
//!     state: Some("memory".into()),
//!     ..Arguments::default()
//! };
//! let settings = Settings::resolve(arguments, sources).unwrap();
//! let openai = &settings.providers["openai"];
//! assert_eq!(openai.keys[0].label, "OPENAI_API_KEY");
//! assert_eq!(openai.limits.len(), 2);
//! ```

mod arguments;
mod error;
mod formats;
mod keys;
mod limits;
mod pacing;
mod prices;
mod providers;
mod reader;
mod redact;
mod resolve;
mod routes;
mod runtime;
mod schema;
mod settings;
mod sources;
mod strategy;
#[cfg(test)]
mod tests;
mod unknown_sections;
mod users;

pub use arguments::{Arguments, ConfigArgument};
pub use error::ConfigError;
pub use limits::limit_name;
pub use redact::looks_like_a_key;
pub use settings::{
    AnswerCache, KeySettings, LocalTargets, Pacing, PacingSettings, ProviderSettings, RetryBudget,
    RetrySettings, Routes, Settings, StateSetting, Strategy, Target, TaskRoute, Timeouts,
    UserSettings, Users, Wanted,
};
pub use sources::{ConfigFile, Places, Sources};
