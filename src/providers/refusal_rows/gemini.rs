//! Refusals of Gemini; its headers hold nothing, its body everything.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, DailyQuota, NotFound, Overloaded,
    Permission, RateLimited, ServerError, Timeout, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Delay, Midnight, RetryAfter};
use super::row::When::{
    All, Always, Any, DelayOver, DelayWithin, Named, Quota, Says, TooLarge, Whole, ZeroLimit,
};
use super::row::{Row, row};

/// Longer delays are those of a day.
const LONGEST_MINUTE: u64 = 300;

const BILLING: &[&str] = &["payment_required", "billing_disabled", "resource_quota_exceeded"];

/// Ends without an answer that are the model's fault.
const BROKEN: &[&str] =
    &["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "OTHER"];

const TOKENS: &[&str] = &["token_count", "tokensper"];

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "gemini-billing",
        &[402, 403, 429],
        Any(&[Says(&["prepayment credits"]), Named(BILLING)]),
        CreditExhausted,
        Group,
    ),
    row("gemini-no-quota", &[429], ZeroLimit, Permission, GroupModel),
    // The delay beside it is that of a minute limit and would lead into the same refusal.
    row(
        "gemini-day",
        &[429],
        Any(&[Quota(&["perday", "daily"]), Named(&["quota_exceeded"])]),
        DailyQuota,
        GroupModel,
    )
    .until(Midnight),
    row("gemini-too-large", &[429], All(&[Quota(TOKENS), TooLarge]), TokenLimited, GroupModel)
        .never_here(),
    row("gemini-tokens", &[429], Quota(TOKENS), TokenLimited, GroupModel).until(Delay),
    row(
        "gemini-requests",
        &[429],
        Any(&[Quota(&["perminute"]), DelayWithin(LONGEST_MINUTE)]),
        RateLimited,
        GroupModel,
    )
    .until(Delay),
    row("gemini-long-delay", &[429], DelayOver(LONGEST_MINUTE), DailyQuota, GroupModel)
        .until(Delay),
    // Shared capacity: it says nothing about this project's quota.
    row("gemini-unspecific", &[429], Always, Overloaded, Model).until(RetryAfter),
    row(
        "gemini-key",
        &[400, 401, 403],
        Any(&[
            Named(&["api_key_invalid", "unauthenticated", "credentials_missing"]),
            Says(&["api key not valid"]),
        ]),
        Auth,
        Key,
    ),
    row("gemini-key-blocked", &[403], Says(&["reported as leaked", "are blocked"]), Auth, Key),
    row("gemini-forbidden", &[403], Always, Permission, GroupModel),
    row("gemini-region", &[400], Named(&["failed_precondition"]), Permission, Group),
    row("gemini-model", &[404], Always, NotFound, GroupModel),
    row(
        "gemini-context",
        &[400],
        All(&[Says(&["input token count"]), Says(&["exceeds the maximum"])]),
        ContextTooLong,
        Call,
    ),
    row("gemini-blocked", &[200], Whole("/promptFeedback/blockReason", &[]), ContentFiltered, Call),
    row("gemini-broken", &[200], Whole("/candidates/0/finishReason", BROKEN), ServerError, Call),
    row("gemini-overloaded", &[503], Always, Overloaded, Model).until(RetryAfter),
    row("gemini-timeout", &[504], Always, Timeout, Call),
];
