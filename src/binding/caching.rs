//! How does Python have answers forgotten that would be given again?

use pyo3::prelude::*;

use super::call_options::CallOptions;
use super::core::Core;
use super::raising::raise;

#[pymethods]
impl Core {
    /// Forgets the answer to this prompt, text or messages in JSON; says whether one was kept.
    fn forget_answer(
        &self,
        py: Python<'_>,
        prompt: &str,
        is_messages: bool,
        options: &Bound<'_, CallOptions>,
    ) -> PyResult<bool> {
        let (_, engine, _) = self.engine(py)?;
        let ask = options.get().ask(prompt, is_messages);
        let forgotten = py.detach(|| engine.forget_answer(&ask?));
        forgotten.map_err(|error| raise(py, &error))
    }

    /// Forgets all of them; says how many.
    fn clear_cache(&self, py: Python<'_>) -> PyResult<u64> {
        let (_, engine, _) = self.engine(py)?;
        let forgotten = py.detach(|| engine.clear_cache());
        forgotten.map_err(|error| raise(py, &error))
    }
}
