//! What does an error of somebody else's library mean?

use pyo3::prelude::*;

use crate::engine::Failure;

/// What an error means.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct Verdict {
    pub(super) failure: Failure,
}
