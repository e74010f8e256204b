//! Limit settings: kinds, amounts and refills.

use std::fmt;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::super::allowance::Allowance;
use super::error::SettingsError;
use super::provider::Provider;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 86_400 * SECOND;
/// Large enough for every provider, small enough that no sum overflows.
const LARGEST_AMOUNT: u64 = 1_000_000_000_000;

/// One of the limits that a provider can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKind {
    /// Requests per second.
    Rps,
    /// Requests per minute.
    Rpm,
    /// Requests per day.
    Rpd,
    /// Tokens per minute (at Gemini those of the prompt only).
    Tpm,
    /// Tokens per day (at Gemini those of the prompt only).
    Tpd,
    /// Tokens of the prompt per minute.
    InputTpm,
    /// Tokens of the answer per minute, counted when the answer is there.
    OutputTpm,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Counts {
    Requests,
    Tokens,
    Input,
    Output,
}

impl LimitKind {
    /// Every kind.
    pub const ALL: [LimitKind; 7] = [
        LimitKind::Rps,
        LimitKind::Rpm,
        LimitKind::Rpd,
        LimitKind::Tpm,
        LimitKind::Tpd,
        LimitKind::InputTpm,
        LimitKind::OutputTpm,
    ];

    const fn facts(self) -> (&'static str, Counts, i64) {
        match self {
            LimitKind::Rps => ("rps", Counts::Requests, SECOND),
            LimitKind::Rpm => ("rpm", Counts::Requests, MINUTE),
            LimitKind::Rpd => ("rpd", Counts::Requests, DAY),
            LimitKind::Tpm => ("tpm", Counts::Tokens, MINUTE),
            LimitKind::Tpd => ("tpd", Counts::Tokens, DAY),
            LimitKind::InputTpm => ("input_tpm", Counts::Input, MINUTE),
            LimitKind::OutputTpm => ("output_tpm", Counts::Output, MINUTE),
        }
    }

    /// Its name in settings and statistics.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    pub(in super::super) const fn counts(self) -> Counts {
        self.facts().1
    }

    /// The window in nanoseconds.
    pub(in super::super) const fn window(self) -> i64 {
        self.facts().2
    }

    pub(in super::super) const fn is_daily(self) -> bool {
        self.window() == DAY
    }
}

/// The limits of one set of models. In settings: a mapping, or the word `none`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitsSetting {
    amounts: [Option<LimitSetting>; LimitKind::ALL.len()],
    /// Calls in flight at the same time.
    pub concurrency: Option<u32>,
}

/// One limit. In settings: a number, or `{amount, refill, burst, zone}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSetting {
    /// How much per window; 0 means that the key never had it.
    pub amount: u64,
    /// How it comes back; default: as at the provider the key plays.
    #[serde(default)]
    pub refill: Option<RefillSetting>,
    /// How much a bucket holds; default: `amount`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// The zone of a calendar day; default Los Angeles at Gemini, else UTC.
    #[serde(default)]
    pub zone: Option<String>,
}

/// How a limit comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefillSetting {
    /// Continuously.
    Bucket,
    /// When the window has passed, for each taking by itself.
    Rolling,
    /// All at once at each multiple of the window since the epoch.
    Fixed,
    /// All at once at midnight in a zone (day limits only).
    Calendar,
}

impl LimitsSetting {
    /// The limit of one kind, if there is one.
    pub fn get(&self, kind: LimitKind) -> Option<&LimitSetting> {
        self.amounts[kind as usize].as_ref()
    }

    /// Sets the limit of one kind.
    pub fn set(&mut self, kind: LimitKind, limit: LimitSetting) {
        self.amounts[kind as usize] = Some(limit);
    }

