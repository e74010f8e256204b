//! What do names of variables say, and which of them hold the same key?

use pyo3::prelude::*;

use super::raising::raise;
use crate::config::{ConfigArgument, Sources, looks_like_a_key};
use crate::engine::{provider_of_key, provider_of_variable};

/// For each name a digest of what the variable holds in the process or in `.env`, the same for the same content;
/// `None` where nothing is.
#[pyfunction]
pub(super) fn digests_of_variables(
    py: Python<'_>,
    names: Vec<String>,
    salt: &str,
) -> PyResult<Vec<Option<String>>> {
    // An empty tree: no config file is looked for.
    let nothing = ConfigArgument::Value(serde_json::Value::Object(serde_json::Map::new()));
    let sources = py.detach(|| Sources::gather(Some(&nothing)));
    let sources = sources.map_err(|error| raise(py, &error.into()))?;
    Ok(names.iter().map(|name| sources.digest_of(name, salt)).collect())
}

/// The provider whose key a variable of this name holds.
#[pyfunction]
pub(super) fn whose_variable(name: &str) -> Option<&'static str> {
    provider_of_variable(name)
}

/// Whether a text begins like a key, and the provider whose keys begin so.
#[pyfunction]
pub(super) fn whose_key(text: &str) -> (bool, Option<&'static str>) {
    (looks_like_a_key(text), provider_of_key(text))
}
