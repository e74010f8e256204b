//! Refusals of Together; its limits adapt to the load.

use crate::kernel::FailureClass::{
    Auth, ContextTooLong, CreditExhausted, NotFound, Overloaded, RateLimited, ServerError, Timeout,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{Always, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row("together-credit", &[402], Always, CreditExhausted, Group).until(Date),
    row("together-rate", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("together-overloaded", &[503], Always, Overloaded, Model).until(RetryAfter),
    row("together-key", &[401], Always, Auth, Key),
    // Input and cap together over the window.
    row("together-context", &[403], Says(&["context length"]), ContextTooLong, Call),
    row("together-model", &[404], Always, NotFound, GroupModel),
    row("together-server", &[500], Always, ServerError, Call).until(RetryAfter),
    row("together-timeout", &[504, 524], Always, Timeout, Call).until(RetryAfter),
];