    pub(in super::super) fn check(&self, place: &str) -> Result<(), SettingsError> {
        for kind in LimitKind::ALL {
            let Some(limit) = self.get(kind) else { continue };
            let wrong =
                |what: &str| Err(SettingsError::new(format!("{place}.{}: {what}", kind.name())));
            if limit.amount > LARGEST_AMOUNT
                || limit.burst.is_some_and(|burst| burst > LARGEST_AMOUNT)
            {
                return wrong("more than 10^12 is not a limit");
            }
            if limit.burst == Some(0) {
                return wrong("a burst of 0 lets nothing through");
            }
            if limit.burst.is_some()
                && limit.refill.is_some_and(|refill| refill != RefillSetting::Bucket)
            {
                return wrong("only a bucket has a burst");
            }
            if limit.refill == Some(RefillSetting::Calendar) && !kind.is_daily() {
                return wrong("only day limits can follow the calendar");
            }
            if let Some(zone) = &limit.zone
                && TimeZone::get(zone).is_err()
            {
                return wrong(&format!("there is no time zone {zone:?}"));
            }
        }
        Ok(())
    }
}

impl LimitSetting {
    /// This limit, unused, as `provider` would count it.
    pub(in super::super) fn allowance(
        &self,
        kind: LimitKind,
        provider: Provider,
        now: i64,
    ) -> Allowance {
        let window = kind.window();
        let refill = match self.refill {
            Some(refill) => refill,
            None if self.burst.is_some() => RefillSetting::Bucket,
            None => usual_refill(provider, kind),
        };
        match refill {
            RefillSetting::Bucket => {
                Allowance::bucket(self.amount, self.burst.unwrap_or(self.amount), window, now)
            }
            RefillSetting::Rolling => Allowance::rolling(self.amount, window),
            RefillSetting::Fixed => Allowance::fixed(self.amount, window),
            RefillSetting::Calendar => {
                let usual =
                    if provider == Provider::Gemini { "America/Los_Angeles" } else { "UTC" };
                let zone = self.zone.as_deref().unwrap_or(usual);
                Allowance::calendar_day(self.amount, TimeZone::get(zone).unwrap_or(TimeZone::UTC))
            }
        }
    }
}

/// How a provider refills by its documentation.
fn usual_refill(provider: Provider, kind: LimitKind) -> RefillSetting {
    match provider {
        Provider::Openai | Provider::Groq | Provider::Anthropic => RefillSetting::Bucket,
        Provider::Gemini | Provider::Openrouter if kind.is_daily() => RefillSetting::Calendar,
        Provider::Gemini | Provider::Openrouter | Provider::Ollama => RefillSetting::Rolling,
    }
}

/// A limit as it is written: a number or the details.
struct Written(LimitSetting);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Written;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or {amount, refill, burst, zone}")
            }
            fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Written, E> {
                Ok(Written(LimitSetting { amount, refill: None, burst: None, zone: None }))
            }
            fn visit_i64<E: de::Error>(self, amount: i64) -> Result<Written, E> {
                u64::try_from(amount)
                    .map_err(|_| E::custom("a limit is not negative"))
                    .and_then(|a| self.visit_u64(a))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                LimitSetting::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for LimitsSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = LimitsSetting;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("limits by name ({rpm: 60, …}) or the word none")
            }
            fn visit_unit<E: de::Error>(self) -> Result<LimitsSetting, E> {
                Ok(LimitsSetting::default())
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<LimitsSetting, E> {
                if word == "none" {
                    self.visit_unit()
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(word), &self))
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LimitsSetting, A::Error> {
                const NAMES: &[&str] = &[
                    "rps",
                    "rpm",
                    "rpd",
                    "tpm",
                    "tpd",
                    "input_tpm",
                    "output_tpm",
                    "burst",
                    "concurrency",
                ];
                let (mut limits, mut burst) = (LimitsSetting::default(), None);
                while let Some(name) = map.next_key::<String>()? {
                    match LimitKind::ALL.into_iter().find(|kind| kind.name() == name) {
                        Some(kind) => limits.set(kind, map.next_value::<Written>()?.0),
                        None if name == "burst" => burst = Some(map.next_value::<u64>()?),
                        None if name == "concurrency" => {
                            limits.concurrency = Some(map.next_value()?)
                        }
                        None => return Err(de::Error::unknown_field(&name, NAMES)),
                    }
                }
                if let Some(burst) = burst {
                    let rpm = limits.amounts[LimitKind::Rpm as usize].as_mut();
                    rpm.ok_or_else(|| de::Error::custom("burst needs rpm, and there is no rpm"))?
                        .burst = Some(burst);
                }
                Ok(limits)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
