//! The settings of the simulator: keys, limits, faults.

mod error;
mod faults;
mod limits;
mod provider;
mod streams;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

pub use error::SettingsError;
pub use faults::{FaultEffect, FaultRule, FaultShape, FaultWhen};
pub(super) use limits::Counts;
pub use limits::{LimitKind, LimitSetting, LimitsSetting, RefillSetting};
pub use provider::Provider;
pub use streams::{MidStream, StreamSettings, Then};
pub use tokens::{OutputTokens, TokenSettings, Tokenizer};

/// All settings of the simulator. All times are seconds.
///
/// ```
/// use quotaflow::simulator::SimulatorSettings;
/// let settings = SimulatorSettings::from_yaml("
/// seed: 7
/// keys:
///   - {key: sk-test-1, label: one, provider: openai, organization: org-a, limits: {rpm: 600, burst: 20}}
/// faults:
///   - {when: {key: one, nth: [3]}, do: {status: 529}}
/// ")?;
/// assert_eq!(settings.keys[0].label, "one");
/// let wrong = SimulatorSettings::from_yaml("keys: [{key: a, provider: openai, limit: {}}]");
/// assert!(wrong.unwrap_err().to_string().contains("limit"));
/// # Ok::<(), quotaflow::simulator::SettingsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorSettings {
    /// Where chance starts; default 0.
    pub seed: u64,
    /// How long each answer takes: seconds, or `{min, max}`; default 0.
    pub latency: Latency,
    /// How many tokens answers have.
    pub tokens: TokenSettings,
    /// How streams come.
    pub stream: StreamSettings,
    /// The keys it knows; any other is refused as the provider refuses it.
    pub keys: Vec<KeySettings>,
    /// What goes wrong, and when; the first rule that fits is taken.
    pub faults: Vec<FaultRule>,
    /// How many entries the timeline keeps; default 100 000, 0 switches it off.
    pub timeline: TimelineLength,
}

/// How many entries the timeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TimelineLength(pub usize);

impl Default for TimelineLength {
    fn default() -> Self {
        TimelineLength(100_000)
    }
}

/// How long an answer takes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a latency is a number of seconds or {min: …, max: …}")]
pub enum Latency {
    /// Always the same.
    Fixed(f64),
    /// Anything between the two, evenly.
    Between {
        /// The shortest.
        min: f64,
        /// The longest.
        max: f64,
    },
}

impl Default for Latency {
    fn default() -> Self {
        Latency::Fixed(0.0)
    }
}

/// One key.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// What the client sends; the empty text stands for a request without a key (Ollama).
    pub key: String,
    /// The name under which it appears in statistics; default `key-1`, `key-2`, …
    #[serde(default)]
    pub label: String,
    /// Whom it plays.
    pub provider: Provider,
    /// Keys of one provider with the same organisation share their limits; default: one of its own.
    #[serde(default)]
    pub organization: Option<String>,
    /// What the organisation may do with each model; default: anything.
    /// Of several keys of an organisation, one says it, or all say the same.
    #[serde(default)]
    pub limits: LimitsSetting,
    /// Models that share one set of limits; every other model has the limits above for itself.
    #[serde(default)]
    pub pools: Vec<PoolSettings>,
    /// The models that exist for this key (others get a 404); default: all.
    #[serde(default)]
    pub models: Option<BTreeSet<String>>,
    /// Gemini only: whether refusals speak of the free tier; default true.
    #[serde(default = "yes")]
    pub free_tier: bool,
}

fn yes() -> bool {
    true
}

impl fmt::Debug for KeySettings {
    /// Everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySettings")
            .field("label", &self.label)
            .field("provider", &self.provider)
            .field("organization", &self.organization)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Models that share one set of limits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSettings {
    /// The names, or beginnings of names that end in `*`.
    pub models: Vec<String>,
    /// What all of them together may do.
    #[serde(default)]
    pub limits: LimitsSetting,
}

impl SimulatorSettings {
    /// Settings from YAML or JSON text; an error names the field.
    pub fn from_yaml(text: &str) -> Result<Self, SettingsError> {
        let settings: SimulatorSettings =
            serde_saphyr::from_str(text).map_err(|error| SettingsError::new(error.to_string()))?;
        settings.checked()
    }

    /// The same settings with every label filled in, or what is wrong with them.
    pub fn checked(mut self) -> Result<Self, SettingsError> {
        check_latency(self.latency)?;
        self.stream.check()?;
        if let OutputTokens::Between { min, max } = self.tokens.output
            && min > max
        {
            return Err(SettingsError::new(format!("tokens.output: min {min} is above max {max}")));
        }
        let (mut secrets, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for (index, key) in self.keys.iter_mut().enumerate() {
            if key.label.is_empty() {
                key.label = format!("key-{}", index + 1);
            }
            let place = format!("keys[{index}] ({})", key.label);
            if !labels.insert(key.label.clone()) {
                return Err(SettingsError::new(format!("{place}: this label is used twice")));
            }
            if !secrets.insert(key.key.clone()) {
                return Err(SettingsError::new(format!("{place}: this key is listed twice")));
            }
            key.limits.check(&format!("{place}.limits"))?;
            for (number, pool) in key.pools.iter().enumerate() {
                pool.limits.check(&format!("{place}.pools[{number}].limits"))?;
            }
        }
        self.check_organizations()?;
        for (index, rule) in self.faults.iter().enumerate() {
            rule.check(&format!("faults[{index}]"), &labels)?;
        }
        Ok(self)
    }

    /// Keys that share an organisation must not contradict each other.
    fn check_organizations(&self) -> Result<(), SettingsError> {
        let mut speakers: BTreeMap<(Provider, &str), &KeySettings> = BTreeMap::new();
        for key in &self.keys {
            let Some(organization) = key.organization.as_deref() else { continue };
            if !key.speaks_of_limits() {
                continue;
            }
            let first = speakers.entry((key.provider, organization)).or_insert(key);
            if first.limits != key.limits || first.pools != key.pools {
                return Err(SettingsError::new(format!(
                    "the keys {} and {} share the organisation {organization} but have different limits",
                    first.label, key.label
                )));
            }
        }
        Ok(())
    }
}

impl KeySettings {
    /// Whether this key says anything about limits.
    pub(super) fn speaks_of_limits(&self) -> bool {
        let says = |limits: &LimitsSetting| {
            limits.concurrency.is_some()
                || LimitKind::ALL.iter().any(|kind| limits.get(*kind).is_some())
        };
        says(&self.limits) || !self.pools.is_empty()
    }
}

fn check_latency(latency: Latency) -> Result<(), SettingsError> {
    let (min, max) = match latency {
        Latency::Fixed(seconds) => (seconds, seconds),
        Latency::Between { min, max } => (min, max),
    };
    if (0.0..=86_400.0).contains(&min) && (min..=86_400.0).contains(&max) {
        Ok(())
    } else {
        Err(SettingsError::new("latency: seconds between 0 and 86400, min not above max"))
    }
}
