//! Pacing of a provider's calls: retries, delays, request size, reserve.

use super::error::ConfigError;
use super::reader::{Node, Table};
use super::settings::{Pacing, PacingSettings, ProviderSettings, RetrySettings};

/// More retries than this are a slip of the finger.
const MOST_RETRIES: u32 = 100;

/// The longest first pause: an hour.
pub(super) const LONGEST_DELAY: f64 = 3_600.0;

/// A pause that grows faster than this is at its cap at once.
const LARGEST_MULTIPLIER: f64 = 100.0;

/// More tokens than any model reads and writes.
const MOST_TOKENS: u64 = 1_000_000_000;

impl PacingSettings {
    /// The pacing with `usual` where a field is not set.
    fn over(&self, usual: Pacing) -> Pacing {
        Pacing {
            max_tokens_per_request: self.max_tokens_per_request.or(usual.max_tokens_per_request),
            base_delay: self.base_delay.unwrap_or(usual.base_delay),
            max_retries: self.max_retries.unwrap_or(usual.max_retries),
            retry_multiplier: self.retry_multiplier.unwrap_or(usual.retry_multiplier),
            pause_threshold: self.pause_threshold.unwrap_or(usual.pause_threshold),
        }
    }

    /// Lays `over` on this: what it says is replaced, the rest stays.
    pub(super) fn lay_over(&mut self, over: PacingSettings) {
        *self = PacingSettings {
            max_tokens_per_request: over.max_tokens_per_request.or(self.max_tokens_per_request),
            base_delay: over.base_delay.or(self.base_delay),
            max_retries: over.max_retries.or(self.max_retries),
            retry_multiplier: over.retry_multiplier.or(self.retry_multiplier),
            pause_threshold: over.pause_threshold.or(self.pause_threshold),
        };
    }
}

impl From<&RetrySettings> for Pacing {
    fn from(retry: &RetrySettings) -> Self {
        Pacing {
            max_tokens_per_request: None,
            base_delay: retry.retry_delay,
            max_retries: retry.max_retries,
            retry_multiplier: retry.retry_multiplier,
            pause_threshold: 0.9,
        }
    }
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing::from(&RetrySettings::default())
    }
}

impl ProviderSettings {
    /// The pacing of calls of `model`: the model's, else the provider's, else that of all calls.
    ///
    /// ```
    /// use quotaflow::config::{Arguments, Settings, Sources};
    /// use serde_json::json;
    /// let limits = json!({"groq": {
    ///     "max_tokens_per_request": 6000, "max_retries": 5, "models": {"llama-3.1-8b-instant": {"max_retries": 1}},
    /// }});
    /// let arguments =
    ///     Arguments { limits: Some(limits), state: Some("memory".into()), ..Arguments::default() };
    /// let settings = Settings::resolve(arguments, Sources::default()).unwrap();
    /// let pacing = settings.providers["groq"].pacing("llama-3.1-8b-instant");
    /// assert_eq!((pacing.max_retries, pacing.max_tokens_per_request), (1, Some(6000)));
    /// assert_eq!((pacing.retry_multiplier, pacing.pause_threshold), (2.0, 0.9));
    /// ```
    pub fn pacing(&self, model: &str) -> Pacing {
        let of_provider = self.pacing.over(self.usual);
        self.model_pacing.get(model).map_or(of_provider, |said| said.over(of_provider))
    }
}

/// Reads what stands beside the limits of a provider or a model.
pub(super) fn read(table: &Table<'_>) -> Result<PacingSettings, ConfigError> {
    let tokens = table.get("max_tokens_per_request").map(|node| node.whole(1, MOST_TOKENS));
    let delay = table.get("base_delay").map(|node| node.seconds(0.0, LONGEST_DELAY));
    let threshold = table.get("pause_threshold").map(|node| share(&node));
    Ok(PacingSettings {
        max_tokens_per_request: tokens.transpose()?,
        base_delay: delay.transpose()?,
        max_retries: table.get("max_retries").map(|node| max_retries(&node)).transpose()?,
        retry_multiplier: table
            .get("retry_multiplier")
            .map(|node| multiplier(&node))
            .transpose()?,
        pause_threshold: threshold.transpose()?,
    })
}

/// How often something is tried again.
pub(super) fn max_retries(node: &Node<'_>) -> Result<u32, ConfigError> {
    let number = node.whole(0, u64::from(MOST_RETRIES))?;
    u32::try_from(number).map_err(|_| node.wrong())
}

/// By how much a pause grows.
pub(super) fn multiplier(node: &Node<'_>) -> Result<f64, ConfigError> {
    node.number(1.0, LARGEST_MULTIPLIER)
}

fn share(node: &Node<'_>) -> Result<f64, ConfigError> {
    match node.number(0.0, 1.0)? {
        0.0 => Err(node.wrong()),
        share => Ok(share),
    }
}
