//! How does Python see who waits, and send them home?

use pyo3::prelude::*;

use super::core::Core;
use super::exceptions::raise;
use crate::error::{Error, ErrorKind};

#[pymethods]
impl Core {
    /// Everybody who waits, in JSON.
    fn queue(&self, py: Python<'_>) -> PyResult<String> {
        let (_, engine, _) = self.engine(py)?;
        let queue = py.detach(|| engine.queue());
        let queue = queue.map_err(|error| raise(py, &error.into()))?;
        serde_json::to_string(&queue).map_err(|error| {
            raise(py, &Error::new(ErrorKind::Internal, format!("no queue: {error}")))
        })
    }

    /// Takes calls of a provider, of a priority below this, or all, out of the lines; says how many.
    fn clear_queue(
        &self,
        py: Python<'_>,
        provider: Option<&str>,
        below_priority: Option<u8>,
    ) -> PyResult<usize> {
        let (_, engine, _) = self.engine(py)?;
        let cleared = py.detach(|| engine.clear_queue(provider, below_priority));
        cleared.map_err(|error| raise(py, &error))
    }
}
