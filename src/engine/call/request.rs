//! The request of a call: messages, parameters and options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::engine::dispatch::gauge::Watch;
use crate::error::Attempt;
use crate::kernel::Moment;
use crate::providers::Message;

/// Called for every failed attempt that another one follows, on the engine's threads; must return at once.
#[derive(Clone)]
pub struct RetryHook(pub Arc<dyn Fn(&Attempt) + Send + Sync>);

impl fmt::Debug for RetryHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryHook")
    }
}

/// One call with its options.
#[derive(Clone, Debug)]
pub struct Request {
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
    /// The longest the whole call may take; for a call of a batch ([`Request::watch`]) from when it leaves the waiting
    /// line.
    pub timeout: Option<Duration>,
    /// When the answer must be there.
    pub deadline: Option<Moment>,
    /// The user on whose behalf it is: calls of one priority share the lines by user, and the user's own limits hold.
    /// `None`: no user.
    pub user: Option<String>,
    /// Go ahead of the local limits; what is used is still counted.
    pub skip_rate_limit: bool,
    /// Whether a cached answer may be used, and how old it may be. Default: as configured.
    pub cache: CacheWish,
    /// Called for every failed attempt that another one follows.
    pub on_retry: Option<RetryHook>,
    /// Records that it waits, and that it was sent; for calls of a batch, which wait for quota as long as it takes and
    /// for room in a full line.
    pub watch: Option<Arc<Watch>>,
}

/// Whether a call may take a cached answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheWish {
    /// As configured (`answer_cache.always`).
    #[default]
    AsConfigured,
    /// Never.
    Never,
    /// One that is at most this old; `None`: as old as the config allows (`answer_cache.ttl`).
    UpTo(Option<Duration>),
}

impl Request {
    /// A request with everything else at its default.
    pub fn new(messages: Vec<Message>) -> Self {
        Request {
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
            user: None,
            skip_rate_limit: false,
            cache: CacheWish::default(),
            on_retry: None,
            watch: None,
        }
    }
}
