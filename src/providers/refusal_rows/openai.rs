//! Refusals of OpenAI, also used for servers that imitate it.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, DailyQuota, NotFound, Overloaded,
    Permission, RateLimited, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Delay, RetryAfter};
use super::row::When::{All, Always, Any, Named, Says, TooLarge};
use super::row::{Row, row};

const CREDIT: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
];

const CONTENT: &[&str] =
    &["content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt"];

pub(in super::super) const ROWS: &[Row] = &[
    row("openai-credit", &[400, 402, 403, 429], Named(CREDIT), CreditExhausted, Group),
    row(
        "openai-too-large",
        &[413, 429],
        Any(&[Says(&["request too large for"]), TooLarge]),
        TokenLimited,
        GroupModel,
    )
    .never_here(),
    // Both roll: the short delay in the text is real.
    row("openai-day", &[429], Says(&["(rpd)", "(tpd)", "per day"]), DailyQuota, GroupModel)
        .until(Delay),
    row(
        "openai-tokens",
        &[429],
        Any(&[Named(&["tokens"]), Says(&["(tpm)"])]),
        TokenLimited,
        GroupModel,
    )
    .until(Delay),
    row("openai-slow-down", &[429, 503], Named(&["slow_down"]), Overloaded, Group)
        .until(RetryAfter),
    row(
        "openai-flex",
        &[429],
        Any(&[Named(&["resource_unavailable"]), Says(&["resource unavailable"])]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    row("openai-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("openai-key", &[401], Always, Auth, Key),
    row(
        "openai-region",
        &[403],
        Named(&["unsupported_country_region_territory"]),
        Permission,
        Group,
    ),
    row("openai-forbidden", &[403], Always, Permission, GroupModel),
    row("openai-model", &[400, 404], Named(&["model_not_found"]), NotFound, GroupModel),
    row(
        "openai-context",
        &[400],
        Any(&[
            Named(&["context_length_exceeded"]),
            All(&[Named(&["invalid_prompt"]), Says(&["context window"])]),
        ]),
        ContextTooLong,
        Call,
    ),
    row("openai-content", &[400], Named(CONTENT), ContentFiltered, Call),
    row("openai-overloaded", &[503], Named(&["server_is_overloaded"]), Overloaded, Model)
        .until(RetryAfter),
];
