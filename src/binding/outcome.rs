//! Answers, attempts and permits as Python objects.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::engine::{Answer, FailureClass, Permit, StreamEvent, StreamPiece, TokenUsage};
use crate::error::Attempt;

/// Input, output, cached, written to the cache, thinking.
pub(super) type Counts = (u64, u64, u64, u64, u64);

/// The tokens as the fields of `quotaflow.records.Usage`.
pub(super) fn counts(usage: &TokenUsage) -> Counts {
    let (cached, written) = (usage.cached_tokens, usage.cache_write_tokens);
    (usage.input_tokens, usage.output_tokens, cached, written, usage.reasoning_tokens)
}

/// An answer; its parts become Python objects only when they are asked for.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct Outcome(pub(super) Answer);

#[pymethods]
impl Outcome {
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    #[getter]
    fn provider(&self) -> &str {
        &self.0.provider
    }

    #[getter]
    fn model(&self) -> &str {
        &self.0.model
    }

    #[getter]
    fn key(&self) -> &str {
        &self.0.key
    }

    #[getter]
    fn usage(&self) -> Option<Counts> {
        self.0.usage_of_all().as_ref().map(counts)
    }

    #[getter]
    fn latency(&self) -> f64 {
        self.0.latency.as_secs_f64()
    }

    #[getter]
    fn cached(&self) -> bool {
        self.0.cached
    }

    #[getter]
    fn first_token_latency(&self) -> Option<f64> {
        self.0.first_token.map(|after| after.as_secs_f64())
    }

    #[getter]
    fn finish_reason(&self) -> Option<&str> {
        self.0.finish_reason.as_deref()
    }

    #[getter]
    fn tool_calls(&self) -> Option<String> {
        let calls = &self.0.tool_calls;
        (!calls.is_empty()).then(|| serde_json::Value::Array(calls.clone()).to_string())
    }

    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.raw)
    }

    /// The facts in one line of JSON, in the words of `Reply`, with what it cost in dollars.
    fn to_json(&self, cost: Option<&str>) -> String {
        let answer = &self.0;
        let usage = answer.usage_of_all().as_ref().map(counts);
        let calls = &answer.tool_calls;
        let calls =
            (!calls.is_empty()).then(|| serde_json::Value::Array(calls.clone()).to_string());
        let attempts: Vec<_> = answer.attempts.iter().map(attempt).collect();
        serde_json::json!({
            "text": answer.text,
            "provider": answer.provider,
            "model": answer.model,
            "key": answer.key,
            "usage": usage,
            "latency": answer.latency.as_secs_f64(),
            "cached": answer.cached,
            "cost": cost,
            "finish_reason": answer.finish_reason,
            "tool_calls": calls,
            "attempts": attempts,
            "raw": String::from_utf8_lossy(&answer.raw),
        })
        .to_string()
    }

    /// Removes it from the cache of answers, if it is there: it is not what was asked for.
    fn forget(&self, py: Python<'_>) {
        if let Some(kept) = &self.0.kept_as {
            py.detach(|| kept.forget());
        }
    }

    #[getter]
    fn attempts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        attempts(py, &self.0.attempts)
    }
}

/// Attempts as the tuples that `quotaflow.records.Attempt` is made of.
pub(super) fn attempts<'py>(py: Python<'py>, attempts: &[Attempt]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, attempts.iter().map(attempt))
}

type AttemptTuple<'a> =
    (&'a str, &'a str, &'a str, Option<&'static str>, Option<u16>, f64, f64, f64);

/// One attempt as a tuple.
pub(super) fn attempt(attempt: &Attempt) -> AttemptTuple<'_> {
    (
        &attempt.provider,
        &attempt.model,
        &attempt.key,
        attempt.failure.map(FailureClass::name),
        attempt.status,
        attempt.started.as_seconds(),
        attempt.lasted.as_secs_f64(),
        attempt.waited.as_secs_f64(),
    )
}

/// What Python gets for a permit: provider, model, label, key, seconds waited, number of the attempt.
pub(super) type PermitTuple = (String, Option<String>, String, Option<String>, f64, usize);

/// A permit as a tuple, with the key in clear.
pub(super) fn permit_tuple(permit: Permit) -> PermitTuple {
    let secret = permit.secret.map(|secret| secret.expose().to_owned());
    let waited = permit.waited.as_secs_f64();
    (permit.provider, permit.model, permit.label, secret, waited, permit.attempt)
}

/// Pieces as Python takes them.
pub(super) fn objects(py: Python<'_>, events: Vec<StreamEvent>) -> PyResult<Py<PyAny>> {
    let objects = events.into_iter().map(|event| object(py, event));
    let objects: Vec<Py<PyAny>> = objects.collect::<PyResult<_>>()?;
    PyList::new(py, objects)?.into_py_any(py)
}

fn object(py: Python<'_>, event: StreamEvent) -> PyResult<Py<PyAny>> {
    match event {
        StreamEvent::Piece(StreamPiece::Text(text)) => {
            Ok(PyString::new(py, &text).into_any().unbind())
        }
        StreamEvent::Piece(StreamPiece::Reasoning(text)) => ("reasoning", text).into_py_any(py),
        StreamEvent::Piece(StreamPiece::ToolCall { index, id, name, arguments }) => {
            ("tool_call", arguments, index, id, name).into_py_any(py)
        }
        StreamEvent::Seam(seam) => {
            let broken = attempt(&seam.broken);
            let (message, restarts) = (&seam.message, seam.restarts);
            ("seam", message, restarts, broken, &seam.provider, &seam.model, &seam.key)
                .into_py_any(py)
        }
    }
}
