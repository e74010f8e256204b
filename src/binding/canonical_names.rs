//! Canonical provider names, and digests of keys.

use pyo3::prelude::*;

use super::exceptions::raise;
use crate::config::{ConfigArgument, Sources, looks_like_a_key};
use crate::engine::{Provider, provider_of_key, provider_of_variable};
use crate::secret::Secret;

/// For each text a digest of the key in the variable of that name, in the process or in `.env`, `None` where there is
/// none, and a digest of the text itself. Equal keys have equal digests.
#[pyfunction]
pub(super) fn digests_of_keys(
    py: Python<'_>,
    texts: Vec<String>,
    salt: &str,
) -> PyResult<Vec<(Option<String>, String)>> {
    // An empty tree: no config file is looked for.
    let nothing = ConfigArgument::Value(serde_json::Value::Object(serde_json::Map::new()));
    let sources = py.detach(|| Sources::gather(Some(&nothing)));
    let sources = sources.map_err(|error| raise(py, &error.into()))?;
    let digests =
        |text: &String| (sources.digest_of(text, salt), Secret::new(text.trim()).digest(salt));
    Ok(texts.iter().map(digests).collect())
}

/// The provider whose key a variable of this name holds.
#[pyfunction]
pub(super) fn whose_variable(name: &str) -> Option<&'static str> {
    provider_of_variable(name)
}

/// The canonical name of a provider, whichever of its names this is; a name of the user's own in small letters.
#[pyfunction]
pub(super) fn canonical_provider(name: &str) -> String {
    Provider::find(name).map_or_else(|| name.trim().to_ascii_lowercase(), |known| known.name)
}

/// Whether a text begins like a key, and the provider whose keys begin so.
#[pyfunction]
pub(super) fn whose_key(text: &str) -> (bool, Option<&'static str>) {
    (looks_like_a_key(text), provider_of_key(text))
}
