//! Generic refusals, tried after the provider's own rows.

use crate::kernel::FailureClass::{
    Auth, ContextTooLong, CreditExhausted, InvalidRequest, NotFound, Overloaded, Permission,
    RateLimited, ServerError, Timeout,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{All, Always, Any, InputFits, Named, Says, Status};
use super::row::{Row, When, row};

const CONTEXT: When = Any(&[
    Named(&["context_length_exceeded", "exceed_context_size_error"]),
    Says(&["maximum context length", "exceeds the available context size"]),
]);

pub(in super::super) const ROWS: &[Row] = &[
    // No answer and no error that names itself: a proxy's page, half a body, nothing.
    row("generic-unreadable", &[], Status(200, 299), ServerError, Call),
    // Redirects are not followed: the key would go along.
    row("generic-moved", &[], Status(300, 399), InvalidRequest, Call),
    row("generic-timeout", &[408, 499, 524], Always, Timeout, Call).until(RetryAfter),
    row("generic-cap-too-large", &[400], All(&[CONTEXT, InputFits]), InvalidRequest, Call),
    row("generic-context", &[400, 413, 422], CONTEXT, ContextTooLong, Call),
    row("generic-key", &[401], Always, Auth, Key),
    row("generic-credit", &[402], Always, CreditExhausted, Group).until(Date),
    row("generic-forbidden", &[403], Always, Permission, GroupModel),
    row("generic-model", &[404], Always, NotFound, GroupModel),
    row("generic-conflict", &[409], Always, ServerError, Call).until(RetryAfter),
    row("generic-rate", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("generic-overloaded", &[503, 529], Always, Overloaded, Model).until(RetryAfter),
    row("generic-server", &[], Status(500, 599), ServerError, Call).until(RetryAfter),
    row("generic-bad-request", &[], Status(400, 499), InvalidRequest, Call),
];

/// A status that HTTP does not know.
pub(in super::super) const LAST: Row =
    row("generic-strange-status", &[], Always, ServerError, Call);
