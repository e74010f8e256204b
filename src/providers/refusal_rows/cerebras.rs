//! Refusals of Cerebras; the message names the window.

use crate::kernel::FailureClass::{
    Auth, CreditExhausted, DailyQuota, NotFound, Overloaded, RateLimited, TokenLimited,
};
use crate::kernel::Scope::{Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{Always, Any, Named, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "cerebras-queue",
        &[429],
        Any(&[Named(&["queue_exceeded"]), Says(&["high traffic"])]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    row("cerebras-day", &[429], Says(&["per day"]), DailyQuota, GroupModel).until(Delay),
    row("cerebras-hour", &[429], Says(&["per hour"]), DailyQuota, GroupModel).until(Delay),
    row(
        "cerebras-tokens",
        &[429],
        Any(&[Named(&["token_quota_exceeded"]), Says(&["tokens per minute"])]),
        TokenLimited,
        GroupModel,
    )
    .until(Delay),
    row("cerebras-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("cerebras-key", &[401], Always, Auth, Key),
    // Without any key it is a 403.
    row("cerebras-no-key", &[403], Says(&["not authenticated"]), Auth, Key),
    row("cerebras-credit", &[402], Always, CreditExhausted, Group).until(Date),
    row("cerebras-model", &[404], Always, NotFound, GroupModel),
];
