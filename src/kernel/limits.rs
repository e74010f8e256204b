//! Limits: resource, period, amount, refill and source.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resource {
    /// Calls, whether they succeed or not.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// Tokens of the prompt, cached ones included unless the provider says otherwise.
    InputTokens,
    /// Tokens the model produces, thinking included.
    OutputTokens,
    /// Calls in flight at the same time; it has no period and is never stored.
    Concurrency,
    /// Money, in millionths of a US dollar; what a call costs is estimated before, and known when its answer is there.
    Spend,
}

impl Resource {
    /// Every resource, in the order in which limits are listed.
    pub const ALL: [Resource; 6] = [
        Resource::Requests,
        Resource::Tokens,
        Resource::InputTokens,
        Resource::OutputTokens,
        Resource::Concurrency,
        Resource::Spend,
    ];
}

impl Resource {
    /// Whether how long a prompt is counts against it.
    pub fn is_of_prompts(self) -> bool {
        matches!(self, Resource::Tokens | Resource::InputTokens)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Requests => "requests",
            Resource::Tokens => "tokens",
            Resource::InputTokens => "input tokens",
            Resource::OutputTokens => "output tokens",
            Resource::Concurrency => "calls in flight",
            Resource::Spend => "millionths of a dollar",
        })
    }
}

/// The window a limit is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Period {
    /// One second.
    Second,
    /// Sixty seconds.
    Minute,
    /// Sixty minutes.
    Hour,
    /// 24 hours when it rolls or refills; from midnight to midnight when it is a calendar day.
    Day,
    /// 30 days when it rolls or refills; from the first to the first when it is a calendar month.
    Month,
}

impl Period {
    /// The length of the window; a month counts 30 days, as providers that roll it do.
    ///
    /// ```
    /// use quotaflow::kernel::Period;
    /// assert_eq!(Period::Minute.length().as_secs(), 60);
    /// ```
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
            Period::Month => 30 * 86_400,
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
        })
    }
}

/// How a used-up limit comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Refill {
    /// Continuously, `amount` per period, never more than `burst` at once (OpenAI, Anthropic, Groq, Cerebras).
    Bucket {
        /// The most that can be taken at once, in units of the resource.
        burst: NonZeroU64,
    },
    /// Never more than `amount` in any window of the period, wherever it starts.
    Rolling,
    /// All at once at the start of the next civil period in a zone of the tz database (Gemini, OpenRouter).
    Calendar {
        /// IANA name, for instance `America/Los_Angeles`.
        zone: String,
    },
    /// When a call ends; only for [`Resource::Concurrency`].
    Release,
}

/// Who said that a limit is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The user's config or arguments.
    Configured,
    /// The provider, in a header or an error body.
    Provider,
    /// Not stated: refusals showed how much is too much.
    Observed,
}

/// One promise of a provider: at most `amount` of `resource` per `period`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is counted.
    pub resource: Resource,
    /// Over which window; ignored for [`Resource::Concurrency`].
    pub period: Period,
    /// How much of it, in units of the resource.
    pub amount: NonZeroU64,
    /// How it comes back.
    pub refill: Refill,
    /// Who said so.
    pub source: Source,
}

impl Limit {
    /// The same promise, `times` as large.
    #[must_use]
    pub fn scaled(&self, times: u32) -> Limit {
        let more = |number: NonZeroU64| {
            number.saturating_mul(NonZeroU64::new(u64::from(times)).unwrap_or(NonZeroU64::MIN))
        };
        let refill = match &self.refill {
            Refill::Bucket { burst } => Refill::Bucket { burst: more(*burst) },
            other => other.clone(),
        };
        Limit { amount: more(self.amount), refill, ..self.clone() }
    }

    /// The same promise, `by` times as small, and never too small for `least` at once.
    #[must_use]
    pub fn thinned(&self, by: f64, least: u64) -> Limit {
        let less = |number: NonZeroU64| {
            let thin = (number.get() as f64 / by).round() as u64;
            NonZeroU64::new(thin.max(least.min(number.get()))).unwrap_or(NonZeroU64::MIN)
        };
        let refill = match &self.refill {
            Refill::Bucket { burst } => Refill::Bucket { burst: less(*burst) },
            other => other.clone(),
        };
        Limit { amount: less(self.amount), refill, ..self.clone() }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resource == Resource::Concurrency {
            write!(f, "{} calls in flight", self.amount)
        } else if self.resource == Resource::Spend {
            write!(f, "{} per {}", dollars(self.amount.get()), self.period)
        } else {
            let resource = self.resource.to_string();
            let plural = if self.amount.get() == 1 { 1 } else { 0 };
            let resource = &resource[..resource.len() - plural];
            write!(f, "{} {resource} per {}", self.amount, self.period)
        }
    }
}

/// Millionths of a US dollar as people write them.
///
/// ```
/// use quotaflow::kernel::dollars;
/// assert_eq!((dollars(1_500_000), dollars(20)), ("$1.50".to_owned(), "$0.00002".to_owned()));
/// ```
pub fn dollars(micros: u64) -> String {
    let text = format!("${}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let cents = text.len() - 4;
    let (whole, rest) = text.split_at(cents);
    format!("{whole}{}", rest.trim_end_matches('0'))
}
