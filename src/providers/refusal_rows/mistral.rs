//! Refusals of Mistral; codes are quoted numbers, or only a `detail`.

use crate::kernel::FailureClass::{
    Auth, ContextTooLong, CreditExhausted, InvalidRequest, NotFound, Overloaded, Permission,
    RateLimited, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, RetryAfter};
use super::row::When::{All, Always, Any, Header, InputFits, Named, Not, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    // The plan has no share of this model at all.
    row(
        "mistral-no-access",
        &[429],
        Header("x-ratelimit-limit-req-minute", "0"),
        Permission,
        GroupModel,
    ),
    row(
        "mistral-capacity",
        &[429],
        Any(&[Named(&["3505", "service_tier_capacity_exceeded"]), Says(&["capacity exceeded"])]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    row(
        "mistral-month",
        &[429],
        Any(&[
            Header("x-ratelimit-remaining-tokens-month", "0"),
            Header("x-ratelimitbysize-remaining-month", "0"),
            Says(&["month"]),
        ]),
        CreditExhausted,
        Group,
    )
    .until(Date),
    row(
        "mistral-tokens",
        &[429],
        Any(&[
            Header("x-ratelimit-remaining-tokens-minute", "0"),
            Header("ratelimitbysize-remaining", "0"),
        ]),
        TokenLimited,
        GroupModel,
    )
    .until(Delay),
    row("mistral-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("mistral-key", &[401], Always, Auth, Key),
    row("mistral-credit", &[402], Always, CreditExhausted, Group).until(Date),
    row("mistral-forbidden", &[403], Always, Permission, GroupModel),
    row("mistral-model", &[400, 404], Named(&["invalid_model", "1500"]), NotFound, GroupModel),
    row(
        "mistral-context",
        &[400],
        All(&[
            Any(&[Named(&["3051"]), Says(&["context length", "too large for model"])]),
            Not(&InputFits),
        ]),
        ContextTooLong,
        Call,
    ),
    row("mistral-invalid", &[422], Always, InvalidRequest, Call),
];
