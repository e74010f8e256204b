//! Python exceptions of errors, as one table.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use super::outcome::{attempts, counts};
use crate::engine::FailureClass;
use crate::error::{Error, ErrorKind, Spent, UserLimit};

/// The exception class of a kind; the classes stand in `quotaflow/errors.py`.
pub(super) fn class_name(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config(_) => "ConfigError",
        ErrorKind::InvalidArgument { argument } if argument == "prompt" => "InvalidPromptError",
        ErrorKind::InvalidArgument { .. } => "InvalidArgumentError",
        ErrorKind::NoKey => "NoKeyError",
        ErrorKind::State(_) => "StateError",
        ErrorKind::Closed => "ClosedError",
        ErrorKind::QueueFull => "QueueFullError",
        ErrorKind::QueueCleared => "QueueCleared",
        ErrorKind::UserLimit => "UserLimitError",
        ErrorKind::Deadline => "DeadlineExceededError",
        ErrorKind::Interrupted { .. } => "StreamInterrupted",
        ErrorKind::Internal => "QuotaflowError",
        ErrorKind::Failure(class) => match class {
            FailureClass::RateLimited => "RateLimitError",
            FailureClass::TokenLimited => "TokenLimitError",
            FailureClass::DailyQuota => "DailyQuotaError",
            FailureClass::CreditExhausted => "CreditExhaustedError",
            FailureClass::Overloaded => "OverloadedError",
            FailureClass::ServerError => "ServerError",
            FailureClass::Timeout => "CallTimeoutError",
            FailureClass::Network => "NetworkError",
            FailureClass::Auth => "AuthError",
            FailureClass::Permission => "PermissionDeniedError",
            FailureClass::NotFound => "NotFoundError",
            FailureClass::InvalidRequest => "InvalidRequestError",
            FailureClass::ContextTooLong => "ContextTooLongError",
            FailureClass::ContentFiltered => "ContentFilteredError",
        },
    }
}

/// The error as the exception to raise.
pub(super) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("quotaflow.errors")?.getattr(class_name(&error.kind))?;
    let facts = PyDict::new(py);
    facts.set_item("hint", error.hint.as_deref())?;
    match &error.kind {
        ErrorKind::Config(config) => {
            let path = config.file.as_ref().filter(|_| config.path.is_empty());
            let path = path.map_or_else(|| config.path.clone(), |file| file.display().to_string());
            facts.set_item("path", path)?;
        }
        ErrorKind::State(store) => {
            facts.set_item("path", store.path.as_ref().map(|path| path.display().to_string()))?;
        }
        ErrorKind::NoKey => facts.set_item("provider", error.provider.as_deref())?,
        ErrorKind::InvalidArgument { .. } | ErrorKind::Closed | ErrorKind::Internal => {}
        ErrorKind::QueueFull
        | ErrorKind::QueueCleared
        | ErrorKind::UserLimit
        | ErrorKind::Deadline
        | ErrorKind::Failure(_)
        | ErrorKind::Interrupted { .. } => {
            if let ErrorKind::Interrupted { text } = &error.kind {
                facts.set_item("text", text)?;
            }
            if let Some(Spent { usage, cost }) = error.spent {
                let usage_class = py.import("quotaflow.records")?.getattr("Usage")?;
                facts.set_item("usage", usage_class.call1(counts(&usage))?)?;
                let dollars = py.import("quotaflow._prices.cost")?.getattr("dollars")?;
                facts.set_item("cost", cost.map(|cost| dollars.call1((cost,))).transpose()?)?;
            }
            if let Some(UserLimit { name, used, amount }) = error.user_limit {
                facts.set_item("limit", name)?;
                // Money is in dollars, everything else as it is counted.
                if name.starts_with("cost") {
                    facts.set_item("used", used as f64 / 1e6)?;
                    facts.set_item("amount", amount as f64 / 1e6)?;
                } else {
                    facts.set_item("used", used)?;
                    facts.set_item("amount", amount)?;
                }
            }
            facts.set_item("failure", error.failure.map(FailureClass::name))?;
            facts.set_item("status", error.http_status)?;
            facts.set_item("retry_after", error.retry_after.map(|after| after.as_secs_f64()))?;
            facts.set_item("provider", error.provider.as_deref())?;
            facts.set_item("model", error.model.as_deref())?;
            facts.set_item("key", error.key.as_deref())?;
            facts.set_item("attempts", attempts(py, &error.attempts)?)?;
        }
    }
    class.call((error.message.as_str(),), Some(&facts.into_py_dict(py)?))
}
