//! Refusals of Azure OpenAI: classic route, v1, Foundry models.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, DailyQuota, NotFound, Overloaded, Permission,
    RateLimited, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::{Delay, RetryAfter};
use super::row::When::{All, Always, Any, DelayOver, InputFits, Named, Not, OverHeader, Says};
use super::row::{Row, row};

/// Shorter waits are not those of a day.
const SHORTEST_DAY: u64 = 3_599;

const CONTENT: &[&str] = &["content_filter", "responsibleaipolicyviolation"];

pub(in super::super) const ROWS: &[Row] = &[
    // It asks to come back in a second for what never fits the deployment.
    row(
        "azure-too-large",
        &[429],
        OverHeader("x-ratelimit-limit-tokens"),
        TokenLimited,
        GroupModel,
    )
    .never_here(),
    // Trials wait a day, in the same words as for a minute.
    row("azure-day", &[429], DelayOver(SHORTEST_DAY), DailyQuota, GroupModel).until(Delay),
    row("azure-tokens", &[429], Says(&["token rate limit"]), TokenLimited, GroupModel).until(Delay),
    row(
        "azure-busy",
        &[429],
        Says(&["high demand", "temporary rate limit adjustment"]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    row("azure-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("azure-key", &[401], Always, Auth, Key),
    // Abuse was suspected: every key of the resource is concerned.
    row("azure-blocked", &[403], Says(&["temporarily blocked"]), Permission, Group),
    row("azure-forbidden", &[403], Always, Permission, GroupModel),
    row("azure-model", &[404], Always, NotFound, GroupModel),
    row("azure-content", &[400], Named(CONTENT), ContentFiltered, Call),
    row(
        "azure-context",
        &[400],
        All(&[
            Any(&[Named(&["context_length_exceeded"]), Says(&["maximum context length"])]),
            Not(&InputFits),
        ]),
        ContextTooLong,
        Call,
    ),
];
