//! Refusals of OpenRouter: its limits, its budget, upstream errors.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, DailyQuota, InvalidRequest, NotFound,
    Overloaded, Permission, RateLimited, Timeout,
};
use crate::kernel::Scope::{Call, Group, GroupFreeModels, GroupModel, Key, Model};

use super::row::UntilFrom::{Date, Delay, ResetOrMidnight, RetryAfter};
use super::row::When::{All, Always, Any, At, InputFits, Named, Says};
use super::row::{Row, row};

const SOURCE: &str = "/metadata/limit_source";

const MISSING: &[&str] = &[
    "model_not_found",
    "no_endpoints",
    "model_deprecated",
    "privacy_restricted",
    "constraint_filtered",
    "free_variant_ended",
    "not_found",
];

const BUSY: &[&str] = &["capacity_exhausted", "temporarily_unavailable", "provider_overloaded"];

const SHARED: &[&str] = &["openrouter_shared_capacity", "upstream_provider_shared_pool"];

const CONTEXT: super::row::When =
    Any(&[Named(&["context_length_exceeded"]), Says(&["maximum context length"])]);

pub(in super::super) const ROWS: &[Row] = &[
    // Money held for calls in flight: it comes back when they end.
    row(
        "openrouter-in-flight",
        &[402],
        All(&[
            At(SOURCE, &["openrouter_in_flight_budget"]),
            At("/metadata/reason", &["in_flight_budget_exhausted"]),
        ]),
        RateLimited,
        Group,
    )
    .until(Delay),
    // This one call is dearer than the whole budget; cheaper ones may pass.
    row(
        "openrouter-too-dear",
        &[402],
        At("/metadata/reason", &["weight_exceeds_budget"]),
        CreditExhausted,
        Call,
    )
    .never_here(),
    row(
        "openrouter-key-limit",
        &[402, 403],
        Any(&[At(SOURCE, &["openrouter_key_limit"]), Says(&["key limit exceeded"])]),
        CreditExhausted,
        Key,
    )
    .until(Date),
    row(
        "openrouter-budget",
        &[402, 403],
        Any(&[
            At(SOURCE, &["openrouter_guardrail_budget", "openrouter_workspace_budget"]),
            Says(&["budget limit exceeded"]),
        ]),
        CreditExhausted,
        Group,
    )
    .until(Date),
    row("openrouter-credits", &[402], Always, CreditExhausted, Group).until(Date),
    row(
        "openrouter-free-day",
        &[429],
        Any(&[Says(&["free-models-per-day"]), At(SOURCE, &["openrouter_free_tier_daily"])]),
        DailyQuota,
        GroupFreeModels,
    )
    .until(ResetOrMidnight),
    row(
        "openrouter-free-minute",
        &[429],
        Says(&["free-models-per-min"]),
        RateLimited,
        GroupFreeModels,
    )
    .until(Delay),
    row("openrouter-model-day", &[429], Says(&["limit_rpd/"]), DailyQuota, Model)
        .until(ResetOrMidnight),
    // Shared by all users of the model: another key does not help, another model does.
    row(
        "openrouter-upstream",
        &[429],
        Any(&[
            Says(&["limit_rpm/", "high demand", "upstream", "provider returned error"]),
            At(SOURCE, SHARED),
            Named(BUSY),
        ]),
        Overloaded,
        Model,
    )
    .until(RetryAfter),
    // Seen for good keys while OpenRouter itself was down.
    row("openrouter-key", &[401], Always, Auth, Key).needs_confirmation(),
    row(
        "openrouter-moderation",
        &[403],
        Any(&[At("/metadata/reasons", &[]), At("/metadata/patterns", &[])]),
        ContentFiltered,
        Call,
    ),
    row("openrouter-region", &[403], Named(&["region_restricted"]), Permission, Group),
    row("openrouter-forbidden", &[403], Always, Permission, GroupModel),
    row(
        "openrouter-model",
        &[400, 404],
        Any(&[Named(MISSING), Says(&["not a valid model id", "no endpoints found"])]),
        NotFound,
        GroupModel,
    ),
    row("openrouter-cap-too-large", &[400], All(&[CONTEXT, InputFits]), InvalidRequest, Call),
    row("openrouter-context", &[400], CONTEXT, ContextTooLong, Call),
    row(
        "openrouter-content",
        &[400],
        Named(&["content_policy_violation", "refusal"]),
        ContentFiltered,
        Call,
    ),
    row("openrouter-timeout", &[408, 504], Always, Timeout, Call).until(RetryAfter),
    row("openrouter-no-provider", &[502, 503], Always, Overloaded, Model).until(RetryAfter),
];
