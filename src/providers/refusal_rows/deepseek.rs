//! Refusals of DeepSeek, which limits calls in flight.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, InvalidRequest, Overloaded,
    RateLimited, ServerError,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{All, Always, InputFits, Not, Says, Whole};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row("deepseek-credit", &[402], Always, CreditExhausted, Group).until(Date),
    row("deepseek-key", &[401], Always, Auth, Key),
    row("deepseek-invalid", &[422], Always, InvalidRequest, Call),
    // Too many calls in flight: there is room again as soon as one of them ends.
    row("deepseek-concurrency", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("deepseek-overloaded", &[503], Always, Overloaded, Model).until(RetryAfter),
    row("deepseek-server", &[500], Always, ServerError, Call).until(RetryAfter),
    row(
        "deepseek-context",
        &[400],
        All(&[Says(&["maximum context length"]), Not(&InputFits)]),
        ContextTooLong,
        Call,
    ),
    row("deepseek-content", &[400], Says(&["content exists risk"]), ContentFiltered, Call),
    // It began to answer and ran out of room.
    row(
        "deepseek-no-room",
        &[200],
        Whole("/choices/0/finish_reason", &["insufficient_system_resource"]),
        Overloaded,
        Model,
    ),
];
