//! The options of a call, checked once.

use std::time::Duration;

use pyo3::prelude::*;
use serde_json::{Map, Value};

use super::prompt::Prompt;
use crate::engine::{CacheWish, Moment, Request};
use crate::error::Error;

/// The options of a call, read once and used for every call that has the same.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct CallOptions {
    pub(super) ask: Request,
    pub(super) system: Option<String>,
    pub(super) on_retry: Option<Py<PyAny>>,
    pub(super) debug: bool,
}

#[pymethods]
impl CallOptions {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the options that design and signature fix")]
    fn new(
        py: Python<'_>,
        task_name: Option<String>,
        provider: Option<String>,
        model: Option<String>,
        retry: bool,
        fallback: bool,
        max_retries: Option<u32>,
        retry_delay: Option<f64>,
        system: Option<String>,
        priority: u8,
        timeout: Option<f64>,
        deadline: Option<f64>,
        user: Option<String>,
        skip_rate_limit: bool,
        params_json: Option<&str>,
        cache: Option<(bool, Option<f64>)>,
        on_retry: Option<Py<PyAny>>,
        debug: bool,
    ) -> PyResult<Self> {
        let params: Map<String, Value> = match params_json {
            Some(text) => serde_json::from_str(text).map_err(|error| {
                super::exceptions::raise(py, &Error::argument("params", error.to_string()))
            })?,
            None => Map::new(),
        };
        let ask = Request {
            params,
            task_name,
            provider,
            model,
            retry,
            fallback,
            max_retries,
            retry_delay: retry_delay.map(Duration::from_secs_f64),
            priority,
            timeout: timeout.map(Duration::from_secs_f64),
            deadline: deadline.map(|at| Moment::from_nanos((at * 1e9) as i64)),
            user,
            skip_rate_limit,
            cache: match cache {
                None => CacheWish::AsConfigured,
                Some((false, _)) => CacheWish::Never,
                Some((true, ttl)) => CacheWish::UpTo(ttl.map(Duration::from_secs_f64)),
            },
            ..Request::new(Vec::new())
        };
        Ok(CallOptions { ask, system, on_retry, debug })
    }
}

impl CallOptions {
    /// The call with its prompt.
    pub(super) fn ask(&self, prompt: &Prompt) -> Result<Request, Error> {
        let messages = prompt.messages(self.system.as_deref())?;
        Ok(Request { messages, ..self.ask.clone() })
    }
}
