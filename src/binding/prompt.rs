//! A prompt at the border: text as `str`, messages in JSON as `bytes`.

use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};

use super::exceptions::raise;
use crate::engine::{Content, Message, Role};
use crate::error::Error;

/// A prompt, borrowed from Python.
pub(super) enum Prompt {
    /// What a user says.
    Text(PyBackedStr),
    /// A conversation, in JSON.
    Messages(PyBackedBytes),
}

impl<'py> FromPyObject<'_, 'py> for Prompt {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = given.cast::<PyString>() {
            let text = PyBackedStr::try_from(text.to_owned());
            return text.map(Prompt::Text).map_err(|error| unencodable(given.py(), error));
        }
        let bytes = given.cast::<PyBytes>();
        let bytes = bytes.map_err(|_| PyTypeError::new_err("a prompt is str or bytes"))?;
        Ok(Prompt::Messages(bytes.to_owned().into()))
    }
}

impl Prompt {
    /// Its messages, after the instructions if there are any.
    pub(super) fn messages(&self, system: Option<&str>) -> Result<Vec<Message>, Error> {
        let mut messages: Vec<Message> = Vec::new();
        messages.extend(system.map(|system| said(Role::System, system)));
        match self {
            Prompt::Text(text) => messages.push(said(Role::User, text)),
            Prompt::Messages(json) => {
                let said: Vec<Message> = serde_json::from_slice(json).map_err(|error| {
                    Error::argument("prompt", format!("the messages are wrong: {error}"))
                })?;
                messages.extend(said);
            }
        }
        Ok(messages)
    }
}

/// Half a surrogate pair cannot be written as UTF-8.
fn unencodable(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyUnicodeEncodeError>(py) {
        return error;
    }
    let place = error.value(py).getattr("start").and_then(|start| start.extract::<usize>());
    let place = place.map_or_else(|_| String::new(), |place| format!(" at character {place}"));
    let what = format!("the prompt or an argument has an unpaired surrogate{place}");
    let hint = "it was decoded wrongly: decode it again with errors='replace'";
    raise(py, &Error::argument("prompt", what).hint(hint))
}

fn said(role: Role, text: &str) -> Message {
    Message {
        role,
        content: Content::Text(text.to_owned()),
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    }
}
