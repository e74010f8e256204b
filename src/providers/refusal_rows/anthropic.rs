//! Refusals of Anthropic.

use crate::kernel::FailureClass::{
    Auth, ContextTooLong, CreditExhausted, InvalidRequest, NotFound, Overloaded, Permission,
    RateLimited, ServerError, Timeout, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{Always, Any, At, Named, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "anthropic-spend-cap",
        &[429],
        At("/details/error_code", &["enforced_spend_limit_reached"]),
        CreditExhausted,
        Group,
    )
    .until(Date),
    // A workspace is less than the organisation the group stands for: only this key is known to be in it.
    row(
        "anthropic-workspace-limit",
        &[400],
        Says(&["specified workspace api usage limits"]),
        CreditExhausted,
        Key,
    )
    .until(Date),
    row(
        "anthropic-usage-limit",
        &[400],
        Says(&["specified api usage limits"]),
        CreditExhausted,
        Group,
    )
    .until(Date),
    row(
        "anthropic-credit",
        &[400, 402],
        Any(&[Says(&["credit balance is too low"]), Named(&["billing_error"])]),
        CreditExhausted,
        Group,
    ),
    row(
        "anthropic-tokens",
        &[429],
        Says(&["input token", "output token", "request tokens"]),
        TokenLimited,
        GroupModel,
    )
    .until(Delay),
    row("anthropic-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("anthropic-key", &[401], Always, Auth, Key),
    row("anthropic-region", &[403], Says(&["request not allowed"]), Permission, Group),
    row("anthropic-forbidden", &[403], Always, Permission, GroupModel),
    row("anthropic-model", &[404], Named(&["not_found_error"]), NotFound, GroupModel),
    row("anthropic-context", &[400], Says(&["prompt is too long"]), ContextTooLong, Call),
    row("anthropic-too-large", &[413], Named(&["request_too_large"]), InvalidRequest, Call),
    row("anthropic-overloaded", &[], Named(&["overloaded_error"]), Overloaded, Model)
        .until(RetryAfter),
    row("anthropic-server", &[500], Named(&["api_error"]), ServerError, Call).until(RetryAfter),
    row("anthropic-timeout", &[504], Always, Timeout, Call).until(RetryAfter),
];
