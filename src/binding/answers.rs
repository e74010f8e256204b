//! JSON in answers, and its validation, for Python.

use pyo3::prelude::*;

use super::exceptions::raise;
use crate::engine::{AnswerSchema as Schema, json_in};
use crate::error::Error;

/// The JSON values in a text, the likeliest answer first, and whether the text ends within one.
#[pyfunction]
pub(super) fn json_in_text(py: Python<'_>, text: &str) -> (Vec<String>, bool) {
    py.detach(|| {
        let found = json_in(text);
        (found.values.into_iter().map(str::to_owned).collect(), found.is_cut)
    })
}

/// A JSON schema that answers are held to.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct AnswerSchema(Schema);

#[pymethods]
impl AnswerSchema {
    #[new]
    fn new(py: Python<'_>, schema_json: &str) -> PyResult<Self> {
        let wrong = |words: String| {
            let message = format!("response_format holds no JSON schema: {words}");
            raise(py, &Error::argument("response_format", message))
        };
        let schema = serde_json::from_str(schema_json).map_err(|error| wrong(error.to_string()))?;
        Schema::new(&schema).map(AnswerSchema).map_err(wrong)
    }

    /// What is wrong with a text that is JSON; empty when it fits.
    fn faults(&self, py: Python<'_>, json: &str) -> Vec<String> {
        py.detach(|| self.0.faults(json))
    }
}
