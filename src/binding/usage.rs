//! What was stated of a provider, and how does what was used elsewhere come to count here?

use pyo3::prelude::*;

use super::core::Core;
use super::exceptions::raise;
use crate::engine::Usage;
use crate::error::Error;

#[pymethods]
impl Core {
    /// Counts at least what the JSON tells of, elements of `status()["keys"]`; says of how many keys.
    fn take_over(&self, py: Python<'_>, usage: &str) -> PyResult<usize> {
        let told: Result<Vec<Usage>, _> = serde_json::from_str(usage);
        let told = told.map_err(|error| {
            let error = Error::argument("usage", format!("this is no usage: {error}"));
            raise(py, &error.hint("pass what save_usage() has written"))
        })?;
        let (threads, engine, notices) = self.engine(py)?;
        let taken = py.detach(|| threads.enter(|| engine.take_over(&told)));
        notices.deliver(py)?;
        taken.map_err(|error| raise(py, &error))
    }

    /// The limits and the pace of a provider in the words of the config, in JSON.
    fn stated(&self, py: Python<'_>, provider: &str) -> PyResult<String> {
        let (_, engine, _) = self.engine(py)?;
        let stated = engine.stated(provider).map_err(|error| raise(py, &error))?;
        Ok(stated.to_string())
    }
}
