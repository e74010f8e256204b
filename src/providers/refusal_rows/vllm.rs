//! Refusals of vLLM servers, in the old and the new envelope.

use crate::kernel::FailureClass::{Auth, ContextTooLong, NotFound, Overloaded};
use crate::kernel::Scope::{Call, GroupModel, Key, Model};

use super::row::UntilFrom::RetryAfter;
use super::row::When::{All, Always, InputFits, Not, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "vllm-context",
        &[400],
        All(&[Says(&["maximum context length"]), Not(&InputFits)]),
        ContextTooLong,
        Call,
    ),
    row("vllm-model", &[404], Always, NotFound, GroupModel),
    row("vllm-key", &[401], Always, Auth, Key),
    row("vllm-overloaded", &[503], Always, Overloaded, Model).until(RetryAfter),
];
