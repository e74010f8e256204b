//! Refusals of Groq.

use crate::kernel::FailureClass::{
    Auth, ContextTooLong, CreditExhausted, DailyQuota, NotFound, Overloaded, Permission,
    RateLimited, ServerError, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Delay, RetryAfter};
use super::row::When::{All, Always, Any, Header, Named, Not, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "groq-too-large",
        &[413, 429],
        All(&[Says(&["request too large for model"]), Not(&Says(&["try again"]))]),
        TokenLimited,
        GroupModel,
    )
    .never_here(),
    // Days roll: the delay in the text is real, and can be hours.
    row(
        "groq-day",
        &[429],
        Any(&[
            Says(&["per day", "(rpd)", "(tpd)", "(asd)"]),
            Header("x-ratelimit-remaining-requests", "0"),
        ]),
        DailyQuota,
        GroupModel,
    )
    .until(Delay),
    row("groq-tokens", &[413, 429], Says(&["(tpm)", "(itpm)", "(otpm)"]), TokenLimited, GroupModel)
        .until(Delay),
    row("groq-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("groq-flex", &[498], Always, Overloaded, Model).until(RetryAfter),
    row("groq-overloaded", &[503], Always, Overloaded, Model).until(RetryAfter),
    // The model's fault, not the caller's; it mostly does better the next time.
    row(
        "groq-bad-tool-call",
        &[400],
        Named(&["tool_use_failed", "json_validate_failed"]),
        ServerError,
        Call,
    ),
    row("groq-spend-block", &[400, 403], Named(&["blocked_api_access"]), CreditExhausted, Group),
    row("groq-context", &[400], Named(&["context_length_exceeded"]), ContextTooLong, Call),
    row("groq-key", &[401], Always, Auth, Key),
    row("groq-restricted", &[403], Named(&["organization_restricted"]), Permission, Group),
    row("groq-forbidden", &[403], Always, Permission, GroupModel),
    row("groq-model", &[404], Named(&["model_not_found"]), NotFound, GroupModel),
];
