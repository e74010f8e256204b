//! The answer to a call: its text, its usage, its cost and its attempts.
//!
//! `Answer::cost` works when `reply.cost` is read: from the usage, the user's prices, and the body (its own price, the
//! service tier, the model that answered).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::kept::KeptAs;
use crate::engine::dispatch::prices::cost_of_answer;
use crate::error::{Attempt, Spent};
use crate::kernel::{Moment, Usage};
use crate::providers::prices::OwnPrices;

/// An answer with its usage and all attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text; empty when the model only calls tools.
    pub text: String,
    /// The provider that answered.
    pub provider: String,
    /// The model asked for.
    pub model: String,
    /// The label of the key that paid.
    pub key: String,
    /// What the answer itself used; `None` when the provider did not report it. See [`Answer::usage_of_all`].
    pub usage: Option<Usage>,
    /// What attempts of a stream used that broke off before.
    pub spent_before: Spent,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tool calls in the OpenAI shape.
    pub tool_calls: Vec<Value>,
    /// The provider's body.
    pub raw: Bytes,
    /// The user's own prices, for [`Answer::cost`].
    pub prices: Arc<OwnPrices>,
    /// From the call to the answer, waits and failed attempts included.
    pub latency: Duration,
    /// From the call to the first piece of a stream; `None` when it was none.
    pub first_token: Option<Duration>,
    /// Every attempt, the answered one last; none when the answer was cached.
    pub attempts: Vec<Attempt>,
    /// Whether it was cached, or is the answer to an identical call: it is not billed again.
    pub cached: bool,
    /// Its place in the cache, if it is cached.
    pub kept_as: Option<KeptAs>,
}

impl Answer {
    /// The usage, attempts of a stream included that broke off before; `None` when the provider did not report it.
    pub fn usage_of_all(&self) -> Option<Usage> {
        self.usage.map(|usage| usage.plus(&self.spent_before.usage))
    }

    /// What it cost, in picodollars, attempts of a stream included that broke off before: nothing when it was cached;
    /// `None` when the price or the usage is unknown.
    pub fn cost(&self) -> Option<u64> {
        if self.cached {
            return Some(0);
        }
        let at = self.attempts.last().map_or(Moment::EPOCH, |attempt| attempt.started);
        let (own, usage) = (&self.prices, self.usage.as_ref());
        let cost = cost_of_answer(own, &self.provider, &self.model, usage, &self.raw, at)?;
        Some(cost.saturating_add(self.spent_before.cost?))
    }
}
