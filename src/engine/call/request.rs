//! The request of a call: messages, parameters, target, retries, deadline, priority.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::engine::dispatch::gauge::Watch;
use crate::error::Attempt;
use crate::kernel::Moment;
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
    /// The longest the whole call may take; for a call of a batch ([`Request::watch`]) from when it leaves the waiting line.
    pub timeout: Option<Duration>,
    /// When the answer must be there.
    pub deadline: Option<Moment>,
    /// On whose behalf: those of one priority share the lines by user, and the user's own limits hold. `None`: nobody's
    /// in particular.
    pub user: Option<String>,
    /// Go ahead of the local limits; what is used is still counted.
    pub skip_rate_limit: bool,
    /// Whether an answer to the same question may be given again, and how old it may be. Default: as configured.
    pub cache: CacheWish,
    /// Is told of every attempt that another one follows.
    pub on_retry: Option<RetryHook>,
    /// Whom it tells that it waits, and when it is sent; for calls of a batch, which wait for quota as long as it takes
    /// and for room in a line that is full.
    pub watch: Option<Arc<Watch>>,
}

/// Whether a call takes an answer that was given before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheWish {
    /// As the config says (`answer_cache.always`).
    #[default]
    AsConfigured,
    /// Never.
    Never,
    /// One that is at most this old; `None`: as old as the config allows (`answer_cache.ttl`).
    UpTo(Option<Duration>),
}

impl Request {
    /// A question with everything else at its default.
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
