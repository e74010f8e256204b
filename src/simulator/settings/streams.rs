//! Stream settings: number of pieces, pauses, faults in the middle.

use std::time::Duration;

use serde::Deserialize;

use super::error::SettingsError;
use super::provider::Provider;

/// More pieces than this are a mistake.
const MOST_PIECES: u64 = 1_000_000;
const DAY: f64 = 86_400.0;

/// How answers come that are asked for as streams.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSettings {
    /// Over how many events the text is spread; default 4. A text with fewer characters goes on until it has one for
    /// each, unless `max_tokens` cuts it.
    pub pieces: u64,
    /// Seconds before each of them; default 0. The latency passes before the first byte.
    pub pause: f64,
}

impl Default for StreamSettings {
    fn default() -> Self {
        StreamSettings { pieces: 4, pause: 0.0 }
    }
}

impl StreamSettings {
    pub(in super::super) fn check(&self) -> Result<(), SettingsError> {
        if !(1..=MOST_PIECES).contains(&self.pieces) {
            let words = format!("stream.pieces: a number between 1 and {MOST_PIECES}");
            return Err(SettingsError::new(words));
        }
        if !(0.0..=DAY).contains(&self.pause) {
            return Err(SettingsError::new("stream.pause: seconds between 0 and 86400"));
        }
        Ok(())
    }
}

/// What happens in the middle of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MidStream {
    /// After so many pieces of text.
    pub after: u64,
    /// What.
    pub then: Then,
}

/// How a stream goes wrong. In settings: `reset`, `end`, `error`, `{error: 429}` or `{stall: 30}`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub enum Then {
    /// The connection is reset.
    Reset,
    /// The body ends as if all were well, without the events that end an answer.
    End,
    /// An error event in the dialect's grammar with what the provider says under this status; `None`: overloaded.
    Error(Option<u16>),
    /// Silence for so many seconds; then the stream goes on.
    Stall(f64),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "what breaks a stream is reset, end, error, {error: 429} or {stall: 30}"
)]
enum Written {
    Word(Word),
    Detail(Detail),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Reset,
    End,
    Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Detail {
    Error(u16),
    Stall(f64),
}

impl From<Written> for Then {
    fn from(written: Written) -> Then {
        match written {
            Written::Word(Word::Reset) => Then::Reset,
            Written::Word(Word::End) => Then::End,
            Written::Word(Word::Error) => Then::Error(None),
            Written::Detail(Detail::Error(status)) => Then::Error(Some(status)),
            Written::Detail(Detail::Stall(seconds)) => Then::Stall(seconds),
        }
    }
}

impl MidStream {
    /// What is wrong with it, if anything.
    pub(in super::super) fn complaint(&self) -> Option<&'static str> {
        match self.then {
            Then::Error(Some(status)) if !(400..=599).contains(&status) => {
                Some("then.error: an HTTP status between 400 and 599")
            }
            Then::Stall(seconds) if !(0.0..=DAY).contains(&seconds) => {
                Some("then.stall: seconds between 0 and 86400")
            }
            _ => None,
        }
    }

    /// Whether there will be no whole answer.
    pub(in super::super) fn spoils(&self) -> bool {
        !matches!(self.then, Then::Stall(_))
    }

    /// For how long nothing comes.
    pub(in super::super) fn silence(&self) -> Option<Duration> {
        match self.then {
            Then::Stall(seconds) => Some(Duration::from_secs_f64(seconds)),
            _ => None,
        }
    }

    /// The status whose words an error event has.
    pub(in super::super) fn status(&self, provider: Provider) -> Option<u16> {
        match (self.then, provider) {
            (Then::Error(Some(status)), _) => Some(status),
            (Then::Error(None), Provider::Anthropic) => Some(529),
            (Then::Error(None), _) => Some(503),
            _ => None,
        }
    }
}
