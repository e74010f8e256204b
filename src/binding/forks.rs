//! Fork hooks: the engine before and after `os.fork`.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine;

/// Whether the hooks are registered; a child of a fork need not ask again.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Registers the hooks that run before and after every fork by Python.
pub(super) fn watch(py: Python<'_>) -> PyResult<()> {
    // There are no forks where this function is missing.
    let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? else { return Ok(()) };
    if !WATCHED.swap(true, Ordering::AcqRel) {
        let hooks = PyDict::new(py);
        hooks.set_item("before", wrap_pyfunction!(before_fork, py)?)?;
        hooks.set_item("after_in_parent", wrap_pyfunction!(after_fork, py)?)?;
        register.call((), Some(&hooks))?;
    }
    Ok(())
}

#[pyfunction]
fn before_fork(py: Python<'_>) {
    py.detach(engine::before_fork);
}

#[pyfunction]
fn after_fork(py: Python<'_>) {
    py.detach(engine::after_fork);
}
