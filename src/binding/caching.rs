//! How does Python have answers forgotten that would be given again?

use pyo3::prelude::*;

use super::core::Core;
use super::exceptions::raise;
use super::outcome::Outcome;

#[pymethods]
impl Core {
    /// Forgets all of them; says how many.
    fn clear_cache(&self, py: Python<'_>) -> PyResult<u64> {
        let (_, engine, _) = self.engine(py)?;
        let forgotten = py.detach(|| engine.clear_cache());
        forgotten.map_err(|error| raise(py, &error))
    }
}

#[pymethods]
impl Outcome {
    /// It is not what was asked for: if it was kept to be given again, it is forgotten.
    fn forget(&self, py: Python<'_>) {
        if let Some(kept) = &self.0.kept_as {
            py.detach(|| kept.forget());
        }
    }
}
