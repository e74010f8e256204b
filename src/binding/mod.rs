//! The Python binding: it translates and decides nothing.
//!
//! - `import quotaflow` loads nothing but itself. Names are loaded on first use. Nothing starts before the first
//!   call.
//! - Only values cross. The engine stores no Python object.
//! - Errors become the classes of `errors.py` with their facts; `exceptions.rs` is the table.
//! - Unix only: the wake-up socket of an event loop is a Unix socket pair.

mod answers;
mod batching;
mod call_options;
mod canonical_names;
mod classify;
mod core;
mod costs;
mod digests;
mod exceptions;
mod forks;
mod guard;
mod loop_port;
mod loop_ring;
mod mailbox;
mod notices;
mod outcome;
mod planning;
mod prompt;
mod runtime;
mod simulate;
mod stream_timeouts;
mod streaming;

use pyo3::pymodule;

/// The private module behind `quotaflow`.
#[pymodule]
mod _quotaflow {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::answers::{AnswerSchema, json_in_text};
    #[pymodule_export]
    use super::batching::BatchRun;
    #[pymodule_export]
    use super::call_options::CallOptions;
    #[pymodule_export]
    use super::canonical_names::{canonical_provider, digests_of_keys, whose_key, whose_variable};
    #[pymodule_export]
    use super::classify::{Verdict, classify_error};
    #[pymodule_export]
    use super::core::Core;
    #[pymodule_export]
    use super::costs::{cost_of, prices_made_from, take_prices};
    #[pymodule_export]
    use super::digests::DigestTable;
    #[pymodule_export]
    use super::guard::{GuardOptions, GuardedCall};
    #[pymodule_export]
    use super::loop_port::LoopPort;
    #[pymodule_export]
    use super::outcome::Outcome;
    #[pymodule_export]
    use super::simulate::{Simulator, simulate};
    #[pymodule_export]
    use super::streaming::StreamCall;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
