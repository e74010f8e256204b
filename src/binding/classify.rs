//! Classification of other libraries' errors for Python.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::{
    Clock, Failure, FailureClass, ForeignError, Headers, Moment, Origin, Provider, SystemClock,
    Until, shown,
};

/// The classification of an error.
///
/// `quotaflow.classify_error(error)` makes it. It keeps what the engine needs to close the right lanes.
#[pyclass(frozen, eq, module = "quotaflow._quotaflow")]
#[derive(Clone, PartialEq)]
pub(crate) struct Verdict {
    /// What was found out, as the engine takes it.
    pub(crate) failure: Failure,
    /// When that was.
    judged: Moment,
}

/// What an error that was taken apart means; `None` when it is unknown.
#[pyfunction]
#[pyo3(signature = (provider, host, library, status, headers, body, kind, text))]
#[expect(clippy::too_many_arguments, reason = "one for each thing an exception may know")]
pub(super) fn classify_error(
    provider: Option<&str>,
    host: Option<&str>,
    library: Option<&str>,
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Option<&[u8]>,
    kind: Option<&str>,
    text: &str,
) -> Option<Verdict> {
    let judged = SystemClock.now();
    // A name that the catalogue does not know says nothing about whose words these are.
    let provider = provider.and_then(Provider::find);
    let headers: Headers = headers.into_iter().collect();
    let error = ForeignError {
        provider: provider.as_ref(),
        host,
        library,
        status,
        headers: Some(&headers),
        body,
        kind,
        text,
    };
    error.failure(judged).map(|failure| Verdict { failure, judged })
}

#[pymethods]
impl Verdict {
    #[new]
    #[pyo3(signature = (failure, *, status=None, retry_after=None, message=""))]
    fn new(
        failure: &str,
        status: Option<u16>,
        retry_after: Option<f64>,
        message: &str,
    ) -> PyResult<Self> {
        let known = FailureClass::ALL.into_iter().find(|class| class.name() == failure);
        let Some(class) = known else {
            return Err(PyValueError::new_err(format!("{failure:?} is not a failure class")));
        };
        let judged = SystemClock.now();
        let wait = retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // Who worked it out does not say where it came from: at worst one call looks whether it is true.
        let until = wait.map(|wait| Until { at: judged + wait, origin: Origin::Guess });
        let failure =
            Failure { status, until, ..Failure::new(class, class.usual_scope(), shown(message)) };
        Ok(Verdict { failure, judged })
    }

    /// The class of the failure in snake case, as in `CallError.failure`: `rate_limited`, `daily_quota`, …
    #[getter]
    fn failure(&self) -> &'static str {
        self.failure.class.name()
    }

    /// What it closes: `call` (nothing else), `key`, `group_model`, `group`, `group_free_models` or `model`.
    #[getter]
    fn scope(&self) -> &'static str {
        self.failure.scope.name()
    }

    /// In how many seconds it makes sense to try again, counted from when this was found out; `None`: unknown.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        self.failure.until.map(|until| (until.at - self.judged).as_secs_f64())
    }

    /// When it makes sense to try again, in seconds since 1970-01-01T00:00:00Z; `None`: unknown.
    #[getter]
    fn until(&self) -> Option<f64> {
        self.failure.until.map(|until| until.at.as_seconds())
    }

    /// Whether `until` is the provider's word, and not a guess that one call may test.
    #[getter]
    fn is_word(&self) -> bool {
        self.failure.until.is_some_and(|until| until.origin == Origin::Provider)
    }

    /// The HTTP status, or `None` when only a type or words were there.
    #[getter]
    fn status(&self) -> Option<u16> {
        self.failure.status
    }

    /// The text without keys, cut to about 500 characters.
    #[getter]
    fn message(&self) -> &str {
        &self.failure.message
    }

    /// Whether the same request can never pass with this key: waiting is useless.
    #[getter]
    fn never_here(&self) -> bool {
        self.failure.never_here
    }

    /// Whether the request provably never left this machine, so that nothing was counted.
    #[getter]
    fn never_sent(&self) -> bool {
        self.failure.never_sent
    }

    /// The limit that was hit, as `(resource, period, amount, requested)`, if it was named.
    #[getter]
    fn limit(&self) -> Option<(String, String, Option<u64>, Option<u64>)> {
        let limit = self.failure.limit?;
        Some((limit.resource.to_string(), limit.period.to_string(), limit.amount, limit.requested))
    }

    /// The provider's id of the request, for its support.
    #[getter]
    fn request_id(&self) -> Option<&str> {
        self.failure.request_id.as_deref()
    }

    fn __repr__(&self) -> String {
        let mut facts = format!("Verdict({}", self.failure.class);
        if let Some(status) = self.failure.status {
            facts += &format!(", status {status}");
        }
        if let Some(after) = self.retry_after() {
            facts += &format!(", again in {after:.1} s");
        }
        format!("{facts}: {:?})", self.failure.message)
    }
}
