//! Refusals of llama.cpp servers, which have slots and no quotas.

use crate::kernel::FailureClass::{Auth, ContextTooLong, InvalidRequest, Overloaded};
use crate::kernel::Scope::{Call, Key, Model};

use super::row::UntilFrom::RetryAfter;
use super::row::When::{Always, Any, Named, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    // The model is being loaded, which can take minutes.
    row(
        "llamacpp-loading",
        &[503],
        Any(&[Named(&["unavailable_error"]), Says(&["loading model"])]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    row(
        "llamacpp-context",
        &[400],
        Any(&[
            Named(&["exceed_context_size_error"]),
            Says(&["exceeds the available context size"]),
        ]),
        ContextTooLong,
        Call,
    ),
    row("llamacpp-key", &[401], Always, Auth, Key),
    row("llamacpp-unsupported", &[501], Always, InvalidRequest, Call),
];
