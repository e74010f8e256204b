//! Fault injection: rules of what goes wrong, for which requests.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::error::SettingsError;
use super::provider::Provider;
use super::streams::{MidStream, Then};

/// One rule: for the requests that fit `when`, `do` that.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which requests; default all.
    #[serde(default)]
    pub when: FaultWhen,
    /// What happens to them.
    #[serde(rename = "do")]
    pub effect: FaultEffect,
}

/// Which requests a rule is for; all given conditions must hold.
///
/// The rule counts the requests that fit `provider`, `key`, `model`, `stream` and `between` and that the limits let
/// through;
/// `nth`, `every`, `first` and `rate` choose among those.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultWhen {
    /// Only this provider.
    pub provider: Option<Provider>,
    /// Only the key with this label.
    pub key: Option<String>,
    /// Only this model.
    pub model: Option<String>,
    /// Only those that ask for a stream (true), or only those that do not. What breaks a stream in the middle is for
    /// streams in any case.
    pub stream: Option<bool>,
    /// Only between these seconds since the start, the second excluded.
    pub between: Option<(f64, f64)>,
    /// Only these (the first is 1).
    pub nth: Option<BTreeSet<u64>>,
    /// Only every so manieth.
    pub every: Option<u64>,
    /// Only the first so many.
    pub first: Option<u64>,
    /// Only this share of them, by chance.
    pub rate: Option<f64>,
}

/// What happens. In settings: a mapping, or one word (`timeout`, `reset`, `half_body`, `html`, `empty`, `error_in_200`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultEffect {
    /// Answer with this status and the provider's body for it.
    pub status: Option<u16>,
    /// Add this `retry-after`, in whole seconds.
    pub retry_after: Option<u64>,
    /// This body instead of the provider's.
    pub body: Option<String>,
    /// Think for so many seconds more.
    pub slow: f64,
    /// What happens in the middle of a stream; in settings `{after: 2, then: reset}` (or `end`, `error`,
    /// `{error: 429}`, `{stall: 30}`), `after` counting pieces of text, by default none.
    pub then: Option<MidStream>,
    /// What else is wrong with the answer.
    pub shape: Option<FaultShape>,
}

/// What an answer looks like when it is not just a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultShape {
    /// No answer ever.
    Timeout,
    /// The connection is reset before the answer.
    Reset,
    /// Half of the body, then the end.
    HalfBody,
    /// A page of HTML (status 200 by default).
    Html,
    /// No body (status 200 by default).
    Empty,
    /// Status 200 and an error in the body.
    ErrorIn200,
    /// So many bytes of white space.
    Huge(u64),
}

impl FaultEffect {
    /// Whether the provider would not count such a request against its limits: it was turned away.
    pub(in super::super) fn is_free(&self) -> bool {
        matches!(self.status, Some(401 | 403 | 429 | 529))
    }
}

impl FaultRule {
    pub(in super::super) fn check(
        &self,
        place: &str,
        labels: &BTreeSet<String>,
    ) -> Result<(), SettingsError> {
        let wrong = |what: String| Err(SettingsError::new(format!("{place}.{what}")));
        let when = &self.when;
        if when.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return wrong("when.rate: a share between 0 and 1".into());
        }
        if when.every == Some(0) {
            return wrong("when.every: counts from 1".into());
        }
        if let Some((from, to)) = when.between
            && (from.is_nan() || to.is_nan() || from >= to)
        {
            return wrong("when.between: two numbers of seconds, the smaller first".into());
        }
        if let Some(key) = &when.key
            && !labels.contains(key)
        {
            return wrong(format!("when.key: there is no key with the label {key}"));
        }
        let effect = &self.effect;
        if !(0.0..=86_400.0).contains(&effect.slow) {
            return wrong("do.slow: seconds between 0 and 86400".into());
        }
        if effect.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return wrong("do.status: an HTTP status between 200 and 599".into());
        }
        if let Some(middle) = &effect.then {
            if effect.status.is_some() || effect.shape.is_some() {
                return wrong(
                    "do: what breaks a stream goes with no status and no other fault".into(),
                );
            }
            if let Some(complaint) = middle.complaint() {
                return wrong(format!("do.{complaint}"));
            }
        }
        if effect.status.is_none() && (effect.retry_after.is_some() || effect.body.is_some()) {
            return wrong("do: retry_after and body go with a status".into());
        }
        if *effect == FaultEffect::default() {
            return wrong("do: says nothing".into());
        }
        Ok(())
    }
}

/// `true`, or only the name: `{timeout}` and `{timeout: true}` say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or nothing")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Flag, E> {
                Ok(Flag(true))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The effect as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    status: Option<u16>,
    retry_after: Option<u64>,
    body: Option<String>,
    slow: Option<f64>,
    huge: Option<u64>,
    after: Option<u64>,
    then: Option<Then>,
    timeout: Flag,
    reset: Flag,
    half_body: Flag,
    html: Flag,
    empty: Flag,
    error_in_200: Flag,
}

impl Written {
    fn effect(self) -> Result<FaultEffect, &'static str> {
        let shapes = [
            self.timeout.0.then_some(FaultShape::Timeout),
            self.reset.0.then_some(FaultShape::Reset),
            self.half_body.0.then_some(FaultShape::HalfBody),
            self.html.0.then_some(FaultShape::Html),
            self.empty.0.then_some(FaultShape::Empty),
            self.error_in_200.0.then_some(FaultShape::ErrorIn200),
            self.huge.map(FaultShape::Huge),
        ];
        let mut shapes = shapes.into_iter().flatten();
        let shape = shapes.next();
        if shapes.next().is_some() {
            return Err("an answer can be wrong in one way at a time");
        }
        let (status, retry_after, body) = (self.status, self.retry_after, self.body);
        let then = match (self.after, self.then) {
            (after, Some(then)) => Some(MidStream { after: after.unwrap_or(0), then }),
            (Some(_), None) => return Err("after says nothing without then"),
            (None, None) => None,
        };
        let slow = self.slow.unwrap_or(0.0);
        Ok(FaultEffect { status, retry_after, body, slow, then, shape })
    }
}

impl<'de> Deserialize<'de> for FaultEffect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = FaultEffect;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "{status: 503} or one of timeout, reset, half_body, html, empty, error_in_200",
                )
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<FaultEffect, E> {
                let shape = match word {
                    "timeout" => FaultShape::Timeout,
                    "reset" => FaultShape::Reset,
                    "half_body" => FaultShape::HalfBody,
                    "html" => FaultShape::Html,
                    "empty" => FaultShape::Empty,
                    "error_in_200" => FaultShape::ErrorIn200,
                    _ => return Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                };
                Ok(FaultEffect { shape: Some(shape), ..FaultEffect::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FaultEffect, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                written.effect().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
