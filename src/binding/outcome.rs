//! What does Python get for an answer?

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::exceptions::{attempt, attempts};
use crate::engine::{Answer, TokenUsage};

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

    #[getter]
    fn attempts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        attempts(py, &self.0.attempts)
    }
}
