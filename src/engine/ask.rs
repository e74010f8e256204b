//! What does a caller ask for, and what does it get?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::gauge::Watch;
use crate::error::Attempt;
use crate::kernel::{Moment, Usage};
use crate::providers::Message;

/// Is told of an attempt that failed and will be followed by another one. Called on the engine's threads; must return
/// at once.
#[derive(Clone)]
pub struct RetryHook(pub Arc<dyn Fn(&Attempt) + Send + Sync>);

impl fmt::Debug for RetryHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryHook")
    }
}

/// One call, as the caller wants it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The conversation; never empty.
    pub messages: Vec<Message>,
    /// Parameters in OpenAI's names.
    pub params: Map<String, Value>,
    /// The task whose model is used; `None` or unknown: the default model.
    pub task_name: Option<String>,
    /// The provider; `None`: found from the model, or the config's.
    pub provider: Option<String>,
    /// The model; `None`: the config's.
    pub model: Option<String>,
    /// Whether a failed attempt may be tried again. Default true.
    pub retry: bool,
    /// Whether the route's fallbacks may be used. Default true.
    pub fallback: bool,
    /// Retries on lanes that were tried before; `None`: the target's (3).
    pub max_retries: Option<u32>,
    /// The first back-off; `None`: the target's (1 s).
    pub retry_delay: Option<Duration>,
    /// 0 to 9, higher goes first. Default 3.
    pub priority: u8,
    /// The longest the whole call may take.
    pub timeout: Option<Duration>,
    /// When the answer must be there.
    pub deadline: Option<Moment>,
    /// Go ahead of the local limits; what is used is still counted.
    pub skip_rate_limit: bool,
    /// Is told of every attempt that another one follows.
    pub on_retry: Option<RetryHook>,
    /// Whom it tells that it waits, and when it is sent; for calls of a batch.
    pub watch: Option<Arc<Watch>>,
}

impl Ask {
    /// A question with everything else at its default.
    pub fn new(messages: Vec<Message>) -> Self {
        Ask {
            messages,
            params: Map::new(),
            task_name: None,
            provider: None,
            model: None,
            retry: true,
            fallback: true,
            max_retries: None,
            retry_delay: None,
            priority: 3,
            timeout: None,
            deadline: None,
            skip_rate_limit: false,
            on_retry: None,
            watch: None,
        }
    }
}

/// An answer and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text; empty when the model only calls tools.
    pub text: String,
    /// Who answered.
    pub provider: String,
    /// The model asked for.
    pub model: String,
    /// The label of the key that paid.
    pub key: String,
    /// What was used; `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tool calls in the OpenAI shape.
    pub tool_calls: Vec<Value>,
    /// The provider's body.
    pub raw: Bytes,
    /// From the call to the answer, waits and failed attempts included.
    pub latency: Duration,
    /// Every attempt, the answered one last.
    pub attempts: Vec<Attempt>,
}
